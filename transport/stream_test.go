package transport

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// pbx is a plain TCP server on loopback.
type pbx struct {
	t testing.TB
	*net.TCPListener
}

func newPBX(t testing.TB) *pbx {
	t.Helper()
	return newPBXAt(t, "127.0.0.1:0")
}

func newPBXAt(t testing.TB, at string) *pbx {
	t.Helper()
	l, err := net.Listen("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return &pbx{t, l.(*net.TCPListener)}
}

func (p *pbx) addr() netip.AddrPort { return p.Addr().(*net.TCPAddr).AddrPort() }

func (p *pbx) target() Target { return Target{Proto: ProtoTCP, Addr: p.addr()} }

// accept waits for a connection.
func (p *pbx) accept() *net.TCPConn {
	p.t.Helper()
	p.must(p.SetDeadline(time.Now().Add(patience)))
	conn, err := p.AcceptTCP()
	p.must(err)
	p.must(conn.SetDeadline(time.Now().Add(patience)))
	p.t.Cleanup(func() { conn.Close() })
	return conn
}

func (p *pbx) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// dialSIP opens a plain connection to s from an address.
func dialSIP(t testing.TB, from string, to netip.AddrPort) *net.TCPConn {
	t.Helper()
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.MustParseAddrPort(from)), Timeout: patience}
	conn, err := d.Dial("tcp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return conn.(*net.TCPConn)
}

func writes(t testing.TB, conn net.Conn, p string) {
	t.Helper()
	if _, err := io.WriteString(conn, p); err != nil {
		t.Fatal(err)
	}
}

func wants(t testing.TB, conn net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != want {
		t.Fatalf("read %q, error %v, want %q", got, err, want)
	}
}

// wantsEnd checks that the other side has closed or reset the connection and
// sent nothing more.
func wantsEnd(t testing.TB, conn net.Conn) {
	t.Helper()
	n, err := conn.Read(make([]byte, 1))
	if n != 0 || !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		t.Fatalf("read %d bytes, error %v, want the end", n, err)
	}
}

// forgets waits until s has no connection with that remote address.
func (s *sipSide) forgets(t testing.TB, proto Proto, addr netip.AddrPort) {
	t.Helper()
	for deadline := time.Now().Add(patience); s.Stream(proto, addr) != nil; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%s %s is still known", proto, addr)
		}
	}
}

func TestTCPBothWays(t *testing.T) {
	near, far := startSIP(t, SIPConfig{}), startSIP(t, SIPConfig{Listen: ":0"})
	at := loopback(far.Addr().Port())
	there, back := sipMessage("there"), sipMessage("and back")

	near.send(t, Target{Proto: ProtoTCP, Addr: at}, there)
	from := far.receives(t, there)
	if from.Proto != ProtoTCP || from.Addr != near.Addr() {
		t.Errorf("came from %v %s, want the listener's own %s", from.Proto, from.Addr, near.Addr())
	}
	if err := far.Reply(from, []byte(back)); err != nil {
		t.Fatal(err)
	}
	reply := near.receives(t, back)
	if reply.Addr != at || reply.Stream != near.Stream(ProtoTCP, at) || reply.Stream == nil {
		t.Errorf("replied by %+v, want the connection to %s", reply, at)
	}

	// Known by the address that it came from, it serves both directions.
	far.send(t, Target{Proto: ProtoTCP, Addr: near.Addr()}, there)
	if again := near.receives(t, there); again.Stream != reply.Stream {
		t.Error("a second connection was opened")
	}
	if st := far.Stream(ProtoTCP, near.Addr()); st != from.Stream {
		t.Error("the connection is not known by its remote address")
	}
	for _, unknown := range []*Stream{
		far.Stream(ProtoTLS, near.Addr()),
		far.Stream(ProtoTCP, netip.AddrPortFrom(near.Addr().Addr(), near.Addr().Port()+1)),
	} {
		if unknown != nil {
			t.Error("the connection is known by another address")
		}
	}
}

func TestTCPOverIPv6(t *testing.T) {
	near, far := startSIP(t, SIPConfig{Listen: "[::]:0"}), startSIP(t, SIPConfig{Listen: "[::1]:0"})
	near.send(t, Target{Proto: ProtoTCP, Addr: far.Addr()}, sipMessage("six"))
	from := far.receives(t, sipMessage("six"))
	if want := netip.AddrPortFrom(netip.IPv6Loopback(), near.Addr().Port()); from.Addr != want {
		t.Errorf("came from %s, want %s", from.Addr, want)
	}
}

func TestTCPFromChosenAddress(t *testing.T) {
	near, far := startSIP(t, SIPConfig{Listen: ":0"}), startSIP(t, SIPConfig{})
	local := netip.MustParseAddr("127.0.0.2")
	near.send(t, Target{Proto: ProtoTCP, Addr: far.Addr(), Local: local}, sipMessage("a"))
	if from := far.receives(t, sipMessage("a")); from.Addr != netip.AddrPortFrom(local, near.Addr().Port()) {
		t.Errorf("came from %s, want %s and the listener's port", from.Addr, local)
	}
}

// A connection that a PBX opened is never taken for one to the address where it
// listens, RFC 5923's alias.
func TestAcceptedIsNoAlias(t *testing.T) {
	near, far := startSIP(t, SIPConfig{}), newPBX(t)
	inbound := dialSIP(t, "127.0.0.1:0", near.Addr())
	writes(t, inbound, sipMessage("a"))
	near.receives(t, sipMessage("a"))

	near.send(t, far.target(), sipMessage("b"))
	wants(t, far.accept(), sipMessage("b"))
}

func TestStreamSplitEverywhere(t *testing.T) {
	s := startSIP(t, SIPConfig{})
	conn := dialSIP(t, "127.0.0.1:0", s.Addr())
	msg := sipMessage("hello")
	for _, b := range msg {
		writes(t, conn, string(b))
	}
	s.receives(t, msg)
	writes(t, conn, msg+"\r\n"+msg)
	s.receives(t, msg)
	s.receives(t, msg)
	large := sipMessage(strings.Repeat("x", 60_000))
	writes(t, conn, large)
	s.receives(t, large)
}

func TestStreamPing(t *testing.T) {
	s := startSIP(t, SIPConfig{})
	conn := dialSIP(t, "127.0.0.1:0", s.Addr())
	writes(t, conn, "\r\n\r\n"+sipMessage("a")+"\r\n")
	wants(t, conn, "\r\n")
	s.receives(t, sipMessage("a"))
	writes(t, conn, "\r\n\r\n")
	wants(t, conn, "\r\n")
	none(t, "a further message", s.messages)
}

func TestStreamGarbled(t *testing.T) {
	s := startSIP(t, SIPConfig{MaxMessage: 1000})
	for want, in := range map[error]string{
		ErrNotSIP:           "GET / HTTP/1.1\r\n\r\n",
		ErrNoContentLength:  "BYE sip:a SIP/2.0\r\nCall-ID: a\r\n\r\n",
		ErrBadContentLength: "BYE sip:a SIP/2.0\r\nl: x\r\n\r\n",
		ErrTooLarge:         sipMessage(strings.Repeat("x", 1000)),
	} {
		conn := dialSIP(t, "127.0.0.1:0", s.Addr())
		writes(t, conn, sipMessage("a")+in)
		s.receives(t, sipMessage("a"))
		g := next(t, s.garbled)
		if !errors.Is(g.err, want) || g.from.Addr != conn.LocalAddr().(*net.TCPAddr).AddrPort() {
			t.Errorf("garbled %+v, want %v", g, want)
		}
		if err := s.Reply(g.from, []byte("late")); err == nil {
			t.Error("replied by a closed connection")
		}
		wantsEnd(t, conn)
	}
}

func TestStreamEndsWithinMessage(t *testing.T) {
	s := startSIP(t, SIPConfig{})
	conn := dialSIP(t, "127.0.0.1:0", s.Addr())
	writes(t, conn, sipMessage("a")[:20])
	conn.Close()
	if g := next(t, s.garbled); !errors.Is(g.err, io.ErrUnexpectedEOF) {
		t.Errorf("garbled %+v", g)
	}
}

func TestStreamStrangers(t *testing.T) {
	admitted := netip.MustParseAddr("127.0.0.1")
	s := startSIP(t, SIPConfig{
		Listen: ":0", Admit: func(ip netip.Addr) bool { return ip == admitted },
		TLSListen: ":0", TLS: serverTLS(newAuthority(t).issue(t, "a")),
	})
	for proto, port := range map[Proto]uint16{ProtoTCP: s.Addr().Port(), ProtoTLS: s.TLSAddr().Port()} {
		conn := dialSIP(t, "127.0.0.2:0", loopback(port))
		from := next(t, s.strangers)
		if from.Proto != proto || from.Addr.String() != conn.LocalAddr().String() || from.Stream != nil {
			t.Errorf("stranger %+v", from)
		}
		wantsEnd(t, conn)
	}
	writes(t, dialSIP(t, "127.0.0.1:0", loopback(s.Addr().Port())), sipMessage("a"))
	s.receives(t, sipMessage("a"))
}

func TestTooManyStreams(t *testing.T) {
	s := startSIP(t, SIPConfig{Listen: ":0"})
	at := loopback(s.Addr().Port())
	var open []*net.TCPConn
	for range maxAcceptedEach {
		conn := dialSIP(t, "127.0.0.1:0", at)
		writes(t, conn, "\r\n\r\n")
		wants(t, conn, "\r\n")
		open = append(open, conn)
	}
	refused := dialSIP(t, "127.0.0.1:0", at)
	if g := next(t, s.garbled); !errors.Is(g.err, ErrTooManyStreams) || g.from.Addr.String() != refused.LocalAddr().String() {
		t.Errorf("garbled %+v", g)
	}
	wantsEnd(t, refused)
	writes(t, dialSIP(t, "127.0.0.2:0", at), sipMessage("from elsewhere"))
	s.receives(t, sipMessage("from elsewhere"))

	writes(t, open[0], "makes room\r\n")
	next(t, s.garbled)
	s.leaves(t, netip.MustParseAddr("127.0.0.1"), maxAcceptedEach-1)
	writes(t, dialSIP(t, "127.0.0.1:0", at), sipMessage("in the room made"))
	s.receives(t, sipMessage("in the room made"))
}

// leaves waits until no more than n connections from ip are counted.
func (s *sipSide) leaves(t testing.TB, ip netip.Addr, n int) {
	t.Helper()
	count := func() int {
		s.accepted.mu.Lock()
		defer s.accepted.mu.Unlock()
		return s.accepted.each[ip]
	}
	for deadline := time.Now().Add(patience); count() > n; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d connections counted", count())
		}
	}
}

func TestCensusInAll(t *testing.T) {
	c := census{each: make(map[netip.Addr]int)}
	ip := netip.MustParseAddr("10.0.0.0")
	for i := range maxAccepted {
		if i%100 == 0 {
			ip = ip.Next()
		}
		if !c.enter(ip) {
			t.Fatalf("connection %d refused", i+1)
		}
	}
	if c.enter(ip.Next()) {
		t.Error("one too many")
	}
	c.leave(ip)
	if !c.enter(ip.Next()) {
		t.Error("refused though one left")
	}
}

// Messages sent from many goroutines while a dial is under way and after it
// arrive once each, those of one goroutine in order.
func TestConcurrentSends(t *testing.T) {
	const senders, each = 8, 200
	near, far := startSIP(t, SIPConfig{}), startSIP(t, SIPConfig{})
	to := Target{Proto: ProtoTCP, Addr: far.Addr()}
	var sending sync.WaitGroup
	for sender := range senders {
		sending.Go(func() {
			for i := range each {
				if err := near.Send(to, []byte(sipMessage(fmt.Sprintf("%d %d", sender, i)))); err != nil {
					t.Error(err)
				}
			}
		})
	}
	sending.Wait()
	var expected [senders]int
	for range senders * each {
		msg := next(t, far.messages).msg
		var sender, i int
		_, body, _ := strings.Cut(msg, "\r\n\r\n")
		if _, err := fmt.Sscan(body, &sender, &i); err != nil || i != expected[sender] {
			t.Fatalf("message %q, want number %d of its sender", body, expected[sender])
		}
		expected[sender]++
	}
}
