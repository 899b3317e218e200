package gateway

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"viaduct/rewrite"
)

// guess is a REGISTER with credentials, and what the PBX gets of it.
func (p *phone) guess() sip {
	return p.register(`Authorization: Digest username="` + p.user + `", realm="r", nonce="n", uri="sip:pbx.example", response="top-secret"`)
}

const challenge = `WWW-Authenticate: Digest realm="r", nonce="n2"`

// refused has a guess refused by the PBX.
func (l *lab) refused(p *phone, status string, more ...string) {
	l.t.Helper()
	l.down(p, l.up(p, p.guess()).reply(status, more...))
}

// guesses is what is counted of them.
func (l *lab) guesses() uint64 { return l.gw.stats.guesses.Load() }

// TestGuessing: who guesses passwords is slowed after five, and closed after ten.
// Each refusal is in the log with the address, and no password is.
func TestGuessing(t *testing.T) {
	for _, status := range []string{"401 Unauthorized", "403 Forbidden", "404 Not Found"} {
		t.Run(status[:3], func(t *testing.T) {
			l := newLab(t)
			beside := l.phone("alice")
			token := l.registered(beside)
			p := l.phone("mallory")
			for range slowFailures {
				l.refused(p, status, challenge)
			}
			knocks := 0
			for ; knocks < failures.burst-slowFailures; knocks++ {
				guess := p.guess()
				p.send(guess)
				if knocks+1 < failures.burst-slowFailures {
					expectAnswer(t, guess, p.read(), 503)
				}
			}
			p.expectClosed(ws.StatusPolicyViolation)
			l.log.await("browser gone", 1)
			values, _ := l.gathered(l.gw.registry())
			for name, want := range map[string]float64{
				`viaduct_connections_closed_total{cause="guessing"}`: 1, `viaduct_authentication_failures_total`: slowFailures,
				`viaduct_dropped_total{reason="guessing"}`: float64(knocks),
			} {
				if values[name] != want {
					t.Errorf("%s is %v, want %v", name, values[name], want)
				}
			}
			if lines := l.log.FilterMessage("authentication failed").All(); len(lines) != slowFailures {
				t.Errorf("%d lines", len(lines))
			} else if first := lines[0].ContextMap(); first["client"] != "127.0.0.1" || first["user"] != "mallory@pbx.example" || fmt.Sprint(first["status"]) != status[:3] {
				t.Errorf("logged %v", first)
			}
			if log := fmt.Sprint(l.log.FilterMessage("authentication failed").All()); strings.Contains(log, "top-secret") {
				t.Errorf("a password is in the log: %s", log)
			}
			l.expectReached(beside, token)
			t.Logf("attack: %s | %s | %s", "passwords guessed, answered "+status[:3],
				"503 after five within ten seconds each, closed 1008 after ten, each refusal in the log for fail2ban", "viaduct_authentication_failures_total")
		})
	}
}

// TestNoGuessing: what is no wrong password counts against nobody.
func TestNoGuessing(t *testing.T) {
	l := newLab(t)
	p := l.phone("alice")
	l.registered(p)
	call := func(header string, reply ...string) {
		t.Helper()
		req := p.invite("sip:bob@pbx.example")
		if header != "" {
			req = req.add(header)
		}
		got := l.up(p, req)
		failed := l.down(p, got.reply(reply[0], reply[1:]...))
		l.up(p, req.as("ACK").set("To", failed.get("To")))
	}
	const authorization, proxyAuthorization = `Authorization: Digest realm="r"`, `Proxy-Authorization: Digest realm="r"`
	for range 2 * failures.burst {
		l.down(p, l.up(p, p.register()).reply("401 Unauthorized", challenge))
		call("", "407 Proxy Authentication Required", `Proxy-Authenticate: Digest realm="r"`)
		call("", "404 Not Found")
		l.refused(p, "401 Unauthorized", challenge+", stale=true")
		call(proxyAuthorization, "401 Unauthorized", challenge) // the next hop's
		call(authorization, "407 Proxy Authentication Required", `Proxy-Authenticate: Digest realm="r"`)
		call(authorization, "486 Busy Here")
	}
	if n := l.guesses(); n != 0 {
		t.Errorf("%d failures are counted", n)
	}
	// Who is let in may call wrong numbers.
	l.down(p, l.up(p, p.guess()).reply("200 OK", "Expires: 600"))
	for range 2 * failures.burst {
		call(proxyAuthorization, "404 Not Found")
		call(proxyAuthorization, "403 Forbidden")
	}
	if n := l.guesses(); n != 0 {
		t.Errorf("%d failures are counted", n)
	}
	for range slowFailures {
		call(proxyAuthorization, "407 Proxy Authentication Required", `Proxy-Authenticate: Digest realm="r"`)
	}
	if n := l.guesses(); n != slowFailures {
		t.Errorf("%d failures are counted of %d", n, slowFailures)
	}
}

// TestGuessingAtOnce: guesses that wait for no answer are as many as those that do,
// and as much is counted.
func TestGuessingAtOnce(t *testing.T) {
	l := newLab(t)
	p := l.phone("mallory")
	const sent = 100
	for range sent {
		p.send(p.guess())
	}
	passed := make([]sip, maxGuests)
	for i := range passed {
		passed[i] = l.pbx.read()
	}
	for range sent - maxGuests {
		if got := p.read(); !strings.HasPrefix(got.start(), "SIP/2.0 503 ") || got.get("Retry-After") != "10" {
			t.Fatalf("answered\n%s", got)
		}
	}
	for _, guess := range passed {
		l.pbx.send(guess.reply("403 Forbidden"))
	}
	if answers := p.readUntilClosed(ws.StatusPolicyViolation); answers != failures.burst {
		t.Errorf("%d answers are told, want %d", answers, failures.burst)
	}
	l.log.await("browser gone", 1)
	if n := l.guesses(); n < uint64(failures.burst) || n > maxGuests {
		t.Errorf("%d failures are counted", n)
	}
	t.Logf("attack: %s | %s | %s", "100 passwords guessed at once", "32 are asked of the SIP server, ten answers told, then closed 1008", "viaduct_authentication_failures_total")
}

// TestGuessingInOneTransaction: what names a guess is more than its Call-ID.
func TestGuessingInOneTransaction(t *testing.T) {
	l := newLab(t)
	p := l.phone("mallory")
	guess := p.guess()
	for i := range slowFailures {
		got := l.up(p, guess.set("Via", fmt.Sprintf("SIP/2.0/WSS %s;branch=z9hG4bKsame%d", p.viaHost, i)))
		l.down(p, got.reply("403 Forbidden"))
	}
	if n := l.guesses(); n != slowFailures {
		t.Errorf("%d failures are counted of %d", n, slowFailures)
	}
}

// TestGuessingAgain: who reconnects has two guesses more on each connection, while
// a neighbour at the same address is let in, and may then err as often as ever.
func TestGuessingAgain(t *testing.T) {
	l := newLab(t)
	for range addressCounts {
		p := l.phone("mallory")
		l.refused(p, "403 Forbidden")
		l.hangUp(p.browser)
	}
	p := l.phone("mallory")
	l.refused(p, "403 Forbidden")
	guess := p.guess()
	p.send(guess)
	p.expectClosed(ws.StatusPolicyViolation)

	beside := l.phone("alice")
	l.down(beside, l.up(beside, beside.guess()).reply("200 OK", "Expires: 600"))
	for range slowFailures {
		l.refused(beside, "403 Forbidden")
	}
	l.expectAlive(beside)
	t.Logf("attack: %s | %s | %s", "passwords guessed on ever new connections", "a connection from that address is closed after two; a neighbour there registers at once",
		`viaduct_connections_closed_total{cause="guessing"}`)
}

// TestOldNonces: browsers that register with a nonce of another server, as all do
// after a failover, are no guessers, not even where some are.
func TestOldNonces(t *testing.T) {
	l := newLab(t)
	for range addressCounts {
		p := l.phone("mallory")
		l.refused(p, "403 Forbidden")
		l.hangUp(p.browser)
	}
	before := l.guesses()
	for i := range 2 * failures.burst {
		p := l.phone(fmt.Sprint("alice", i))
		l.refused(p, "401 Unauthorized", challenge)
		l.down(p, l.up(p, p.guess()).reply("200 OK", "Expires: 600"))
		l.hangUp(p.browser)
	}
	if n := l.guesses(); n != before {
		t.Errorf("%d failures are counted", n-before)
	}
	// Who has only one to try, and leaves, is not pardoned.
	p := l.phone("mallory")
	l.refused(p, "401 Unauthorized", challenge)
	l.hangUp(p.browser)
	if n := l.guesses(); n != before+1 || l.log.count("authentication failed") != int(n) {
		t.Errorf("%d failures are counted of one, %d lines of %d", n-before, l.log.count("authentication failed"), n)
	}
}

// TestGuessingLeaves: a guess whose answer nobody waits for counts for its address.
func TestGuessingLeaves(t *testing.T) {
	l := newLab(t)
	p := l.phone("mallory")
	l.up(p, p.guess())
	l.hangUp(p.browser)
	counts := func() int {
		have, known := l.gw.guessers.byAddress.Peek(netip.MustParseAddr("127.0.0.1"))
		if !known {
			return 0
		}
		return have.count(addressFailures, l.gw.now())
	}
	if counts() != 1 {
		t.Errorf("%d count", counts())
	}
	ringing := l.phone("alice")
	l.down(ringing, l.up(ringing, ringing.invite("sip:bob@pbx.example").add("Authorization: Digest")).reply("180 Ringing"))
	l.hangUp(ringing.browser)
	if counts() != 1 {
		t.Errorf("%d count with one that rang", counts())
	}
}

// TestGuessers: addresses are forgiven in time, and are so many at most; an IPv6
// one stands for its network.
func TestGuessers(t *testing.T) {
	g := newGuessers()
	begun := func(addr string, now time.Duration) int {
		f := &flow{}
		g.begin(f, netip.MustParseAddr(addr), now)
		return f.failed.count(failures, now)
	}
	for range 100 {
		g.failed(netip.MustParseAddr("192.0.2.1"), 0)
		g.failed(netip.MustParseAddr("2001:db8::1"), 0)
	}
	for _, test := range []struct {
		addr string
		now  time.Duration
		want int
	}{
		{"192.0.2.1", 0, addressCounts},
		{"::ffff:192.0.2.1", 0, addressCounts},
		{"192.0.2.2", 0, 0},
		{"2001:db8::ffff:1", 0, addressCounts},
		{"2001:db8:0:1::1", 0, 0},
		{"192.0.2.1", 32 * time.Minute, addressCounts},
		{"192.0.2.1", 38 * time.Minute, 2},
		{"192.0.2.1", 40 * time.Minute, 0},
	} {
		if got := begun(test.addr, test.now); got != test.want {
			t.Errorf("%s begins with %d after %v, want %d", test.addr, got, test.now, test.want)
		}
	}
	for i := range 2 * maxAddresses {
		g.failed(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 0)
	}
	if g.byAddress.Len() != maxAddresses || begun("192.0.2.1", 0) != 0 {
		t.Errorf("%d addresses are remembered", g.byAddress.Len())
	}
}

// TestTryIDs: Via, Call-ID and CSeq number all name a try.
func TestTryIDs(t *testing.T) {
	seen := map[uint32]string{}
	for _, via := range []string{"a", "b"} {
		for _, callID := range []string{"1", "2"} {
			for _, cseq := range []int{1, 2} {
				var m rewrite.Message
				m.Scan([]byte(newRequest("OPTIONS", "sip:a", "Via: SIP/2.0/WSS a", "Call-ID: "+callID, fmt.Sprintf("CSeq: %d OPTIONS", cseq))))
				id := tryID([]byte(via), &m)
				if other, there := seen[id]; there {
					t.Errorf("%s %s %d is %s", via, callID, cseq, other)
				}
				seen[id] = fmt.Sprint(via, callID, cseq)
			}
		}
	}
}

// TestGuessingBehindProxy: the address is that of the client, not of the proxy that
// all come by.
func TestGuessingBehindProxy(t *testing.T) {
	l := newLab(t, func(c *Config) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })
	from := func(user, client string) *phone {
		p := l.phone(user)
		l.hangUp(p.browser)
		dialer := ws.Dialer{Protocols: []string{"sip"}, Header: ws.HandshakeHeaderHTTP{"X-Forwarded-For": {client}}}
		conn, _, _, err := dialer.Dial(t.Context(), l.bound.WebSocket[0])
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		p.browser = &browser{t: l.t, conn: conn}
		return p
	}
	p := from("mallory", "192.0.2.66")
	l.refused(p, "403 Forbidden")
	line := l.log.FilterMessage("authentication failed").All()[0].ContextMap()
	if line["client"] != "192.0.2.66" {
		t.Errorf("logged %v", line)
	}
	for addr, want := range map[string]bool{"192.0.2.66": true, "127.0.0.1": false} {
		if _, known := l.gw.guessers.byAddress.Peek(netip.MustParseAddr(addr)); known != want {
			t.Errorf("%s is remembered: %v", addr, known)
		}
	}
}
