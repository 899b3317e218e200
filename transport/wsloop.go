package transport

import (
	"errors"
	"io"
	"os"
	"syscall"
)

// errFinished ends the reading of a connection whose closing handshake is
// complete.
var errFinished = errors.New("transport: closing handshake complete")

// begin takes what was read from the socket before the upgrade was complete.
func (c *WSConn) begin(first *[]byte) error {
	if first != nil {
		defer c.server.buffers.put(first)
		if err := c.consume(*first); err != nil {
			return err
		}
	}
	if c.secure != nil {
		trimTLS(c.secure)
	}
	return c.receive(nil) // what TLS has left
}

// receive takes bytes as they were read from the socket; they are the callee's
// to change until it returns.
func (c *WSConn) receive(p []byte) error {
	if c.secure == nil {
		return c.consume(p)
	}
	c.sock.arrived = p
	plain := c.server.buffers.get(wsReadBuffer)
	defer c.server.buffers.put(plain)
	for {
		n, err := c.secure.Read((*plain)[:wsReadBuffer])
		if n > 0 {
			if err := c.consume((*plain)[:n]); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, wouldBlock{}):
			if c.calm.Swap(false) {
				trimTLS(c.secure)
			}
			return nil // all of p is taken: only TLS knows the rest of a record
		case err != nil:
			return err
		}
	}
}

// end closes the socket after err ended the reading, and says so. It is called once.
func (c *WSConn) end(err error) {
	s := c.server
	defer s.release(c.remote.Addr())
	s.roster.remove(c)
	s.cfg.Closed(c, c.finish(err))
}

// readSocket reads from a non-blocking socket and returns io.EOF at its end; no
// bytes and no error when there is nothing to read.
func readSocket(fd uintptr, p []byte) (int, error) {
	for {
		n, errno := sysRead(fd, p)
		switch {
		case errno == syscall.EINTR:
			continue
		case errno == syscall.EAGAIN:
			return 0, nil
		case errno != 0:
			return 0, os.NewSyscallError("read", errno)
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
}
