package gateway

import (
	"sync/atomic"
	"testing"
	"time"

	"viaduct/rewrite"
)

// clock is a time that a test sets.
type clock struct{ seconds atomic.Int64 }

func (c *clock) now() time.Time { return time.Unix(c.seconds.Load(), 0) }

func newTestClients(max int) (*clients, *clock) {
	at := &clock{}
	c := newClients(max)
	c.now = at.now
	return c, at
}

// TestRegistrationLapses: a client that is gone is kept for as long as the PBX
// has granted, not as long as it asked for.
func TestRegistrationLapses(t *testing.T) {
	for name, grant := range map[string]func(contact string) []string{
		"in Contact": func(contact string) []string {
			return []string{"Contact: <" + contact + ">;expires=60", "Expires: 3600"}
		},
		"in Expires": func(contact string) []string { return []string{"Contact: <" + contact + ">", "Expires: 60"} },
		"unlisted":   func(string) []string { return []string{"Expires: 60"} },
	} {
		t.Run(name, func(t *testing.T) {
			var at clock
			l := preparedLab(t)
			l.tune = func(g *Gateway) { g.clients.now = at.now }
			l.start()
			alice := l.phone("alice")
			req := l.up(alice, alice.register())
			l.down(alice, req.reply("200 OK", grant(req.contactURI())...))
			l.hangUp(alice.browser)

			thief := masquerade(l, alice)
			at.seconds.Store(59)
			l.down(thief, l.up(thief, thief.invite("sip:bob@pbx.example")).reply("486 Busy Here"))
			l.expectNobody(req.contactURI())
			at.seconds.Store(61)
			l.down(thief, l.up(thief, thief.invite("sip:bob@pbx.example")).reply("486 Busy Here"))
			l.expectReached(thief, req.contactURI())
		})
	}
}

func TestClientMovesOn(t *testing.T) {
	c, _ := newTestClients(10)
	first, second := &flow{}, &flow{}
	c.register(1, 0, nil, first, time.Hour)
	c.register(1, 0, nil, second, time.Hour)
	c.leave(first)
	if c.flow(1) != second {
		t.Error("a client that moved is gone with its old connection")
	}
	c.unregister(1, first)
	c.leave(second)
	if c.flow(1) != nil || !c.registered(1) {
		t.Error("a connection that a client left has unregistered it")
	}
}

func TestNothingOnClosedFlow(t *testing.T) {
	c, _ := newTestClients(10)
	f := &flow{}
	c.leave(f)
	c.register(1, 0, nil, f, time.Hour)
	if c.claim(2, 0, f) != nil || len(c.byID) != 0 {
		t.Errorf("clients on a closed connection: %v", c.byID)
	}
}

func TestClientsOfOneFlow(t *testing.T) {
	c, _ := newTestClients(10)
	f := &flow{}
	c.register(0, 0, nil, f, time.Hour)
	for id := range rewrite.ClientID(maxOwned) {
		if c.claim(1+id, 0, f) != f {
			t.Fatalf("client %d is refused", 1+id)
		}
	}
	if len(c.byID) != maxOwned || !c.registered(0) || c.known(1) {
		t.Errorf("%d clients, registered %v, oldest caller %v", len(c.byID), c.registered(0), c.known(1))
	}
	for id := range rewrite.ClientID(maxOwned + 5) {
		c.register(1000+id, 0, nil, f, time.Hour)
	}
	if len(c.byID) != maxOwned || !c.registered(0) || c.claim(1, 0, f) != nil {
		t.Errorf("%d clients, first registered %v", len(c.byID), c.registered(0))
	}
}

func TestSweep(t *testing.T) {
	const max = 3
	c, at := newTestClients(max)
	gone, here := &flow{}, &flow{}
	for id := range rewrite.ClientID(max + 2) {
		c.register(id, 0, nil, gone, time.Duration(1+id)*time.Minute)
	}
	c.register(100, 0, nil, here, time.Second)
	c.claim(101, 0, here)
	c.leave(gone)
	if c.gone != max || len(c.byID) != max+2 {
		t.Errorf("%d of %d are kept without a connection, want %d", c.gone, len(c.byID), max)
	}
	at.seconds.Store(2 * 60)
	c.sweep()
	if c.gone != max-2 || c.known(1) || !c.known(2) || !c.known(100) || !c.known(101) {
		t.Errorf("%d kept: %v", c.gone, c.byID)
	}
	at.seconds.Store(3600)
	c.sweep()
	if c.gone != 0 || len(c.byID) != 2 {
		t.Errorf("%d kept: %v", c.gone, c.byID)
	}
}

func TestInviteGenerations(t *testing.T) {
	v := newInvites(2)
	one, two, three := v.hash([]byte("via"), []byte("a"), 1), v.hash([]byte("via"), []byte("a"), 2), v.hash([]byte("viaa"), nil, 1)
	v.add(one, invite{})
	v.add(two, invite{})
	v.add(three, invite{}) // past the bound
	v.turn()
	for hash, want := range map[uint64]bool{one: true, two: true, three: false} {
		if _, ok := v.find(hash); ok != want {
			t.Errorf("INVITE found %v after a turn, want %v", ok, want)
		}
	}
	v.add(three, invite{})
	v.turn()
	for hash, want := range map[uint64]bool{one: false, two: false, three: true} {
		if _, ok := v.find(hash); ok != want {
			t.Errorf("INVITE found %v after two turns, want %v", ok, want)
		}
	}
}

// TestPage: one that never registers is reached by the client of its page that
// has registered last, though an earlier one leaves later, and is expected with it.
func TestPage(t *testing.T) {
	c, at := newTestClients(10)
	const origin = 7
	first, second := &flow{}, &flow{}
	c.register(1, origin, nil, first, time.Hour)
	c.register(2, origin, nil, second, time.Hour)
	c.claim(3, origin, first)
	c.leave(first)
	for _, token := range []rewrite.Token{{ID: 3}, {ID: 3, Origin: origin}, {ID: 4, Origin: origin}} {
		if c.reach(&token) != second {
			t.Errorf("%+v is not reached", token)
		}
		if c.reach(&rewrite.Token{ID: 1, Origin: origin}) != nil {
			t.Error("one that is registered is reached elsewhere")
		}
	}
	at.seconds.Store(100)
	c.leave(second)
	for id, want := range map[rewrite.ClientID]bool{1: false, 2: true, 3: true} {
		if c.expected(&rewrite.Token{ID: id, Origin: origin}) != want {
			t.Errorf("%d is expected: %v", id, !want)
		}
	}
}
