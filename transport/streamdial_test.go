package transport

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// refusing returns a target on which nobody listens.
func refusing(t testing.TB) Target {
	t.Helper()
	p := newPBX(t)
	p.Close()
	return p.target()
}

// mayDialNow ends a target's backoff.
func (s *sipSide) mayDialNow(to Target) {
	s.connected.mu.Lock()
	defer s.connected.mu.Unlock()
	s.connected.hops[to].notYet = time.Time{}
}

func TestDialFails(t *testing.T) {
	s := startSIP(t, SIPConfig{})
	to := refusing(t)
	s.send(t, to, sipMessage("a"))
	u := next(t, s.undelivered)
	if u.to != to || u.msg != sipMessage("a") || !errors.Is(u.err, syscall.ECONNREFUSED) {
		t.Errorf("undelivered %+v", u)
	}
	if err := s.Send(to, []byte("x")); !errors.Is(err, ErrBackoff) || !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("Send while backing off: %v", err)
	}
	none(t, "undelivered as well", s.undelivered)

	far := newPBXAt(t, to.Addr.String())
	s.mayDialNow(to)
	s.send(t, to, sipMessage("b"))
	conn := far.accept()
	wants(t, conn, sipMessage("b"))

	// What succeeded once is dialled at once.
	conn.Close()
	s.forgets(t, ProtoTCP, far.addr())
	s.send(t, to, sipMessage("c"))
	wants(t, far.accept(), sipMessage("c"))
}

func TestBackoffGrows(t *testing.T) {
	c := newPool()
	p := c.newHop(Target{})
	for _, mean := range []time.Duration{100, 200, 400, 800, 1600, 3200, 5000, 5000} {
		mean *= time.Millisecond
		before := time.Now()
		c.dialFailed(p, io.EOF)
		shortest, longest := before.Add(mean/2), time.Now().Add(mean+mean/2)
		if p.notYet.Before(shortest) || p.notYet.After(longest) {
			t.Errorf("to be dialled again after %v, want %v with jitter", p.notYet.Sub(before), mean)
		}
	}
}

func TestUnreachableTargetsAreForgotten(t *testing.T) {
	c := newPool()
	for port := range uint16(100) {
		p := c.newHop(Target{Addr: loopback(port)})
		p.notYet = time.Now().Add(-2 * forgetAfter)
	}
	if len(c.hops) != 1 {
		t.Errorf("%d targets remembered, want the last", len(c.hops))
	}
}

func TestDialQueueIsBounded(t *testing.T) {
	far := newPBX(t) // accepts no connection, so that no TLS handshake ends
	s := startSIP(t, SIPConfig{MaxBacklog: 1000})
	to := Target{Proto: ProtoTLS, Addr: far.addr(), ServerName: "a"}
	msg := strings.Repeat("x", 400)
	s.send(t, to, msg)
	s.send(t, to, msg)
	if err := s.Send(to, []byte(msg)); !errors.Is(err, errBacklogFull) {
		t.Errorf("a third message: %v", err)
	}
	s.Close()
	for range 2 {
		if u := next(t, s.undelivered); u.msg != msg {
			t.Errorf("undelivered %+v", u)
		}
	}
}

// A connection that the PBX closed, or that was reset, is dialled anew by the
// next message, from the same port.
func TestRedialAfterEnd(t *testing.T) {
	s, far := startSIP(t, SIPConfig{}), newPBX(t)
	for i := range 4 {
		msg := sipMessage(fmt.Sprint(i))
		s.send(t, far.target(), msg)
		conn := far.accept()
		wants(t, conn, msg)
		if from := conn.RemoteAddr().String(); from != s.Addr().String() {
			t.Errorf("dialled from %s, want %s", from, s.Addr())
		}
		writes(t, conn, sipMessage("answer"))
		s.receives(t, sipMessage("answer"))
		if i%2 == 1 {
			far.must(conn.SetLinger(0))
		}
		conn.Close()
		s.forgets(t, ProtoTCP, far.addr())
	}
}

// A host that accepts connections and ends them without a word, as a load
// balancer with nothing behind it, refuses what it is sent, and is given time.
func TestEndedUnheard(t *testing.T) {
	s, far := startSIP(t, SIPConfig{}), newPBX(t)
	for range 2 {
		s.send(t, far.target(), sipMessage("lost"))
		conn := far.accept()
		wants(t, conn, sipMessage("lost"))
		conn.Close()
		if u := next(t, s.undelivered); u.msg != sipMessage("lost") || !errors.Is(u.err, io.EOF) {
			t.Errorf("undelivered %+v", u)
		}
		s.forgets(t, ProtoTCP, far.addr())
	}
	if err := s.Send(far.target(), []byte(sipMessage("too soon"))); !errors.Is(err, ErrBackoff) {
		t.Errorf("Send: %v, want a pause", err)
	}
}

// Without the listener's port any other will do.
func TestDialFromOtherPort(t *testing.T) {
	s, far := startSIP(t, SIPConfig{}), newPBX(t)
	first, second := far.target(), far.target()
	second.ServerName = "makes it another target"
	s.send(t, first, sipMessage("a"))
	wants(t, far.accept(), sipMessage("a"))
	s.send(t, second, sipMessage("b"))
	conn := far.accept()
	wants(t, conn, sipMessage("b"))
	if from := conn.RemoteAddr().String(); from == s.Addr().String() {
		t.Error("two connections with the same addresses")
	}
}

func TestPeerDoesNotRead(t *testing.T) {
	s, far := startSIP(t, SIPConfig{MaxBacklog: 100_000}), newPBX(t)
	s.send(t, far.target(), sipMessage("first"))
	deaf := far.accept()
	wants(t, deaf, sipMessage("first"))
	st := s.Stream(ProtoTCP, far.addr())
	msg := []byte(sipMessage(strings.Repeat("x", 10_000)))
	var err error
	for err == nil {
		err = st.Send(msg)
	}
	if !errors.Is(err, errBacklogFull) {
		t.Errorf("gave up for %v", err)
	}
	s.forgets(t, ProtoTCP, far.addr())
	s.send(t, far.target(), sipMessage("second"))
	wants(t, far.accept(), sipMessage("second"))
}

// After a restart the PBX is dialled from the same port again, so nothing may
// be left in TIME_WAIT there.
func TestRestartKeepsThePort(t *testing.T) {
	far := newPBX(t)
	cfg := SIPConfig{Listen: "127.0.0.1:0"}
	for range 3 {
		s := startSIP(t, cfg)
		cfg.Listen = s.Addr().String()
		s.send(t, far.target(), sipMessage("a"))
		conn := far.accept()
		wants(t, conn, sipMessage("a"))
		if from := conn.RemoteAddr().String(); from != cfg.Listen {
			t.Errorf("dialled from %s, want %s", from, cfg.Listen)
		}
		writes(t, conn, sipMessage("b")) // acknowledges the first message
		s.receives(t, sipMessage("b"))
		s.Close()
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("closed with %v, want a reset", err)
		}
	}
}

// TestKilledKeepsThePort is the same for a process that had no time to close
// anything: the test binary runs itself as the gateway.
func TestKilledKeepsThePort(t *testing.T) {
	const variable = "VIADUCT_TEST_DIAL"
	if at := os.Getenv(variable); at != "" {
		s := startSIP(t, SIPConfig{})
		s.send(t, Target{Proto: ProtoTCP, Addr: netip.MustParseAddrPort(at)}, sipMessage("alive"))
		select {}
	}
	far := newPBX(t)
	gateway := exec.Command(os.Args[0], "-test.run=^TestKilledKeepsThePort$")
	gateway.Env = append(os.Environ(), variable+"="+far.Addr().String())
	far.must(gateway.Start())
	kill := sync.OnceFunc(func() {
		far.must(gateway.Process.Kill())
		_ = gateway.Wait() // its error is the kill
	})
	t.Cleanup(kill)
	conn := far.accept()
	wants(t, conn, sipMessage("alive"))
	kill()
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("ended with %v, want a reset", err)
	}

	s := startSIP(t, SIPConfig{Listen: conn.RemoteAddr().String()})
	s.send(t, far.target(), sipMessage("again"))
	again := far.accept()
	wants(t, again, sipMessage("again"))
	if from := again.RemoteAddr().String(); from != conn.RemoteAddr().String() {
		t.Errorf("dialled from %s, want %s", from, conn.RemoteAddr())
	}
}

// What a PBX has not read yet is delivered by Close all the same.
func TestCloseDelivers(t *testing.T) {
	s, far := startSIP(t, SIPConfig{MaxBacklog: 1 << 20}), newPBX(t)
	s.send(t, far.target(), sipMessage("first"))
	conn := far.accept()
	wants(t, conn, sipMessage("first"))
	st := s.Stream(ProtoTCP, far.addr())
	msg := []byte(sipMessage(strings.Repeat("x", 10_000)))
	sent := 0
	for st.out.Queued() < 200_000 {
		if err := st.Send(msg); err != nil {
			t.Fatal(err)
		}
		sent++
	}
	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	got, err := io.ReadAll(conn) // a reset after everything is no loss
	if !bytes.Equal(got, bytes.Repeat(msg, sent)) {
		t.Errorf("read %d bytes of %d, error %v", len(got), sent*len(msg), err)
	}
	if err := next(t, closed); err != nil {
		t.Error(err)
	}
}

// Both ends of one connection may be dialled at the same time.
func TestDialEachOther(t *testing.T) {
	one, other := startSIP(t, SIPConfig{}), startSIP(t, SIPConfig{})
	one.send(t, Target{Proto: ProtoTCP, Addr: other.Addr()}, sipMessage("to the other"))
	other.send(t, Target{Proto: ProtoTCP, Addr: one.Addr()}, sipMessage("to the one"))
	other.receives(t, sipMessage("to the other"))
	one.receives(t, sipMessage("to the one"))
}
