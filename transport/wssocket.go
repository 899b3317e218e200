package transport

import (
	"container/list"
	"crypto/tls"
	"fmt"
	"net"
	"time"
)

// wsListener makes a wsSocket of what it accepts and, if tls is set, wraps it in
// TLS.
type wsListener struct {
	net.Listener
	tls    *tls.Config
	server *WSServer
}

func (l wsListener) Accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		tcp, ok := conn.(*net.TCPConn)
		if !ok {
			conn.Close()
			return nil, fmt.Errorf("accepted a %T, not TCP", conn)
		}
		sock := l.server.enter(tcp)
		switch {
		case sock == nil:
		case l.tls == nil:
			return sock, nil
		default:
			return tls.Server(sock, l.tls), nil
		}
	}
}

// wsSocket is the socket of a browser, below TLS if there is any. It begins as
// the ordinary connection that net/http and a TLS handshake expect. From
// detach on it never waits for the peer: it is a wire, and Read, which only TLS
// still uses, returns what was read from that before.
type wsSocket struct {
	*net.TCPConn // nil from detach on
	server       *WSServer
	head         *proxyHead // nil if none is expected, and from detach on
	wire         wire
	arrived      []byte // for Read

	// Guarded by the server's door.
	guest *list.Element // of its queue, until it is a WebSocket
	gone  bool          // no longer counted
}

// wouldBlock is a temporary error to crypto/tls, which keeps the part that it has
// of a record and goes on with it at the next Read.
type wouldBlock struct{}

func (wouldBlock) Error() string   { return "transport: nothing to read" }
func (wouldBlock) Timeout() bool   { return true }
func (wouldBlock) Temporary() bool { return true }

// detach ends the time as an ordinary connection.
func (s *wsSocket) detach(p *pollers) error {
	if err := s.wire.take(s.TCPConn, p); err != nil {
		return err
	}
	s.TCPConn, s.head = nil, nil
	return nil
}

// Read, once detached, takes what arrived and never waits for more.
func (s *wsSocket) Read(p []byte) (int, error) {
	switch {
	case s.head != nil:
		return s.head.read(s, p)
	case s.TCPConn != nil:
		return s.TCPConn.Read(p)
	case len(s.arrived) == 0:
		return 0, wouldBlock{}
	}
	n := copy(p, s.arrived)
	s.arrived = s.arrived[n:]
	return n, nil
}

// Write, once detached, is that of the wire.
func (s *wsSocket) Write(p []byte) (int, error) {
	if s.TCPConn != nil {
		return s.TCPConn.Write(p)
	}
	if err := s.wire.write(p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Close, once detached, is that of the wire.
func (s *wsSocket) Close() error {
	s.discount()
	if s.TCPConn != nil {
		return s.TCPConn.Close()
	}
	return s.wire.close()
}

// SetWriteDeadline, once detached, does nothing: writing does not wait, and the
// deadline of a flush is the wire's, which tls.Conn.Close would cut short.
func (s *wsSocket) SetWriteDeadline(t time.Time) error {
	if s.TCPConn != nil {
		return s.TCPConn.SetWriteDeadline(t)
	}
	return nil
}

// discount counts the socket as closed.
func (s *wsSocket) discount() {
	if s.server.door.leave(s) {
		s.server.cfg.Unasked(s.client(), RefusedUnfinished)
	}
}

// reset closes a detached socket without asking the peer: what waits to be sent
// is dropped.
func (s *wsSocket) reset() {
	s.discount()
	s.wire.reset()
}
