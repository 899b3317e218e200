package gateway

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"viaduct/gateway/transaction"
	"viaduct/rewrite"
)

// What one browser does must not cost another what is kept for it.

// TestRepliesMadeUp: a browser that answers requests which nobody sent fills no
// more room than that of its connection.
func TestRepliesMadeUp(t *testing.T) {
	l := newLab(t, undisturbed)
	alice := l.phone("alice")
	got := l.down(alice, l.pbx.request("OPTIONS", l.registered(alice)))
	for i := range 200 {
		alice.send(got.reply("200 OK").set("CSeq", fmt.Sprintf("7 M%d", i)))
		l.pbx.read()
	}
	if kept := l.gw.transactions.Stats().Messages; kept > 64 {
		t.Errorf("%d messages are kept for one connection", kept)
	}
}

// TestHeldAnswersAreBounded: responses, which anyone can ask for, leave the most
// of the room to requests of the SIP server.
func TestHeldAnswersAreBounded(t *testing.T) {
	s := newHeldStore()
	for id := range rewrite.ClientID(maxHeld) {
		s.add(&heldMessage{token: rewrite.Token{ID: id}, answer: true})
	}
	if s.len() != maxHeldAnswers {
		t.Errorf("%d responses are held, want %d", s.len(), maxHeldAnswers)
	}
	if !s.add(&heldMessage{}) {
		t.Error("a request finds no room")
	}
}

// TestGuestsDisplaceNobody: clients that no SIP server has accepted push no
// registered one out when they leave.
func TestGuestsDisplaceNobody(t *testing.T) {
	c, _ := newTestClients(10)
	guest, alice := &flow{}, &flow{}
	for id := range rewrite.ClientID(20) {
		c.claim(100+id, 0, guest)
	}
	c.leave(guest)
	c.register(1, 0, nil, alice, time.Hour)
	c.leave(alice)
	if !c.known(1) || c.guests != 10 || c.gone != 1 {
		t.Errorf("registered one known %v, %d guests and %d others are away", c.known(1), c.guests, c.gone)
	}
}

// TestOneBranchForTwo: a stateless proxy may give what it relays either way in
// one call the same branch.
func TestOneBranchForTwo(t *testing.T) {
	l := newLab(t)
	alice, bob := l.phone("alice"), l.phone("bob")
	toAlice, toBob := l.registered(alice), l.registered(bob)
	info := func(uri, from, to string) sip {
		return l.pbx.request("INFO", uri).set("Via", "SIP/2.0/UDP "+l.pbx.addr()+";rport;branch=z9hG4bKcydzigwkX").
			set("Call-ID", "one-call").set("CSeq", "2 INFO").
			set("From", "<sip:x@pbx.example>;tag="+from).set("To", "<sip:y@pbx.example>;tag="+to)
	}
	l.answered(bob, l.down(bob, info(toBob, "a", "b")), "200 OK")
	l.answered(alice, l.down(alice, info(toAlice, "b", "a")), "200 OK")
	if n := l.gw.transactions.Stats().Absorbed[transaction.Down]; n != 0 {
		t.Errorf("%d were taken for repetitions", n)
	}
}

// TestStuckRequest: what an upstream has left unanswered is answered when it is
// found dead.
func TestStuckRequest(t *testing.T) {
	l := preparedLab(t)
	silent := l.newPBX()
	l.cfg.HealthInterval = time.Second
	l.cfg.Upstreams = upstreams(t, "sip:"+silent.addr())
	l.start()
	alice := l.phone("alice")
	alice.send(alice.register())
	if got := alice.read(); !strings.HasPrefix(got.start(), "SIP/2.0 503 ") || got.get("Retry-After") == "" {
		t.Errorf("answered\n%s", got)
	}
}

// TestDrainLastWord: a BYE that was lost is sent again though its browser has left
// and the gateway ends.
func TestDrainLastWord(t *testing.T) {
	l := drainingLab(t, aLifetime)
	alice := l.phone("alice")
	c := l.call(alice)
	bye := l.up(alice, alice.request("BYE", "sip:bob@"+l.pbx.addr()).set("Call-ID", c.id))
	l.hangUp(alice.browser)
	ended := l.drain()
	for got := l.pbx.datagram(); got != bye; got = l.pbx.datagram() {
	}
	l.pbx.send(bye.reply("200 OK"))
	l.expectEnd(ended)
}
