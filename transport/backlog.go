package transport

import (
	"errors"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// flushTimeout is how long a closed backlog may still wait for its peer to
// read what was written before.
const flushTimeout = time.Second

// errBacklogFull is returned for a write that a peer who does not read leaves
// no room for.
var errBacklogFull = errors.New("transport: peer does not read: backlog full")

// backlog writes to a TCP connection without ever waiting for the peer. A
// write goes straight to the kernel; what the kernel does not take is kept in
// order, and a goroutine that exists only while something is kept writes it
// once the socket is writable again.
//
// It is safe for concurrent use. While it is in use it owns the writing side
// of the connection: no other writes, no other write deadlines.
type backlog struct {
	conn   *net.TCPConn
	raw    syscall.RawConn
	max    int
	failed func(error)
	once   sync.Once             // failed is called once
	direct func(fd uintptr) bool // writeDirect, bound once: binding allocates

	mu      sync.Mutex
	outbox  // what is kept
	closing bool
	err     error // the connection is broken

	// Arguments and results of writeDirect, guarded by mu.
	p    []byte
	n    int
	werr error
}

// newBacklog returns a backlog on conn that keeps at most max bytes; only a
// single write that finds it empty is taken whole whatever its size, so that
// a full backlog never cuts a write in two.
//
// failed is called at most once, when the connection broke: by the Write that
// found out, or by the flushing goroutine. No lock of the backlog is held, and
// failed may close conn. Close, and a write refused for lack of room, are no
// failures.
func newBacklog(conn *net.TCPConn, max int, failed func(error)) *backlog {
	b := &backlog{conn: conn, max: max, failed: failed}
	b.raw, b.err = conn.SyscallConn()
	b.direct = b.writeDirect
	return b
}

// Write sends p or keeps it for later; it never waits and does not hold on to
// p. It takes all of p or nothing: errBacklogFull leaves the stream whole and
// the connection usable, every other error is final.
func (b *backlog) Write(p []byte) (int, error) {
	b.mu.Lock()
	err := b.write(p)
	broken := b.err
	b.mu.Unlock()
	if broken != nil {
		b.once.Do(func() { b.failed(broken) })
	}
	if err != nil {
		return 0, err
	}
	return len(p), nil
}

func (b *backlog) write(p []byte) error {
	switch kept := b.kept(); {
	case b.err != nil:
		return b.err
	case b.closing:
		return net.ErrClosed
	case kept == 0:
		n, err := b.tryWrite(p)
		if err != nil {
			b.fail(err)
			return err
		}
		if n < len(p) {
			b.keep(p[n:])
			go b.flush()
		}
		return nil
	case kept+len(p) > b.max:
		return errBacklogFull
	default:
		b.keep(p)
		return nil
	}
}

// Queued returns how many bytes wait for the peer to read.
func (b *backlog) Queued() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.kept()
}

// Close refuses further writes and closes the connection: at once if nothing
// is kept, else when the peer has read it, or with a reset after a second. It
// does not wait.
func (b *backlog) Close() error {
	b.mu.Lock()
	again := b.closing
	b.closing = true
	empty := b.kept() == 0
	b.mu.Unlock()
	switch {
	case again:
		return net.ErrClosed
	case empty:
		return b.conn.Close()
	default:
		return b.conn.SetWriteDeadline(time.Now().Add(flushTimeout))
	}
}

// outbox holds, in order, what the kernel has not taken yet.
type outbox struct {
	queue []byte
	sent  int // of queue
}

func (o *outbox) kept() int { return len(o.queue) - o.sent }

func (o *outbox) rest() []byte { return o.queue[o.sent:] }

func (o *outbox) keep(p []byte) {
	if o.sent > len(o.queue)/2 {
		o.queue = o.queue[:copy(o.queue, o.rest())]
		o.sent = 0
	}
	o.queue = append(o.queue, p...)
}

// fail records why the connection broke and lets go of what it will not take.
func (b *backlog) fail(err error) {
	if b.err == nil {
		b.err = err
	}
	b.outbox = outbox{}
}

// tryWrite gives p to the kernel and returns how much of it was taken.
func (b *backlog) tryWrite(p []byte) (int, error) {
	b.p, b.n, b.werr = p, 0, nil
	err := b.raw.Write(b.direct)
	if err == nil {
		err = b.werr
	}
	b.p = nil
	return b.n, err
}

func (b *backlog) writeDirect(fd uintptr) bool {
	b.n, b.werr = writeSocket(fd, b.p)
	return true
}

// flush writes what is kept, waiting for the peer, and ends with it.
func (b *backlog) flush() {
	err := b.raw.Write(b.writeKept)

	b.mu.Lock()
	if err != nil {
		b.fail(err)
	}
	broken := b.err
	done := b.closing && b.kept() == 0
	b.mu.Unlock()

	if broken != nil {
		b.once.Do(func() { b.failed(broken) })
	}
	if done {
		if broken != nil {
			_ = b.conn.SetLinger(0)
		}
		b.conn.Close()
	}
}

// writeKept reports whether there is nothing left to wait for.
func (b *backlog) writeKept(fd uintptr) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	n, err := writeSocket(fd, b.rest())
	b.sent += n
	switch {
	case err != nil:
		b.fail(err)
		return true
	case b.kept() > 0:
		return false
	default:
		b.outbox = outbox{}
		return true
	}
}

// writeSocket writes to a non-blocking socket and returns how much the kernel
// took, which may be nothing.
func writeSocket(fd uintptr, p []byte) (int, error) {
	for {
		n, errno := sysWrite(fd, p)
		switch errno {
		case 0:
			return n, nil
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			return 0, nil
		default:
			return 0, os.NewSyscallError("write", errno)
		}
	}
}
