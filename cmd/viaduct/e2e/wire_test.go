package e2e

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"
)

// A Wire is a TCP relay that a test puts into a connection, between browser and
// viaduct or between viaduct and the PBX, to break it in the middle.
type Wire struct {
	Addr netip.AddrPort // where to connect to

	listener *net.TCPListener
	target   netip.AddrPort

	mu      sync.Mutex
	moved   *sync.Cond // signalled when frozen or a connection's end changes
	frozen  bool
	strands map[*strand]bool
}

// strand is one connection through the wire.
type strand struct{ near, far *net.TCPConn }

// startWire relays TCP connections on loopback to target until the test ends.
func startWire(t testing.TB, target netip.AddrPort) *Wire {
	t.Helper()
	listener, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(loopback.IP, 0)))
	if err != nil {
		t.Fatalf("wire: %v", err)
	}
	w := &Wire{
		Addr: listener.Addr().(*net.TCPAddr).AddrPort(), listener: listener, target: target, strands: map[*strand]bool{},
	}
	w.moved = sync.NewCond(&w.mu)
	var running sync.WaitGroup
	running.Go(func() { w.accept(&running) })
	t.Cleanup(func() {
		_ = listener.Close()
		w.Thaw()
		w.Cut()
		running.Wait()
	})
	return w
}

func (w *Wire) accept(running *sync.WaitGroup) {
	for {
		near, err := w.listener.AcceptTCP()
		if err != nil {
			return
		}
		far, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(w.target))
		if err != nil {
			_ = near.Close() // as refused as the target's own port would be
			continue
		}
		s := &strand{near, far}
		w.mu.Lock()
		w.strands[s] = true
		w.mu.Unlock()
		running.Go(func() { w.carry(s, near, far) })
		running.Go(func() { w.carry(s, far, near) })
	}
}

// carry copies one direction of a connection. Frozen bytes wait in its hand,
// further ones in the kernel's buffers.
func (w *Wire) carry(s *strand, from, to *net.TCPConn) {
	buffer := make([]byte, 1<<16)
	for {
		n, err := from.Read(buffer)
		w.waitUntilThawed()
		if n > 0 {
			if _, err := to.Write(buffer[:n]); err != nil {
				break
			}
		}
		if errors.Is(err, io.EOF) {
			_ = to.CloseWrite()
			return
		}
		if err != nil {
			break
		}
	}
	w.cut(s)
}

func (w *Wire) waitUntilThawed() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.frozen {
		w.moved.Wait()
	}
}

// Cut resets every connection that is up, at both ends. New ones may come.
func (w *Wire) Cut() {
	w.mu.Lock()
	strands := make([]*strand, 0, len(w.strands))
	for s := range w.strands {
		strands = append(strands, s)
	}
	w.mu.Unlock()
	for _, s := range strands {
		w.cut(s)
	}
}

// cut ends s by RST: that is what closing without lingering sends.
func (w *Wire) cut(s *strand) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.strands[s] {
		return
	}
	delete(w.strands, s)
	for _, end := range []*net.TCPConn{s.near, s.far} {
		_ = end.SetLinger(0)
		_ = end.Close()
	}
}

// Freeze holds back whatever comes from now on, in both directions, while both
// ends stay connected: a path that has gone silent.
func (w *Wire) Freeze() { w.setFrozen(true) }

// Thaw lets everything through again, what was held back first.
func (w *Wire) Thaw() { w.setFrozen(false) }

func (w *Wire) setFrozen(frozen bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.frozen = frozen
	w.moved.Broadcast()
}

// TestWire: the wire carries, freezes, thaws and resets.
func TestWire(t *testing.T) {
	t.Parallel()
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = echo.Close() })
	go func() {
		for {
			conn, err := echo.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(conn, conn) }()
		}
	}()
	wire := startWire(t, echo.Addr().(*net.TCPAddr).AddrPort())
	conn, err := net.Dial("tcp", wire.Addr.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	exchange := func(text string) error {
		if _, err := conn.Write([]byte(text)); err != nil {
			return err
		}
		answer := make([]byte, len(text))
		_, err := io.ReadFull(conn, answer)
		return err
	}
	if err := exchange("before"); err != nil {
		t.Fatalf("through the wire: %v", err)
	}
	wire.Freeze()
	_ = conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
	if err := exchange("frozen"); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("through the frozen wire: %v, want a timeout", err)
	}
	wire.Thaw()
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	if _, err := io.ReadFull(conn, make([]byte, len("frozen"))); err != nil {
		t.Fatalf("through the thawed wire: %v", err)
	}
	wire.Cut()
	if err := exchange("after"); err == nil || errors.Is(err, io.EOF) {
		t.Fatalf("through the cut wire: %v, want a reset", err)
	}
}
