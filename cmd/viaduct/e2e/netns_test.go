package e2e

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// namespaces counts those made by this run.
var namespaces atomic.Uint32

// newNamespace makes a network namespace, joined to the machine's by a veth
// pair, in which a test may drop packets. It goes when the test ends.
func newNamespace(t testing.TB) Host {
	t.Helper()
	n := namespaces.Add(1)
	name := fmt.Sprintf("viaduct-%d-%d", os.Getpid(), n)
	near, far := fmt.Sprintf("vd%xn%d", os.Getpid(), n), fmt.Sprintf("vd%xf%d", os.Getpid(), n)
	nearIP, farIP := testSubnet(uint32(os.Getpid())<<4 + n)
	host := Host{IP: farIP, Namespace: name, Harness: nearIP}

	root(t, "ip", "netns", "add", name)
	t.Cleanup(func() { root(t, "ip", "netns", "delete", name) })
	root(t, "ip", "link", "add", near, "type", "veth", "peer", "name", far, "netns", name)
	// Connections that were silenced keep a deleted namespace alive for minutes.
	t.Cleanup(func() { root(t, "ip", "link", "delete", near) })
	root(t, "ip", "address", "add", nearIP.String()+"/30", "dev", near)
	root(t, "ip", "link", "set", near, "up")
	host.run(t, "ip", "address", "add", farIP.String()+"/30", "dev", far)
	host.run(t, "ip", "link", "set", far, "up")
	host.run(t, "ip", "link", "set", "lo", "up")
	host.run(t, "nft", "add table inet e2e; "+
		"add chain inet e2e input { type filter hook input priority 0; }; "+
		"add chain inet e2e output { type filter hook output priority 0; }")
	return host
}

// testSubnet is the nth pair of addresses in 198.18.0.0/15, which is reserved
// for tests between networks (RFC 2544).
func testSubnet(n uint32) (near, far netip.Addr) {
	base := uint32(198)<<24 | 18<<16 | n<<2&0x1ffff
	at := func(ip uint32) netip.Addr {
		return netip.AddrFrom4([4]byte{byte(ip >> 24), byte(ip >> 16), byte(ip >> 8), byte(ip)})
	}
	return at(base + 1), at(base + 2)
}

// root runs a command that must succeed and returns its output.
func root(t testing.TB, program string, args ...string) string {
	t.Helper()
	return finish(t, exec.Command(program, args...))
}

// run is root within the host's namespace.
func (h Host) run(t testing.TB, program string, args ...string) string {
	t.Helper()
	return finish(t, h.command(program, args...))
}

func finish(t testing.TB, cmd *exec.Cmd) string {
	t.Helper()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	output, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, stderr.Bytes())
	}
	return string(output)
}

// HalfOpen silences every TCP connection that is up at a local port of the
// namespace: its packets are dropped in both directions from now on, so neither
// end hears of it. New connections to the port work. It returns how many
// connections that were.
func (h Host) HalfOpen(t testing.TB, port uint16) int {
	t.Helper()
	peers := h.establishedAt(t, port)
	for _, peer := range peers {
		family := "ip"
		if peer.Addr().Is6() {
			family = "ip6"
		}
		h.run(t, "nft", fmt.Sprintf("add rule inet e2e input %s saddr %s tcp sport %d tcp dport %d drop; "+
			"add rule inet e2e output %[1]s daddr %[2]s tcp dport %[3]d tcp sport %[4]d drop",
			family, peer.Addr(), peer.Port(), port))
	}
	return len(peers)
}

// Drop silences a port of the namespace altogether, new connections and UDP too.
func (h Host) Drop(t testing.TB, port uint16) {
	t.Helper()
	for _, proto := range []string{"tcp", "udp"} {
		h.run(t, "nft", fmt.Sprintf("add rule inet e2e input %s dport %d drop; add rule inet e2e output %[1]s sport %[2]d drop",
			proto, port))
	}
}

// Restore lets every packet through again.
func (h Host) Restore(t testing.TB) {
	t.Helper()
	h.run(t, "nft", "flush chain inet e2e input; flush chain inet e2e output")
}

// establishedAt lists the peers of the TCP connections at a local port.
func (h Host) establishedAt(t testing.TB, port uint16) []netip.AddrPort {
	t.Helper()
	list := h.run(t, "ss", "--no-header", "--tcp", "--numeric", "state", "established", fmt.Sprintf("( sport = :%d )", port))
	var peers []netip.AddrPort
	for line := range strings.Lines(list) {
		fields := strings.Fields(line) // Recv-Q Send-Q local peer
		if len(fields) < 4 {
			t.Fatalf("ss said %q", line)
		}
		peer, err := netip.ParseAddrPort(fields[3])
		if err != nil {
			t.Fatalf("ss said %q: %v", line, err)
		}
		peers = append(peers, netip.AddrPortFrom(peer.Addr().Unmap(), peer.Port()))
	}
	return peers
}

// TestHalfOpen: a silenced connection stays up at both ends and carries
// nothing, and a new one to the same port works.
func TestHalfOpen(t *testing.T) {
	t.Parallel()
	host := newNamespace(t)
	pbx := startKamailio(t, host)
	ask := func(conn net.Conn) error {
		_ = conn.SetDeadline(time.Now().Add(time.Second))
		if _, err := fmt.Fprintf(conn, "OPTIONS sip:%s SIP/2.0\r\nVia: SIP/2.0/TCP %s;branch=z9hG4bK%[2]s\r\nFrom: <sip:e2e>;tag=1\r\n"+
			"To: <sip:%[1]s>\r\nCall-ID: %[2]s\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n", domain, conn.LocalAddr()); err != nil {
			return err
		}
		_, err := conn.Read(make([]byte, 4096))
		return err
	}
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", pbx.TCP.String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	first := dial()
	if err := ask(first); err != nil {
		t.Fatalf("before: %v", err)
	}
	if n := host.HalfOpen(t, pbx.TCP.Port()); n != 1 {
		t.Fatalf("%d connections were silenced, want 1", n)
	}
	if err := ask(first); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("the silenced connection: %v, want a timeout", err)
	}
	if err := ask(dial()); err != nil {
		t.Fatalf("a new connection: %v", err)
	}
}
