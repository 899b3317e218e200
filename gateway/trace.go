package gateway

import (
	"bytes"
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

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
)

// TraceEvent is one message that came to the gateway. Its text is fit for a
// screen: credentials, tokens and seals are masked as they are in the log, and
// every line ends in LF.
type TraceEvent struct {
	// Time is when the gateway had decided, just before anything was sent.
	Time time.Time
	// Connection is the random id of the browser's connection, 0 if there is none.
	Connection uint64
	// Browser is the address of that connection's other end.
	Browser netip.AddrPort
	// User is the address-of-record that the connection last registered, else
	// the one that it last used; empty if it is not known.
	User string
	// Direction is where the message was going.
	Direction Direction
	// Kind is what became of it, and Reason why if it was not relayed.
	Kind   TraceKind
	Reason Reason
	// Transport and Peer are the SIP side's end; Peer is not valid for what a
	// browser sent and was not relayed.
	Transport transport.Proto
	Peer      netip.AddrPort
	// CallID and StartLine are empty if the message has none that can be read.
	CallID, StartLine string
	// Before is the message as it came. After is what was sent on, or the answer
	// of the gateway; it is empty for a message that was dropped.
	Before, After string
}

// Trace is one viewer of all that passes a gateway from when it was opened. It
// holds what was not read yet, within bounds: a viewer that is slow loses the
// oldest events and is told how many; it never holds up a message. Its methods
// are safe for concurrent use.
type Trace struct {
	of      *traces
	arrived chan struct{} // holds one token while something waits

	mu      sync.Mutex
	waiting []*passed
	bytes   int
	lost    uint64
}

// passed is an event whose text is not masked yet: that is left to the viewers,
// who have the time.
type passed struct {
	event                 TraceEvent
	callID, before, after []byte
}

func (p *passed) size() int { return len(p.callID) + len(p.before) + len(p.after) }

// Bounds of the viewers, and of what waits for each of them.
const (
	maxTraces     = 8
	maxTraceWait  = 1024
	maxTraceBytes = 1 << 20
)

// ErrTooManyTraces is returned by [Gateway.Trace] when eight viewers look already.
var ErrTooManyTraces = errors.New("too many viewers of the trace")

// ErrTraceClosed is returned by [Trace.Next] after Close.
var ErrTraceClosed = errors.New("the trace is closed")

// Trace lets a viewer see what passes from now on; the caller closes it. The
// only error is [ErrTooManyTraces].
func (g *Gateway) Trace() (*Trace, error) {
	s := &g.traces
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.open) == maxTraces {
		return nil, ErrTooManyTraces
	}
	t := &Trace{of: s, arrived: make(chan struct{}, 1)}
	s.open = append(s.open, t)
	s.watched.Store(true)
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
		for _, p := range waiting {
			events = append(events, p.masked())
		}
	}
	return events, lost, nil
}

// Close ends the trace and forgets what waits. It may be called again.
func (t *Trace) Close() {
	t.of.mu.Lock()
	defer t.of.mu.Unlock()
	i := slices.Index(t.of.open, t)
	if i < 0 {
		return
	}
	t.of.open = slices.Delete(t.of.open, i, i+1)
	t.of.watched.Store(len(t.of.open) > 0)
	close(t.arrived)
	t.take()
}

func (t *Trace) take() (waiting []*passed, lost uint64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	waiting, lost = t.waiting, t.lost
	t.waiting, t.bytes, t.lost = nil, 0, 0
	return waiting, lost
}

func (t *Trace) add(p *passed) {
	t.mu.Lock()
	defer t.mu.Unlock()
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

func (p *passed) masked() TraceEvent {
	e := p.event
	e.User, e.CallID = maskTokens(e.User), maskTokens(string(p.callID))
	e.Before, e.After = mask(p.before), mask(p.after)
	e.StartLine, _, _ = strings.Cut(e.Before, "\n")
	return e
}

// traces are the open viewers. The zero value has none.
type traces struct {
	watched atomic.Bool // whether there are any: all that a message costs without

	mu   sync.Mutex
	open []*Trace
}

// traceRelayed shows the viewers a message just before it is sent, as w.out, to
// or from that end of the SIP side.
func (g *Gateway) traceRelayed(d Direction, f *flow, proto transport.Proto, peer netip.AddrPort, w *work) {
	if g.traces.watched.Load() {
		g.trace(TraceEvent{Direction: d, Kind: TraceRelayed, Transport: proto, Peer: peer}, f, w)
	}
}

// traceRefused shows them one that is not relayed; w.out is the answer to it, if
// there is one.
func (g *Gateway) traceRefused(e TraceEvent, f *flow, w *work) {
	if !g.traces.watched.Load() {
		return
	}
	e.Kind = TraceRefused
	if len(w.out) > 0 {
		e.Kind = TraceAnswered
	}
	g.trace(e, f, w)
}

// trace adds what a viewer wants to know of the message of w. Flow f is nil
// where no browser is known.
func (g *Gateway) trace(e TraceEvent, f *flow, w *work) {
	e.Time = time.Now()
	if f != nil {
		e.Connection, e.Browser, e.User = f.id, f.conn.RemoteAddr(), f.user()
	}
	m := &w.msg
	p := &passed{event: e, callID: bytes.Clone(m.Text(m.CallID)), before: bytes.Clone(m.Raw), after: bytes.Clone(w.out)}
	g.traces.mu.Lock()
	defer g.traces.mu.Unlock()
	for _, t := range g.traces.open {
		t.add(p)
	}
}
