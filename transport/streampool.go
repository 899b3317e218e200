package transport

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"
)

const (
	minRedial = 100 * time.Millisecond
	maxRedial = 5 * time.Second
	// forgetAfter is how long a target that cannot be reached is remembered after
	// the time when it could have been dialled again.
	forgetAfter = time.Minute
)

// ErrBackoff means that a target was not dialled because a dial failed only
// a moment ago.
var ErrBackoff = errors.New("transport: not dialled again yet")

// pool is the open connections and the targets that are dialled or failed.
type pool struct {
	mu     sync.Mutex
	closed bool
	hops   map[Target]*hop
	// open holds the streams of one remote address, oldest first: seldom more
	// than one, but we may dial a peer that dials us from the very same port.
	open map[remote][]*Stream
}

// hop is what is known of one target: a stream, or a dial under way with
// messages waiting for it, or a time before which it is not dialled again.
type hop struct {
	target  Target
	stream  *Stream
	dialing bool
	waiting [][]byte
	queued  int // bytes in waiting

	refusals int // connections in a row that the peer ended unheard
	redial   backoff.ExponentialBackOff
	notYet   time.Time
	failure  error // ErrBackoff with its cause
}

func newPool() pool {
	return pool{hops: make(map[Target]*hop), open: make(map[remote][]*Stream)}
}

// sendStream sends msg by the connection to the target, or starts one.
func (s *SIP) sendStream(to Target, msg []byte) error {
	st, err := s.route(to, msg)
	if st == nil {
		return err
	}
	return st.Send(msg)
}

// route returns the open stream to the target. Without one and without an
// error, msg waits for a dial.
func (s *SIP) route(to Target, msg []byte) (*Stream, error) {
	c := &s.connected
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, net.ErrClosed
	}
	p := c.hops[to]
	if p != nil && p.stream != nil {
		return p.stream, nil
	}
	if st := c.acceptedFrom(to); st != nil {
		return st, nil
	}
	if p == nil {
		p = c.newHop(to)
	}
	if p.dialing {
		return nil, p.wait(msg, s.cfg.MaxBacklog)
	}
	if time.Now().Before(p.notYet) {
		return nil, p.failure
	}
	p.dialing = true
	s.goroutines.Go(func() { s.dial(p) })
	return nil, p.wait(msg, s.cfg.MaxBacklog)
}

// acceptedFrom returns a connection that the target itself opened from the
// address it is known by. Over TLS there is none: a client has proved nothing
// about its name, and RFC 5923 reuses a connection only after that.
func (c *pool) acceptedFrom(to Target) *Stream {
	if to.Proto != ProtoTCP {
		return nil
	}
	for _, st := range c.open[remote{to.Proto, to.Addr}] {
		if st.hop == nil {
			return st
		}
	}
	return nil
}

// newHop adds the target, and forgets those that have long been unreachable.
func (c *pool) newHop(to Target) *hop {
	now := time.Now()
	for t, p := range c.hops {
		if p.stream == nil && !p.dialing && now.Sub(p.notYet) > forgetAfter {
			delete(c.hops, t)
		}
	}
	p := &hop{target: to, redial: backoff.ExponentialBackOff{
		InitialInterval: minRedial, MaxInterval: maxRedial, Multiplier: 2,
		RandomizationFactor: backoff.DefaultRandomizationFactor,
	}}
	c.hops[to] = p
	return p
}

// wait keeps a copy of msg for when the dial is done.
func (p *hop) wait(msg []byte, limit int) error {
	if len(p.waiting) > 0 && p.queued+len(msg) > limit {
		return errBacklogFull
	}
	p.waiting = append(p.waiting, slices.Clone(msg))
	p.queued += len(msg)
	return nil
}

func (p *hop) takeWaiting() [][]byte {
	msgs := p.waiting
	p.waiting, p.queued = nil, 0
	return msgs
}

// dialFailed sets when p may be dialled again and returns what waited.
func (c *pool) dialFailed(p *hop, err error) [][]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	p.dialing = false
	p.backOff(err)
	return p.takeWaiting()
}

// backOff closes the way to a target for a while, longer each time.
func (p *hop) backOff(err error) {
	p.notYet = time.Now().Add(p.redial.NextBackOff())
	p.failure = fmt.Errorf("%w: %w", ErrBackoff, err)
}

// takeWaiting returns the messages that waited for st; when there are none any
// more, st becomes the target's stream.
func (c *pool) takeWaiting(st *Stream) [][]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := st.hop
	if len(p.waiting) == 0 {
		p.dialing, p.stream = false, st
	}
	return p.takeWaiting()
}

// add makes an open stream known by its remote address, unless the pool is closed.
func (c *pool) add(st *Stream) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return false
	}
	c.open[st.remote] = append(c.open[st.remote], st)
	return true
}

// remove forgets a stream that has ended; its target is dialled anew when there
// is something to send. One that accepts connections only to end them, for which
// refusal is the error, is given time from the second on.
func (c *pool) remove(st *Stream, refusal error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	open := slices.DeleteFunc(c.open[st.remote], func(o *Stream) bool { return o == st })
	if len(open) == 0 {
		delete(c.open, st.remote)
	} else {
		c.open[st.remote] = open
	}
	switch p := st.hop; {
	case p == nil:
	case refusal == nil:
		delete(c.hops, p.target)
	default:
		p.stream = nil
		if p.refusals++; p.refusals > 1 {
			p.backOff(refusal)
		}
	}
}

// find returns the newest open stream with that remote address, or nil.
func (c *pool) find(r remote) *Stream {
	c.mu.Lock()
	defer c.mu.Unlock()
	open := c.open[r]
	if len(open) == 0 {
		return nil
	}
	return open[len(open)-1]
}

// close refuses all further streams and returns the open ones, the first time.
func (c *pool) close() (open []*Stream, first bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	first = !c.closed
	c.closed = true
	for _, streams := range c.open {
		open = append(open, streams...)
	}
	return open, first
}
