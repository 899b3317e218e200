package gateway

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/gobwas/ws"
)

// TestHeldResponse: a response for a client that is away is held too, and
// repeated ones do not reach it on the connection to which that went.
func TestHeldResponse(t *testing.T) {
	l := newAway(t)
	l.back()
	invite := l.alice.invite("sip:bob@pbx.example")
	sent := l.up(l.alice, invite)
	l.hangUp(l.alice.browser)
	ringing, ok := sent.reply("180 Ringing"), sent.reply("200 OK", "Contact: <sip:bob@"+l.pbx.addr()+">")
	l.pbx.send(ringing)
	l.pbx.send(ok)
	l.expectHeld(2)
	l.back()
	for _, want := range []sip{ringing, ok} {
		if got := l.alice.read(); got.start() != want.start() || got.get("Via") != invite.get("Via") {
			t.Errorf("the browser gets\n%s\ninstead of\n%s", got, want)
		}
	}
	l.pbx.send(ok)
	l.expectAlive(l.alice)
	ack := l.up(l.alice, l.alice.ack(invite, ok))
	l.pbx.send(ok)
	l.pbx.expectAgain(ack)
	l.expectOutcomes(2, 0, 0)
}

// TestHeldResponseExpires: nobody is told.
func TestHeldResponseExpires(t *testing.T) {
	l := newAway(t)
	l.back()
	sent := l.up(l.alice, l.alice.request("MESSAGE", "sip:bob@pbx.example").add("Contact: <"+l.alice.contact()+">"))
	l.hangUp(l.alice.browser)
	before := l.dropped()
	l.pbx.send(sent.reply("200 OK"))
	l.expectHeld(1)
	l.gw.tendHeld(time.Now().Add(holdDialog))
	l.expectOutcomes(0, 1, 0)
	l.expectDropped(before, ReasonBrowserGone)
	l.expectAlive(l.phone("bob"))
}

// TestHeldForCaller: one who never registers, but whose page has, is reached
// through every reconnect of the page, with responses too.
func TestHeldForCaller(t *testing.T) {
	l := newAway(t)
	l.back()
	invite := l.alice.invite("sip:bob@pbx.example").
		set("Contact", "<sip:anonymous@anonymous.invalid;transport=ws>").set("From", "<sip:anonymous@anonymous.invalid>;tag=a")
	sent := l.up(l.alice, invite)
	caller := sent.contactURI()
	if caller == l.token {
		t.Fatal("the caller is the client that is registered")
	}
	for _, status := range []string{"180 Ringing", "200 OK"} {
		l.hangUp(l.alice.browser)
		l.pbx.send(sent.reply(status))
		l.expectHeld(1)
		l.back()
		if got := l.alice.read(); got.get("Call-ID") != sent.get("Call-ID") {
			t.Errorf("the browser gets\n%s", got)
		}
		l.expectHeld(0)
		l.clock.seconds.Add(2 * int64(comeback.Seconds()))
	}
	l.hangUp(l.alice.browser)
	bye := inDialog(l.pbx.request("BYE", caller))
	l.hold(bye)
	l.back()
	if got := l.alice.read(); got.method() != "BYE" || got.uri() != "sip:anonymous@anonymous.invalid;transport=ws" {
		t.Errorf("the browser gets\n%s", got)
	}
	l.expectOutcomes(3, 0, 0)
}

// TestHeldForUnregistered: one who never registers at all is back with the next
// message that can be its own only.
func TestHeldForUnregistered(t *testing.T) {
	l := newAway(t)
	bob := l.phone("bob")
	token := l.up(bob, bob.invite("sip:carol@pbx.example")).contactURI()
	l.hangUp(bob.browser)
	bye := inDialog(l.pbx.request("BYE", token))
	l.hold(bye)
	bob = bob.again(l.lab)
	again := l.up(bob, bob.invite("sip:carol@pbx.example"))
	if got := bob.read(); got.method() != "BYE" {
		t.Errorf("the browser gets\n%s", got)
	}
	l.down(bob, again.reply("100 Trying"))
	l.expectOutcomes(1, 0, 0)
}

// TestHeldWhileClosing: a connection that is closing takes nothing more, but
// what was meant for it waits for the next one.
func TestHeldWhileClosing(t *testing.T) {
	l := newAway(t)
	l.back()
	sent := l.up(l.alice, l.alice.invite("sip:bob@pbx.example"))
	for _, f := range l.gw.flows.list() {
		f.conn.Close(ws.StatusGoingAway, "") // it waits for the browser's close
	}
	bye := inDialog(l.pbx.request("BYE", l.token))
	l.pbx.send(bye)
	l.pbx.send(sent.reply("180 Ringing"))
	l.pbx.send(bye)
	l.expectHeld(2)
	l.back()
	for _, want := range []sip{bye, sent} {
		if got := l.alice.read(); got.get("Call-ID") != want.get("Call-ID") {
			t.Errorf("the browser gets\n%s\ninstead of\n%s", got, want)
		}
	}
	l.pbx.send(bye)
	l.expectAlive(l.alice)
	l.expectOutcomes(2, 0, 0)
}

// TestHeldInOrder: while a client comes and goes, requests come without a pause,
// and the answer to its REGISTER by another connection than they: it gets each
// once, in order.
func TestHeldInOrder(t *testing.T) {
	l := newAway(t)
	answers := l.dialTCP("127.0.0.1:0")
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	for range 30 {
		reqs := make([]sip, maxHeldClient)
		for i := range reqs {
			reqs[i] = l.pbx.request("MESSAGE", l.token)
		}
		held := 1 + random.IntN(maxHeldClient-1)
		l.hold(reqs[:held]...)
		l.alice = l.alice.again(l.lab)
		sent := l.up(l.alice, l.alice.register())
		ready := make(chan struct{})
		go func() {
			close(ready)
			answers.send(sent.reply("200 OK", "Contact: "+sent.get("Contact")))
		}()
		<-ready
		for _, req := range reqs[held:] {
			for range 1 + random.IntN(2) {
				l.pbx.send(req)
			}
		}
		l.expectInOrder(sent, reqs)
		l.hangUp(l.alice.browser)
	}
}

// expectInOrder reads the answer to a REGISTER, somewhere, and the requests in order.
func (l *away) expectInOrder(register sip, reqs []sip) {
	l.t.Helper()
	var got, want []string
	for _, req := range reqs {
		want = append(want, req.get("Call-ID"))
	}
	for range len(reqs) + 1 {
		m := l.alice.read()
		if m.get("Call-ID") != register.get("Call-ID") {
			got = append(got, m.get("Call-ID"))
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		l.t.Fatalf("the browser gets\n%q, want\n%q", got, want)
	}
	l.expectAlive(l.alice)
}

// TestHeldOnce: several who deliver, and one who gives up, at once: each message
// has one end.
func TestHeldOnce(t *testing.T) {
	l := newAway(t)
	for range 20 {
		var reqs []sip
		for range maxHeldClient {
			reqs = append(reqs, l.pbx.request("MESSAGE", l.token))
		}
		l.hold(reqs...)
		l.alice = l.alice.again(l.lab)
		sent := l.up(l.alice, l.alice.register())
		l.pbx.send(sent.reply("200 OK", "Contact: "+sent.get("Contact")))
		done := make(chan struct{})
		for range 4 {
			go func() {
				for _, f := range l.gw.flows.list() {
					l.gw.deliver(f)
				}
				l.gw.tendHeld(time.Now())
				done <- struct{}{}
			}()
		}
		l.expectInOrder(sent, reqs)
		for range 4 {
			<-done
		}
		l.hangUp(l.alice.browser)
	}
	l.expectOutcomes(20*maxHeldClient, 0, 0)
}
