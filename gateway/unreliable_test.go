package gateway

import (
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"viaduct/gateway/transaction"
)

// expectAgain reads a datagram that came before, byte for byte, and nothing
// else before it.
func (p *pbx) expectAgain(want sip) {
	p.t.Helper()
	for {
		switch got := p.datagram(); {
		case got == want:
			return
		case got.isProbe():
			p.send(got.reply("200 OK"))
		default:
			p.t.Fatalf("the PBX gets\n%s\ninstead of, once more,\n%s", got, want)
		}
	}
}

// absorbed counts what a lab's gateway has not passed on.
func (l *lab) absorbed(way transaction.Way) uint64 { return l.gw.transactions.Stats().Absorbed[way] }

// TestRequestsUpAreRepeated: what is lost on its way to the PBX is sent again as
// it was, and its browser hears of one answer.
func TestRequestsUpAreRepeated(t *testing.T) {
	for _, method := range []string{"REGISTER", "INVITE", "BYE", "CANCEL", "MESSAGE", "INFO"} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			alice := l.phone("alice")
			req, status := alice.request(method, "sip:bob@pbx.example"), "200 OK"
			switch method {
			case "REGISTER":
				req = alice.register()
			case "INVITE":
				req, status = alice.invite("sip:bob@pbx.example"), "486 Busy Here"
			case "CANCEL":
				invite := alice.invite("sip:bob@pbx.example")
				l.down(alice, l.up(alice, invite).reply("100 Trying"))
				req = invite.as("CANCEL")
			}
			sent := l.up(alice, req)
			l.pbx.expectAgain(sent)
			final := sent.reply(status, "Contact: "+sent.get("Contact"))
			l.down(alice, final)
			for range 3 {
				l.pbx.send(final)
			}
			l.expectAlive(alice)
			if n := l.absorbed(transaction.Up); n != 3 {
				t.Errorf("%d responses were absorbed", n)
			}
		})
	}
}

// TestSecondChallenge: a PBX that keeps no state answers a repeated REGISTER
// with another nonce. The browser is at work on the first one.
func TestSecondChallenge(t *testing.T) {
	l := newLab(t)
	alice := l.phone("alice")
	for _, req := range []sip{alice.register(), alice.request("MESSAGE", "sip:bob@pbx.example"), alice.invite("sip:bob@pbx.example")} {
		sent := l.up(alice, req)
		challenge := func(nonce string) sip {
			return sent.reply("401 Unauthorized", `WWW-Authenticate: Digest realm="pbx", nonce="`+nonce+`"`)
		}
		if got := l.down(alice, challenge("one")); !strings.Contains(string(got), `nonce="one"`) {
			t.Errorf("the browser gets\n%s", got)
		}
		l.pbx.send(challenge("two"))
		l.expectAlive(alice)
	}
}

// TestStreamsRepeatNothing: TCP loses nothing, and what comes twice is meant to.
func TestStreamsRepeatNothing(t *testing.T) {
	l := newTCPLab(t)
	alice := l.phone("alice")
	token, pbx := l.registered(alice)
	for _, req := range []sip{alice.register(), alice.invite("sip:bob@pbx.example"), alice.request("BYE", "sip:bob@pbx.example")} {
		alice.send(req)
		sent := pbx.read()
		for _, status := range []string{"401 Unauthorized", "401 Unauthorized", "200 OK", "200 OK"} {
			pbx.send(sent.reply(status))
			if got := alice.read(); got.start() != "SIP/2.0 "+status || got.get("CSeq") != req.get("CSeq") {
				t.Errorf("the browser gets %s", got)
			}
		}
	}
	for _, method := range []string{"INVITE", "MESSAGE"} {
		req := l.request(method, token)
		for range 2 {
			pbx.send(req)
			got := alice.read()
			alice.send(got.reply("486 Busy Here"))
			expectResponse(t, pbx, req)
		}
	}
	if s := l.gw.transactions.Stats(); s != (transaction.Stats{}) {
		t.Errorf("%+v", s)
	}
}

// reconnected is a registered page whose connection was lost.
func (l *lab) reconnected(p *phone) *phone {
	l.t.Helper()
	l.hangUp(p.browser)
	next := p.again(l)
	l.registered(next)
	return next
}

// TestRequestsDownAreAbsorbed: a browser gets each request once, for as long as
// it may have it, and the PBX the last answer again.
func TestRequestsDownAreAbsorbed(t *testing.T) {
	for _, method := range []string{"INVITE", "MESSAGE", "OPTIONS", "BYE", "CANCEL"} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			alice := l.phone("alice")
			token := l.registered(alice)
			req := l.pbx.request(method, token)
			got := l.down(alice, req)
			l.pbx.send(req)
			l.expectAlive(alice)

			alice = l.reconnected(alice)
			if again := l.down(alice, req); again != got {
				t.Errorf("the browser gets\n%s\nafter\n%s", again, got)
			}
			l.pbx.send(req)
			l.expectAlive(alice)

			final := l.answered(alice, got, "200 OK")
			l.pbx.send(req)
			l.pbx.expectAgain(final)
			alice = l.reconnected(alice)
			l.pbx.send(req)
			l.pbx.expectAgain(final)
			l.expectAlive(alice)
		})
	}
}

// TestWithoutRoom: what finds no room is relayed, and counted.
func TestWithoutRoom(t *testing.T) {
	for name, max := range map[string]int{"in all": 1, "for one connection": 64} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, func(c *Config) {
				c.MaxTransactions = 1000
				if name == "in all" {
					c.MaxTransactions = max
				}
			})
			alice := l.phone("alice")
			for range max {
				l.up(alice, alice.request("MESSAGE", "sip:bob@pbx.example"))
			}
			req := alice.request("MESSAGE", "sip:bob@pbx.example")
			final := l.up(alice, req).reply("200 OK")
			for range 2 {
				l.down(alice, final)
			}
			if s := l.gw.transactions.Stats(); s.Stateless != 1 || s.Messages != max {
				t.Errorf("%+v", s)
			}
		})
	}
}

// newQuietLab has a PBX that has said once that it lives, and is not asked again
// before it is suspected.
func newQuietLab(t *testing.T) *lab {
	t.Helper()
	l := preparedLab(t)
	l.cfg.HealthInterval = time.Hour
	verdicts := make(chan string, 1)
	l.cfg.Answered = func(_, answer string, _ error) { verdicts <- answer }
	l.start()
	l.pbx.send(l.pbx.next().reply("200 OK"))
	if answer := <-verdicts; answer != "200 OK" {
		t.Fatalf("the probe was answered %q", answer)
	}
	return l
}

// TestClosedPort: that nobody listens is a 503 at once, and the upstream is not
// asked for new work any more.
func TestClosedPort(t *testing.T) {
	l := newQuietLab(t)
	_ = l.pbx.conn.Close()
	alice := l.phone("alice")
	for _, req := range []sip{alice.invite("sip:bob@pbx.example"), alice.register()} {
		alice.send(req)
		got := alice.read()
		expectAnswer(t, req, got, 503)
		if got.get("Retry-After") == "" {
			t.Error("when to come again is not said")
		}
		if l.gw.upstreams[0].alive() {
			t.Error("the upstream is not suspected")
		}
	}
	if s := l.gw.transactions.Stats(); s.Messages != 0 || s.Resent[transaction.Up] != 0 {
		t.Errorf("%+v", s)
	}
}

// TestOwnAnswerIsNoSignOfLife: the 503 that stands in for an upstream's answer
// does not speak for it.
func TestOwnAnswerIsNoSignOfLife(t *testing.T) {
	l := newQuietLab(t)
	alice := l.phone("alice")
	req := alice.register()
	sent := l.up(alice, req)
	up := l.gw.upstreams[0]
	up.spoke.Store(false)
	l.gw.unreachable(netip.MustParseAddrPort(l.pbx.addr()), []byte(sent), syscall.ECONNREFUSED)
	expectAnswer(t, req, alice.read(), 503)
	if up.spoke.Load() || up.alive() {
		t.Error("the upstream is alive")
	}
}

// TestMadeUpUnreachable: only who has seen a request that is under way can say
// that it did not arrive.
func TestMadeUpUnreachable(t *testing.T) {
	l := newLab(t)
	alice := l.phone("alice")
	answered := l.up(alice, alice.register())
	l.down(alice, answered.reply("200 OK"))
	req := alice.invite("sip:bob@pbx.example")
	sent := l.up(alice, req)
	before := l.gw.transactions.Stats()
	for name, datagram := range map[string]sip{
		"nothing":            "",
		"no SIP":             "\x00\xff\r\n\r\n",
		"a start line":       sent[:40],
		"half a Via":         sent[:strings.Index(string(sent), "branch=")+20],
		"what was answered":  answered,
		"a response":         sent.reply("200 OK"),
		"a CANCEL":           sent.as("CANCEL"),
		"another branch":     sent.set("Via", "SIP/2.0/UDP "+l.bound.SIP.String()+";branch=z9hG4bKother"),
		"a browser's branch": req,
	} {
		for _, to := range []string{l.pbx.addr(), "192.0.2.1:5060"} {
			l.gw.unreachable(netip.MustParseAddrPort(to), []byte(datagram), syscall.ECONNREFUSED)
			if after := l.gw.transactions.Stats(); after.Messages != before.Messages || after.Tombstones != before.Tombstones {
				t.Errorf("%s: was %+v, is %+v", name, before, after)
			}
		}
	}
	if !l.gw.upstreams[0].alive() {
		t.Error("the upstream is suspected")
	}
	l.down(alice, sent.reply("180 Ringing"))
	l.expectAlive(alice)
}

// TestResponsesFollow: a transaction's responses go to where its client is by
// now, as SIP.js expects, which keeps its transactions over a reconnect.
func TestResponsesFollow(t *testing.T) {
	l := newLab(t)
	alice := l.phone("alice")
	l.registered(alice)
	invite := alice.invite("sip:bob@pbx.example")
	sent := l.up(alice, invite)
	l.down(alice, sent.reply("180 Ringing"))
	alice = l.reconnected(alice)
	for _, status := range []string{"183 Session Progress", "200 OK"} {
		if got := l.down(alice, sent.reply(status)); got.get("Via") != invite.get("Via") {
			t.Errorf("Via %q of the response to %q", got.get("Via"), invite.get("Via"))
		}
	}
}

// TestAnswersToCancel: a CANCEL that comes first on a new connection is answered
// there, as soon as it is known whose that is.
func TestAnswersToCancel(t *testing.T) {
	for name, registered := range map[string]bool{"registered": true, "never registers": false} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			alice := l.phone("alice")
			if registered {
				l.registered(alice)
			}
			invite := alice.invite("sip:bob@pbx.example")
			sent := l.up(alice, invite)
			l.down(alice, sent.reply("180 Ringing"))
			l.hangUp(alice.browser)
			alice = alice.again(l)
			cancel := l.up(alice, invite.as("CANCEL"))
			l.pbx.send(cancel.reply("200 OK"))
			l.pbx.send(sent.reply("487 Request Terminated"))
			if registered {
				ack := l.pbx.read() // whether it comes back is not known
				expectAckOf(t, sent, sent.reply("487 Request Terminated"), ack)
				l.registered(alice)
			}
			for _, want := range []sip{cancel, sent} {
				if got := alice.read(); got.get("CSeq") != want.get("CSeq") || got.get("Via") != invite.get("Via") {
					t.Errorf("the browser gets\n%s", got)
				}
			}
		})
	}
}

// TestTooLargeForTCP: what falls back from TCP to UDP is sent again there.
func TestTooLargeForTCP(t *testing.T) {
	l := newLab(t, func(c *Config) { c.TCPAbove = 400 }) // nobody listens by TCP
	alice := l.phone("alice")
	sent := l.up(alice, alice.request("MESSAGE", "sip:bob@pbx.example").withBody(strings.Repeat("x", 500)))
	l.pbx.expectAgain(sent)
	l.down(alice, sent.reply("200 OK"))
	l.pbx.send(sent.reply("200 OK"))
	alice.send(alice.request("OPTIONS", "sip:alive@pbx.example"))
	l.down(alice, l.pbx.read().reply("200 OK"))
}
