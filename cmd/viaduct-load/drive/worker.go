//go:build linux

package drive

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go" // quantiles to three digits, and no sample is kept
	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"

	"viaduct/cmd/viaduct-load/socket"
)

const (
	readSize  = 256 << 10
	idlePause = 5 * time.Millisecond   // between looks at orders
	sweepEach = 200 * time.Millisecond // between looks for transactions without an answer
	patience  = 5 * time.Second        // for an answer
)

// worker is one thread with its part of the connections.
type worker struct {
	cfg    Config
	index  int
	poller *socket.Poller
	orders chan func()
	shapes *shapes
	conns  []*conn
	byFD   []*conn
	buf    []byte

	rise      rise
	run       Run
	running   bool
	schedule  schedule
	sweepAt   time.Time
	endAt     time.Time // of what is measured
	fromAt    time.Time
	drainAt   time.Time
	open      int // transactions
	turn      int // the connection whose turn it is in the open loop
	drained   chan struct{}
	latencies *hdrhistogram.Histogram
	errors    Errors
	done      atomic.Int64 // transactions, ever
}

// conn is one browser.
type conn struct {
	fd     int // -1 while there is none
	number int
	life   life
	since  time.Time // when it began to connect
	part   []byte    // the begin of a frame whose end has not come
	slots  []slot
	next   int // slot, in the open loop
}

// life is how far a connection is.
type life uint8

const (
	down life = iota
	dialing
	upgrading
	registering
	up
)

// slot is one transaction that may be open.
type slot struct {
	seq    int // 0 while none is open
	method Method
	last   int // the number of the last one
	stage  stage
	due    time.Time // when it should have been sent
	sent   time.Time
}

type stage uint8

const (
	asked stage = iota
	ringing
	hungUp // BYE was sent
)

func newWorker(cfg Config, index int) (*worker, error) {
	poller, err := socket.NewPoller()
	if err != nil {
		return nil, err
	}
	return &worker{
		cfg: cfg, index: index, poller: poller,
		orders:    make(chan func(), 1),
		shapes:    newShapes(cfg.Answerer.String()),
		buf:       make([]byte, readSize),
		drained:   make(chan struct{}, 1),
		latencies: newHistogram(),
	}, nil
}

// newHistogram counts microseconds up to a minute.
func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, 60_000_000, 3) }

func (w *worker) close() {
	for _, c := range w.conns {
		w.drop(c)
	}
	w.poller.Close()
}

func (w *worker) drop(c *conn) {
	if c.fd >= 0 {
		w.byFD[c.fd] = nil
		_ = unix.Close(c.fd)
		c.fd, c.life, c.part = -1, down, nil
	}
}

// serve reads and sends until ctx is done.
func (w *worker) serve(ctx context.Context) {
	fine()
	for ctx.Err() == nil {
		select {
		case order := <-w.orders:
			order()
		default:
		}
		pause := idlePause
		if w.running {
			pause = w.due(time.Now())
		}
		if w.rise.active {
			pause = w.raise(time.Now())
		}
		events, err := w.poller.Wait(pause)
		if err != nil {
			w.errors.add(fmt.Errorf("poller: %w", err), nil)
			return
		}
		for i := range events {
			switch c := w.byFD[events[i].Fd]; {
			case c == nil:
			case c.life == dialing:
				w.dialed(c)
			default:
				w.read(c)
			}
		}
	}
}

// read reads once and judges each message that is there whole.
func (w *worker) read(c *conn) {
	held := copy(w.buf, c.part)
	n, err := unix.Read(c.fd, w.buf[held:])
	if errors.Is(err, unix.EAGAIN) {
		return
	}
	if err != nil || n <= 0 {
		w.lost(c, errClosed)
		return
	}
	data := w.buf[:held+n]
	if c.life == upgrading {
		data = w.upgraded(c, data)
	}
	for c.life > upgrading && len(data) > 0 {
		f, err := socket.ReadFrame(data)
		if err != nil {
			w.lost(c, err)
			return
		}
		if f.Length == 0 {
			break
		}
		w.frame(c, f)
		if c.fd < 0 {
			return
		}
		data = data[f.Length:]
	}
	c.part = nil
	if len(data) > 0 {
		c.part = append(c.part, data...)
	}
}

var errClosed = errors.New("the server closed a connection")

func (w *worker) lost(c *conn, why error) {
	if c.life < up {
		w.failed(c, why)
	}
	w.errors.Closed++
	w.errors.add(why, nil)
	for i := range c.slots {
		if c.slots[i].seq != 0 {
			c.slots[i].seq = 0
			w.open--
			w.errors.Missing++
		}
	}
	w.drop(c)
}

func (w *worker) frame(c *conn, f socket.Frame) {
	switch f.Op {
	case ws.OpText, ws.OpBinary:
		if len(f.Payload) > 4 { // else a keep-alive
			w.message(c, f.Payload)
		}
	case ws.OpPing:
		w.write(c, pong(f.Payload))
	case ws.OpClose:
		w.lost(c, fmt.Errorf("%w: %q", errClosed, f.Payload))
	}
}

// pong answers a ping.
func pong(payload []byte) []byte {
	frame := append(socket.AppendHeader(nil, ws.OpPong, len(payload), mask), payload...)
	ws.Cipher(frame[len(frame)-len(payload):], mask, 0)
	return frame
}

func (w *worker) write(c *conn, frame []byte) {
	if n, err := unix.Write(c.fd, frame); err != nil || n < len(frame) {
		w.lost(c, fmt.Errorf("a write of %d bytes wrote %d: %w", len(frame), n, err))
	}
}
