package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
)

// Proto is a SIP transport protocol of the PBX side.
type Proto uint8

// The protocols of RFC 3261.
const (
	ProtoUDP Proto = iota
	ProtoTCP
	ProtoTLS
)

// String returns the protocol as a Via shows it.
func (p Proto) String() string {
	switch p {
	case ProtoUDP:
		return "UDP"
	case ProtoTCP:
		return "TCP"
	case ProtoTLS:
		return "TLS"
	}
	return fmt.Sprintf("Proto(%d)", uint8(p))
}

// Source is where a message came from.
type Source struct {
	Proto Proto
	// Addr is the remote address, never in IPv4-mapped form.
	Addr netip.AddrPort
	// Local is the address that a datagram was sent to, where the system tells.
	Local netip.Addr
	// Stream is the connection, nil on UDP.
	Stream *Stream
}

// Target is a remote SIP address over a transport. Targets that compare equal
// share one connection, so the same TLS configuration must be the same pointer.
type Target struct {
	Proto Proto
	Addr  netip.AddrPort
	// ServerName is the SIP domain that a TLS peer's certificate must show: the
	// host of the URI that led here, a name or an IP address (RFC 5922 7.3).
	ServerName string
	// TLS is the client side's configuration; nil uses the system's authorities.
	// ServerName and a minimum of TLS 1.2 are added to a copy.
	TLS *tls.Config
	// Local is the source address to use. The zero value leaves it to the kernel.
	Local netip.Addr
}

// Limits that apply where a SIPConfig sets none.
const (
	defaultStreamMessage = 65535
	defaultStreamBacklog = 4 << 20
)

// SIPConfig is everything ListenSIP is told. Admit and Message are required.
// The functions are called from several goroutines at once and hold up the
// socket or stream they are called for; they must not call [SIP.Close].
type SIPConfig struct {
	// Listen is the "host:port" of UDP and TCP alike. Without a host, or with
	// "[::]", every address of both families; with port 0 a free one.
	Listen string
	// TLSListen is the same for TLS, with the server side's configuration TLS, to
	// a copy of which a minimum of TLS 1.2 is added. Default: none.
	TLSListen string
	TLS       *tls.Config
	// MaxMessage is the largest message taken from a stream, in bytes. Default
	// 65,535.
	MaxMessage int
	// MaxBacklog bounds the bytes that wait for a peer who does not read, and
	// those that wait for a dial. Default 4 MiB.
	MaxBacklog int

	// Admit tells whether an address may talk to us at all. Otherwise a datagram is
	// dropped, and a connection closed before anything is read from it.
	Admit func(netip.Addr) bool
	// Message is called with every message, one whole one, valid until it
	// returns. Keepalives are not messages; those that ask for an answer get it.
	Message func(from Source, msg []byte)
	// Stranger is called for each datagram or connection that was not admitted.
	Stranger func(from Source)
	// Garbled is called for each connection closed for what the peer did: an error
	// of framing, io.ErrUnexpectedEOF within a message, a failed TLS handshake, or
	// ErrTooManyStreams.
	Garbled func(from Source, err error)
	// Undeliverable is called, in order, with the messages that waited for a dial
	// which failed, and with those that a connection had taken which ended before
	// the peer was heard for the first time. msg is the callee's.
	Undeliverable func(to Target, msg []byte, err error)
	// Unreachable is called, on Linux, for each ICMP error about a datagram that
	// was sent: to whom, the beginning of it as far as the ICMP message has it, which
	// may be nothing, and the errno, such as ECONNREFUSED or EHOSTUNREACH. datagram
	// is valid until it returns. Whoever can send us ICMP can forge one.
	Unreachable func(to netip.AddrPort, datagram []byte, err error)
}

// SIP is the endpoint on the PBX side: the listening sockets, and the
// connections accepted on them or dialled from their ports.
type SIP struct {
	cfg        SIPConfig
	plain      *listenSet
	tls        *listenSet // nil: none
	favouring  sync.Mutex // held to replace favoured
	favoured   atomic.Pointer[[]*udpSocket]
	serverTLS  *tls.Config
	connected  pool
	accepted   census
	ctx        context.Context // ends with Close, and every dial with it
	cancel     context.CancelFunc
	goroutines sync.WaitGroup
	failed     error // why Serve ends; guarded by connected.mu
}

// ListenSIP opens the listening sockets. Nothing is read from them before
// Serve; messages can be sent at once.
func ListenSIP(cfg SIPConfig) (*SIP, error) {
	if cfg.Admit == nil || cfg.Message == nil {
		return nil, errors.New("transport: SIPConfig needs Admit and Message")
	}
	if cfg.TLSListen != "" && cfg.TLS == nil {
		return nil, errors.New("transport: SIPConfig.TLSListen needs TLS")
	}
	cfg.setDefaults()
	s := &SIP{cfg: cfg, connected: newPool(), accepted: census{each: make(map[netip.Addr]int)}}
	s.favoured.Store(&[]*udpSocket{})
	var err error
	if s.plain, err = listen(cfg.Listen, true); err != nil {
		return nil, err
	}
	if cfg.TLSListen != "" {
		if s.tls, err = listen(cfg.TLSListen, false); err != nil {
			s.plain.close()
			return nil, err
		}
		s.serverTLS = atLeastTLS12(cfg.TLS)
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

func (cfg *SIPConfig) setDefaults() {
	if cfg.MaxMessage == 0 {
		cfg.MaxMessage = defaultStreamMessage
	}
	if cfg.MaxBacklog == 0 {
		cfg.MaxBacklog = defaultStreamBacklog
	}
	if cfg.Stranger == nil {
		cfg.Stranger = func(Source) {}
	}
	if cfg.Garbled == nil {
		cfg.Garbled = func(Source, error) {}
	}
	if cfg.Undeliverable == nil {
		cfg.Undeliverable = func(Target, []byte, error) {}
	}
	if cfg.Unreachable == nil {
		cfg.Unreachable = func(netip.AddrPort, []byte, error) {}
	}
}

func atLeastTLS12(cfg *tls.Config) *tls.Config {
	cfg = cfg.Clone()
	cfg.MinVersion = max(cfg.MinVersion, tls.VersionTLS12)
	return cfg
}

// Addr returns the address of the UDP and TCP listeners; its IP is 0.0.0.0
// where they take every address of both families.
func (s *SIP) Addr() netip.AddrPort { return s.plain.addr }

// TLSAddr returns the same for TLS, the zero value without a TLS listener.
func (s *SIP) TLSAddr() netip.AddrPort {
	if s.tls == nil {
		return netip.AddrPort{}
	}
	return s.tls.addr
}

// Serve reads from all sockets until ctx ends or Close is called, and returns
// nil then, or until a listening socket fails, and returns why. It returns when
// everything is closed and no function of the SIPConfig runs any more. Call it
// once.
func (s *SIP) Serve(ctx context.Context) error {
	for _, u := range s.plain.udp {
		s.spawn(func() { s.fail(u.read(s.datagram, s.cfg.Unreachable)) })
	}
	for _, l := range s.plain.tcp {
		s.spawn(func() { s.fail(s.accept(l, ProtoTCP)) })
	}
	if s.tls != nil {
		for _, l := range s.tls.tcp {
			s.spawn(func() { s.fail(s.accept(l, ProtoTLS)) })
		}
	}
	s.spawn(func() {
		select {
		case <-ctx.Done():
		case <-s.ctx.Done():
		}
		s.shut()
	})
	s.goroutines.Wait()
	s.connected.mu.Lock()
	defer s.connected.mu.Unlock()
	return s.failed
}

// Close closes the listening sockets and all connections and waits for what
// runs on them. What was sent is still written to a peer who reads, for up to a
// second. Messages that wait for a dial become Undeliverable.
func (s *SIP) Close() error {
	s.shut()
	s.goroutines.Wait()
	return nil
}

// shut closes everything and does not wait.
func (s *SIP) shut() {
	streams, first := s.connected.close()
	if !first {
		return
	}
	s.cancel()
	s.Favour(nil)
	s.plain.close()
	if s.tls != nil {
		s.tls.close()
	}
	for _, st := range streams {
		st.shut()
	}
}

// fail makes Serve return err, unless it ends already.
func (s *SIP) fail(err error) {
	s.connected.mu.Lock()
	if !s.connected.closed && s.failed == nil {
		s.failed = err
	}
	s.connected.mu.Unlock()
	s.shut()
}

// spawn runs f on a goroutine that Close waits for. After Close it does nothing
// and returns false.
func (s *SIP) spawn(f func()) bool {
	s.connected.mu.Lock()
	defer s.connected.mu.Unlock()
	if s.connected.closed {
		return false
	}
	s.goroutines.Go(f)
	return true
}

func (s *SIP) datagram(from Source, p []byte) {
	switch {
	case !s.admits(from):
		s.cfg.Stranger(from)
	case !isKeepalive(p):
		s.cfg.Message(from, p)
	}
}

func (s *SIP) admits(from Source) bool {
	return s.cfg.Admit(from.Addr.Addr().WithZone(""))
}

// Send sends one whole message and does not keep msg. It is safe for
// concurrent use and waits for no peer.
//
// By UDP it is one datagram from the listening socket. By TCP and TLS it goes
// over the open connection to the target; without one, a dial is started from
// the listener's port and the message waits for it. For a while after a failed
// dial Send returns ErrBackoff at once, and no dial is made.
func (s *SIP) Send(to Target, msg []byte) error {
	to.Addr = netip.AddrPortFrom(to.Addr.Addr().Unmap(), to.Addr.Port())
	if to.Proto == ProtoUDP {
		return s.sendDatagram(to.Addr, to.Local, msg)
	}
	return s.sendStream(to, msg)
}

// Reply sends one whole message back to where another came from and does not
// keep msg: by the same connection, or from the address that the datagram was
// sent to. A connection that is gone is an error.
func (s *SIP) Reply(from Source, msg []byte) error {
	if from.Stream != nil {
		return from.Stream.Send(msg)
	}
	return s.sendDatagram(from.Addr, from.Local, msg)
}

func (s *SIP) sendDatagram(to netip.AddrPort, source netip.Addr, msg []byte) error {
	u := s.socket(to)
	if u == nil {
		return errFamily
	}
	return u.send(to, source, msg)
}

// Stream returns the open connection whose remote address is addr, whichever
// side opened it, or nil.
func (s *SIP) Stream(proto Proto, addr netip.AddrPort) *Stream {
	return s.connected.find(remote{proto, addr})
}
