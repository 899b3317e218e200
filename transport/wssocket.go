package transport

import (
	"crypto/tls"
	"fmt"
	"net"
	"syscall"
	"time"
)

// wsListener wraps what it accepts in a wsSocket and, if tls is set, in TLS.
type wsListener struct {
	net.Listener
	tls *tls.Config
}

func (l wsListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		conn.Close()
		return nil, fmt.Errorf("accepted a %T, not TCP", conn)
	}
	sock := &wsSocket{TCPConn: tcp}
	if l.tls == nil {
		return sock, nil
	}
	return tls.Server(sock, l.tls), nil
}

// wsSocket is the socket of a browser, below TLS if there is any. It begins as
// the ordinary connection that net/http and a TLS handshake expect. From
// detach on it never waits for the peer: writes go to a backlog, and Read, which
// only TLS still uses, returns what was read from the socket before.
type wsSocket struct {
	*net.TCPConn
	raw     syscall.RawConn
	out     *backlog // nil until detach
	arrived []byte   // for Read
}

// wouldBlock is a temporary error to crypto/tls, which keeps the part that it has
// of a record and goes on with it at the next Read.
type wouldBlock struct{}

func (wouldBlock) Error() string   { return "transport: nothing to read" }
func (wouldBlock) Timeout() bool   { return true }
func (wouldBlock) Temporary() bool { return true }

// detach ends the time as an ordinary connection. max and failed are those of
// newBacklog.
func (s *wsSocket) detach(max int, failed func(error)) error {
	raw, err := s.SyscallConn()
	if err != nil {
		return err
	}
	s.raw = raw
	s.out = newBacklog(s.TCPConn, max, failed)
	return nil
}

// Read, once detached, takes what arrived and never waits for more.
func (s *wsSocket) Read(p []byte) (int, error) {
	switch {
	case s.out == nil:
		return s.TCPConn.Read(p)
	case len(s.arrived) == 0:
		return 0, wouldBlock{}
	}
	n := copy(p, s.arrived)
	s.arrived = s.arrived[n:]
	return n, nil
}

// Write, once detached, is that of the backlog.
func (s *wsSocket) Write(p []byte) (int, error) {
	if s.out == nil {
		return s.TCPConn.Write(p)
	}
	return s.out.Write(p)
}

// Close, once detached, is that of the backlog.
func (s *wsSocket) Close() error {
	if s.out == nil {
		return s.TCPConn.Close()
	}
	return s.out.Close()
}

// SetWriteDeadline, once detached, does nothing: writing does not wait, and the
// deadline of a flush is the backlog's, which tls.Conn.Close would cut short.
func (s *wsSocket) SetWriteDeadline(t time.Time) error {
	if s.out == nil {
		return s.TCPConn.SetWriteDeadline(t)
	}
	return nil
}

// wake makes whoever waits for the socket fail with os.ErrDeadlineExceeded.
// Unlike Close it never waits itself.
func (s *wsSocket) wake() {
	_ = s.TCPConn.SetDeadline(time.Unix(1, 0))
}

// reset closes the socket without asking the peer: what waits to be sent is
// dropped.
func (s *wsSocket) reset() {
	_ = s.SetLinger(0)
	s.TCPConn.Close()
}
