package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/gobwas/ws"
)

// Defaults of WSConfig.
const (
	defaultPingInterval   = 25 * time.Second
	defaultFirstMessage   = 32 * time.Second
	defaultMaxIdle        = 10 * time.Minute
	defaultMaxConnections = 10_000
	defaultMaxPerAddress  = 1000
	defaultHandshake      = 10 * time.Second
	defaultWSMessage      = 65_535
	defaultMaxBacklog     = 256 << 10
)

const (
	handshakeMaxHeader = 16 << 10 // of which net/http takes a quarter more
	handshakeMaxURI    = 4 << 10
	httpTimeout        = time.Minute // of a whole request or answer that is not an upgrade
)

// WSConfig configures a WSServer.
//
// The callbacks run on the goroutine that reads the connection, except Authorize
// and Refused, which run on the goroutine of the HTTP request, and Unasked. But
// for Authorize they must not block: while one runs, nothing else is read from
// that browser, nor from any other that the goroutine reads.
type WSConfig struct {
	// Path of the WebSocket, matched exactly. Requests for any other path go
	// to Other.
	Path string

	// Origins are the Origin values accepted; "*" is any. Without one it is
	// the request's own host. A request without Origin is always accepted.
	Origins []string

	// PingInterval is the time between two pings to one connection that lives. A
	// ping that brought no sign of life within half of it is repeated, and in
	// vain closes the connection: at most two intervals after the last one.
	// Zero: 25 s.
	PingInterval time.Duration

	// FirstMessage is how long a connection may live before its first SIP
	// message, and MaxIdle how long without another one where Needed, which is
	// asked then, does not say that it is of use. Both are looked at when the
	// connection is pinged. Zero: 32 s and 10 min; nil: of no use.
	FirstMessage, MaxIdle time.Duration
	Needed                func(*WSConn) bool

	// MaxConnections is the largest number of connections of all listeners
	// together; past it upgrades are refused with 503. Zero: 10,000.
	MaxConnections int

	// MaxPerAddress is the same for the connections of one client's address, which
	// of IPv6 is the first 64 bits; past it upgrades are refused with 429.
	// As many, or 64, may be in the handshake besides. Zero: 1,000.
	MaxPerAddress int

	// HandshakeTimeout bounds, one after the other, the TLS handshake and the
	// request. Zero: 10 s.
	HandshakeTimeout time.Duration

	// TrustedProxies are the addresses whose X-Forwarded-For is believed, and with
	// ProxyProtocol the only ones that are let in: they then begin each connection
	// with a header of the PROXY protocol, version 1 or 2.
	TrustedProxies []netip.Prefix
	ProxyProtocol  bool

	// Authorize is asked about each handshake with nothing wrong in it, while a
	// place is kept for the connection. The client is also the RemoteAddr of r. It
	// may wait, until the context of r ends: that is when the client has gone. A
	// nil Denial admits; WSConn.Grant is the grant then. Nil: all are admitted.
	Authorize func(r *http.Request, client netip.Addr) (grant any, denied *Denial)

	// MaxMessage is the largest reassembled message accepted, in bytes.
	// Zero: 65,535.
	MaxMessage int

	// MaxBacklog is how many bytes may wait for a browser that does not read;
	// past it the connection is closed with 1008. A single message is taken
	// whatever its size while nothing waits. Zero: 256 KiB.
	MaxBacklog int

	// Other serves the paths that are not the WebSocket's. Nil: 404.
	Other http.Handler

	// HTTPErrors receives what net/http has to say about handshakes that never
	// became a request, and panics of Other. Nil: nothing.
	HTTPErrors *log.Logger

	// Opened is called before the first message and may set WSConn.Tag.
	Opened func(*WSConn)

	// Loop, where it is set, is called once for each goroutine that reads many
	// connections; what it returns is WSConn.Loop of those. Rest is called with
	// it whenever that goroutine has dealt with everything it was woken for.
	Loop func() any
	Rest func(loop any)

	// Message is called for each message, text or binary, whole. The callee may
	// write to msg, which is its own until it returns. CRLF keepalives are
	// answered by the transport and never reach it.
	Message func(c *WSConn, msg []byte)

	// Oversized is called with the first MaxMessage bytes of a message that
	// is larger, so that the caller can answer it; the connection is closed with 1009
	// right after.
	Oversized func(c *WSConn, head []byte)

	// Closed is called exactly once for each Opened, when the socket is closed
	// and no more messages come.
	Closed func(c *WSConn, why CloseCause)

	// Refused is called for each refused handshake; the RemoteAddr of r is the
	// client's. Requests for other paths are not among them.
	Refused func(r *http.Request, why Refusal)

	// Unasked is called for each connection that ended before it had asked for
	// anything, by whatever goroutine found out.
	Unasked func(client netip.AddrPort, why Refusal)
}

// withDefaults fills in what is not set.
func (cfg WSConfig) withDefaults() WSConfig {
	setDefault(&cfg.PingInterval, defaultPingInterval)
	setDefault(&cfg.FirstMessage, defaultFirstMessage)
	setDefault(&cfg.MaxIdle, defaultMaxIdle)
	setDefault(&cfg.MaxConnections, defaultMaxConnections)
	setDefault(&cfg.MaxPerAddress, defaultMaxPerAddress)
	setDefault(&cfg.HandshakeTimeout, defaultHandshake)
	setDefault(&cfg.MaxMessage, defaultWSMessage)
	setDefault(&cfg.MaxBacklog, defaultMaxBacklog)
	if cfg.Other == nil {
		cfg.Other = http.NotFoundHandler()
	}
	if cfg.HTTPErrors == nil {
		cfg.HTTPErrors = log.New(io.Discard, "", 0)
	}
	if cfg.Needed == nil {
		cfg.Needed = func(*WSConn) bool { return false }
	}
	if cfg.Loop == nil {
		cfg.Loop = func() any { return nil }
	}
	if cfg.Rest == nil {
		cfg.Rest = func(any) {}
	}
	if cfg.Opened == nil {
		cfg.Opened = func(*WSConn) {}
	}
	if cfg.Message == nil {
		cfg.Message = func(*WSConn, []byte) {}
	}
	if cfg.Oversized == nil {
		cfg.Oversized = func(*WSConn, []byte) {}
	}
	if cfg.Closed == nil {
		cfg.Closed = func(*WSConn, CloseCause) {}
	}
	if cfg.Refused == nil {
		cfg.Refused = func(*http.Request, Refusal) {}
	}
	if cfg.Unasked == nil {
		cfg.Unasked = func(netip.AddrPort, Refusal) {}
	}
	return cfg
}

func setDefault[T comparable](v *T, to T) {
	var unset T
	if *v == unset {
		*v = to
	}
}

// WSServer accepts SIP over WebSocket (RFC 7118) on any number of listeners.
// It is safe for concurrent use.
type WSServer struct {
	cfg     WSConfig
	origins originPolicy
	http    *http.Server
	buffers *wsBuffers
	pollers *pollers
	roster  wsRoster
	proxies proxies
	door    *wsDoor

	mu       sync.Mutex
	live     int                // connections from the reservation at the handshake until after Closed
	byAddr   map[netip.Addr]int // the same, by what their clients are counted as
	gone     *sync.Cond
	draining bool
	closed   bool
	code     ws.StatusCode // of the close frames once closed
}

// NewWSServer returns a server that is not listening yet; fields of cfg that
// are zero take their defaults. It fails where the system has no descriptor left.
func NewWSServer(cfg WSConfig) (*WSServer, error) {
	cfg = cfg.withDefaults()
	s := &WSServer{
		cfg:     cfg,
		origins: newOriginPolicy(cfg.Origins),
		buffers: newWSBuffers(cfg.MaxMessage),
		proxies: newProxies(cfg.TrustedProxies),
		byAddr:  make(map[netip.Addr]int),
	}
	// A connection decides what is too much (admit). Below that, there has to be
	// room for the close frame and for what TLS adds.
	var err error
	if s.pollers, err = newPollers(s, 2*(cfg.MaxBacklog+cfg.MaxMessage)+wsReadBuffer); err != nil {
		return nil, fmt.Errorf("transport: WebSocket: %w", err)
	}
	s.roster.stop = make(chan struct{})
	s.door = newWSDoor(cfg.MaxConnections, cfg.MaxPerAddress, s.roster.stop)
	s.gone = sync.NewCond(&s.mu)
	var http1 http.Protocols
	http1.SetHTTP1(true)
	s.http = &http.Server{
		Handler:           http.HandlerFunc(s.route),
		Protocols:         &http1,
		ConnContext:       withSocket,
		ReadHeaderTimeout: cfg.HandshakeTimeout,
		ReadTimeout:       httpTimeout,
		WriteTimeout:      httpTimeout,
		IdleTimeout:       httpTimeout,
		MaxHeaderBytes:    handshakeMaxHeader,
		ErrorLog:          cfg.HTTPErrors,
	}
	return s, nil
}

// Listen listens on a TCP address for browsers. The kernel's keep-alive is off:
// a WebSocket ping asks the browser itself, and every interval.
func Listen(addr string) (net.Listener, error) {
	cfg := net.ListenConfig{KeepAlive: -1}
	return cfg.Listen(context.Background(), "tcp", addr)
}

// Serve accepts connections of l, a listener of TCP connections, which it
// closes: wss with tlsConfig, plain ws if that is nil. It blocks until Close,
// then returns nil, or until l fails. It may be called for several listeners.
func (s *WSServer) Serve(l net.Listener, tlsConfig *tls.Config) error {
	if tlsConfig != nil {
		tlsConfig = tlsConfig.Clone()
		tlsConfig.NextProtos = []string{"http/1.1"}
	}
	s.roster.start(s.cfg.PingInterval)
	err := s.http.Serve(wsListener{l, tlsConfig, s})
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("transport: WebSocket listener %v: %w", l.Addr(), err)
}

// Drain refuses every upgrade from now on, with 503. Connections that are open
// live on, and other paths are still served, until Close.
func (s *WSServer) Drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.draining = true
}

// Close stops accepting, closes every connection with code and waits until
// Closed has returned for each: about a second with browsers that do not answer.
func (s *WSServer) Close(code ws.StatusCode) {
	s.mu.Lock()
	again := s.closed
	if !again {
		s.closed, s.code = true, code
	}
	s.mu.Unlock()
	if !again {
		s.http.Close()
		close(s.roster.stop)
		s.roster.each(func(c *WSConn) { c.shut(CauseShutdown, code, "") })
	}

	s.mu.Lock()
	defer s.mu.Unlock()
	for s.live > 0 {
		s.gone.Wait()
	}
	if !again {
		s.pollers.close() // each goes on for as long as it has something to flush
	}
}

// reserve makes room for one connection of a client; release gives it back.
func (s *WSServer) reserve(client netip.Addr) Refusal {
	s.mu.Lock()
	defer s.mu.Unlock()
	client = countedAs(client)
	switch {
	case s.draining, s.closed:
		return RefusedClosing
	case s.live >= s.cfg.MaxConnections:
		return RefusedConnections
	case s.byAddr[client] >= s.cfg.MaxPerAddress:
		return RefusedAddress
	default:
		s.live++
		s.byAddr[client]++
		return accepted
	}
}

func (s *WSServer) release(client netip.Addr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	client = countedAs(client)
	s.live--
	if s.byAddr[client]--; s.byAddr[client] == 0 {
		delete(s.byAddr, client)
	}
	s.gone.Broadcast()
}

// serve runs an upgraded connection; first is what arrived behind the handshake,
// a buffer of s.buffers or nil.
func (s *WSServer) serve(c *WSConn, first *[]byte) {
	s.roster.add(c)
	s.cfg.Opened(c)

	// Close may have walked the roster before c was in it.
	s.mu.Lock()
	closed, code := s.closed, s.code
	s.mu.Unlock()
	if closed {
		c.shut(CauseShutdown, code, "")
	}

	c.run(first)
}
