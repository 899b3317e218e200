package transport

import (
	"errors"
)

// errFinished ends the reading of a connection whose closing handshake is
// complete.
var errFinished = errors.New("transport: closing handshake complete")

// wsReader is one read of a connection. Its buffer is lent for as long as there
// are bytes in it, so an idle connection holds none.
type wsReader struct {
	c   *WSConn
	buf *[]byte
	err error
}

// loop reads c until it ends: it pushes first, and then what arrives, through
// consume, and returns why there is no more to read.
func (c *WSConn) loop(first *[]byte) error {
	buffers := c.server.buffers
	if first != nil {
		err := c.consume(*first)
		buffers.put(first)
		if err != nil {
			return err
		}
	}
	r := wsReader{c: c}
	attempt := r.attempt // bound once: binding allocates
	for {
		if err := c.sock.raw.Read(attempt); err != nil {
			return err
		}
		c.heard.Add(1)
		err := c.consume(*r.buf)
		buffers.put(r.buf)
		r.buf = nil
		switch {
		case err != nil:
			return err
		case r.err != nil && r.err != error(wouldBlock{}):
			return r.err
		}
	}
}

// attempt is called with the socket readable, or perhaps so, and reports
// whether it read anything or the end. Since TLS may make nothing of what is
// there, it reads through TLS here, and waits for more below it.
func (r *wsReader) attempt(fd uintptr) bool {
	r.c.sock.fd = fd
	r.buf = r.c.server.buffers.get(wsReadBuffer)
	n, err := r.c.stream.Read((*r.buf)[:wsReadBuffer])
	if n == 0 && err == error(wouldBlock{}) {
		r.c.server.buffers.put(r.buf)
		r.buf = nil
		return false
	}
	*r.buf, r.err = (*r.buf)[:n], err
	return true
}
