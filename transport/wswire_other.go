//go:build !linux || goroutines

package transport

import (
	"net"
	"syscall"
	"time"
)

// wire is the socket of a browser from the upgrade on. A goroutine waits for it,
// without a buffer, and writes go to a backlog. The linux version says what its
// methods promise.
type wire struct {
	conn *net.TCPConn
	raw  syscall.RawConn
	out  *backlog
}

// pollers are not needed where each connection has a goroutine.
type pollers struct{ maxUnsent int }

func newPollers(_ *WSServer, maxUnsent int) (*pollers, error) { return &pollers{maxUnsent}, nil }

func (ps *pollers) close() {}

// Loop is nil: each connection has a goroutine of its own.
func (c *WSConn) Loop() any { return nil }

func (w *wire) take(conn *net.TCPConn, ps *pollers) (err error) {
	w.conn = conn
	w.raw, err = conn.SyscallConn()
	w.out = newBacklog(conn, ps.maxUnsent, func(error) { w.wake() })
	return err
}

func (w *wire) write(p []byte) error {
	_, err := w.out.Write(p)
	return err
}

func (w *wire) queued() int { return w.out.Queued() }

func (w *wire) close() error { return w.out.Close() }

func (w *wire) wake() { _ = w.conn.SetDeadline(time.Unix(1, 0)) }

func (w *wire) wakeAfter(d time.Duration) { _ = w.conn.SetReadDeadline(time.Now().Add(d)) }

func (w *wire) reset() {
	_ = w.conn.SetLinger(0)
	w.conn.Close()
}

// run serves an upgraded connection to its end.
func (c *WSConn) run(first *[]byte) { c.end(c.loop(first)) }

// loop reads c until it ends, beginning with first, what arrived with the
// handshake, and returns why there is no more to read.
func (c *WSConn) loop(first *[]byte) error {
	if err := c.begin(first); err != nil {
		return err
	}
	r := wsReader{buffers: c.server.buffers}
	read := r.read // bound once: binding allocates
	for {
		if err := c.sock.wire.raw.Read(read); err != nil {
			return err
		}
		if r.err != nil {
			return r.err
		}
		c.heard.Add(1)
		err := c.receive(*r.buf)
		r.buffers.put(r.buf)
		if err != nil {
			return err
		}
	}
}

// wsReader reads the socket of a connection. Its buffer is lent for as long as
// there are bytes in it: waiting for more takes none.
type wsReader struct {
	buffers *wsBuffers
	buf     *[]byte
	err     error
}

// read is called when the socket may be readable, and reports whether there is
// something to act on: bytes, or the end in err.
func (r *wsReader) read(fd uintptr) bool {
	r.buf = r.buffers.get(wsReadBuffer)
	n, err := readSocket(fd, (*r.buf)[:wsReadBuffer])
	if n > 0 {
		*r.buf = (*r.buf)[:n]
		return true
	}
	r.buffers.put(r.buf)
	r.err = err
	return err != nil
}
