package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"

	"github.com/cenkalti/backoff/v5"
)

const (
	maxAccepted     = 4096 // open at once
	maxAcceptedEach = 256  // of them from one source address

	tlsHandshakeTimeout = 5 * time.Second
)

// ErrTooManyStreams means that a peer opened more connections than one address,
// or all together, may have.
var ErrTooManyStreams = errors.New("transport: too many connections")

// census counts the connections accepted from each source address.
type census struct {
	mu    sync.Mutex
	total int
	each  map[netip.Addr]int
}

// enter counts one more connection from ip, unless there are too many.
func (c *census) enter(ip netip.Addr) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.total == maxAccepted || c.each[ip] == maxAcceptedEach {
		return false
	}
	c.total++
	c.each[ip]++
	return true
}

func (c *census) leave(ip netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.total--
	if c.each[ip]--; c.each[ip] == 0 {
		delete(c.each, ip)
	}
}

// accept serves the connections of l until it is closed or fails.
func (s *SIP) accept(l *net.TCPListener, proto Proto) error {
	pause := backoff.ExponentialBackOff{InitialInterval: 5 * time.Millisecond, Multiplier: 2, MaxInterval: time.Second}
	for {
		conn, err := l.AcceptTCP()
		switch {
		case err == nil:
			pause.Reset()
			s.welcome(conn, proto)
		case outOfResources(err):
			s.wait(pause.NextBackOff())
		case !errors.Is(err, syscall.ECONNABORTED):
			return err
		}
	}
}

// outOfResources tells whether err is the system's want of descriptors or
// memory, which passes.
func outOfResources(err error) bool {
	for _, e := range []error{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// wait returns after d, or when s is closed.
func (s *SIP) wait(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-s.ctx.Done():
	}
}

// welcome serves conn on a goroutine, or closes it unread.
func (s *SIP) welcome(conn *net.TCPConn, proto Proto) {
	from := Source{Proto: proto, Addr: conn.RemoteAddr().(*net.TCPAddr).AddrPort()}
	ip := from.Addr.Addr()
	if !s.admits(from) {
		conn.Close()
		s.cfg.Stranger(from)
		return
	}
	if !s.accepted.enter(ip) {
		conn.Close()
		s.cfg.Garbled(from, ErrTooManyStreams)
		return
	}
	served := s.spawn(func() {
		defer s.accepted.leave(ip)
		s.serve(newStream(proto, conn, s.cfg.MaxBacklog))
	})
	if !served {
		s.accepted.leave(ip)
		conn.Close()
	}
}

// serve runs an accepted connection to its end.
func (s *SIP) serve(st *Stream) {
	if st.remote.proto == ProtoTLS {
		ctx, cancel := context.WithTimeout(s.ctx, tlsHandshakeTimeout)
		err := st.secure(tls.Server, s.serverTLS).HandshakeContext(ctx)
		cancel()
		if err != nil {
			st.tcp.Close()
			s.cfg.Garbled(Source{Proto: ProtoTLS, Addr: st.remote.addr}, err)
			return
		}
	}
	if !s.connected.add(st) {
		st.tcp.Close()
		return
	}
	s.run(st)
}
