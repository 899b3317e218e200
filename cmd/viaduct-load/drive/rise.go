//go:build linux

package drive

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"

	"viaduct/cmd/viaduct-load/socket"
)

// A Rise is how a fleet gets its connections.
type Rise struct {
	To       int  // as many connections as there are to be
	AtOnce   int  // connections that are on their way at the same time
	Register bool // each sends a REGISTER, and is there when that was answered
}

// A Risen is how that went.
type Risen struct {
	Time         time.Duration // until the last was there
	P50, Slowest time.Duration // of one connection, from its first packet on
}

// risePatience is how long all connections may take.
const risePatience = 60 * time.Second

// rise is what a worker has yet to open.
type rise struct {
	Rise
	active   bool
	next     int // of the worker's connections
	under    int // way
	left     int
	deadline time.Time
	failed   error
	took     *hdrhistogram.Histogram
	done     chan error
}

// Rise opens the connections that are missing, and returns when all are there.
func (f *Fleet) Rise(ctx context.Context, r Rise) (*Risen, error) {
	begin := time.Now()
	results := make(chan error, len(f.workers))
	if err := f.each(func(w *worker) error { w.beginRise(r, results); return nil }); err != nil {
		return nil, err
	}
	for range f.workers {
		select {
		case err := <-results:
			if err != nil {
				return nil, err
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	risen, took := &Risen{Time: time.Since(begin)}, newHistogram()
	for _, w := range f.workers {
		took.Merge(w.rise.took)
	}
	risen.P50 = time.Duration(took.ValueAtQuantile(50)) * time.Microsecond
	risen.Slowest = time.Duration(took.Max()) * time.Microsecond
	return risen, nil
}

// Drop closes all connections without a word.
func (f *Fleet) Drop() error {
	return f.each(func(w *worker) error {
		for _, c := range w.conns {
			w.drop(c)
		}
		return nil
	})
}

// Errors is what was not as it should be since the last run began.
func (f *Fleet) Errors() Errors {
	var sum Errors
	_ = f.each(func(*worker) error { return nil }) // the workers have seen all that came
	for _, w := range f.workers {
		sum.join(w.errors)
	}
	return sum
}

func (w *worker) beginRise(r Rise, done chan error) {
	for i := w.index + len(w.conns)*w.cfg.Threads; i < r.To; i += w.cfg.Threads {
		w.conns = append(w.conns, &conn{fd: -1, number: i})
	}
	w.errors = Errors{}
	w.run = Run{}
	w.drainAt = time.Now() // nothing begins when a REGISTER ends
	w.rise = rise{Rise: r, active: true, deadline: time.Now().Add(risePatience), took: newHistogram(), done: done}
	for _, c := range w.conns {
		if c.life == down {
			w.rise.left++
		}
	}
}

// eachTurn is how many connections are begun before what came is read.
const eachTurn = 32

// raise begins connections, and returns for how long there is nothing to begin.
func (w *worker) raise(now time.Time) time.Duration {
	r := &w.rise
	if now.After(r.deadline) && r.failed == nil {
		r.failed = fmt.Errorf("%d of %d connections are not there after %v; %v", r.left, len(w.conns), risePatience, w.errors)
	}
	if r.failed != nil || r.left == 0 {
		r.active = false
		r.done <- r.failed
		return idlePause
	}
	for begun := 0; r.next < len(w.conns) && r.under < max(r.AtOnce/w.cfg.Threads, 1); begun++ {
		if begun == eachTurn {
			return 0
		}
		c := w.conns[r.next]
		r.next++
		if c.life == down {
			r.under++
			w.dial(c, now)
		}
	}
	return idlePause
}

func (w *worker) dial(c *conn, now time.Time) {
	fd, _, err := socket.Dial(source(c.number), w.cfg.To)
	if err != nil {
		w.failed(c, err)
		return
	}
	c.fd, c.life, c.since = fd, dialing, now
	for len(w.byFD) <= fd {
		w.byFD = append(w.byFD, nil)
	}
	w.byFD[fd] = c
	if err := w.poller.AddDialing(fd); err != nil {
		w.failed(c, err)
	}
}

// failed ends the rise: it is not to be measured with some missing.
func (w *worker) failed(c *conn, err error) {
	if w.rise.failed == nil {
		w.rise.failed = fmt.Errorf("connection %d: %w", c.number, err)
	}
}

func (w *worker) dialed(c *conn) {
	err := socket.Connected(c.fd)
	if err == nil {
		err = w.poller.Dialed(c.fd)
	}
	if err != nil {
		w.failed(c, err)
		return
	}
	c.life = upgrading
	w.write(c, socket.Upgrade(w.cfg.To, w.cfg.Path))
}

// upgraded reads the answer to the handshake and returns what follows.
func (w *worker) upgraded(c *conn, data []byte) []byte {
	end := bytes.Index(data, []byte("\r\n\r\n"))
	if end < 0 {
		return data
	}
	if err := socket.CheckUpgraded(data[:end]); err != nil {
		w.lost(c, err)
		return nil
	}
	if !w.rise.Register {
		w.risen(c)
		return data[end+4:]
	}
	c.life = registering
	c.resize(1)
	w.start(c, 0, Register, time.Now())
	return data[end+4:]
}

// risen counts a connection that is there.
func (w *worker) risen(c *conn) {
	c.life = up
	w.rise.under--
	w.rise.left--
	_ = w.rise.took.RecordValue(max(time.Since(c.since).Microseconds(), 1))
}
