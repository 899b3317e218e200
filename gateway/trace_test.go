package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"viaduct/rewrite"
	"viaduct/transport"
)

// watch opens a trace until the test ends.
func (l *lab) watch() *Trace {
	l.t.Helper()
	tr, err := l.gw.Trace(TraceFilter{})
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(tr.Close)
	return tr
}

// seen reads n events, of which none may be lost.
func (l *lab) seen(tr *Trace, n int) (all []TraceEvent) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for len(all) < n {
		events, lost, err := tr.Next(ctx)
		if lost != 0 || err != nil {
			l.t.Fatalf("%d lost, %v after %d events of %d: %v", lost, err, len(all), n, outline(all))
		}
		all = append(all, events...)
	}
	if len(all) > n {
		l.t.Fatalf("%d events too many: %v", len(all)-n, outline(all))
	}
	return all
}

// outline is what a ladder would show of each event.
func outline(events []TraceEvent) (lines []string) {
	for _, e := range events {
		reason := ""
		if e.Kind == TraceRefused || e.Kind == TraceAnswered {
			reason = " " + e.Reason.String()
		}
		method, _, _ := strings.Cut(e.StartLine, " sip:")
		lines = append(lines, fmt.Sprintf("%s %s%s %s", e.Direction, e.Kind, reason, method))
	}
	return lines
}

func expectOutline(t testing.TB, events []TraceEvent, want ...string) {
	t.Helper()
	if got := outline(events); !slices.Equal(got, want) {
		t.Errorf("the trace shows\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestTraceOfACall: a viewer sees every message of a call, once, in order, as it
// came and as it went on, and where it went.
func TestTraceOfACall(t *testing.T) {
	l := newLab(t)
	tr := l.watch()
	p := l.phone("alice")
	l.registered(p)
	invite := l.up(p, p.invite("sip:bob@pbx.example"))
	l.down(p, invite.reply("180 Ringing"))
	ok := invite.reply("200 OK", "Contact: <sip:bob@"+l.pbx.addr()+">")
	l.down(p, ok)
	bye := l.down(p, l.pbx.request("BYE", invite.contactURI()).set("Call-ID", invite.get("Call-ID")))
	l.answered(p, bye, "200 OK")

	events := l.seen(tr, 7)
	expectOutline(t, events,
		"up relayed REGISTER", "down relayed SIP/2.0 200 OK",
		"up relayed INVITE", "down relayed SIP/2.0 180 Ringing", "down relayed SIP/2.0 200 OK",
		"down relayed BYE", "up relayed SIP/2.0 200 OK")
	conn := l.onlyConn()
	for i, e := range events {
		want := TraceEvent{
			Time: e.Time, Connection: conn.ID(), Browser: conn.RemoteAddr(), BrowserLocal: conn.LocalAddr(), User: "alice@pbx.example",
			Direction: e.Direction, Kind: TraceRelayed, Transport: transport.ProtoUDP, Peer: l.fromPBX().Addr, PeerLocal: l.bound.SIP,
			CallID: e.CallID, StartLine: e.StartLine, Before: e.Before, After: e.After,
		}
		if e != want {
			t.Errorf("event %d is\n%+v\nwant\n%+v", i, e, want)
		}
		if i > 0 && e.Time.Before(events[i-1].Time) {
			t.Errorf("event %d is older than the one before it", i)
		}
		if i > 1 && e.CallID != invite.get("Call-ID") {
			t.Errorf("event %d has the Call-ID %q", i, e.CallID)
		}
	}
	if before, after := events[2].Before, events[2].After; before != l.masked(p.resent(invite)) || after != l.masked(invite) {
		t.Errorf("the INVITE is shown as\n%s\nand\n%s", before, after)
	}
}

// masked is a message as a viewer sees it.
func (l *lab) masked(msg sip) string {
	k := l.gw.masker()
	return string(k.append(nil, []byte(msg)))
}

// resent is the phone's request as it was before the gateway changed it.
func (p *phone) resent(relayed sip) sip {
	p.sent--
	return p.invite(relayed.uri())
}

// TestTraceOfRefusals: a viewer sees what was not relayed, why, and the answer.
func TestTraceOfRefusals(t *testing.T) {
	l := newLab(t)
	p := l.phone("alice")
	token := l.registered(p)
	tr := l.watch()

	p.send("hello")
	p.send(p.request("OPTIONS", "sip:bob@pbx.example").set("Max-Forwards", "0"))
	answer := p.read()
	l.pbx.send(l.pbx.request("OPTIONS", replaceToken(token)))
	forbidden := l.pbx.read()
	l.pbx.send(l.pbx.request("OPTIONS", token).reply("200 OK"))

	events := l.seen(tr, 4)
	expectOutline(t, events,
		"up refused not_sip hello", "up answered max_forwards OPTIONS",
		"down answered forged_token OPTIONS", "down refused forged_seal SIP/2.0 200 OK")
	for i, want := range []sip{"", answer, forbidden, ""} {
		if events[i].After != l.masked(want) {
			t.Errorf("event %d says\n%s\nwas answered, not\n%s", i, events[i].After, want)
		}
	}
	if up, down := events[0], events[2]; up.Connection == 0 || up.Peer.IsValid() || down.Connection != 0 || !down.Peer.IsValid() {
		t.Errorf("whose refusals are these? %+v %+v", up, down)
	}
}

// TestTraceOfUnreachable: what an upstream does not take is shown as answered
// by the gateway.
func TestTraceOfUnreachable(t *testing.T) {
	l := newTCPLab(t, func(c *Config) { c.HealthInterval = time.Hour })
	pbx := l.accept(l.server)
	pbx.send(pbx.next().reply("200 OK"))
	_ = l.server.Close()
	l.hangUp(pbx) // what is sent now finds out
	tr := l.watch()
	p := l.phone("alice")
	p.send(p.request("OPTIONS", "sip:bob@pbx.example"))
	if got := p.read(); !strings.HasPrefix(got.start(), "SIP/2.0 503") {
		t.Fatal(got)
	}
	expectOutline(t, l.seen(tr, 3), "up relayed OPTIONS",
		"up answered upstream_unreachable OPTIONS", "down own SIP/2.0 503 SIP Server Unreachable")
}

// TestTraceKeepsSecrets: what a viewer sees is no more than the log shows.
func TestTraceKeepsSecrets(t *testing.T) {
	l := newLab(t)
	tr := l.watch()
	p := l.phone("alice")
	const response = "6629fae49393a05397450978507c4ef1"
	register := l.up(p, p.register(`Authorization: Digest username="alice", response="`+response+`"`))
	token := tokenOf(register.contactURI())
	l.down(p, register.reply("200 OK", "Contact: "+register.get("Contact")))
	call := l.pbx.request("INFO", register.contactURI()).set("Call-ID", token) // a PBX that makes the worst of it
	info := l.down(p, call)

	for _, e := range l.seen(tr, 3) {
		text := fmt.Sprintf("%+v", e)
		for _, secret := range []string{
			response, token, strings.TrimPrefix(register.branch(), branchCookie), param(info.get("Via"), "seal"),
		} {
			if strings.Contains(text, secret) {
				t.Errorf("the trace shows %q:\n%s", secret, text)
			}
		}
		if !strings.Contains(text, "***") {
			t.Errorf("nothing is masked in\n%s", text)
		}
	}
}

// TestTraceFilter: a viewer gets what it has asked for, also of what no connection
// is known for, and nothing else.
func TestTraceFilter(t *testing.T) {
	l := newLab(t)
	alice, bob := l.phone("alice"), l.phone("bob")
	l.registered(alice)
	gone := l.registered(bob)
	l.hangUp(bob.browser)
	conn := l.onlyConn()
	invite := alice.invite("sip:bob@pbx.example")
	callID := invite.get("Call-ID")
	watch := func(f TraceFilter) *Trace {
		tr, err := l.gw.Trace(f)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(tr.Close)
		return tr
	}
	viewers := map[string]*Trace{
		"call":       watch(TraceFilter{CallID: callID}),
		"user":       watch(TraceFilter{User: "bob"}),
		"address":    watch(TraceFilter{User: "alice@pbx.example"}),
		"connection": watch(TraceFilter{Connection: conn.ID()}),
		"both":       watch(TraceFilter{Connection: conn.ID(), User: "bob"}),
		"other":      watch(TraceFilter{User: "bob@elsewhere.example"}),
		"prefix":     watch(TraceFilter{User: "ali"}),
	}
	sent := l.up(alice, invite)
	l.down(alice, sent.reply("180 Ringing"))
	l.pbx.send(l.pbx.request("OPTIONS", gone).set("To", "<sip:bob@pbx.example>")) // 480: bob is away
	l.pbx.read()
	l.expectAlive(alice)

	call := []string{"up relayed INVITE", "down relayed SIP/2.0 180 Ringing"}
	alive := []string{"up relayed OPTIONS", "down relayed SIP/2.0 200 OK"}
	for name, want := range map[string][]string{
		"call": call, "both": call, "other": nil, "prefix": nil,
		"user":       append(slices.Clone(call), "down answered no_connection OPTIONS"),
		"address":    append(slices.Clone(call), alive...),
		"connection": append(slices.Clone(call), alive...),
	} {
		waiting, _ := viewers[name].take()
		k := l.gw.masker()
		var got []TraceEvent
		for _, p := range waiting {
			got = append(got, p.masked(&k))
		}
		l.run(name, func() { expectOutline(l.t, got, want...) })
	}
}

// TestTraceFilterAsShown: a Call-ID that looks like a token to the mask is found by
// what a viewer has seen of it.
func TestTraceFilterAsShown(t *testing.T) {
	const callID = "abcdefghijklmnopqrstuvwxyz@pbx"
	for filter, want := range map[string]bool{
		callID: true, maskTokens(callID): true, "abcdef***": false, "abcdeg***@pbx": false, "abcdef": false, "***": false,
	} {
		f := TraceFilter{CallID: filter}
		if got := f.hasCallID([]byte(callID)); got != want {
			t.Errorf("%q: %t", filter, got)
		}
	}
}

// TestTraceOfRepetitions: what is sent again is shown each time, and what is
// absorbed, with the connection that it is about.
func TestTraceOfRepetitions(t *testing.T) {
	l := newLab(t)
	p := l.phone("alice")
	token := l.registered(p)
	tr := l.watch()
	sent := l.up(p, p.request("MESSAGE", "sip:bob@pbx.example"))
	l.pbx.expectAgain(sent)
	final := sent.reply("200 OK")
	l.down(p, final)
	l.pbx.send(final)
	info := l.pbx.request("INFO", token)
	got := l.down(p, info)
	answer := l.answered(p, got, "200 OK")
	l.pbx.send(info)
	l.pbx.expectAgain(answer)

	events := l.seen(tr, 8)
	expectOutline(t, events, "up relayed MESSAGE", "up repeated MESSAGE", "down relayed SIP/2.0 200 OK", "down absorbed SIP/2.0 200 OK",
		"down relayed INFO", "up relayed SIP/2.0 200 OK", "up repeated SIP/2.0 200 OK", "down absorbed INFO")
	conn := l.onlyConn()
	for i, e := range events {
		if e.Connection != conn.ID() || e.Peer != l.fromPBX().Addr || e.PeerLocal != l.bound.SIP {
			t.Errorf("event %d is of %x, %v and %v", i, e.Connection, e.Peer, e.PeerLocal)
		}
		switch {
		case e.Kind == TraceRepeated && (e.Before != "" || e.After == ""), e.Kind == TraceAbsorbed && (e.Before == "" || e.After != ""):
			t.Errorf("event %d has\n%s\nand\n%s", i, e.Before, e.After)
		}
	}
	if events[1].After != l.masked(sent) {
		t.Errorf("sent again is\n%s", events[1].After)
	}
}

// TestTraceOfOwn: what the gateway sends in a browser's place is shown too.
func TestTraceOfOwn(t *testing.T) {
	l := newLab(t)
	p := l.phone("alice")
	l.registered(p)
	tr := l.watch()
	invite := l.up(p, p.invite("sip:bob@pbx.example"))
	l.hangUp(p.browser)
	l.pbx.send(invite.reply("486 Busy Here"))
	if ack := l.pbx.next(); ack.method() != "ACK" {
		t.Fatalf("the PBX gets\n%s", ack)
	}
	events := l.seen(tr, 2)
	expectOutline(t, events, "up relayed INVITE", "up own ACK")
}

// TestTraceIsBounded: a viewer that does not read holds up nobody, and is told
// what it missed; of a flood no more is copied than anyone could look at.
func TestTraceIsBounded(t *testing.T) {
	for _, test := range []struct {
		name          string
		size, n, each int // messages of that size, so many in each of four seconds
		kept          int
	}{
		{"slow by number", 0, 2000, 500, maxTraceWait},
		{"slow by bytes", 60_000, 80, 20, maxTraceBytes / 60_001},
		{"a flood by number", 0, 20_000, 5000, maxTraceWait},
		{"a flood by bytes", 60_000, 20_000, 5000, maxTraceBytes / 60_001},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := untold()
				tr, err := g.Trace(TraceFilter{})
				if err != nil {
					t.Fatal(err)
				}
				defer tr.Close()
				w := &work{msg: rewrite.Message{Raw: bytes.Repeat([]byte("x"), test.size)}}
				w.out = []byte("y")
				for i := range test.n {
					g.traceRefused(Up, ReasonTooLarge, nil, transport.Source{}, w)
					if i%test.each == test.each-1 {
						<-time.After(time.Second) // of a fake clock
					}
				}
				events, lost, err := tr.Next(t.Context())
				if len(events) != test.kept || int(lost) != test.n-test.kept || err != nil {
					t.Fatalf("%d events, %d lost, %v; want %d kept of %d", len(events), lost, err, test.kept, test.n)
				}
				if age := time.Since(events[len(events)-1].Time); age > 1100*time.Millisecond {
					t.Errorf("the newest event is of %v ago", age)
				}
				g.traceRefused(Up, ReasonTooLarge, nil, transport.Source{}, w)
				if events, lost, err = tr.Next(t.Context()); len(events) != 1 || lost != 0 || err != nil {
					t.Errorf("then %d events, %d lost, %v", len(events), lost, err)
				}
			})
		})
	}
}

// TestTraceOfAFloodCostsNothing: past what a viewer gets in a second nothing is copied.
func TestTraceOfAFloodCostsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // where no second ends
		g := untold()
		tr, err := g.Trace(TraceFilter{})
		if err != nil {
			t.Fatal(err)
		}
		defer tr.Close()
		w := &work{msg: rewrite.Message{Raw: make([]byte, 3000)}}
		refuse := func() { g.traceRefused(Up, ReasonTooLarge, nil, transport.Source{}, w) }
		for range maxTraceRate {
			refuse()
		}
		if n := testing.AllocsPerRun(1000, refuse); n != 0 {
			t.Errorf("%v allocations a message", n)
		}
	})
}

// untold is a gateway that does nothing.
func untold() *Gateway {
	g := &Gateway{}
	g.keys.Store(nil)
	return g
}

// TestTraceViewers: there is a cap, a closed viewer makes room, and with the
// last one nothing is left: no goroutine, and no work for the relay path.
func TestTraceViewers(t *testing.T) {
	l := newLab(t)
	p := l.phone("alice")
	l.expectAlive(p)
	goroutines := runtime.NumGoroutine()
	var open []*Trace
	for range maxTraces {
		open = append(open, l.watch())
	}
	if _, err := l.gw.Trace(TraceFilter{}); !errors.Is(err, ErrTooManyTraces) {
		t.Errorf("a viewer too many: %v", err)
	}
	l.expectAlive(p)
	for _, tr := range open {
		expectOutline(t, l.seen(tr, 2), "up relayed OPTIONS", "down relayed SIP/2.0 200 OK")
		tr.Close()
		tr.Close()
		if _, _, err := tr.Next(t.Context()); !errors.Is(err, ErrTraceClosed) {
			t.Errorf("a closed trace says %v", err)
		}
	}
	if l.gw.observed() {
		t.Error("the relay path still thinks that somebody looks")
	}
	if n := runtime.NumGoroutine(); n > goroutines {
		t.Errorf("%d goroutines, %d before the viewers", n, goroutines)
	}
	l.watch()
}

// TestTraceNextEnds: a viewer that waits is woken by its context and by Close.
func TestTraceNextEnds(t *testing.T) {
	g := &Gateway{}
	tr, err := g.Trace(TraceFilter{})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	next := func(ctx context.Context) {
		_, _, err := tr.Next(ctx)
		ended <- err
	}
	go next(ctx)
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	go next(context.Background())
	tr.Close()
	if err := <-ended; !errors.Is(err, ErrTraceClosed) {
		t.Error(err)
	}
}
