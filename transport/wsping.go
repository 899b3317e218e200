package transport

import (
	"sync"
	"time"

	"github.com/gobwas/ws"
)

// pingBuckets is into how many parts an interval is divided; the connections
// of one part are pinged together.
const pingBuckets = 256

// maxUnanswered is how many pings in a row may bring no sign of life.
const maxUnanswered = 2

// wsRoster knows every open connection and pings each once an interval, and half
// an interval later again if nothing came back, so that a peer is known to be
// gone within two intervals of its last sign of life. It does so from one
// goroutine and without a timer for each. Connections are in buckets by their
// random identity, so the pings are spread evenly over time.
type wsRoster struct {
	once    sync.Once
	stop    chan struct{}
	buckets [pingBuckets]wsBucket
}

type wsBucket struct {
	mu    sync.Mutex
	conns []*WSConn // each knows its place
}

func (r *wsRoster) bucket(c *WSConn) *wsBucket { return &r.buckets[c.id%pingBuckets] }

func (r *wsRoster) add(c *WSConn) {
	b := r.bucket(c)
	b.mu.Lock()
	defer b.mu.Unlock()
	c.place = int32(len(b.conns))
	b.conns = append(b.conns, c)
}

func (r *wsRoster) remove(c *WSConn) {
	b := r.bucket(c)
	b.mu.Lock()
	defer b.mu.Unlock()
	last := len(b.conns) - 1
	b.conns[c.place] = b.conns[last]
	b.conns[c.place].place = c.place
	b.conns[last] = nil
	b.conns = b.conns[:last]
}

// each calls f for the connections known when it comes to their bucket,
// without holding a lock.
func (r *wsRoster) each(f func(*WSConn)) {
	var conns []*WSConn
	for i := range r.buckets {
		conns = r.buckets[i].visit(conns, f)
	}
}

// visit calls f for the bucket's connections, without holding the lock. It uses
// the memory of conns and returns it for the next one.
func (b *wsBucket) visit(conns []*WSConn, f func(*WSConn)) []*WSConn {
	b.mu.Lock()
	conns = append(conns[:0], b.conns...)
	b.mu.Unlock()
	for _, c := range conns {
		f(c)
	}
	clear(conns) // what is closed in the meantime is not kept alive
	return conns
}

// start begins to ping, once, until stop is closed.
func (r *wsRoster) start(interval time.Duration) {
	r.once.Do(func() { go r.walk(interval) })
}

func (r *wsRoster) walk(interval time.Duration) {
	tick := time.NewTicker(max(interval/pingBuckets, time.Millisecond))
	defer tick.Stop()
	var conns []*WSConn
	for i := 0; ; i = (i + 1) % pingBuckets {
		select {
		case <-r.stop:
			return
		case <-tick.C:
		}
		now := time.Now()
		conns = r.buckets[i].visit(conns, func(c *WSConn) { c.beat(now) })
		conns = r.buckets[(i+pingBuckets/2)%pingBuckets].visit(conns, (*WSConn).halfBeat)
	}
}

// beat is the visit that a connection gets once an interval, always from the
// same goroutine.
func (c *WSConn) beat(now time.Time) {
	c.answered.Store(0)
	if c.idle(now) {
		c.shut(CauseIdle, ws.StatusPolicyViolation, "no SIP message")
		return
	}
	c.listen()
	if c.unanswered == maxUnanswered {
		c.abandon(CauseSilent)
		return
	}
	c.unanswered++
	c.ping()
}

// halfBeat is the visit between two beats: a ping that brought nothing is
// repeated.
func (c *WSConn) halfBeat() {
	c.listen()
	if c.unanswered == 1 {
		c.unanswered++
		c.ping()
	}
}

// listen forgets the pings before a sign of life.
func (c *WSConn) listen() {
	if heard := c.heard.Load(); heard != c.heardBefore {
		c.heardBefore, c.unanswered = heard, 0
	}
}

// idle reports whether nothing but signs of life has come for too long.
func (c *WSConn) idle(now time.Time) bool {
	cfg := &c.server.cfg
	messages, at := c.messages.Load(), uptime(now)
	if messages != c.messagesBefore {
		c.messagesBefore, c.quietSince = messages, at
	} else {
		c.calm.Store(true)
	}
	quiet := at - c.quietSince
	if messages == 0 {
		return quiet >= cfg.FirstMessage
	}
	return quiet >= cfg.MaxIdle && !cfg.Needed(c)
}

// begun is when the uptime clock shows zero.
var begun = time.Now()

// uptime is a time in a third of a time.Time's memory.
func uptime(at time.Time) time.Duration { return at.Sub(begun) }

// Probe pings the peer now and closes the connection if nothing at all arrives
// from it within the given time. While a probe is under way another does
// nothing.
func (c *WSConn) Probe(within time.Duration) {
	if !c.probing.CompareAndSwap(false, true) {
		return
	}
	heard := c.heard.Load()
	c.ping()
	time.AfterFunc(within, func() {
		c.probing.Store(false)
		if c.heard.Load() == heard {
			c.abandon(CauseSilent)
		}
	})
}
