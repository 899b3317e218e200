package transport

import (
	"net"
	"net/netip"
	"testing"
)

// udpPeer is a plain UDP socket.
func udpPeer(t *testing.T, at string) (*net.UDPConn, netip.AddrPort) {
	t.Helper()
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(at)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn, conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

// wantsDatagram reads one datagram and returns where it came from.
func wantsDatagram(t *testing.T, conn *net.UDPConn, want string) netip.AddrPort {
	t.Helper()
	buf := make([]byte, maxDatagram)
	n, from, err := conn.ReadFromUDPAddrPort(buf)
	if err != nil || string(buf[:n]) != want {
		t.Fatalf("read %q, error %v, want %q", buf[:n], err, want)
	}
	return netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
}

// On a wildcard socket a datagram leaves from the address that is asked for,
// and an answer from the address that the request came to.
func TestUDPSourceAddress(t *testing.T) {
	s := startSIP(t, SIPConfig{Listen: ":0"})
	for _, test := range []struct{ peer, local string }{
		{"127.0.0.1:0", "127.0.0.2"},
		{"127.0.0.1:0", "127.0.0.3"},
		{"[::1]:0", "::1"},
	} {
		conn, peer := udpPeer(t, test.peer)
		local := netip.MustParseAddr(test.local)
		want := netip.AddrPortFrom(local, s.Addr().Port())

		s.send(t, Target{Addr: peer, Local: local}, "request")
		if from := wantsDatagram(t, conn, "request"); from != want {
			t.Errorf("sent from %s, want %s", from, want)
		}
		s.send(t, Target{Addr: peer}, "from anywhere")
		wantsDatagram(t, conn, "from anywhere")

		if _, err := conn.WriteToUDPAddrPort([]byte("question"), want); err != nil {
			t.Fatal(err)
		}
		source := s.receives(t, "question")
		if source != (Source{Proto: ProtoUDP, Addr: peer, Local: local}) {
			t.Errorf("source %+v, want %s at %s", source, peer, local)
		}
		if err := s.Reply(source, []byte("answer")); err != nil {
			t.Fatal(err)
		}
		if from := wantsDatagram(t, conn, "answer"); from != want {
			t.Errorf("answered from %s, want %s", from, want)
		}
	}
}

// An address in IPv4-mapped form is the IPv4 address.
func TestUDPMappedTarget(t *testing.T) {
	s := startSIP(t, SIPConfig{})
	conn, peer := udpPeer(t, "127.0.0.1:0")
	mapped := netip.AddrPortFrom(netip.AddrFrom16(peer.Addr().As16()), peer.Port())
	s.send(t, Target{Addr: mapped}, "hello")
	if from := wantsDatagram(t, conn, "hello"); from != s.Addr() {
		t.Errorf("sent from %s, want %s", from, s.Addr())
	}
}

func TestUDPRefuses(t *testing.T) {
	one, both := startSIP(t, SIPConfig{}), startSIP(t, SIPConfig{Listen: ":0"})
	for name, err := range map[string]error{
		"the other family":            one.Send(Target{Addr: netip.MustParseAddrPort("[::1]:5060")}, []byte("x")),
		"from the other family":       both.Send(Target{Addr: loopback(5060), Local: netip.IPv6Loopback()}, []byte("x")),
		"from an address not its own": both.Send(Target{Addr: loopback(5060), Local: netip.MustParseAddr("192.0.2.1")}, []byte("x")),
		"too large":                   one.Send(Target{Addr: loopback(5060)}, make([]byte, 65508)),
		"no address":                  one.Send(Target{}, []byte("x")),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestUDPStrangersAndKeepalives(t *testing.T) {
	s := startSIP(t, SIPConfig{Listen: ":0", Admit: func(ip netip.Addr) bool { return ip == netip.MustParseAddr("127.0.0.1") }})
	friend, friendly := udpPeer(t, "127.0.0.1:0")
	stranger, strange := udpPeer(t, "127.0.0.2:0")
	to := loopback(s.Addr().Port())
	for _, d := range []string{"", "\r\n\r\n", "\x00\x00\x00\x00", "a message"} {
		for _, conn := range []*net.UDPConn{stranger, friend} {
			if _, err := conn.WriteToUDPAddrPort([]byte(d), to); err != nil {
				t.Fatal(err)
			}
		}
	}
	if from := s.receives(t, "a message"); from.Addr != friendly {
		t.Errorf("received from %s, want %s", from.Addr, friendly)
	}
	for range 4 {
		if from := next(t, s.strangers); from.Addr != strange || from.Proto != ProtoUDP {
			t.Errorf("stranger %+v, want %s", from, strange)
		}
	}
	none(t, "a further message", s.messages)
}

func TestUDPLargestDatagram(t *testing.T) {
	s := startSIP(t, SIPConfig{})
	conn, peer := udpPeer(t, "127.0.0.1:0")
	large := string(make([]byte, 65506)) + "!"
	if _, err := conn.WriteToUDPAddrPort([]byte(large), s.Addr()); err != nil {
		t.Fatal(err)
	}
	s.receives(t, large)
	s.send(t, Target{Addr: peer}, large)
	wantsDatagram(t, conn, large)
}
