package gateway

import (
	"bytes"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"viaduct/rewrite"
	"viaduct/transport"
)

// flow is one browser's connection (RFC 5626: "a flow is a bidirectional stream
// of datagrams or TCP connection").
type flow struct {
	id    uint64
	conn  *transport.WSConn
	since instant
	bound *rewrite.URI // the address-of-record for which alone it may speak; nil: any

	// Guarded by clients.mu.
	owned  []rewrite.ClientID
	closed bool

	moved  bool // closed to register elsewhere; of moveBrowsers alone
	proven bool // the SIP server has accepted credentials of a REGISTER; guarded by mu

	mu    sync.Mutex
	seen  []contact // newest last
	tried []try     // oldest first

	initial, other spent        // of --rate and --burst
	failed         spent        // of failures
	pardons        spent        // of pardons
	pardoned       atomic.Int32 // refusals that do not count yet
	trying         atomic.Int32 // how many are in tried
	refused        atomic.Bool  // credentials were refused here, and that counts
	kept           atomic.Int32 // messages that may have to be sent again

	activity activity
	waiting  *mediaQueue // nil: bodies are left alone
}

// contact is a Contact that a browser has used, and the client it means.
type contact struct {
	text       []byte    // Via host, address-of-record, URI and token, one behind the other
	ends       [3]uint32 // of the first three
	registered bool

	key    *rewrite.Key
	origin rewrite.Origin
	client rewrite.ClientID
}

func (c *contact) viaHost() []byte { return c.text[:c.ends[0]] }
func (c *contact) aor() []byte     { return c.text[c.ends[0]:c.ends[1]] }
func (c *contact) uri() []byte     { return c.text[c.ends[1]:c.ends[2]] }
func (c *contact) token() []byte   { return c.text[c.ends[2]:] }

// is reports whether c is what is known of a Contact.
func (c *contact) is(viaHost, aor, uri []byte) bool {
	return bytes.Equal(c.uri(), uri) && bytes.Equal(c.aor(), aor) && bytes.Equal(c.viaHost(), viaHost)
}

// maxSeen bounds the Contacts that a flow remembers: JsSIP uses two, one with
// `;ob`. A forgotten one is computed again.
const maxSeen = 16

// appendAoR puts into aor, which holds the one of the From, the address-of-
// record that a request other than REGISTER is sent for: the one registered on
// this flow from that Via host, since a caller may hide behind an anonymous
// From; with several, the one with that Contact, else with that From.
func (f *flow) appendAoR(aor, viaHost, uri []byte) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	var best *contact
	score := 0
	for i := range f.seen {
		c := &f.seen[i]
		if !c.registered || !bytes.Equal(c.viaHost(), viaHost) {
			continue
		}
		s := 1
		if bytes.Equal(c.aor(), aor) {
			s = 2
		}
		if sameContact(c.uri(), uri) {
			s = 3
		}
		if s >= score {
			best, score = c, s
		}
	}
	if best == nil {
		return aor
	}
	return append(aor[:0], best.aor()...)
}

// sameContact reports whether two Contact URIs mean one client: all but their
// parameters is the same.
func sameContact(have, uri []byte) bool {
	end := bytes.IndexByte(have, ';')
	if end < 0 {
		end = len(have)
	}
	return bytes.HasPrefix(uri, have[:end]) && (len(uri) == end || uri[end] == ';')
}

// find returns what is known of a Contact; the copy shares its token.
func (f *flow) find(viaHost, aor, uri []byte) (contact, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.seen {
		c := &f.seen[i]
		if c.is(viaHost, aor, uri) {
			return *c, true
		}
	}
	return contact{}, false
}

// last returns the client that a message without a Contact is of: the last one
// from that Via host, with that address-of-record if there is such a one.
func (f *flow) last(viaHost, aor []byte) (found contact, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := len(f.seen) - 1; i >= 0; i-- {
		c := &f.seen[i]
		if !bytes.Equal(c.viaHost(), viaHost) {
			continue
		}
		if bytes.Equal(c.aor(), aor) {
			return *c, true
		}
		if !ok {
			found, ok = *c, true
		}
	}
	return found, ok
}

// maxSeenAoR bounds the address-of-record of each, in bytes. What bounds the rest
// of it is the size of a Via and of a token, but of this that of a message, which
// sixteen times over is a megabyte.
const maxSeenAoR = 255

// remember keeps a Contact, in the place of what was known of it, else of the
// oldest one that is not registered.
func (f *flow) remember(c contact) {
	if len(c.aor()) > maxSeenAoR {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.seen = slices.DeleteFunc(f.seen, func(o contact) bool { return o.is(c.viaHost(), c.aor(), c.uri()) })
	if len(f.seen) >= maxSeen {
		oldest := max(slices.IndexFunc(f.seen, func(o contact) bool { return !o.registered }), 0)
		f.seen = slices.Delete(f.seen, oldest, oldest+1)
	}
	f.seen = append(f.seen, c)
}

// setRegistered notes that a client is registered on this flow, or is not any
// more: it is then forgotten, so that its next token is made with the first key.
func (f *flow) setRegistered(id rewrite.ClientID, registered bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !registered {
		f.seen = slices.DeleteFunc(f.seen, func(c contact) bool { return c.client == id })
	}
	for i := range f.seen {
		if f.seen[i].client == id {
			f.seen[i].registered = true
		}
	}
}

// clientsOf returns the registered clients of an address-of-record.
func (f *flow) clientsOf(aor []byte) (ids []rewrite.ClientID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.seen {
		if c := &f.seen[i]; c.registered && bytes.Equal(c.aor(), aor) {
			ids = append(ids, c.client)
		}
	}
	return ids
}

// clients returns the clients that were seen here.
func (f *flow) clients() (ids []rewrite.ClientID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.seen {
		if id := f.seen[i].client; !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// user returns the address-of-record that was last registered here, else the
// last one used; empty before the first.
func (f *flow) user() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var aor []byte
	for i := range f.seen {
		if c := &f.seen[i]; c.registered || aor == nil {
			aor = c.aor()
		}
	}
	return string(aor)
}

func newFlow(conn *transport.WSConn) *flow {
	bound, _ := conn.Grant.(*rewrite.URI) // nothing else is ever granted
	return &flow{id: conn.ID(), conn: conn, since: instantOf(time.Now()), bound: bound}
}

// client is the browser's address.
func (f *flow) client() netip.Addr { return f.conn.RemoteAddr().Addr() }

// flows knows the open connections by their random id. It is safe for
// concurrent use; the zero value is empty.
type flows struct {
	mu   sync.RWMutex
	byID map[uint64]*flow
}

func (s *flows) add(f *flow) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.byID == nil {
		s.byID = make(map[uint64]*flow)
	}
	s.byID[f.id] = f
}

func (s *flows) remove(f *flow) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.byID, f.id)
}

func (s *flows) get(id uint64) *flow {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.byID[id]
}
