package transport

import (
	"context"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// closedPort is an address where nobody listens.
func closedPort(t *testing.T, at string) netip.AddrPort {
	t.Helper()
	conn, addr := udpPeer(t, at)
	conn.Close()
	return addr
}

// exchanges sends a datagram to peer and one back.
func (s *sipSide) exchanges(t *testing.T, conn *net.UDPConn, peer netip.AddrPort) {
	t.Helper()
	s.send(t, Target{Addr: peer}, "request")
	at := netip.AddrPortFrom(peer.Addr(), s.Addr().Port())
	wantsDatagram(t, conn, "request")
	if _, err := conn.WriteToUDPAddrPort([]byte("answer"), at); err != nil {
		t.Fatal(err)
	}
	s.receives(t, "answer")
}

// Who cannot be reached is told, with the datagram, and the others on the same
// socket notice nothing.
func TestUDPUnreachable(t *testing.T) {
	for _, listen := range []string{"127.0.0.1:0", "[::1]:0", ":0"} {
		for _, host := range []string{"127.0.0.1:0", "[::1]:0"} {
			if listen != ":0" && listen != host {
				continue
			}
			s := startSIP(t, SIPConfig{Listen: listen})
			nobody := closedPort(t, host)
			conn, peer := udpPeer(t, host)
			for range 3 {
				s.send(t, Target{Addr: nobody}, "first")
				if u := next(t, s.unreached); u != (unreached{nobody, "first", syscall.ECONNREFUSED}) {
					t.Errorf("%s: unreached %+v, want %s", listen, u, nobody)
				}
				s.send(t, Target{Addr: nobody}, "second")
				s.exchanges(t, conn, peer)
				if u := next(t, s.unreached); u != (unreached{nobody, "second", syscall.ECONNREFUSED}) {
					t.Errorf("%s: unreached %+v, want %s", listen, u, nobody)
				}
			}
			none(t, "unreached", s.unreached)
		}
	}
}

// As much of a long datagram as the ICMP message has room for is its beginning.
func TestUDPUnreachableLong(t *testing.T) {
	s := startSIP(t, SIPConfig{})
	msg := sipMessage(strings.Repeat("x", 1200))
	s.send(t, Target{Addr: closedPort(t, "127.0.0.1:0")}, msg)
	u := next(t, s.unreached)
	if len(u.datagram) < 500 || !strings.HasPrefix(msg, u.datagram) {
		t.Errorf("datagram %q, want the beginning of\n%s", u.datagram, msg)
	}
}

// Nobody needs to be told by the network what Send returned.
func TestUDPTooLargeIsReachable(t *testing.T) {
	s := startSIP(t, SIPConfig{})
	conn, peer := udpPeer(t, "127.0.0.1:0")
	if err := s.Send(Target{Addr: peer}, make([]byte, 65508)); !errors.Is(err, syscall.EMSGSIZE) {
		t.Errorf("error %v, want EMSGSIZE", err)
	}
	s.exchanges(t, conn, peer)
	s.send(t, Target{Addr: closedPort(t, "127.0.0.1:0")}, "refused")
	if u := next(t, s.unreached); u.datagram != "refused" {
		t.Errorf("unreached %+v", u)
	}
}

// The kernel tells of an error once. If that was a sender, the reader hears of
// it nevertheless, without any datagram that arrives.
func TestUDPErrorTakenBySender(t *testing.T) {
	s := startSIP(t, SIPConfig{})
	nobody := Target{Addr: closedPort(t, "127.0.0.1:0")}
	_, peer := udpPeer(t, "127.0.0.1:0")
	for range 2000 {
		s.send(t, nobody, "refused")
		s.send(t, Target{Addr: peer}, "from whom nothing comes back")
		next(t, s.unreached)
	}
}

// However many datagrams are refused, nobody else's is lost, none is reported
// as failed, and no work is left when it is over.
func TestUDPFloodOfRefused(t *testing.T) {
	var refused atomic.Int64
	s := startSIP(t, SIPConfig{Listen: ":0", Unreachable: func(netip.AddrPort, []byte, error) { refused.Add(1) }})
	var flood sync.WaitGroup
	over, end := context.WithCancel(t.Context())
	defer end()
	for _, host := range []string{"127.0.0.1:0", "127.0.0.1:0", "[::1]:0", "[::1]:0"} {
		nobody := Target{Addr: closedPort(t, host)}
		flood.Go(func() {
			for over.Err() == nil {
				if err := s.Send(nobody, []byte("refused")); err != nil {
					t.Errorf("a refused datagram: %v", err)
				}
			}
		})
	}
	for _, host := range []string{"127.0.0.1:0", "[::1]:0"} {
		conn, peer := udpPeer(t, host)
		conn.SetDeadline(time.Now().Add(2 * patience))
		for range 300 {
			s.exchanges(t, conn, peer)
		}
	}
	end()
	flood.Wait()
	if refused.Load() == 0 {
		t.Error("nothing was refused")
	}
	t.Logf("%d refused", refused.Load())
	for _, u := range s.plain.udp {
		u.comesToRest(t)
	}
}

// comesToRest waits until nothing is pending on the socket and the readers
// sleep.
func (u *udpSocket) comesToRest(t *testing.T) {
	t.Helper()
	var pending int16
	for began := time.Now(); time.Since(began) < patience; runtime.Gosched() {
		if pending = u.pending(t); pending == 0 && readersSleep() {
			return
		}
	}
	t.Errorf("not at rest: pending %#x, readers sleep: %v", pending, readersSleep())
}

// pending is what poll(2) says about the socket, room to write apart.
func (u *udpSocket) pending(t *testing.T) int16 {
	t.Helper()
	fds := []unix.PollFd{{Events: unix.POLLIN}}
	err := control(u.raw, func(fd int) error {
		fds[0].Fd = int32(fd)
		_, err := unix.Poll(fds, 0)
		return err
	})
	if err != nil && !errors.Is(err, unix.EINTR) {
		t.Fatal(err)
	}
	return fds[0].Revents
}

// readersSleep tells whether every reader of a UDP socket waits for the network.
func readersSleep() bool {
	for _, stack := range running() {
		if strings.Contains(stack, "(*udpSocket).read(") && !strings.Contains(stack, "[IO wait") {
			return false
		}
	}
	return true
}

// When there is neither room to write nor anything but an error, the runtime says
// that the socket cannot be polled. The endpoint survives it.
func TestUDPErrorWithoutRoomToWrite(t *testing.T) {
	forger, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_RAW)
	if errors.Is(err, unix.EPERM) && os.Getenv("CI") == "" {
		t.Skip("needs raw sockets")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(forger) })
	s := startSIP(t, SIPConfig{})
	u := s.plain.udp[0]
	u.cork(t, 1)
	conn, peer := udpPeer(t, "127.0.0.1:0")
	large := strings.Repeat("x", 30_000)
	s.send(t, Target{Addr: peer}, large) // kept by the kernel, and now the buffer is full

	nobody := closedPort(t, "127.0.0.1:0")
	for range 10 {
		forged := ipv4Datagram(s.Addr(), nobody, "forged")
		if err := unix.Sendto(forger, forged, 0, &unix.SockaddrInet4{Addr: nobody.Addr().As4()}); err != nil {
			t.Fatal(err)
		}
		if e := next(t, s.unreached); e != (unreached{nobody, "forged", syscall.ECONNREFUSED}) {
			t.Errorf("unreached %+v, want %s", e, nobody)
		}
		if _, err := conn.WriteToUDPAddrPort([]byte("meanwhile"), s.Addr()); err != nil {
			t.Fatal(err)
		}
		s.receives(t, "meanwhile")
	}
	u.cork(t, 0)
	wantsDatagram(t, conn, large)
	s.exchanges(t, conn, peer)
}

// cork makes the kernel keep what is sent until it is taken off, in a buffer
// that is as small as can be.
func (u *udpSocket) cork(t *testing.T, on int) {
	t.Helper()
	err := control(u.raw, func(fd int) error {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, 1); err != nil {
			return err
		}
		return unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_CORK, on)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// ipv4Datagram is a UDP datagram whose IP header the kernel completes.
func ipv4Datagram(from, to netip.AddrPort, payload string) []byte {
	source, destination := from.Addr().As4(), to.Addr().As4()
	p := []byte{0x45, 0, 0, 0, 0, 0, 0, 0, 64, unix.IPPROTO_UDP, 0, 0}
	p = append(append(p, source[:]...), destination[:]...)
	for _, v := range []uint16{from.Port(), to.Port(), uint16(8 + len(payload)), 0} {
		p = binary.BigEndian.AppendUint16(p, v)
	}
	return append(p, payload...)
}
