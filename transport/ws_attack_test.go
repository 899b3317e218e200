package transport

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/pires/go-proxyproto"
)

// takeAll takes what an event channel holds, counted.
func takeAll[T comparable](events <-chan T) map[T]int {
	counts := make(map[T]int)
	for {
		select {
		case e := <-events:
			counts[e]++
		default:
			return counts
		}
	}
}

// empty waits until the server counts nothing any more: a socket first, then its
// connection.
func (s *wsServer) empty(t *testing.T) {
	t.Helper()
	until(t, "no socket is counted", func() bool {
		s.door.mu.Lock()
		defer s.door.mu.Unlock()
		return s.door.open == 0 && s.door.queue.Len() == 0 && len(s.door.byAddr) == 0
	})
	until(t, "no connection is counted", func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.live == 0 && len(s.byAddr) == 0
	})
}

// attacker connects from an address of this machine; nil if it is closed at once.
func (s *wsServer) attacker(t *testing.T, from string) net.Conn {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	conn, err := dialer.Dial("tcp", s.addr)
	if errors.Is(err, syscall.ECONNRESET) {
		return nil
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(2 * patience))
	return conn
}

// Half-open handshakes from hundreds of addresses take all there is, and keep
// nobody out: not one who comes now, nor one who is there.
func TestAttackHalfOpen(t *testing.T) {
	server, client := wssConfigs(t)
	for _, secure := range []*tls.Config{nil, server} {
		name := fmt.Sprint("TLS ", secure != nil)
		t.Run(name, func(t *testing.T) {
			const room, attackers = 20, 200
			s := startWS(t, WSConfig{MaxConnections: room}, secure)
			there := s.honest(t, client, secure != nil)
			for i := range attackers {
				s.attacker(t, fmt.Sprintf("127.1.%d.1", i))
			}
			began := time.Now()
			for range room - 1 {
				s.honest(t, client, secure != nil)
			}
			took := time.Since(began)
			there.raw(text("still here"))
			if got := next(t, s.messages); got != "still here" {
				t.Errorf("got %q", got)
			}
			slow := takeAll(s.unasked)[RefusedSlow]
			if slow < attackers-spareSockets {
				t.Errorf("%d were closed for others", slow)
			}
			if most := (room + 1) * int(handshakeGrace); took > time.Duration(most) {
				t.Errorf("%d honest ones took %v", room-1, took)
			}
			t.Logf("attack: %d half-open handshakes from as many addresses, %s | %d honest browsers connected beside them, none was lost | viaduct_handshakes_total{outcome=\"slow\"} %d",
				attackers, name, room-1, slow)
		})
	}
}

// honest connects as a browser does.
func (s *wsServer) honest(t *testing.T, client *tls.Config, secure bool) *wsPeer {
	t.Helper()
	if !secure {
		p, _ := s.dial(t)
		return p
	}
	p, _ := s.dialTLS(t, nil, client)
	return p
}

// One address gets no more sockets than it may have connections, and costs others
// not even a wait.
func TestAttackHalfOpenFromOneAddress(t *testing.T) {
	s := startWS(t, WSConfig{MaxPerAddress: minHandshakes}, nil)
	const sockets = 1000
	for range sockets {
		s.attacker(t, "127.0.0.9")
	}
	for range sockets - minHandshakes {
		if why := next(t, s.unasked); why != RefusedHandshakes {
			t.Fatalf("refused for %v", why)
		}
	}
	none(t, "refused", s.unasked)
	s.dial(t)
	t.Logf("attack: %d half-open handshakes from one address | %d are kept, the others closed unread; a neighbour connects at once | viaduct_handshakes_total{outcome=\"handshakes\"} %d",
		sockets, minHandshakes, sockets-minHandshakes)
}

// drip writes what is sent a byte at a time and for ever, and returns when the
// other end has had enough.
func drip(conn net.Conn, what []byte, every time.Duration) time.Duration {
	began := time.Now()
	ended := make(chan struct{})
	go func() {
		io.Copy(io.Discard, conn)
		close(ended)
	}()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for i := 0; ; i++ {
		select {
		case <-ended:
			return time.Since(began)
		case <-tick.C:
		}
		conn.Write(what[i%len(what) : i%len(what)+1])
	}
}

// Whoever says what there is to say a byte at a time is closed when the time for
// it has passed, whatever it is.
func TestAttackSlowloris(t *testing.T) {
	const timeout = 500 * time.Millisecond
	server, client := wssConfigs(t)
	proxied := prefixes(t, "127.0.0.0/8")
	endless := "GET /ws HTTP/1.1\r\nHost: gw.example.com\r\nX: " + strings.Repeat("y", 500)
	for _, test := range []struct {
		name string
		cfg  WSConfig
		tls  *tls.Config
		sent string // at once
		drip string
		why  Refusal // of a connection that has asked for nothing
	}{
		{"nothing at all", WSConfig{}, nil, "", "", RefusedUnfinished},
		{"a request line", WSConfig{}, nil, "", endless, RefusedUnfinished},
		{"header lines", WSConfig{}, nil, "GET /ws HTTP/1.1\r\n", "X: y\r\n", RefusedUnfinished},
		{"a header line", WSConfig{}, nil, "GET /ws HTTP/1.1\r\nX: ", "y", RefusedUnfinished},
		{"nothing instead of TLS", WSConfig{}, server, "", "", RefusedUnfinished},
		{"a record of TLS", WSConfig{}, server, "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "\x00", RefusedUnfinished},
		{"a PROXY header, version 1", WSConfig{TrustedProxies: proxied, ProxyProtocol: true}, nil, "", "PROXY TCP4 ", RefusedProxyHeader},
		{"a PROXY header, version 2", WSConfig{TrustedProxies: proxied, ProxyProtocol: true}, nil,
			"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x0f\x00", "\x01", RefusedProxyHeader},
		{"a PROXY header in front of TLS", WSConfig{TrustedProxies: proxied, ProxyProtocol: true}, server,
			"\r\n\r\n\x00\r\nQUIT\n\x21\x11\x0f\x00", "\x01", RefusedProxyHeader},
		{"a request behind a PROXY header", WSConfig{TrustedProxies: proxied, ProxyProtocol: true}, nil,
			"PROXY TCP4 203.0.113.9 192.0.2.1 1000 443\r\n", endless, RefusedUnfinished},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.cfg.HandshakeTimeout = timeout
			s := startWS(t, test.cfg, test.tls)
			p := s.rawPeer(t, "127.0.0.9")
			p.raw([]byte(test.sent))
			if test.drip == "" {
				test.drip = "\x00"
			}
			every := timeout / 20
			if test.sent+test.drip == "\x00" {
				every = time.Hour
			}
			took := drip(p, []byte(test.drip), every)
			if took > 4*timeout {
				t.Errorf("closed after %v", took)
			}
			if why := next(t, s.unasked); why != test.why {
				t.Errorf("counted as %v, want %v", why, test.why)
			}
			s.empty(t)
			t.Logf("attack: slowloris, %s a byte at a time | closed when the time-out has passed | viaduct_handshakes_total{outcome=\"%s\"} 1", test.name, test.why)
		})
	}
	t.Run("a request within TLS", func(t *testing.T) {
		t.Parallel()
		s := startWS(t, WSConfig{HandshakeTimeout: timeout}, server)
		conn := tls.Client(s.rawPeer(t, "127.0.0.9"), client)
		took := drip(conn, []byte(endless), timeout/20)
		if took > 4*timeout {
			t.Errorf("closed after %v", took)
		}
		s.empty(t)
		t.Logf("attack: slowloris, a request within TLS a byte at a time | closed when the time-out has passed | viaduct_handshakes_total{outcome=\"%s\"} %d",
			RefusedUnfinished, takeAll(s.unasked)[RefusedUnfinished])
	})
}

// A message that never comes to its end is no first message, whatever part of it
// comes, and neither are pings.
func TestAttackSlowMessage(t *testing.T) {
	message := header(ws.OpText, 60_000)
	for name, sent := range map[string][]byte{
		"a message": append(message, make([]byte, 60_000)...),
		"fragments": bytes.Repeat(frame(ws.OpContinuation, false, "x"), 1000),
		"pongs":     bytes.Repeat(frame(ws.OpPong, true, ""), 1000),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startWS(t, WSConfig{PingInterval: pingBuckets * time.Millisecond, FirstMessage: pingBuckets * time.Millisecond}, nil)
			p, c := s.dial(t)
			if name == "fragments" {
				p.raw(frame(ws.OpText, false, "x"))
			}
			if took := drip(p, sent, 10*time.Millisecond); took > 8*pingBuckets*time.Millisecond+closeTimeout {
				t.Errorf("closed after %v", took)
			}
			s.ends(t, c, CauseIdle)
			s.empty(t)
			t.Logf("attack: slowloris, %s a byte at a time in place of the first message | closed 1008 when the time-out has passed | viaduct_connections_closed_total{cause=\"%s\"} 1", name, CauseIdle)
		})
	}
}

// What is longer than any browser's handshake is not kept.
func TestAttackLongHandshake(t *testing.T) {
	s := startWS(t, WSConfig{}, nil)
	for _, test := range []struct {
		name    string
		request string
		status  int
	}{
		{"a Request-URI of 5 kB", strings.Replace(handshake(), "/ws", "/ws?"+strings.Repeat("x", 5000), 1), http.StatusRequestURITooLong},
		{"a Request-URI of 1 MB", strings.Replace(handshake(), "/ws", "/ws?"+strings.Repeat("x", 1<<20), 1), http.StatusRequestHeaderFieldsTooLarge},
		{"a header of 1 MB", handshake("Cookie: " + strings.Repeat("c", 1<<20)), http.StatusRequestHeaderFieldsTooLarge},
		{"100,000 header lines", handshake(strings.Repeat("X: y\r\n", 100_000) + "X: y"), http.StatusRequestHeaderFieldsTooLarge},
	} {
		p := s.rawPeer(t, "127.0.0.9")
		go p.Write([]byte(test.request)) // nobody reads it to its end
		if resp := p.response(); resp.StatusCode != test.status {
			t.Errorf("%s: %s, want %d", test.name, resp.Status, test.status)
		}
		t.Logf("attack: handshake with %s | answered %d and closed | viaduct_handshakes_total{outcome=\"uri\"} %d",
			test.name, test.status, takeAll(s.refused)[RefusedURI])
	}
	s.dial(t)
}

// Another word for the address that a connection comes from changes nothing.
func TestAttackForgedAddress(t *testing.T) {
	s := startWS(t, WSConfig{MaxPerAddress: 1, TrustedProxies: prefixes(t, "127.0.0.8/32")}, nil)
	p := s.rawPeer(t, "127.0.0.9")
	p.asks(http.StatusSwitchingProtocols, "X-Forwarded-For: 203.0.113.1")
	if got := next(t, s.opened).RemoteAddr(); got.String() != p.LocalAddr().String() {
		t.Errorf("the client is taken for %v", got)
	}
	forged := []string{"X-Forwarded-For: 203.0.113.1", "X-Forwarded-For: 127.0.0.8", "X-Real-IP: 203.0.113.1",
		"Forwarded: for=203.0.113.1", "X-Forwarded-For: 203.0.113.1, 127.0.0.8", "X_Forwarded_For: 203.0.113.1"}
	for _, header := range forged {
		s.rawPeer(t, "127.0.0.9").asks(http.StatusTooManyRequests, header)
		if why := next(t, s.refused); why != RefusedAddress {
			t.Errorf("%s: refused for %v", header, why)
		}
	}
	t.Logf("attack: addresses forged in %d ways to pass --max-connections-per-ip | all answered 429 | viaduct_handshakes_total{outcome=\"address_connections\"} %d",
		len(forged), len(forged))
}

// Only a proxy of ours is heard by the PROXY protocol, and only what is right.
func TestAttackProxyHeader(t *testing.T) {
	right := proxyHeader(t, 1, proxyproto.PROXY, "203.0.113.9:1000")
	for _, test := range []struct {
		name, from string
		header     []byte
	}{
		{"from a stranger", "127.0.0.9", right},
		{"none, from a stranger", "127.0.0.9", nil},
		{"none", "127.0.0.8", nil},
		{"in lower case", "127.0.0.8", []byte("proxy TCP4 203.0.113.9 192.0.2.1 1000 443\r\n")},
		{"ended by LF alone", "127.0.0.8", []byte("PROXY TCP4 203.0.113.9 192.0.2.1 1000 443\n")},
		{"with a name for an address", "127.0.0.8", []byte("PROXY TCP4 localhost 192.0.2.1 1000 443\r\n")},
		{"with two addresses too many", "127.0.0.8", []byte("PROXY TCP4 203.0.113.9 192.0.2.1 1000 443 5 6\r\n")},
		{"without end", "127.0.0.8", []byte("PROXY " + strings.Repeat("x", 1000))},
		{"version 2 of 64 kB", "127.0.0.8", append([]byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11\xff\xff"), make([]byte, 1<<16)...)},
		{"version 2, too short for its addresses", "127.0.0.8", []byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x04abcd")},
		{"version 2 of a socket file", "127.0.0.8", append([]byte("\r\n\r\n\x00\r\nQUIT\n\x21\x31\x00\xd8"), make([]byte, 216)...)},
		{"version 3", "127.0.0.8", []byte("\r\n\r\n\x00\r\nQUIT\n\x31\x11\x00\x0cabcdefghijkl")},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := startWS(t, WSConfig{TrustedProxies: prefixes(t, "127.0.0.8/32"), ProxyProtocol: true}, nil)
			if conn := s.attacker(t, test.from); conn != nil {
				conn.Write(append(test.header, handshake()...)) // it may be closed already
				if answer, err := io.ReadAll(conn); len(answer) > 0 || errors.Is(err, errTimeout) {
					t.Errorf("answered %q, %v", answer, err)
				}
			}
			if why := next(t, s.unasked); why != RefusedProxyHeader {
				t.Errorf("refused for %v", why)
			}
			s.empty(t)
			none(t, "refused again", s.unasked)
			t.Logf("attack: PROXY header %s | closed without an answer | viaduct_handshakes_total{outcome=\"%s\"} 1", test.name, RefusedProxyHeader)
		})
	}
}

// A client behind a proxy is one of those whose half-open handshakes are counted.
func TestAttackHalfOpenBehindProxy(t *testing.T) {
	s := startWS(t, WSConfig{MaxPerAddress: 1, TrustedProxies: prefixes(t, "127.0.0.8/32"), ProxyProtocol: true}, nil)
	header := proxyHeader(t, 2, proxyproto.PROXY, "203.0.113.9:1000")
	for range minHandshakes + 10 {
		s.rawPeer(t, "127.0.0.8").raw(header)
	}
	for range 10 {
		if why := next(t, s.unasked); why != RefusedHandshakes {
			t.Fatalf("refused for %v", why)
		}
	}
	p := s.rawPeer(t, "127.0.0.8")
	p.raw(proxyHeader(t, 2, proxyproto.PROXY, "203.0.113.10:1000"))
	p.asks(http.StatusSwitchingProtocols)
	next(t, s.opened)
	t.Logf("attack: %d half-open handshakes of one client behind a PROXY protocol proxy | %d are kept, the others closed; another client connects at once | viaduct_handshakes_total{outcome=\"handshakes\"} 10",
		minHandshakes+10, minHandshakes)
}

// However connections begin and end, and however many at once, no more than the
// allowed are open, and all are given back.
func TestAttackCounters(t *testing.T) {
	const allowed, attackers = 3, 40
	server, client := wssConfigs(t)
	for secure, rounds := range map[*tls.Config]int{nil: 75, server: 10} {
		t.Run(fmt.Sprint("TLS ", secure != nil), func(t *testing.T) {
			var many atomic.Int64
			var mu sync.Mutex
			open, most := make(map[netip.Addr]int), 0
			change := func(c *WSConn, by int) {
				mu.Lock()
				defer mu.Unlock()
				addr := c.RemoteAddr().Addr()
				open[addr] += by
				most = max(most, open[addr])
			}
			cfg := WSConfig{
				Path: "/ws", MaxPerAddress: allowed,
				Opened: func(c *WSConn) { change(c, 1) },
				Closed: func(c *WSConn, _ CloseCause) { change(c, -1) },
				Refused: func(_ *http.Request, why Refusal) {
					if why == RefusedAddress {
						many.Add(1)
					}
				},
				Authorize: func(r *http.Request, _ netip.Addr) (any, *Denial) {
					if r.Header.Get("Cookie") != "" {
						return nil, &Denial{Why: RefusedAuth}
					}
					return nil, nil
				},
			}
			s := startPlain(t, cfg, secure)
			var running sync.WaitGroup
			for n := range attackers {
				from := fmt.Sprintf("127.0.1.%d", 1+n%2)
				running.Go(func() {
					for i := range rounds {
						s.comeAndGo(t, from, (n+i)%8, client, secure != nil)
					}
				})
			}
			running.Wait()
			s.empty(t)
			mu.Lock()
			defer mu.Unlock()
			if most != allowed || many.Load() == 0 {
				t.Errorf("%d were open from one address, %d are allowed, %d were refused", most, allowed, many.Load())
			}
			t.Logf("attack: %d connections that begin and end in 8 ways, %d at once from 2 addresses, TLS %v | %d were open at most from one, and 0 are counted at the end | viaduct_connections 0",
				rounds*attackers, attackers, secure != nil, most)
		})
	}
}

// startPlain is startWS without its recording.
func startPlain(t *testing.T, cfg WSConfig, secure *tls.Config) *wsServer {
	t.Helper()
	server, err := NewWSServer(cfg)
	if err != nil {
		t.Fatal(err)
	}
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &wsServer{WSServer: server, addr: l.Addr().String()}
	go s.Serve(l, secure)
	t.Cleanup(func() { s.Close(ws.StatusGoingAway) })
	return s
}

// comeAndGo makes one connection and ends it in one of 8 ways.
func (s *wsServer) comeAndGo(t *testing.T, from string, way int, client *tls.Config, secure bool) {
	conn, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}).Dial("tcp", s.addr)
	if err != nil {
		t.Error(err)
		return
	}
	tcp := conn.(*net.TCPConn)
	defer tcp.Close()
	conn.SetDeadline(time.Now().Add(2 * patience))
	if way == 0 { // it says nothing
		return
	}
	if secure && way == 1 { // TLS fails
		conn.Write([]byte("GET / HTTP/1.1\r\n\r\n"))
		io.Copy(io.Discard, conn)
		return
	}
	if secure {
		conn = tls.Client(conn, client)
	}
	request := handshake()
	switch way {
	case 2: // half a request
		request = request[:20]
	case 3: // refused for what it asks
		request = strings.Replace(request, "Protocol: sip", "Protocol: xmpp", 1)
	case 4: // refused by who is asked
		request = handshake("Cookie: no")
	}
	conn.Write([]byte(request))
	if way == 5 || way == 2 { // it does not wait for the answer
		tcp.SetLinger(0)
		return
	}
	if way == 6 { // a clean end
		conn.Write(frame(ws.OpClose, true, "\x03\xe8"))
	}
	if way == 7 {
		conn.Read(make([]byte, 1))
		return
	}
	if way != 1 {
		io.Copy(io.Discard, conn)
	}
}
