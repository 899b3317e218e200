package gateway

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"viaduct/rewrite"
	"viaduct/transport"
)

// Direction is a message's way through the gateway.
type Direction string

const (
	// Up is from a browser to the SIP side.
	Up Direction = "up"
	// Down is from the SIP side to a browser.
	Down Direction = "down"
)

// TraceKind says what became of a message.
type TraceKind string

const (
	// TraceRelayed is a message that was sent on.
	TraceRelayed TraceKind = "relayed"
	// TraceRefused is a message that was dropped and that nobody is told about.
	TraceRefused TraceKind = "refused"
	// TraceAnswered is a request that the gateway answered by itself.
	TraceAnswered TraceKind = "answered"
	// TraceRepeated is a message that the gateway sent to the SIP side again.
	TraceRepeated TraceKind = "repeated"
	// TraceAbsorbed is a duplicate from the SIP side that no browser gets.
	TraceAbsorbed TraceKind = "absorbed"
	// TraceOwn is a message that the gateway made in the place of one of the sides.
	TraceOwn TraceKind = "own"
)

// TraceEvent is one message that came to the gateway, or went from it. Its text is
// fit for a screen: what could be used by who sees it is masked, and a body is
// as long as its Content-Length says nevertheless. Lines end as they came.
type TraceEvent struct {
	// Time is when the gateway had decided, just before anything was sent.
	Time time.Time
	// Connection is the random id of the browser's connection, 0 if there is none.
	Connection uint64
	// Browser is the address of that connection's other end, BrowserLocal that of
	// the gateway's.
	Browser, BrowserLocal netip.AddrPort
	// User is the address-of-record that the connection last registered, else
	// the one that it last used; empty if it is not known.
	User string
	// Direction is where the message was going.
	Direction Direction
	// Kind is what became of it, and Reason why if it was not relayed.
	Kind   TraceKind
	Reason Reason
	// Transport and Peer are the SIP side's end, PeerLocal is the gateway's; Peer is
	// not valid for what a browser sent and was not relayed.
	Transport       transport.Proto
	Peer, PeerLocal netip.AddrPort
	// CallID and StartLine are empty if the message has none that can be read.
	CallID, StartLine string
	// Before is the message as it came, empty for one that the gateway repeats or
	// made itself. After is what was sent on, or the answer of the gateway; it is
	// empty for a message that was dropped.
	Before, After string
}

// TraceFilter says which messages a viewer wants: those for which all of it holds
// that is set. The zero value wants every message.
type TraceFilter struct {
	// CallID is the Call-ID, as it is or as a TraceEvent shows it.
	CallID string
	// User is a user, or an address-of-record (user@host): that of the browser, or
	// of the message's From or To.
	User string
	// Connection is the id of a browser's connection.
	Connection uint64
}

// Trace is one viewer of what passes a gateway from when it was opened. It
// holds what was not read yet, within bounds: a viewer that is slow loses the
// oldest events and is told how many, and of a flood it gets no more than can be
// looked at; it never holds up a message. Its methods are safe for concurrent use.
type Trace struct {
	of      *traces
	filter  TraceFilter
	masks   func() masker
	arrived chan struct{} // holds one token while something waits

	mu      sync.Mutex
	waiting []*passed
	bytes   int
	lost    uint64
	closed  bool
	second  allowance
}

// allowance is what a viewer has been given in the current second.
type allowance struct {
	began         time.Time
	events, bytes int
}

// passed is an event whose text is not masked yet: that is left to the viewers,
// who have the time.
type passed struct {
	event                 TraceEvent
	callID, before, after []byte
}

func (p *passed) size() int { return len(p.callID) + len(p.before) + len(p.after) }

// Bounds of the viewers, of what waits for each of them, and of what is copied
// for it in a second.
const (
	maxTraces      = 8
	maxTraceWait   = 1024
	maxTraceBytes  = 1 << 20
	maxTraceRate   = 1000
	maxTraceVolume = 4 << 20
)

// ErrTooManyTraces is returned by [Gateway.Trace] when eight viewers look already.
var ErrTooManyTraces = errors.New("too many viewers of the trace")

// ErrTraceClosed is returned by [Trace.Next] after Close.
var ErrTraceClosed = errors.New("the trace is closed")

// Trace lets a viewer see what passes from now on; the caller closes it. The
// only error is [ErrTooManyTraces].
func (g *Gateway) Trace(filter TraceFilter) (*Trace, error) {
	s := &g.traces
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.viewers() == maxTraces {
		return nil, ErrTooManyTraces
	}
	t := &Trace{of: s, filter: filter, masks: g.masker, arrived: make(chan struct{}, 1)}
	s.set(append(slices.Clone(s.all()), t))
	return t, nil
}

// Next waits for events and returns those that no call has returned yet, in the
// order in which they happened, and how many were lost before them. The error is
// that of ctx, or [ErrTraceClosed].
func (t *Trace) Next(ctx context.Context) (events []TraceEvent, lost uint64, err error) {
	for len(events) == 0 { // what a token stands for may have been taken with the last one
		select {
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		case _, open := <-t.arrived:
			if !open {
				return nil, 0, ErrTraceClosed
			}
		}
		var waiting []*passed
		waiting, lost = t.take()
		k := t.masks()
		for _, p := range waiting {
			events = append(events, p.masked(&k))
		}
	}
	return events, lost, nil
}

// Close ends the trace and forgets what waits. It may be called again.
func (t *Trace) Close() {
	t.of.mu.Lock()
	defer t.of.mu.Unlock()
	open := slices.Clone(t.of.all())
	i := slices.Index(open, t)
	if i < 0 {
		return
	}
	t.of.set(slices.Delete(open, i, i+1))
	t.mu.Lock()
	defer t.mu.Unlock()
	close(t.arrived)
	t.closed = true // for who still has it in the old list
	t.waiting, t.bytes, t.lost = nil, 0, 0
}

func (t *Trace) take() (waiting []*passed, lost uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	waiting, lost = t.waiting, t.lost
	t.waiting, t.bytes, t.lost = nil, 0, 0
	return waiting, lost
}

// affords reports whether a viewer is to have a message of that size in this
// second; if not, that is counted, and nothing is copied.
func (t *Trace) affords(size int, now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.Sub(t.second.began) >= time.Second {
		t.second = allowance{began: now}
	}
	if t.second.events >= maxTraceRate || t.second.bytes+size > maxTraceVolume {
		t.lost++
		return false
	}
	t.second.events++
	t.second.bytes += size
	return true
}

func (t *Trace) add(p *passed) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	t.waiting = append(t.waiting, p)
	t.bytes += p.size()
	for len(t.waiting) > maxTraceWait || t.bytes > maxTraceBytes {
		t.bytes -= t.waiting[0].size()
		t.waiting[0] = nil
		t.waiting = t.waiting[1:]
		t.lost++
	}
	select {
	case t.arrived <- struct{}{}:
	default:
	}
}

func (p *passed) masked(k *masker) TraceEvent {
	e := p.event
	e.User, e.CallID = maskTokens(e.User), string(k.callID(nil, p.callID))
	e.Before, e.After = readable8(k.append(nil, p.before)), readable8(k.append(nil, p.after))
	first := cmp.Or(e.Before, e.After)
	if end := strings.IndexAny(first, "\r\n"); end >= 0 {
		first = first[:end]
	}
	e.StartLine = first
	return e
}

// readable8 makes UTF-8 of text, and keeps its length: who shows it as a packet
// needs that.
func readable8(text []byte) string {
	for rest := text; len(rest) > 0; {
		r, size := utf8.DecodeRune(rest)
		if r == utf8.RuneError && size == 1 {
			rest[0] = '?'
		}
		rest = rest[size:]
	}
	return string(text)
}

// traces are the open viewers. The zero value has none.
type traces struct {
	open atomic.Pointer[[]*Trace] // nil: nobody looks, which is all that a message asks

	mu sync.Mutex // held to replace open
}

func (s *traces) all() []*Trace {
	if open := s.open.Load(); open != nil {
		return *open
	}
	return nil
}

func (s *traces) viewers() int { return len(s.all()) }

// set replaces the viewers. mu is held.
func (s *traces) set(open []*Trace) {
	if len(open) == 0 {
		s.open.Store(nil)
		return
	}
	s.open.Store(&open)
}

// wants reports whether a message, of a flow or nil, is one that a viewer has
// asked for. It allocates nothing for one that is not.
func (f *TraceFilter) wants(of *flow, m *rewrite.Message) bool {
	return (f.Connection == 0 || of != nil && of.id == f.Connection) &&
		(f.CallID == "" || f.hasCallID(m.Text(m.CallID))) &&
		(f.User == "" || of != nil && of.is(f.User) || f.names(m, m.From) || f.names(m, m.To))
}

// hasCallID compares what a viewer was shown too: what is masked there begins as
// the Call-ID does.
func (f *TraceFilter) hasCallID(callID []byte) bool {
	if string(callID) == f.CallID {
		return true
	}
	shown, _, masked := strings.Cut(f.CallID, "***")
	return masked && strings.HasPrefix(string(callID), shown) && maskTokens(string(callID)) == f.CallID
}

// names reports whether a From or To is the user's.
func (f *TraceFilter) names(m *rewrite.Message, address rewrite.Span) bool {
	a, ok := m.ParseAddress(address)
	if !ok {
		return false
	}
	uri, ok := rewrite.ParseURI(m.Text(a.URI))
	if !ok {
		return false
	}
	user, host, whole := strings.Cut(f.User, "@")
	return string(uri.User) == user && (!whole || string(uri.Host) == host)
}

// is reports whether a user, or address-of-record, was seen here.
func (f *flow) is(user string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.ContainsFunc(f.seen, func(c contact) bool {
		aor, n := c.aor(), len(user)
		return len(aor) >= n && string(aor[:n]) == user && (len(aor) == n || aor[n] == '@')
	})
}
