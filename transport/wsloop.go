package transport

import (
	"crypto/tls"
	"errors"
	"io"
	"os"
	"syscall"
)

// errFinished ends the reading of a connection whose closing handshake is
// complete.
var errFinished = errors.New("transport: closing handshake complete")

// wsReader reads the socket of a connection. Its buffer is lent for as long as
// there are bytes in it: waiting for more takes none.
type wsReader struct {
	buffers *wsBuffers
	buf     *[]byte
	err     error
}

// loop reads c until it ends, beginning with first, what arrived with the
// handshake, and returns why there is no more to read.
func (c *WSConn) loop(first *[]byte) error {
	if err := c.begin(first); err != nil {
		return err
	}
	r := wsReader{buffers: c.server.buffers}
	read := r.read // bound once: binding allocates
	for {
		if err := c.sock.raw.Read(read); err != nil {
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

// begin takes what was read from the socket before loop.
func (c *WSConn) begin(first *[]byte) error {
	if first != nil {
		defer c.server.buffers.put(first)
		if err := c.consume(*first); err != nil {
			return err
		}
	}
	return c.receive(nil) // what TLS has left
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

// readSocket reads from a non-blocking socket and returns io.EOF at its end; no
// bytes and no error when there is nothing to read.
func readSocket(fd uintptr, p []byte) (int, error) {
	for {
		n, err := syscall.Read(int(fd), p)
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			return 0, nil
		case err != nil:
			return 0, os.NewSyscallError("read", err)
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}

// receive takes bytes as they were read from the socket; they are the callee's
// to change until it returns.
func (c *WSConn) receive(p []byte) error {
	secure, ok := c.stream.(*tls.Conn)
	if !ok {
		return c.consume(p)
	}
	c.sock.arrived = p
	plain := c.server.buffers.get(wsReadBuffer)
	defer c.server.buffers.put(plain)
	for {
		n, err := secure.Read((*plain)[:wsReadBuffer])
		if n > 0 {
			if err := c.consume((*plain)[:n]); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, wouldBlock{}):
			return nil // all of p is taken: only TLS knows the rest of a record
		case err != nil:
			return err
		}
	}
}
