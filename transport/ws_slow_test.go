package transport

import (
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/gobwas/ws"
)

// A browser that does not read is closed, and nobody waits for it: neither the
// sender nor its neighbour.
func TestWSSlowReader(t *testing.T) {
	s := startWS(t, WSConfig{MaxBacklog: 300_000, PingInterval: time.Hour}, nil)
	slow, c := s.dial(t)
	quick, neighbour := s.dial(t)
	go io.Copy(io.Discard, quick.r)

	msg := []byte(strings.Repeat("x", 50_000))
	var sent int
	for {
		if err := neighbour.Send(msg); err != nil {
			t.Fatalf("the neighbour: %v", err)
		}
		until(t, "the neighbour has read it", func() bool { return neighbour.sock.wire.queued() == 0 })
		err := c.Send(msg)
		if errors.Is(err, errBacklogFull) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		sent++
	}
	if err := c.Send([]byte("small")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after the backlog was full: %v", err)
	}
	// What was taken arrives whole, then why it ended.
	for range sent {
		slow.wants(ws.OpText, string(msg))
	}
	slow.wantsClose(ws.StatusPolicyViolation)
	slow.raw(frame(ws.OpClose, true, "\x03\xf0"))
	s.ends(t, c, CauseBacklog)

	quick.raw(text("alive"))
	if got := next(t, s.messages); got != "alive" {
		t.Errorf("the neighbour says %q", got)
	}
}

// One that reads nothing at all is reset, a second after.
func TestWSDeafReader(t *testing.T) {
	s := startWS(t, WSConfig{MaxBacklog: 300_000, PingInterval: time.Hour}, nil)
	deaf, c := s.dial(t)
	for c.Send(make([]byte, moreThanKernel)) == nil {
	}
	s.ends(t, c, CauseBacklog)
	if _, err := io.Copy(io.Discard, deaf); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the browser sees %v, want a reset", err)
	}
}

// Pings that are not read count as backlog: pongs do not pile up.
func TestWSPingsUnread(t *testing.T) {
	s := startWS(t, WSConfig{MaxBacklog: 10_000}, nil)
	p, c := s.dial(t)
	if err := c.Send(make([]byte, moreThanKernel)); err != nil {
		t.Fatal(err)
	}
	p.raw(frame(ws.OpPing, true, strings.Repeat("p", 125)))
	s.ends(t, c, CauseBacklog)
}

// Fifty that do not read cost no more than what they have not read, and that only
// until they are closed. Nobody waits for them.
func TestWSManySlowReaders(t *testing.T) {
	const stuck = 50
	s := startWS(t, WSConfig{PingInterval: time.Hour}, nil)
	quick, neighbour := s.dial(t)
	exchange := func() {
		t.Helper()
		for range 200 {
			if err := neighbour.Send([]byte("INVITE")); err != nil {
				t.Fatal(err)
			}
			quick.wants(ws.OpText, "INVITE")
			quick.raw(text("200"))
			next(t, s.messages)
		}
	}
	exchange()
	idle := goroutines("viaduct/transport.", "")
	conns := make([]*WSConn, stuck)
	for i := range conns {
		_, conns[i] = s.dial(t)
		conns[i].sock.wire.control(func(fd uintptr) { // the kernel takes little, and the test not long
			syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_SNDBUF, 1)
		})
	}

	// Slow: what waits has room.
	msg := make([]byte, 10_000)
	for _, c := range conns {
		for c.sock.wire.queued() < defaultMaxBacklog/2 {
			if err := c.Send(msg); err != nil {
				t.Fatal(err)
			}
		}
	}
	exchange()
	until(t, "each has its goroutines", func() bool {
		return goroutines("viaduct/transport.", "") == idle+stuck*wireGoroutines
	})

	// Stuck: it has none.
	var senders sync.WaitGroup
	for _, c := range conns {
		senders.Go(func() {
			var err error
			for err == nil {
				err = c.Send(msg)
			}
			if !errors.Is(err, errBacklogFull) {
				t.Error(err)
			}
			if kept := c.sock.wire.queued(); kept > defaultMaxBacklog+100 {
				t.Errorf("%d bytes kept", kept)
			}
		})
	}
	exchange()
	senders.Wait()
	for range stuck {
		if end := next(t, s.ended); end.why != CauseBacklog || end.conn == neighbour {
			t.Errorf("ended for %v", end.why)
		}
	}
	until(t, "only the neighbour is served", func() bool { return goroutines("viaduct/transport.", "") == idle })
	for _, c := range conns {
		if kept := c.sock.wire.memory(); kept != 0 {
			t.Errorf("a closed connection keeps %d bytes", kept)
		}
	}
	exchange()
	none(t, "ended", s.ended)
}

// goroutines counts those that run a function, in a state.
func goroutines(function, state string) (n int) {
	buf := make([]byte, 4<<20)
	buf = buf[:runtime.Stack(buf, true)]
	for stack := range strings.SplitSeq(string(buf), "\n\n") {
		if strings.Contains(stack, function) && strings.Contains(stack, state) {
			n++
		}
	}
	return n
}

// until waits for what must become true.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("not so: %s", what)
		}
	}
}
