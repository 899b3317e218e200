package transport

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"os"
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
// detach on neither reading nor writing waits for the peer, so that one
// tls.Conn serves whoever learns that the socket is readable.
type wsSocket struct {
	*net.TCPConn
	raw syscall.RawConn
	out *backlog // nil until detach
	fd  uintptr  // valid within a callback of raw.Read
}

// wouldBlock is a temporary error to crypto/tls, which keeps a record that it
// has a part of and goes on with it at the next Read.
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

// Read, once detached, is for callbacks of raw.Read and returns wouldBlock
// when there is nothing to read.
func (s *wsSocket) Read(p []byte) (int, error) {
	if s.out == nil {
		return s.TCPConn.Read(p)
	}
	for {
		n, err := syscall.Read(int(s.fd), p)
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			return 0, wouldBlock{}
		case err != nil:
			return 0, os.NewSyscallError("read", err)
		case n == 0:
			return 0, io.EOF
		default:
			return n, nil
		}
	}
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
// Unlike Close it may be called from within a callback of raw.Read.
func (s *wsSocket) wake() {
	s.TCPConn.SetDeadline(time.Unix(1, 0))
}

// reset closes the socket without asking the peer: what waits to be sent is
// dropped.
func (s *wsSocket) reset() {
	s.SetLinger(0)
	s.TCPConn.Close()
}
