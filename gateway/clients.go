package gateway

import (
	"slices"
	"sync"
	"time"

	"viaduct/rewrite"
)

// clients knows on which flow each client is. It is the only thing that the
// gateway remembers of a registration, and every entry can be had again by the
// client's next REGISTER. It is safe for concurrent use.
type clients struct {
	mu       sync.RWMutex
	byID     map[rewrite.ClientID]binding
	byOrigin map[rewrite.Origin]rewrite.ClientID // the last one that registered
	max      int                                 // entries without a flow, of either kind
	gone     int                                 // registered ones without a flow, now
	guests   int                                 // others without a flow, now
	now      func() time.Time
}

// binding is one client's place. A registered client keeps its entry, and with
// it the key of its token, while its flow is gone, until the registration ends;
// any other for as long as it is expected back.
type binding struct {
	flow       *flow   // nil: not connected
	left       instant // when the flow was lost, if it is nil
	registered bool
	origin     rewrite.Origin
	upstream   *upstream // if registered: the one that accepted it
	expires    instant   // of the registration
}

// comeback is how long after its connection was lost a client is expected back.
const comeback = 10 * time.Second

func newClients(max int) *clients {
	return &clients{
		byID: make(map[rewrite.ClientID]binding), byOrigin: make(map[rewrite.Origin]rewrite.ClientID),
		max: max, now: time.Now,
	}
}

// flow returns the flow on which a client is, or nil.
func (c *clients) flow(id rewrite.ClientID) *flow {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.byID[id].flow
}

// reach returns the flow by which a token reaches its client, or nil. One that
// never registers, such as an anonymous caller, is found by the client that has
// registered for the same address-of-record from the same page.
func (c *clients) reach(t *rewrite.Token) *flow {
	c.mu.RLock()
	defer c.mu.RUnlock()
	b := c.byID[t.ID]
	if b.flow != nil || b.registered {
		return b.flow
	}
	return c.page(t, b).flow
}

// page returns the client that has registered last for the address-of-record of
// another one, from the same page. The zero binding: there is none.
func (c *clients) page(t *rewrite.Token, b binding) binding {
	origin := t.Origin
	if origin == 0 {
		origin = b.origin // the seal of a response does not say it
	}
	if id, ok := c.byOrigin[origin]; ok {
		return c.byID[id]
	}
	return binding{}
}

// expected reports whether a client is connected by now, or was until a moment ago.
func (c *clients) expected(t *rewrite.Token) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	b := c.byID[t.ID]
	return c.near(b) || !b.registered && c.near(c.page(t, b))
}

func (c *clients) near(b binding) bool {
	return b.flow != nil || instantOf(c.now()) < b.left.add(comeback)
}

// any reports whether a flow has a client: one that is registered, or that has
// formed a dialog.
func (c *clients) any(f *flow) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return len(f.owned) > 0
}

// known reports whether a client is connected or registered.
func (c *clients) known(id rewrite.ClientID) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	_, ok := c.byID[id]
	return ok
}

// registered reports whether a client's registration lasts.
func (c *clients) registered(id rewrite.ClientID) bool {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.byID[id].lasts(c.now())
}

// lasts reports whether the registration of a binding has not ended yet.
func (b binding) lasts(now time.Time) bool { return b.registered && instantOf(now) < b.expires }

// claim binds a client provisionally to the flow that used it. It displaces
// nobody: neither a client on another flow, nor one whose registration waits
// for it to reconnect. It returns the flow on which the client is then.
func (c *clients) claim(id rewrite.ClientID, origin rewrite.Origin, f *flow) *flow {
	if have := c.flow(id); have != nil {
		return have
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	b := c.byID[id]
	if b.flow != nil || b.lasts(c.now()) || !c.own(f, id) {
		return b.flow
	}
	c.put(id, binding{flow: f, origin: origin})
	return f
}

// register binds a client to the flow on which the SIP server accepted its
// REGISTER; the last one wins. It reports whether the client was on another
// flow before.
func (c *clients) register(id rewrite.ClientID, origin rewrite.Origin, up *upstream, f *flow, lifetime time.Duration) (moved bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	was, known := c.byID[id]
	if was.flow != f {
		if !c.own(f, id) {
			return false
		}
		if was.flow != nil {
			was.flow.owned = slices.DeleteFunc(was.flow.owned, func(o rewrite.ClientID) bool { return o == id })
		}
	}
	c.put(id, binding{flow: f, registered: true, origin: origin, upstream: up, expires: instantOf(c.now().Add(lifetime))})
	return known && was.flow != f
}

// maxOwned bounds the clients on one flow.
const maxOwned = 64

// own notes that a flow has a client. A flow with too many gives up its oldest
// one that is not registered; false if there is none, or the flow is closed.
func (c *clients) own(f *flow, id rewrite.ClientID) bool {
	if f.closed {
		return false
	}
	if len(f.owned) >= maxOwned {
		i := slices.IndexFunc(f.owned, func(o rewrite.ClientID) bool { return !c.byID[o].registered })
		if i < 0 {
			return false
		}
		c.remove(f.owned[i])
		f.owned = slices.Delete(f.owned, i, i+1)
	}
	f.owned = append(f.owned, id)
	return true
}

// unregister ends a client's registration, as flow f was told; it stays
// reachable there, for the calls it has. One that is nowhere is forgotten.
func (c *clients) unregister(id rewrite.ClientID, f *flow) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch b, ok := c.byID[id]; {
	case b.flow == f:
		c.put(id, binding{flow: f, origin: b.origin})
	case ok && b.flow == nil:
		c.remove(id)
	}
}

// unregisterAbsent ends the registrations of an origin's clients that are
// nowhere: a REGISTER with `*` ended them all, whatever connection it came by.
func (c *clients) unregisterAbsent(origin rewrite.Origin) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone == 0 {
		return
	}
	for id, b := range c.byID {
		if b.flow == nil && b.registered && b.origin == origin {
			c.remove(id)
		}
	}
}

// leave is called when a flow takes nothing any more, and when it is gone.
func (c *clients) leave(f *flow) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := instantOf(c.now())
	f.closed = true
	for _, id := range f.owned {
		b := c.byID[id]
		if *c.away(b) < c.max {
			b.flow, b.left = nil, now
			c.put(id, b)
		} else {
			c.remove(id)
		}
	}
	f.owned = nil
}

// sweep forgets the clients that are gone, whose registration has ended, and
// that are not expected back.
func (c *clients) sweep() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone+c.guests == 0 {
		return
	}
	now := instantOf(c.now())
	for id, b := range c.byID {
		if b.flow == nil && now >= b.expires && now >= b.left.add(comeback) {
			c.remove(id)
		}
	}
}

// put and remove keep the count of entries without a flow. One that leaves does
// not take the place of another that has registered since.
func (c *clients) put(id rewrite.ClientID, b binding) {
	c.remove(id)
	c.byID[id] = b
	if b.flow == nil {
		*c.away(b)++
	}
	if _, taken := c.byOrigin[b.origin]; b.registered && (b.flow != nil || !taken) {
		c.byOrigin[b.origin] = id
	}
}

// away is the count that a binding without a flow is in: those whom no SIP server
// has accepted push nobody out.
func (c *clients) away(b binding) *int {
	if b.registered {
		return &c.gone
	}
	return &c.guests
}

func (c *clients) remove(id rewrite.ClientID) {
	b, ok := c.byID[id]
	if !ok {
		return
	}
	if b.flow == nil {
		*c.away(b)--
	}
	if b.registered && c.byOrigin[b.origin] == id {
		delete(c.byOrigin, b.origin)
	}
	delete(c.byID, id)
}
