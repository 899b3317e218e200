package transport

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/pires/go-proxyproto"
)

func prefixes(t testing.TB, texts ...string) (all []netip.Prefix) {
	t.Helper()
	for _, text := range texts {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, prefix)
	}
	return all
}

func TestWSForwardedFor(t *testing.T) {
	const proxy, inner, client = "10.0.0.1:4000", "10.0.0.2", "203.0.113.9"
	for _, test := range []struct {
		name, from string
		header     []string
		want       string
	}{
		{"no proxy", "203.0.113.9:4000", nil, "203.0.113.9:4000"},
		{"no proxy that says it is another", "203.0.113.9:4000", []string{"198.51.100.1"}, "203.0.113.9:4000"},
		{"a proxy by itself", proxy, nil, proxy},
		{"a client", proxy, []string{client}, client + ":0"},
		{"a client that says it is another", proxy, []string{"198.51.100.1, " + client}, client + ":0"},
		{"by two proxies", proxy, []string{client + ", " + inner}, client + ":0"},
		{"by two proxies, a line each", proxy, []string{client, inner}, client + ":0"},
		{"a client that says it is a proxy", proxy, []string{"198.51.100.1, 10.0.0.7, " + client + "," + inner}, client + ":0"},
		{"nothing but proxies", proxy, []string{"10.0.0.3, " + inner}, "10.0.0.3:0"},
		{"with a port", proxy, []string{client + ":1234"}, client + ":1234"},
		{"IPv6", proxy, []string{"2001:db8::1"}, "[2001:db8::1]:0"},
		{"IPv6 in brackets", proxy, []string{"[2001:db8::1]"}, "[2001:db8::1]:0"},
		{"IPv6 with a port", proxy, []string{"[2001:db8::1]:99"}, "[2001:db8::1]:99"},
		{"IPv6 with a zone", proxy, []string{"fe80::1%eth0"}, "[fe80::1]:0"},
		{"IPv4 as IPv6", proxy, []string{"::ffff:203.0.113.9"}, client + ":0"},
		{"a proxy that is named as IPv6", "[fd00::1]:1", []string{client}, client + ":0"},
		{"a proxy that is trusted as IPv4 in IPv6", "192.0.2.1:1", []string{client}, client + ":0"},
		{"no address", proxy, []string{"unknown"}, proxy},
		{"no address behind a proxy", proxy, []string{client + ", unknown, " + inner}, inner + ":0"},
		{"empty", proxy, []string{""}, proxy},
		{"empty at the end", proxy, []string{client + ","}, proxy},
	} {
		t.Run(test.name, func(t *testing.T) {
			p := newProxies(prefixes(t, "10.0.0.0/24", "fd00::/8", "::ffff:192.0.2.0/120"))
			got := p.client(netip.MustParseAddrPort(test.from), http.Header{"X-Forwarded-For": test.header})
			if got.String() != test.want {
				t.Errorf("%v, want %s", got, test.want)
			}
		})
	}
}

// A /64 is one client, whatever it makes of it; an IPv4 address is one in every form.
func TestWSCountedAs(t *testing.T) {
	for text, want := range map[string]string{
		"203.0.113.9":                  "203.0.113.9",
		"2001:db8:1:2:3:4:5:6":         "2001:db8:1:2::",
		"2001:db8:1:2:ffff:ffff::1":    "2001:db8:1:2::",
		"2001:db8:1:3::1":              "2001:db8:1:3::",
		"fe80::1%eth0":                 "fe80::",
		"2001:db8:1:2:0:ffff:cb00:711": "2001:db8:1:2::",
	} {
		if got := countedAs(netip.MustParseAddr(text)).String(); got != want {
			t.Errorf("%s is counted as %s, want %s", text, got, want)
		}
	}
	if countedAs(netip.Addr{}).IsValid() {
		t.Error("no address is counted as one")
	}
}

// rawPeer connects to the server from an address of the test's own machine.
func (s *wsServer) rawPeer(t testing.TB, from string) *wsPeer {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	conn, err := dialer.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(2 * patience))
	return &wsPeer{conn, t, bufio.NewReader(conn)}
}

// asks sends a handshake and checks the status of the answer.
func (p *wsPeer) asks(status int, further ...string) {
	p.t.Helper()
	p.raw([]byte(handshake(further...)))
	if resp := p.response(); resp.StatusCode != status {
		p.t.Fatalf("answered %s, want %d", resp.Status, status)
	}
}

// The connection is its client's, by what the proxy says, and so is the handshake
// that is refused.
func TestWSBehindProxy(t *testing.T) {
	s := startWS(t, WSConfig{TrustedProxies: prefixes(t, "127.0.0.8/32"), MaxPerAddress: 1}, nil)
	proxied := s.rawPeer(t, "127.0.0.8")
	proxied.asks(http.StatusSwitchingProtocols, "X-Forwarded-For: 127.0.0.8, 203.0.113.9")
	if got := next(t, s.opened).RemoteAddr().String(); got != "203.0.113.9:0" {
		t.Errorf("the client is %s", got)
	}
	s.rawPeer(t, "127.0.0.8").asks(http.StatusTooManyRequests, "X-Forwarded-For: 198.51.100.1, ::ffff:203.0.113.9")
	s.rawPeer(t, "127.0.0.8").asks(http.StatusSwitchingProtocols, "X-Forwarded-For: 203.0.113.9, 198.51.100.1")
	next(t, s.opened)
	if why := next(t, s.refused); why != RefusedAddress {
		t.Errorf("refused for %v", why)
	}
}

// proxyHeader is one of the PROXY protocol.
func proxyHeader(t testing.TB, version byte, command proxyproto.ProtocolVersionAndCommand, from string) []byte {
	t.Helper()
	source := net.TCPAddrFromAddrPort(netip.MustParseAddrPort(from))
	header := proxyproto.HeaderProxyFromAddrs(version, source, &net.TCPAddr{IP: source.IP, Port: 443})
	header.Command = command
	var out bytes.Buffer
	if _, err := header.WriteTo(&out); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func TestWSProxyProtocol(t *testing.T) {
	server, client := wssConfigs(t)
	tlvs := proxyHeader(t, 2, proxyproto.PROXY, "203.0.113.9:1000")
	tlvs = append(tlvs, append([]byte{0x04, 0x02, 0x00}, make([]byte, 512)...)...) // more than the buffer
	binary.BigEndian.PutUint16(tlvs[14:], uint16(len(tlvs)-16))
	for _, test := range []struct {
		name   string
		header []byte
		want   string // empty: the proxy itself
	}{
		{"version 1", proxyHeader(t, 1, proxyproto.PROXY, "203.0.113.9:1000"), "203.0.113.9:1000"},
		{"version 1, IPv6", proxyHeader(t, 1, proxyproto.PROXY, "[2001:db8::1]:1000"), "[2001:db8::1]:1000"},
		{"version 1, unknown", []byte("PROXY UNKNOWN\r\n"), ""},
		{"version 2", proxyHeader(t, 2, proxyproto.PROXY, "203.0.113.9:1000"), "203.0.113.9:1000"},
		{"version 2, IPv6", proxyHeader(t, 2, proxyproto.PROXY, "[2001:db8::1]:1000"), "[2001:db8::1]:1000"},
		{"version 2, a health check", proxyHeader(t, 2, proxyproto.LOCAL, "203.0.113.9:1000"), ""},
		{"version 2, with more than addresses", tlvs, "203.0.113.9:1000"},
	} {
		for _, secure := range []*tls.Config{nil, server} {
			t.Run(fmt.Sprint(test.name, ", TLS ", secure != nil), func(t *testing.T) {
				s := startWS(t, WSConfig{TrustedProxies: prefixes(t, "127.0.0.0/8"), ProxyProtocol: true}, secure)
				p := s.rawPeer(t, "127.0.0.8")
				if secure == nil {
					p.raw(append(append(test.header, handshake()...), text("early")...)) // in one segment
				} else {
					p.raw(test.header)
					p.Conn = tls.Client(p.Conn, client)
					p.r = bufio.NewReader(p.Conn)
					p.raw(append([]byte(handshake()), text("early")...))
				}
				if resp := p.response(); resp.StatusCode != http.StatusSwitchingProtocols {
					t.Fatal(resp.Status)
				}
				c := next(t, s.opened)
				if want := test.want; want == "" && c.RemoteAddr().Addr().String() != "127.0.0.8" || want != "" && c.RemoteAddr().String() != want {
					t.Errorf("the client is %v, want %q", c.RemoteAddr(), want)
				}
				if got := next(t, s.messages); got != "early" {
					t.Errorf("got %q", got)
				}
				p.raw(text("late"))
				if got := next(t, s.messages); got != "late" {
					t.Errorf("got %q", got)
				}
				p.raw(frame(ws.OpClose, true, "\x03\xe8"))
				s.ends(t, c, CausePeer)
			})
		}
	}
}

// FuzzProxyHeader: whatever a proxy sends is a header that names an address, or
// none, and nothing behind it is lost.
func FuzzProxyHeader(f *testing.F) {
	for _, version := range []byte{1, 2} {
		for _, from := range []string{"203.0.113.9:1000", "[2001:db8::1]:1000", "[::ffff:203.0.113.9]:1"} {
			f.Add(append(proxyHeader(f, version, proxyproto.PROXY, from), "GET /ws"...))
		}
	}
	f.Add(append(proxyHeader(f, 2, proxyproto.LOCAL, "203.0.113.9:1000"), "GET /ws"...))
	f.Add([]byte("PROXY UNKNOWN ffff:: 1\r\nGET /ws"))
	f.Add([]byte("\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x02xyGET /ws"))
	f.Add([]byte("\r\n\r\n\x00\r\nQUIT\n\x21\x13\x00\x0c"))
	f.Fuzz(func(t *testing.T, sent []byte) {
		r := bufio.NewReaderSize(bytes.NewReader(sent), proxyHeadBuffer)
		client, err := readProxyHeader(r)
		if err != nil {
			return
		}
		rest, _ := io.ReadAll(r)
		head := sent[:len(sent)-len(rest)]
		if !bytes.HasSuffix(sent, rest) || len(head) < len("PROXY UNKNOWN\r\n") {
			t.Errorf("%q are left of %q", rest, sent)
		}
		if client.IsValid() && client.Addr() != plain(client.Addr()) {
			t.Errorf("the client is %v", client)
		}
	})
}
