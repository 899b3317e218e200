//go:build linux && !goroutines

package transport

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// wire is the socket of a browser from the upgrade on: a descriptor, that a
// poller waits for, and nothing else while nothing happens. Writing to it never
// waits for the peer; what the kernel does not take is kept, in order, until the
// poller says that the socket is writable again.
//
// Writing, wake and wakeAfter are safe for concurrent use. Only the goroutine
// that reads closes it: that of the upgrade until the poller has it, which is told
// by watch, the poller's from then on.
type wire struct {
	poller  *poller
	fd      int32        // -1: closed
	waiting atomic.Int32 // bytes in unsent
	woken   atomic.Bool

	watched bool // with those below guarded by mu
	closing bool // nothing more is read or written, but for what is unsent
	expired bool // nor that
	mu      sync.Mutex
	unsent  *outbox // nil: the kernel took everything
	err     error   // the connection is broken
}

// take makes w the socket of conn, which is closed. It belongs to p from then on.
func (w *wire) take(conn *net.TCPConn, p *pollers) error {
	raw, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	own := -1
	controlErr := raw.Control(func(fd uintptr) { own, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) })
	w.fd = int32(own)
	if err = errors.Join(err, controlErr); err != nil {
		return err
	}
	w.poller = p.of(own)
	return conn.Close()
}

// read reads what there is: no bytes and no error if that is nothing.
func (w *wire) read(p []byte) (int, error) {
	if w.woken.Load() {
		return 0, os.ErrDeadlineExceeded
	}
	return readSocket(uintptr(w.fd), p)
}

// write takes all of p or nothing: errBacklogFull leaves the stream whole and the
// connection usable, every other error is final. A single write that finds
// nothing unsent is taken whatever its size.
func (w *wire) write(p []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.err != nil:
		return w.err
	case w.closing:
		return net.ErrClosed
	case w.unsent == nil:
		n, err := writeSocket(uintptr(w.fd), p)
		if err != nil {
			w.fail(err)
			return err
		}
		if n < len(p) {
			w.unsent = new(outbox)
			w.unsent.keep(p[n:])
			w.waiting.Store(int32(len(p) - n))
			w.expect()
		}
		return nil
	case w.unsent.kept()+len(p) > w.poller.maxUnsent:
		return errBacklogFull
	default:
		w.unsent.keep(p)
		w.waiting.Add(int32(len(p)))
		return nil
	}
}

// queued returns how many bytes wait for the peer to read.
func (w *wire) queued() int { return int(w.waiting.Load()) }

// fail records why the connection broke, lets go of what it will not take, and
// ends the reading. The caller holds mu.
func (w *wire) fail(err error) {
	w.err = err
	w.forget()
	w.endReading()
}

// wake makes read fail with os.ErrDeadlineExceeded, now and from now on.
func (w *wire) wake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.endReading()
}

// wakeAfter wakes when a time has passed.
func (w *wire) wakeAfter(d time.Duration) { time.AfterFunc(d, w.wake) }

// endReading tells the poller by an end of the stream that is none of the peer's.
func (w *wire) endReading() {
	w.woken.Store(true)
	if !w.closing {
		_ = unix.Shutdown(int(w.fd), unix.SHUT_RD) // a socket that is not connected any more has been reported
	}
}

// watch gives the socket to the poller, on behalf of c.
func (w *wire) watch(c *WSConn) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fd < 0 {
		return nil
	}
	w.watched = true // before the poller knows it
	if err := w.poller.add(int(w.fd), w.events(), c); err != nil {
		w.watched = false
		return err
	}
	return nil
}

// events are those to wait for. Errors and resets are reported without being
// asked for.
func (w *wire) events() (events uint32) {
	if !w.closing {
		events |= unix.EPOLLIN | unix.EPOLLRDHUP
	}
	if w.unsent != nil {
		events |= unix.EPOLLOUT
	}
	return events
}

// expect tells the poller that events has changed.
func (w *wire) expect() {
	if w.watched {
		w.poller.modify(int(w.fd), w.events())
	}
}

// flush writes what is unsent, as far as the kernel takes it, and ends a closing
// connection with the last byte.
func (w *wire) flush() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.unsent != nil && !w.expired {
		w.writeUnsent()
	}
	switch {
	case !w.closing || w.fd < 0:
	case w.err != nil, w.expired:
		w.destroy(true)
	case w.unsent == nil:
		w.destroy(false)
	}
}

func (w *wire) writeUnsent() {
	n, err := writeSocket(uintptr(w.fd), w.unsent.rest())
	if err != nil {
		w.fail(err)
		return
	}
	w.waiting.Add(int32(-n))
	if w.unsent.sent += n; w.unsent.kept() == 0 {
		w.forget()
		w.expect()
	}
}

// forget lets go of what is unsent.
func (w *wire) forget() {
	w.unsent = nil
	w.waiting.Store(0)
}

// close refuses further writes and closes the connection: at once if nothing is
// unsent, else when the peer has read it, or with a reset after a second.
func (w *wire) close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.closing:
		return net.ErrClosed
	case w.unsent == nil:
		w.destroy(w.err != nil)
		return nil
	default:
		w.closing = true
		w.expect()
		time.AfterFunc(flushTimeout, w.expire)
		return nil
	}
}

// expire gives up what is still unsent.
func (w *wire) expire() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fd >= 0 {
		w.expired = true
		_ = unix.Shutdown(int(w.fd), unix.SHUT_RDWR) // is reported to the poller as the connection's end
	}
}

// reset closes the connection without asking the peer.
func (w *wire) reset() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fd >= 0 {
		w.destroy(true)
	}
}

// destroy closes the descriptor.
func (w *wire) destroy(reset bool) {
	if reset {
		_ = unix.SetsockoptLinger(int(w.fd), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	}
	if w.watched {
		w.poller.remove(int(w.fd))
	}
	_ = syscall.Close(int(w.fd))
	w.fd, w.closing = -1, true
	w.forget()
}

// Loop is what WSConfig.Loop returned for the goroutine that reads the
// connection; nil to whoever is called before that has it. It is for the
// callbacks on that goroutine.
func (c *WSConn) Loop() any {
	if !c.sock.wire.watched {
		return nil
	}
	return c.sock.wire.poller.loop
}

// run serves an upgraded connection: here until what came with the handshake is
// dealt with, then by its poller. The caller does not wait for the end.
func (c *WSConn) run(first *[]byte) {
	err := c.begin(first)
	if err != nil {
		c.end(err)
	}
	c.follow(err)
}

// follow gives the connection to its poller; err is why it has ended already. One
// that no poller takes would never be flushed.
func (c *WSConn) follow(err error) {
	watchErr := c.sock.wire.watch(c)
	if watchErr == nil {
		return
	}
	if err == nil {
		c.end(watchErr)
	}
	c.sock.wire.reset()
}

// ready acts on what the poller reports; buf is the poller's own.
func (c *WSConn) ready(events uint32, buf []byte) {
	w := &c.sock.wire
	if w.closing || events&unix.EPOLLOUT != 0 {
		w.flush()
	}
	if w.closing || events&^unix.EPOLLOUT == 0 {
		return
	}
	n, err := w.read(buf)
	if n > 0 {
		c.heard.Add(1)
		err = c.receive(buf[:n])
	}
	if err != nil {
		c.end(err)
	}
}
