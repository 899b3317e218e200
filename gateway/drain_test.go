package gateway

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"go.uber.org/zap"
)

// aLifetime is a DrainTimeout that no test lives to see.
const aLifetime = time.Hour

// drainingLab is a lab that waits for its calls when it ends.
func drainingLab(t *testing.T, timeout time.Duration) *lab {
	t.Helper()
	return newLab(t, func(c *Config) { c.DrainTimeout = timeout })
}

// drain asks the gateway to end, and returns when it has begun to. The channel
// is closed when it has ended.
func (l *lab) drain() (ended <-chan struct{}) {
	l.t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		l.stop()
	}()
	l.log.await("draining", 1)
	return done
}

func (l *lab) expectEnd(ended <-chan struct{}) {
	l.t.Helper()
	select {
	case <-ended:
	case <-time.After(patience):
		l.t.Fatal("Serve does not return")
	}
}

// TestDrainNobody: a gateway without browsers ends at once.
func TestDrainNobody(t *testing.T) {
	l := drainingLab(t, aLifetime)
	l.hangUp(l.browser())
	l.expectEnd(l.drain())
}

// TestDrainIdle: browsers at which nothing is open are sent away, registered
// ones too, and those that had calls.
func TestDrainIdle(t *testing.T) {
	l := drainingLab(t, aLifetime)
	silent, registered, called := l.browser(), l.phone("alice"), l.phone("bob")
	l.registered(registered)
	c := l.call(called)
	c.hangUp()
	ended := l.drain()
	for _, b := range []*browser{silent, registered.browser, called.browser} {
		b.expectClosed(ws.StatusGoingAway)
	}
	l.expectEnd(ended)
}

// TestDrainRefusesNew: no browser gets in any more; those that are in have all
// that they had.
func TestDrainRefusesNew(t *testing.T) {
	l := drainingLab(t, aLifetime)
	alice := l.phone("alice")
	token := l.registered(alice)
	c := l.call(alice)
	ended := l.drain()
	if res := l.handshake(nil); res.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a new browser gets %s", res.Status)
	}
	l.expectAlive(alice)
	l.expectReached(alice, token)
	l.registered(alice)
	c.hangUp()
	alice.expectClosed(ws.StatusGoingAway)
	l.expectEnd(ended)
}

// TestDrainInCall: a connection lives until its calls are hung up, whoever does it.
func TestDrainInCall(t *testing.T) {
	l := drainingLab(t, aLifetime)
	idle, alice, bob := l.browser(), l.phone("alice"), l.phone("bob")
	one, two := l.call(alice), l.call(bob)
	ended := l.drain()
	idle.expectClosed(ws.StatusGoingAway)

	one.hangUp()
	alice.expectClosed(ws.StatusGoingAway)

	bye := l.down(bob, l.pbx.request("BYE", two.token).set("Call-ID", two.id))
	l.expectAlive(bob) // the BYE is not answered yet
	l.answered(bob, bye, "200 OK")
	bob.expectClosed(ws.StatusGoingAway)
	l.expectEnd(ended)
}

// TestDrainRinging: a call that is being set up is set up, or refused.
func TestDrainRinging(t *testing.T) {
	l := drainingLab(t, aLifetime)
	caller, callee, refused := l.phone("alice"), l.phone("bob"), l.phone("carol")
	token := l.registered(callee)
	invite := caller.invite("sip:bob@pbx.example")
	sent := l.up(caller, invite)
	offered := l.pbx.request("INVITE", token)
	ringing := l.down(callee, offered)
	refusable := refused.invite("sip:bob@pbx.example")
	pending := l.up(refused, refusable)
	ended := l.drain()

	l.down(caller, sent.reply("180 Ringing"))
	l.answered(callee, ringing, "180 Ringing")
	l.down(caller, sent.reply("200 OK", "Contact: <sip:bob@"+l.pbx.addr()+">"))
	l.answered(callee, ringing, "200 OK")
	l.up(caller, invite.as("ACK"))
	l.down(callee, offered.as("ACK"))
	l.down(refused, pending.reply("486 Busy Here"))
	l.up(refused, refusable.as("ACK"))
	refused.expectClosed(ws.StatusGoingAway)

	bye := l.up(caller, caller.request("BYE", "sip:bob@"+l.pbx.addr()).set("Call-ID", invite.get("Call-ID")))
	l.down(caller, bye.reply("200 OK"))
	caller.expectClosed(ws.StatusGoingAway)
	bye = l.down(callee, l.pbx.request("BYE", token).set("Call-ID", offered.get("Call-ID")))
	l.answered(callee, bye, "200 OK")
	callee.expectClosed(ws.StatusGoingAway)
	l.expectEnd(ended)
}

// TestDrainTimeout: a call that does not end is not waited for any longer.
func TestDrainTimeout(t *testing.T) {
	l := drainingLab(t, 100*time.Millisecond)
	alice := l.phone("alice")
	l.call(alice)
	begun := time.Now()
	ended := l.drain()
	alice.expectClosed(ws.StatusGoingAway)
	if after := time.Since(begun); after < 100*time.Millisecond {
		t.Errorf("the call is cut after %v", after)
	}
	l.expectEnd(ended)
	l.log.await("not waiting any longer", 1)
}

// TestDrainMany: they are not all sent away at the same moment.
func TestDrainMany(t *testing.T) {
	l := preparedLab(t)
	l.cfg.DrainTimeout = aLifetime
	l.cfg.Log, l.log = newJournal(l.t, zap.DebugLevel)
	l.start()
	const n = 200
	closed := make(chan time.Time, n)
	for range n {
		b := l.browser()
		go func() {
			b.expectClosed(ws.StatusGoingAway)
			closed <- time.Now()
		}()
	}
	l.log.await("browser connected", n)
	ended := l.drain()
	l.expectEnd(ended)
	first, last := <-closed, time.Time{}
	for range n - 1 {
		last = <-closed
	}
	if took := last.Sub(first); took < n*time.Millisecond/4 {
		t.Errorf("%d browsers are sent away within %v", n, took)
	}
}

// brief is a call of a phone, confirmed.
type brief struct {
	l         *lab
	phone     *phone
	id, token string
}

// call makes a phone call the PBX.
func (l *lab) call(p *phone) brief {
	l.t.Helper()
	invite := p.invite("sip:bob@pbx.example")
	sent := l.up(p, invite)
	l.down(p, sent.reply("200 OK", "Contact: <sip:bob@"+l.pbx.addr()+">"))
	l.up(p, invite.as("ACK"))
	return brief{l, p, invite.get("Call-ID"), sent.contactURI()}
}

// hangUp ends the call from the phone's side.
func (c brief) hangUp() {
	c.l.t.Helper()
	bye := c.l.up(c.phone, c.phone.request("BYE", "sip:bob@"+c.l.pbx.addr()).set("Call-ID", c.id))
	c.l.down(c.phone, bye.reply("200 OK"))
}

// TestDrainHeld: an INVITE that was told to wait for its browser is answered at
// the end, since its PBX does not repeat it.
func TestDrainHeld(t *testing.T) {
	l := newAway(t)
	invite := l.pbx.request("INVITE", l.token)
	l.hold(invite)
	if got := l.pbx.read(); !strings.HasPrefix(got.start(), "SIP/2.0 100 ") {
		t.Fatalf("answered %q", got.start())
	}
	l.stop()
	expectAnswer(t, invite.receivedFrom(l.pbx.conn.LocalAddr()), l.pbx.read(), 480)
}
