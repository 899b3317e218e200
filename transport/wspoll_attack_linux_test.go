//go:build linux && !goroutines

package transport

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gobwas/ws"
)

// Attacks on the life of what the pollers read: descriptors that are used again,
// events of what is closed, and bytes that are not flushed.

// wireOf makes a wire of one end of a connection, and returns the other.
func wireOf(t *testing.T, ps *pollers) (*wire, net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	peer, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { peer.Close() })
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	w := new(wire)
	if err := w.take(conn.(*net.TCPConn), ps); err != nil {
		t.Fatal(err)
	}
	return w, peer
}

// A connection that ends as the server does, with bytes that are not flushed, may
// find its poller gone. Its descriptor is closed all the same, and the poller's
// number, which may be another socket's by then, is not used.
func TestAttackPollerGone(t *testing.T) {
	s, err := NewWSServer(WSConfig{})
	if err != nil {
		t.Fatal(err)
	}
	w, peer := wireOf(t, s.pollers)
	c := &WSConn{server: s, sock: &wsSocket{server: s, gone: true}}
	s.mu.Lock()
	s.live = 1
	s.mu.Unlock()
	c.sock.wire.poller, c.sock.wire.fd = w.poller, w.fd
	if err := c.sock.wire.write(make([]byte, moreThanKernel)); err != nil {
		t.Fatal(err)
	}
	if err := c.sock.wire.close(); err != nil {
		t.Fatal(err)
	}
	s.pollers.close()
	c.follow(errFinished)
	if fd := c.sock.wire.fd; fd >= 0 {
		t.Errorf("descriptor %d is open, and nobody waits for it", fd)
	}
	peer.SetDeadline(time.Now().Add(patience))
	if _, err := io.Copy(io.Discard, peer); errors.Is(err, errTimeout) {
		t.Errorf("the peer sees %v, want the end", err)
	}
	t.Logf("attack: %s | %s | %s", "a connection closed with unread bytes while viaduct ends", "its descriptor is closed, nothing is done to another", "none")
}

// TestAttackLifeCycle: browsers come and go by the thousand while others write to them, ping
// them and close them. No byte of one reaches another, each end is told once, and
// no descriptor is left.
func TestAttackLifeCycle(t *testing.T) {
	const workers, rounds = 16, 60
	before := openDescriptors(t)
	var mu sync.Mutex
	live := make(map[*WSConn]bool)
	var ended, wrong atomic.Int64
	cfg := WSConfig{
		Path: "/ws", MaxBacklog: 20_000, PingInterval: pingBuckets * time.Millisecond,
		Opened: func(c *WSConn) {
			c.Tag = new(atomic.Pointer[string])
			mu.Lock()
			defer mu.Unlock()
			live[c] = true
		},
		Message: func(c *WSConn, msg []byte) {
			name := string(msg)
			if was := c.Tag.(*atomic.Pointer[string]).Swap(&name); was != nil && *was != name {
				wrong.Add(1)
			}
			_ = c.Send(msg)
		},
		Closed: func(c *WSConn, _ CloseCause) {
			mu.Lock()
			defer mu.Unlock()
			if !live[c] {
				wrong.Add(1)
			}
			delete(live, c)
			ended.Add(1)
		},
	}
	s := startPlain(t, cfg, nil)
	done := make(chan struct{})
	var others sync.WaitGroup
	for range 4 { // whoever else has to do with them
		others.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				mu.Lock()
				conns := make([]*WSConn, 0, len(live))
				for c := range live {
					conns = append(conns, c)
				}
				mu.Unlock()
				for _, c := range conns {
					name := c.Tag.(*atomic.Pointer[string]).Load()
					if name == nil {
						continue
					}
					switch rand.IntN(5) {
					case 0:
						_ = c.Send([]byte(strings.Repeat(*name, 5000)))
					case 1:
						c.Probe(time.Millisecond)
					case 2:
						c.Close(ws.StatusGoingAway, "")
					default:
						_ = c.Send([]byte(*name))
					}
				}
			}
		})
	}
	var browsers sync.WaitGroup
	for n := range workers {
		browsers.Go(func() {
			for i := range rounds {
				s.visit(t, string(rune('A'+(n*rounds+i)%26)), rand.IntN(4))
			}
		})
	}
	browsers.Wait()
	s.empty(t)
	close(done)
	others.Wait()
	s.Close(ws.StatusGoingAway)
	if wrong.Load() != 0 || ended.Load() != workers*rounds {
		t.Errorf("%d went wrong, %d of %d ended", wrong.Load(), ended.Load(), workers*rounds)
	}
	until(t, "no descriptor is left", func() bool { return openDescriptors(t) <= before+1 })
	t.Logf("attack: %s | %s | %s", "browsers that come and go by the thousand while they are written to, pinged and closed",
		"no byte of one reaches another, each end is told once, no descriptor is left", "viaduct_connections 0")
}

// visit is one browser that says its name, reads, and leaves in one of 4 ways.
// All that it is sent is its name, again and again.
func (s *wsServer) visit(t *testing.T, name string, way int) {
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Error(err)
		return
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, handshake()+string(text(name))); err != nil {
		return
	}
	head := make([]byte, 0, 512)
	for b := make([]byte, 1); !strings.HasSuffix(string(head), "\r\n\r\n"); head = append(head, b[0]) {
		if _, err := io.ReadFull(conn, b); err != nil {
			t.Errorf("handshake: %q, %v", head, err)
			return
		}
	}
	for range 5 {
		f, err := readFrame(conn)
		if err != nil || f.Header.OpCode == ws.OpClose {
			return
		}
		if f.Header.OpCode == ws.OpText && strings.Trim(string(f.Payload), name) != "" {
			t.Errorf("%s is sent %.40q", name, f.Payload)
		}
	}
	switch way {
	case 0:
		conn.(*net.TCPConn).SetLinger(0)
	case 1:
		conn.Write(frame(ws.OpClose, true, "\x03\xe8"))
		io.Copy(io.Discard, conn)
	case 2:
		conn.Write(text(name)[:3])
	}
}

// openDescriptors counts those of this process.
func openDescriptors(t *testing.T) (n int) {
	t.Helper()
	for fd := range 4096 {
		var st syscall.Stat_t
		if syscall.Fstat(fd, &st) == nil {
			n++
		}
	}
	return n
}
