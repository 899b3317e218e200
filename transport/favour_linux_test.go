package transport

import (
	"net"
	"net/netip"
	"testing"
)

// A peer that is favoured is reached from the same port, as before, and what it
// sends arrives. So does what everybody else sends; nobody can take the port.
func TestFavour(t *testing.T) {
	for _, listen := range []string{":0", "127.0.0.1:0"} {
		s := startSIP(t, SIPConfig{Listen: listen})
		loopback := netip.MustParseAddr("127.0.0.1")
		at := netip.AddrPortFrom(loopback, s.Addr().Port())
		conn, peer := udpPeer(t, "127.0.0.1:0")
		other, stranger := udpPeer(t, "127.0.0.2:0")
		to := Target{Addr: peer, Local: loopback}
		batch := s.NewBatch()
		exchange := func(what string) {
			t.Helper()
			s.send(t, to, "request")
			if err := batch.Send(to, []byte("in a batch")); err != nil {
				t.Fatal(err)
			}
			batch.Flush()
			for _, want := range []string{"request", "in a batch"} {
				if from := wantsDatagram(t, conn, want); from != at {
					t.Errorf("%s: %q comes from %s, want %s", what, want, from, at)
				}
			}
			for from, sender := range map[netip.AddrPort]*net.UDPConn{peer: conn, stranger: other} {
				if _, err := sender.WriteToUDPAddrPort([]byte("answer"), at); err != nil {
					t.Fatal(err)
				}
				source := s.receives(t, "answer")
				if source.Addr != from || source.Local != loopback {
					t.Errorf("%s: source %+v, want %s at %s", what, source, from, loopback)
				}
				if err := s.Reply(source, []byte("thanks")); err != nil {
					t.Fatal(err)
				}
				wantsDatagram(t, sender, "thanks")
			}
		}
		exchange("before")
		s.Favour([]Target{to, to, {Proto: ProtoTCP, Addr: peer}})
		if n := len(*s.favoured.Load()); n != 1 {
			t.Fatalf("%d sockets of their own", n)
		}
		own := (*s.favoured.Load())[0]
		exchange("favoured")
		s.Favour([]Target{to})
		if (*s.favoured.Load())[0] != own {
			t.Error("a peer that stays has another socket")
		}
		thief := net.ListenConfig{Control: prepareSocket} // SO_REUSEADDR and SO_REUSEPORT
		if stolen, err := thief.ListenPacket(t.Context(), "udp4", at.String()); err == nil {
			stolen.Close()
			t.Error("somebody else listens on the same port")
		}
		s.Favour(nil)
		if !own.isClosed() {
			t.Error("a peer that is not favoured any more keeps its socket")
		}
		exchange("after")
	}
}
