package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
	"time"
)

// dialTimeout bounds a dial with its TLS handshake: a PBX on the same network
// answers in milliseconds, and a caller is waiting.
const dialTimeout = 5 * time.Second

// dial connects p, which has messages waiting, and runs the connection to its end.
func (s *SIP) dial(p *hop) {
	st, err := s.connect(p.target)
	if err != nil {
		s.undeliverable(p.target, s.connected.dialFailed(p, err), err)
		return
	}
	st.hop = p
	st.trial.begin()
	if !s.connected.add(st) {
		st.tcp.Close()
		s.undeliverable(p.target, s.connected.dialFailed(p, net.ErrClosed), net.ErrClosed)
		return
	}
	s.sendWaiting(st)
	s.run(st)
}

// sendWaiting writes the messages that waited for the dial. Those sent
// meanwhile wait behind them; when none is left the stream is open to all.
func (s *SIP) sendWaiting(st *Stream) {
	for {
		waiting := s.connected.takeWaiting(st)
		if len(waiting) == 0 {
			return
		}
		for i, msg := range waiting {
			if err := st.Send(msg); err != nil {
				s.undeliverable(st.hop.target, waiting[i:], err)
				break
			}
		}
	}
}

func (s *SIP) undeliverable(to Target, msgs [][]byte, err error) {
	for _, msg := range msgs {
		s.cfg.Undeliverable(to, msg, err)
	}
}

// connect opens a connection to the target, and the TLS session on it.
func (s *SIP) connect(to Target) (*Stream, error) {
	ctx, cancel := context.WithTimeout(s.ctx, dialTimeout)
	defer cancel()
	conn, err := s.dialTCP(ctx, to)
	if err != nil {
		return nil, err
	}
	_ = conn.SetLinger(0) // see Stream.shut
	st := newStream(to.Proto, conn, s.cfg.MaxBacklog)
	if to.Proto != ProtoTLS {
		return st, nil
	}
	if err := st.secure(tls.Client, clientTLS(to)).HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, fmt.Errorf("transport: TLS with %s: %w", to.Addr, err)
	}
	return st, nil
}

func clientTLS(to Target) *tls.Config {
	cfg := to.TLS
	if cfg == nil {
		cfg = &tls.Config{}
	}
	cfg = atLeastTLS12(cfg)
	cfg.ServerName = to.ServerName
	return cfg
}

// dialTCP dials from the listener's port. Where that is impossible, mostly
// because an earlier connection to the same address is still in TIME_WAIT,
// another port is better than no connection.
func (s *SIP) dialTCP(ctx context.Context, to Target) (*net.TCPConn, error) {
	conn, err := dialTCP(ctx, s.dialFrom(to), to.Addr)
	if errors.Is(err, syscall.EADDRNOTAVAIL) || errors.Is(err, syscall.EADDRINUSE) {
		return dialTCP(ctx, netip.AddrPortFrom(to.Local, 0), to.Addr)
	}
	return conn, err
}

// dialTCP dials from an address whose IP may be invalid, for the kernel's choice.
func dialTCP(ctx context.Context, from, to netip.AddrPort) (*net.TCPConn, error) {
	d := net.Dialer{Control: prepareSocket}
	if from.Addr().IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(from)
	}
	conn, err := d.DialContext(ctx, tcpNetwork(to.Addr()), to.String())
	if err != nil {
		return nil, err
	}
	return conn.(*net.TCPConn), nil
}

// dialFrom is the address that a connection to the target is dialled from: the
// PBX may take the packet's source for our Contact (rewrite_contact,
// force_rport), so it has to be the listener's.
func (s *SIP) dialFrom(to Target) netip.AddrPort {
	set := s.plain
	if to.Proto == ProtoTLS {
		set = s.tls
	}
	if set == nil {
		return netip.AddrPortFrom(to.Local, 0)
	}
	for _, l := range set.tcp {
		at := l.Addr().(*net.TCPAddr).AddrPort()
		switch {
		case at.Addr().Is4() != to.Addr.Addr().Is4():
		case at.Addr().IsUnspecified() && to.Local.IsValid():
			return netip.AddrPortFrom(to.Local, at.Port())
		default:
			return at
		}
	}
	return netip.AddrPortFrom(to.Local, 0)
}
