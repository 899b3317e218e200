package gateway

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"viaduct/transport"
)

// bothLab is a gateway with --tcp-above in front of a PBX on UDP that listens
// on the same port of TCP, too.
func bothLab(t *testing.T, above int) *tcpLab {
	t.Helper()
	l := &tcpLab{lab: preparedLab(t)}
	l.server, l.pbx = l.listenBoth()
	l.cfg.Upstreams = upstreams(t, "sip:"+l.pbx.addr())
	l.cfg.TCPAbove = above
	l.start()
	return l
}

// listenBoth opens one port of TCP and UDP: the first that is free in both.
func (l *tcpLab) listenBoth() (*net.TCPListener, *pbx) {
	l.t.Helper()
	const attempts = 100
	for range attempts {
		server := l.listenTCP("127.0.0.1:0")
		conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(server.Addr().(*net.TCPAddr).AddrPort()))
		if err == nil {
			l.t.Cleanup(func() { _ = conn.Close() })
			return server, &pbx{lab: l.lab, conn: conn}
		}
	}
	l.t.Fatal("no port is free in both")
	return nil, nil
}

func sized(m sip, bytes int) sip { return m.withBody(strings.Repeat("x", bytes)) }

// TestTCPAbove: a large request goes by TCP, what belongs to it follows it, and
// a small one goes by UDP as ever.
func TestTCPAbove(t *testing.T) {
	l := bothLab(t, 1300)
	p := l.phone("alice")
	token := l.lab.registered(p)
	invite := sized(p.invite("sip:bob@pbx.example"), 1400)
	p.send(invite)
	pbx := l.accept(l.server)
	sent := pbx.read()
	if via, want := sent.get("Via"), "SIP/2.0/TCP "+l.bound.SIP.String()+";rport;branch="; !strings.HasPrefix(via, want) {
		t.Errorf("Via %q, want %q", via, want)
	}
	if from := pbx.conn.RemoteAddr().String(); from != l.bound.SIP.String() {
		t.Errorf("the connection comes from %s, not from the listener's port", from)
	}
	if c := sent.contactURI(); strings.Contains(c, "transport=") || tokenHost(c) != tokenHost(token) {
		t.Errorf("Contact %q would have the PBX change the transport", c)
	}
	pbx.send(sent.reply("180 Ringing"))
	if got := p.read(); got.get("Via") != invite.get("Via") {
		t.Errorf("the browser gets %s", got)
	}
	p.send(invite.as("CANCEL").withBody(""))
	if got := pbx.read(); got.method() != "CANCEL" || got.get("Via") != sent.get("Via") {
		t.Errorf("%s has Via %q, its INVITE %q", got.method(), got.get("Via"), sent.get("Via"))
	}
	l.expectAlive(p)
	if got := l.up(p, sized(p.request("MESSAGE", "sip:b@pbx.example"), 20000)).body(); len(got) != 20000 {
		t.Errorf("more than TCP takes goes by UDP with a body of %d bytes", len(got))
	}
}

func tokenHost(uri string) string { return between(uri, "@", ";") }

// TestTCPAboveRefused: where TCP is refused, all goes by UDP, with the branch
// that it would have had.
func TestTCPAboveRefused(t *testing.T) {
	l := newLab(t, func(c *Config) { c.TCPAbove = 1300 })
	p := l.phone("alice")
	l.registered(p)
	for range 3 { // the first waits for a dial, those behind it are spared one
		invite := sized(p.invite("sip:bob@pbx.example"), 1400)
		sent := l.up(p, invite)
		if !strings.HasPrefix(sent.get("Via"), "SIP/2.0/UDP ") || len(sent.body()) != 1400 {
			t.Errorf("the PBX gets Via %q and %d bytes of body", sent.get("Via"), len(sent.body()))
		}
		l.expectFollows(p, invite.withBody(""), sent)
		l.down(p, sent.reply("486 Busy Here"))
	}
}

// TestUnreachable: no way to the upstream is a 503, at once.
func TestUnreachable(t *testing.T) {
	l := newTCPLab(t)
	_ = l.server.Close()
	p := l.phone("alice")
	for range 3 { // by a dial that fails, then without one
		req := p.invite("sip:bob@pbx.example")
		p.send(req)
		got := p.read()
		expectAnswer(t, req, got, 503)
		if got.get("Retry-After") == "" {
			t.Errorf("no Retry-After in\n%s", got)
		}
		p.send(req.as("ACK").set("To", got.get("To"))) // never answered
	}
	req := p.register()
	p.send(req)
	expectAnswer(t, req, p.read(), 503)
	if n := l.gw.Dropped(ReasonUpstreamUnreachable); n < 4 {
		t.Errorf("%s counts %d", ReasonUpstreamUnreachable, n)
	}
}

// TestTCPUpstream: the PBX reaches browsers over the connection that the
// gateway opened, and over its own.
func TestTCPUpstream(t *testing.T) {
	l := newTCPLab(t)
	p := l.phone("alice")
	token, pbx := l.registered(p)
	if want := "@" + l.bound.SIP.String() + ";transport=tcp"; !strings.HasSuffix(token, want) {
		t.Errorf("Contact %q, want %q", token, want)
	}
	req := sized(p.request("MESSAGE", "sip:b@pbx.example"), 21000)
	p.send(req)
	expectAnswer(t, req, p.read(), 513)
	for _, s := range []*stream{pbx, l.dialTCP("127.0.0.1:0")} {
		s.send(l.request("INVITE", token))
		got := p.read()
		p.send(got.reply("200 OK", "Contact: <"+p.contact()+">"))
		if c := s.read().contactURI(); c != token {
			t.Errorf("Contact %q, want %q", c, token)
		}
		s.send(l.request("INFO", token))
		p.send(sized(p.read().reply("200 OK"), 21000)) // would cost the connection
		s.expectReached(l.lab, p, token)
	}
	if n := l.gw.Dropped(ReasonUpstreamTooLarge); n != 3 {
		t.Errorf("%s counts %d", ReasonUpstreamTooLarge, n)
	}
}

// TestTwoServersOnOneHost: what comes by UDP from a host where another server
// speaks TCP is answered as UDP, and a server that refuses TCP is not replaced
// by its neighbour.
func TestTwoServersOnOneHost(t *testing.T) {
	for _, udpFirst := range []bool{false, true} {
		t.Run(fmt.Sprintf("UDP first %v", udpFirst), func(t *testing.T) {
			l := &tcpLab{lab: preparedLab(t)}
			l.server = l.listenTCP("127.0.0.1:0")
			l.cfg.Upstreams = upstreams(t, "sip:"+l.server.Addr().String()+";transport=tcp", "sip:"+l.pbx.addr())
			if udpFirst {
				slices.Reverse(l.cfg.Upstreams)
			}
			l.start()
			p := l.phone("alice")
			byUDP, byTCP := p.request("INVITE", "sip:b@"+l.pbx.addr()), p.request("INFO", "sip:b@"+l.server.Addr().String())
			token := l.up(p, byUDP.set("To", "<sip:b@b>;tag=1").add("Contact: <"+p.contact()+">")).contactURI()
			req := l.down(p, l.pbx.request("INVITE", token))
			got := l.up(p, req.reply("200 OK", "Contact: <"+p.contact()+">"))
			if c := got.contactURI(); strings.Contains(c, "transport=") {
				t.Errorf("Contact %q in a response by UDP", c)
			}
			_ = l.server.Close()
			byTCP = byTCP.set("To", "<sip:b@b>;tag=1")
			p.send(byTCP)
			expectAnswer(t, byTCP, p.read(), 503)
			l.expectReached(p, token)
		})
	}
}

// TestUpstreamAt: servers on one host are told apart by port, else by transport.
func TestUpstreamAt(t *testing.T) {
	l := preparedLab(t)
	texts := []string{"sip:127.0.0.1:5060", "sip:127.0.0.1:5080", "sip:127.0.0.1:5090;transport=tcp", "sip:127.0.0.2:5060;alias=127.0.0.3"}
	l.cfg.Upstreams = upstreams(t, texts...)
	l.start()
	for _, test := range []struct {
		proto transport.Proto
		from  string
		want  int
	}{
		{transport.ProtoUDP, "127.0.0.1:5060", 0},
		{transport.ProtoUDP, "127.0.0.1:5080", 1},
		{transport.ProtoUDP, "127.0.0.1:4000", 0},
		{transport.ProtoTCP, "127.0.0.1:5080", 1}, // dialled for its size
		{transport.ProtoTCP, "127.0.0.1:4000", 2},
		{transport.ProtoTLS, "127.0.0.1:4000", 0},
		{transport.ProtoUDP, "127.0.0.2:4000", 3},
		{transport.ProtoTLS, "127.0.0.3:4000", 3},
		{transport.ProtoUDP, "127.0.0.4:5060", 0}, // a peer
	} {
		if got := l.gw.upstreamAt(test.proto, netip.MustParseAddrPort(test.from)).String(); got != texts[test.want] {
			t.Errorf("%s from %s is %s, want %s", test.proto, test.from, got, texts[test.want])
		}
	}
}

// TestAdvertise: Via and Contact show the text of --advertise, with the
// listener's port where it has none.
func TestAdvertise(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"", "127.0.0.1:PORT"}, {"203.0.113.5", "203.0.113.5:PORT"}, {"203.0.113.5:5999", "203.0.113.5:5999"},
		{"[2001:db8::5]:5999", "[2001:db8::5]:5999"}, {"[2001:db8::5]", "[2001:db8::5]:PORT"},
		{"gw.example", "gw.example:PORT"},
	} {
		t.Run(test.text, func(t *testing.T) {
			l := newLab(t, func(c *Config) { c.Advertise = test.text })
			want := strings.ReplaceAll(test.want, "PORT", fmt.Sprint(l.bound.SIP.Port()))
			p := l.phone("alice")
			token := l.registered(p)
			if tokenHost(token) != want {
				t.Errorf("Contact %q, want host %s", token, want)
			}
			sent := l.up(p, p.request("MESSAGE", "sip:b@pbx.example"))
			if via := between(sent.get("Via"), "SIP/2.0/UDP ", ";"); via != want {
				t.Errorf("Via %q, want sent-by %s", sent.get("Via"), want)
			}
			got := l.down(p, l.pbx.request("INFO", token))
			if via := between(got.get("Via"), "SIP/2.0/WSS ", ";"); via != want {
				t.Errorf("Via down %q, want sent-by %s", got.get("Via"), want)
			}
			if b := fmt.Sprint(l.bound.Advertised); b != "[UDP "+want+"]" {
				t.Errorf("Advertised %s", b)
			}
		})
	}
}

// TestListenEverywhere: a gateway on every address shows the PBX the one that
// routes to it, and its datagrams come from there.
func TestListenEverywhere(t *testing.T) {
	l := preparedLab(t)
	l.cfg.SIPListen = ":0"
	l.start()
	l.bound.SIP = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), l.bound.SIP.Port())
	p := l.phone("alice")
	token := l.registered(p)
	if tokenHost(token) != l.bound.SIP.String() {
		t.Errorf("Contact %q, want host %s", token, l.bound.SIP)
	}
	l.expectReached(p, token)
	s := l.dialTCP("127.0.0.1:0")
	s.expectReached(l, p, token)
	if host, _, _ := net.SplitHostPort(s.conn.RemoteAddr().String()); host != "127.0.0.1" {
		t.Errorf("reached %s", host)
	}
}
