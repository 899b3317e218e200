package transport

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobwas/ws"
)

func TestWSClose(t *testing.T) {
	s := startWS(t, WSConfig{}, nil)
	p, c := s.dial(t)
	c.Close(ws.StatusCode(4001), strings.Repeat("é", 100))
	c.Close(ws.StatusGoingAway, "too late")
	if err := c.Send([]byte("too late")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Send after Close: %v", err)
	}
	p.raw(text("sent before the close frame was read"))
	// 123 bytes are 61 whole characters.
	p.wants(ws.OpClose, "\x0f\xa1"+strings.Repeat("é", 61))
	none(t, "Closed before the browser answered", s.ended)
	p.raw(frame(ws.OpClose, true, "\x0f\xa1"))
	p.wantsEnd()
	s.ends(t, c, CauseLocal)
	none(t, "message", s.messages)
}

func TestWSCloseUnanswered(t *testing.T) {
	s := startWS(t, WSConfig{}, nil)
	p, c := s.dial(t)
	c.Close(1012, "")
	p.wantsClose(1012)
	s.ends(t, c, CauseLocal)
	p.wantsEnd()
}

// Callbacks may close the connection that they are called for.
func TestWSCloseInMessage(t *testing.T) {
	var messages []string
	s := startWS(t, WSConfig{Message: func(c *WSConn, msg []byte) {
		messages = append(messages, string(msg))
		c.Close(ws.StatusNormalClosure, "")
	}}, nil)
	p, c := s.dial(t)
	p.raw(join(text("a"), text("b"), frame(ws.OpText, false, "c"), frame(ws.OpContinuation, true, "d")))
	p.wantsClose(ws.StatusNormalClosure)
	p.raw(frame(ws.OpClose, true, ""))
	p.wantsEnd()
	s.ends(t, c, CauseLocal)
	if len(messages) != 1 {
		t.Errorf("messages after Close: %q", messages)
	}
}

func TestWSServerClose(t *testing.T) {
	s := startWS(t, WSConfig{}, nil)
	const n = 20
	var wg sync.WaitGroup
	for range n {
		p, _ := s.dial(t)
		wg.Go(func() {
			p.wantsClose(1012)
			p.Write(frame(ws.OpClose, true, "\x03\xf4"))
			p.wantsEnd()
		})
	}
	s.Close(1012)
	for range n {
		select {
		case end := <-s.ended:
			if end.why != CauseShutdown {
				t.Errorf("ended for %v", end.why)
			}
		default:
			t.Fatal("Close returned before Closed was called")
		}
	}
	wg.Wait()
	if conn, err := net.Dial("tcp", s.addr); err == nil {
		conn.Close()
		t.Error("still listening")
	}
}

// While a server drains nobody new gets in, and nobody else notices.
func TestWSDrain(t *testing.T) {
	s := startWS(t, WSConfig{Other: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "other") })}, nil)
	p, c := s.dial(t)
	waiting, err := net.Dial("tcp", s.addr) // accepted before, asks after
	if err != nil {
		t.Fatal(err)
	}
	s.Drain()
	s.Drain()

	late, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	for _, conn := range []net.Conn{waiting, late} {
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(patience))
		io.WriteString(conn, handshake())
		all, err := io.ReadAll(conn)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(all)), nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") != retryAfter || !resp.Close {
			t.Errorf("refused with %q", all)
		}
		if why := next(t, s.refused); why != RefusedClosing {
			t.Errorf("refused for %v", why)
		}
	}
	resp, err := http.Get("http://" + s.addr + "/other")
	if err != nil {
		t.Fatal(err)
	}
	if body, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK || string(body) != "other" {
		t.Errorf("another path: %s %q", resp.Status, body)
	}
	resp.Body.Close()

	p.raw(text("BYE"))
	if got := next(t, s.messages); got != "BYE" {
		t.Errorf("got %q", got)
	}
	if err := c.Send([]byte("200")); err != nil {
		t.Fatal(err)
	}
	p.wants(ws.OpText, "200")
	none(t, "ended", s.ended)
	none(t, "opened", s.opened)

	closed := make(chan struct{})
	go func() { s.Close(ws.StatusGoingAway); close(closed) }()
	p.wantsClose(ws.StatusGoingAway)
	p.raw(frame(ws.OpClose, true, "\x03\xe9"))
	next(t, closed)
	s.ends(t, c, CauseShutdown)
}

// A half-open connection, whose browser is gone without a word, is one whose
// pings bring nothing.
func TestWSHalfOpen(t *testing.T) {
	s := startWS(t, WSConfig{PingInterval: pingBuckets * time.Millisecond}, nil)
	gone, c := s.dial(t)
	s.ends(t, c, CauseSilent)
	gone.wants(ws.OpPing, "")
	gone.wants(ws.OpPing, "")
	if _, err := readFrame(gone.r); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the browser sees %v, want a reset", err)
	}
}

// Whenever a peer dies, it is known within two intervals, and for two pings that
// brought nothing. A connection that answers is pinged once an interval.
func TestWSHalfOpenInTwoIntervals(t *testing.T) {
	const interval = 256 * time.Second
	for phase := range 16 {
		synctest.Test(t, func(t *testing.T) {
			c, pings := unreadConn(t)
			stop := make(chan struct{})
			defer close(stop)
			r := wsRoster{stop: stop}
			r.add(c)
			r.start(interval)

			// It lives for three intervals and a part.
			lives := 3*interval + time.Duration(phase)*interval/16 + interval/32
			step := time.Tick(interval / pingBuckets)
			for began := time.Now(); time.Since(began) < lives; <-step {
				c.heard.Add(1)
			}
			if n := pings(); n != 3 && n != 4 {
				t.Errorf("phase %d: %d pings in three intervals to one who answers", phase, n)
			}
			died := time.Now()
			for !c.closing() {
				<-step
				synctest.Wait()
			}
			if took := time.Since(died); took > 2*interval || took < interval {
				t.Errorf("phase %d: closed %v after it died, at most two of %v", phase, took, interval)
			}
			if n, why := pings(), CloseCause(c.cause.Load()); n != maxUnanswered || why != CauseSilent {
				t.Errorf("phase %d: %d pings to the dead, closed for %v", phase, n, why)
			}
		})
	}
}

// unreadConn is a connection that nobody reads for the server, so that a fake
// clock goes on, and a function that takes the pings which arrived at its peer.
func unreadConn(t *testing.T) (c *WSConn, pings func() int) {
	near, far := tcpPair(t)
	s, err := NewWSServer(WSConfig{MaxIdle: time.Hour, FirstMessage: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	defer s.pollers.close()
	c, err = s.newConn(&wsSocket{TCPConn: near, server: s}, "")
	if err != nil {
		t.Fatal(err)
	}
	raw, err := far.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	ping := appendFrame(nil, ws.OpPing, nil)
	return c, func() (n int) {
		buf := make([]byte, 1000)
		raw.Control(func(fd uintptr) { n, err = readSocket(fd, buf) })
		if err != nil || !bytes.Equal(buf[:n], bytes.Repeat(ping, n/len(ping))) {
			t.Errorf("the peer reads %x, error %v", buf[:n], err)
		}
		return n / len(ping)
	}
}

// Whatever a browser sends is a sign of life, the start of a frame too.
func TestWSSignsOfLife(t *testing.T) {
	for name, sign := range map[string][]byte{
		"pong":                     frame(ws.OpPong, true, ""),
		"message":                  text("OPTIONS"),
		"a byte of a long message": {0},
	} {
		s := startWS(t, WSConfig{PingInterval: pingBuckets * time.Millisecond}, nil)
		p, c := s.dial(t)
		if len(sign) == 1 {
			p.raw(header(ws.OpText, 1000))
		}
		for range 2 * maxUnanswered {
			p.wants(ws.OpPing, "")
			p.raw(sign)
		}
		none(t, name, s.ended)
		p.Close()
		s.ends(t, c, CauseLost)
	}
}

func TestWSProbe(t *testing.T) {
	s := startWS(t, WSConfig{}, nil)
	p, c := s.dial(t)
	c.Probe(time.Minute)
	c.Probe(0) // one is under way
	p.wants(ws.OpPing, "")
	p.raw(join(frame(ws.OpPong, true, ""), text("here")))
	next(t, s.messages)
	none(t, "ended", s.ended)

	dead, c := s.dial(t)
	c.Probe(10 * time.Millisecond)
	s.ends(t, c, CauseSilent)
	c.Probe(0) // of a closed connection
	dead.wants(ws.OpPing, "")
}

func TestWSProbeAnswered(t *testing.T) {
	s := startWS(t, WSConfig{}, nil)
	p, c := s.dial(t)
	for range 5 {
		heard := c.heard.Load()
		c.Probe(patience)
		p.wants(ws.OpPing, "")
		p.raw(join(frame(ws.OpPong, true, ""), text("x")))
		next(t, s.messages)
		if c.heard.Load() == heard {
			t.Error("the pong was not heard")
		}
		c.probing.Store(false) // as its timer would
	}
}

// The kernel must not probe what the server pings, and must not wait for more
// to send.
func TestWSSocketOptions(t *testing.T) {
	s := startWS(t, WSConfig{}, nil)
	_, c := s.dial(t)
	c.sock.wire.control(func(fd uintptr) {
		if v, err := syscall.GetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_KEEPALIVE); v != 0 || err != nil {
			t.Errorf("SO_KEEPALIVE %d, %v", v, err)
		}
		if v, err := syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_NODELAY); v == 0 || err != nil {
			t.Errorf("TCP_NODELAY %d, %v", v, err)
		}
	})
}

// Sends of many goroutines neither mix nor, with the close frame among them,
// follow it.
func TestWSConcurrentSends(t *testing.T) {
	s := startWS(t, WSConfig{MaxBacklog: 64 << 20}, nil)
	p, c := s.dial(t)
	var wg sync.WaitGroup
	for w := range 8 {
		wg.Go(func() {
			msg := []byte(strings.Repeat(string(rune('a'+w)), 3000))
			for range 200 {
				if err := c.Send(msg); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range 8 * 200 {
		_, got := p.read()
		if len(got) != 3000 || strings.Count(got, got[:1]) != 3000 {
			t.Fatalf("mixed: %.100q", got)
		}
	}
	wg.Wait()
	for range 8 {
		wg.Go(func() {
			for c.Send([]byte("until closed")) == nil {
			}
		})
	}
	c.Close(ws.StatusNormalClosure, "")
	p.wantsClose(ws.StatusNormalClosure)
	p.raw(frame(ws.OpClose, true, ""))
	p.wantsEnd()
	wg.Wait()
	s.ends(t, c, CauseLocal)
}

// A connection is closed that says nothing in time, or nothing more and is of
// no use. One that is of use has only to show that it lives.
func TestWSIdle(t *testing.T) {
	for _, tt := range []struct {
		name   string
		speaks bool
		needed bool
		cause  CloseCause
	}{
		{"nothing said", false, true, CauseIdle},
		{"nothing more said", true, false, CauseIdle},
		{"of use", true, true, CauseSilent},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := startWS(t, WSConfig{
				PingInterval: 100 * time.Millisecond, FirstMessage: 50 * time.Millisecond, MaxIdle: 50 * time.Millisecond,
				Needed: func(*WSConn) bool { return tt.needed },
			}, nil)
			p, c := s.dial(t)
			if tt.speaks {
				p.raw(text("one message"))
			}
			s.ends(t, c, tt.cause)
		})
	}
}
