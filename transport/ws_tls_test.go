package transport

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
)

// wssCertificate returns a new certificate for name.
func wssCertificate(t testing.TB, name string) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		DNSNames:     []string{name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}
}

// wssConfigs returns the configurations of both ends.
func wssConfigs(t testing.TB) (server, client *tls.Config) {
	t.Helper()
	cert := wssCertificate(t, "gw.example.com")
	roots := x509.NewCertPool()
	roots.AddCert(cert.Leaf)
	return &tls.Config{Certificates: []tls.Certificate{*cert}}, &tls.Config{RootCAs: roots, ServerName: "gw.example.com"}
}

// dialTLS is dial for wss, over conn if that is not nil.
func (s *wsServer) dialTLS(t testing.TB, conn net.Conn, cfg *tls.Config) (*wsPeer, *WSConn) {
	t.Helper()
	if conn == nil {
		var err error
		if conn, err = net.Dial("tcp", s.addr); err != nil {
			t.Fatal(err)
		}
	}
	return s.upgradeOver(t, tls.Client(conn, cfg))
}

func TestWSS(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		server, client := wssConfigs(t)
		client.MinVersion, client.MaxVersion = version, version
		s := startWS(t, WSConfig{Message: func(c *WSConn, msg []byte) { c.Send(msg) }, MaxMessage: 200_000}, server)
		p, c := s.dialTLS(t, nil, client)
		for _, size := range []int{1, 1000, wsReadBuffer, 100_000} {
			msg := strings.Repeat("s", size)
			p.raw(text(msg))
			p.wants(ws.OpText, msg)
		}
		p.raw(join(text("a"), text("b"))) // two in one record
		p.wants(ws.OpText, "a")
		p.wants(ws.OpText, "b")
		c.Close(ws.StatusNormalClosure, "")
		p.wantsClose(ws.StatusNormalClosure)
		p.raw(frame(ws.OpClose, true, "\x03\xe8"))
		// A clean end: close_notify, not a cut.
		if _, err := p.r.ReadByte(); err != io.EOF {
			t.Errorf("the connection ends with %v", err)
		}
		s.ends(t, c, CauseLocal)
	}
}

// dripping delivers what is written byte by byte.
type dripping struct{ net.Conn }

func (d dripping) Write(p []byte) (int, error) {
	for i := range p {
		if _, err := d.Conn.Write(p[i : i+1]); err != nil {
			return i, err
		}
	}
	return len(p), nil
}

// A TLS record that comes in pieces is what the non-blocking read under
// crypto/tls is about.
func TestWSSByteByByte(t *testing.T) {
	server, client := wssConfigs(t)
	s := startWS(t, WSConfig{}, server)
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	p, c := s.dialTLS(t, dripping{conn}, client)
	for _, msg := range []string{"first", strings.Repeat("m", 2000), "last"} {
		p.raw(text(msg))
		if got := next(t, s.messages); got != msg {
			t.Errorf("got %.100q", got)
		}
	}
	p.raw(frame(ws.OpClose, true, "\x03\xe8"))
	p.wantsClose(ws.StatusNormalClosure)
	s.ends(t, c, CausePeer)
}

func TestWSSSlowReader(t *testing.T) {
	server, client := wssConfigs(t)
	s := startWS(t, WSConfig{MaxBacklog: 300_000, PingInterval: time.Hour}, server)
	slow, c := s.dialTLS(t, nil, client)
	quick, neighbour := s.dialTLS(t, nil, client)
	go io.Copy(io.Discard, quick.r)

	msg := []byte(strings.Repeat("x", 50_000))
	sent := 0
	for {
		if err := neighbour.Send(msg); err != nil {
			t.Fatalf("the neighbour: %v", err)
		}
		until(t, "the neighbour has read it", func() bool { return neighbour.sock.wire.queued() == 0 })
		if err := c.Send(msg); err != nil {
			if !errors.Is(err, errBacklogFull) {
				t.Error(err)
			}
			break
		}
		sent++
	}
	for range sent {
		slow.wants(ws.OpText, string(msg))
	}
	slow.wantsClose(ws.StatusPolicyViolation)
	slow.raw(frame(ws.OpClose, true, "\x03\xf0"))
	s.ends(t, c, CauseBacklog)
}

func TestWSSDeafReader(t *testing.T) {
	server, client := wssConfigs(t)
	s := startWS(t, WSConfig{MaxBacklog: 300_000, PingInterval: time.Hour}, server)
	_, c := s.dialTLS(t, nil, client)
	for c.Send([]byte(strings.Repeat("x", 50_000))) == nil {
	}
	s.ends(t, c, CauseBacklog)
}

// A certificate that changes is used by the next handshake; connections that
// are open go on.
func TestWSSCertificateChanges(t *testing.T) {
	certs := make(chan *tls.Certificate, 1)
	server := &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return <-certs, nil }}
	s := startWS(t, WSConfig{}, server)
	var peers []*wsPeer
	for _, name := range []string{"old.example", "new.example"} {
		cert := wssCertificate(t, name)
		certs <- cert
		roots := x509.NewCertPool()
		roots.AddCert(cert.Leaf)
		p, _ := s.dialTLS(t, nil, &tls.Config{RootCAs: roots, ServerName: name})
		peers = append(peers, p)
	}
	for _, p := range peers {
		p.raw(text("alive"))
		if got := next(t, s.messages); got != "alive" {
			t.Errorf("got %q", got)
		}
	}
}

// WebSocket over HTTP/2 is another protocol (RFC 8441): browsers must not be
// offered it.
func TestWSSNoHTTP2(t *testing.T) {
	server, client := wssConfigs(t)
	server.NextProtos = []string{"h2"}
	client.NextProtos = []string{"h2", "http/1.1"}
	s := startWS(t, WSConfig{}, server)
	conn, err := tls.Dial("tcp", s.addr, client)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if got := conn.ConnectionState().NegotiatedProtocol; got != "http/1.1" {
		t.Errorf("negotiated %q", got)
	}
	if !slices.Equal(server.NextProtos, []string{"h2"}) {
		t.Error("the caller's configuration was changed")
	}
}

// Plain HTTP to a wss port is told so.
func TestWSSPlainRequest(t *testing.T) {
	server, _ := wssConfigs(t)
	s := startWS(t, WSConfig{}, server)
	resp, err := http.Get("http://" + s.addr + "/ws")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusBadRequest {
		t.Error(resp.Status)
	}
}
