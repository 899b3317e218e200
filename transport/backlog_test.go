package transport

import (
	"bytes"
	"crypto/rand"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"
)

// tcpPair returns the two ends of a loopback connection, closed with the test.
func tcpPair(t testing.TB) (near, far *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	out, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	in, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { in.Close(); out.Close() })
	return in.(*net.TCPConn), out.(*net.TCPConn)
}

// failures is a failed callback that hands on what it is called with.
func failures() (func(error), chan error) {
	c := make(chan error, 10)
	return func(err error) { c <- err }, c
}

// moreThanKernel is more than the socket buffers of both ends ever take.
const moreThanKernel = 16 << 20

// stuff leaves b with bytes that only reading at the far end gets rid of.
func stuff(t *testing.T, b *backlog) {
	t.Helper()
	if _, err := b.Write(make([]byte, moreThanKernel)); err != nil {
		t.Fatal(err)
	}
	if b.Queued() == 0 {
		t.Fatal("the kernel took all: nothing is tested")
	}
}

func TestBacklogKeepsOrder(t *testing.T) {
	near, far := tcpPair(t)
	failed, failure := failures()
	b := newBacklog(near, 1<<20, failed)

	stream := make([]byte, moreThanKernel)
	rand.Read(stream)
	sent := 0
	for kept := 0; kept < 4 && sent < len(stream); {
		n, err := b.Write(stream[sent:min(sent+100_000, len(stream))])
		if err != nil {
			t.Fatal(err)
		}
		if sent += n; b.Queued() > 0 {
			kept++
		}
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Write([]byte("late")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("write after Close: %v", err)
	}
	got, err := io.ReadAll(far)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, stream[:sent]) {
		t.Errorf("%d bytes arrived that differ from the %d written", len(got), sent)
	}
	if len(failure) > 0 {
		t.Errorf("failed called: %v", <-failure)
	}
}

func TestBacklogFullTakesNothing(t *testing.T) {
	near, far := tcpPair(t)
	failed, failure := failures()
	const limit = 200_000
	b := newBacklog(near, limit, failed)

	sent := 0
	for {
		n, err := b.Write(make([]byte, 30_000))
		sent += n
		if q := b.Queued(); q > limit {
			t.Fatalf("%d bytes kept, limit %d", q, limit)
		}
		if err == nil {
			continue
		}
		if !errors.Is(err, errBacklogFull) || n != 0 {
			t.Fatalf("full backlog: %d, %v", n, err)
		}
		break
	}
	if _, err := io.ReadFull(far, make([]byte, sent)); err != nil {
		t.Fatal(err)
	}
	// The stream is whole and goes on.
	if _, err := b.Write([]byte("z")); err != nil {
		t.Fatal(err)
	}
	next := make([]byte, 1)
	if _, err := io.ReadFull(far, next); err != nil || next[0] != 'z' {
		t.Errorf("after the backlog: %q, %v", next, err)
	}
	if len(failure) > 0 {
		t.Errorf("failed called: %v", <-failure)
	}
}

func TestBacklogLargeWriteOnEmpty(t *testing.T) {
	near, far := tcpPair(t)
	b := newBacklog(near, 10, func(err error) { t.Error(err) })
	large := make([]byte, moreThanKernel)
	rand.Read(large)
	if n, err := b.Write(large); n != len(large) || err != nil {
		t.Fatalf("write on an empty backlog: %d, %v", n, err)
	}
	got := make([]byte, len(large))
	if _, err := io.ReadFull(far, got); err != nil || !bytes.Equal(got, large) {
		t.Errorf("a write larger than the bound arrived changed: %v", err)
	}
}

func TestBacklogPeerResets(t *testing.T) {
	for _, kept := range []bool{false, true} {
		near, far := tcpPair(t)
		failed, failure := failures()
		b := newBacklog(near, 1<<20, failed)
		if kept {
			stuff(t, b)
		}
		far.SetLinger(0)
		far.Close()
		if !kept {
			io.Copy(io.Discard, near) // until the reset is here
			if _, err := b.Write([]byte("x")); err == nil {
				t.Error("write on a reset connection succeeded")
			}
		}
		select {
		case err := <-failure:
			if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
				t.Errorf("failed with %v", err)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("failed was not called")
		}
		if _, err := b.Write([]byte("x")); err == nil || b.Queued() != 0 {
			t.Errorf("a broken backlog took a write: %v, %d kept", err, b.Queued())
		}
		if err := b.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if len(failure) > 0 {
			t.Error("failed was called twice")
		}
	}
}

func TestBacklogCloseResetsWhoDoesNotRead(t *testing.T) {
	near, far := tcpPair(t)
	failed, failure := failures()
	b := newBacklog(near, 1<<20, failed)
	stuff(t, b)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-failure:
	case <-time.After(10 * flushTimeout):
		t.Fatal("Close waits for ever for a peer that does not read")
	}
	// The reset is what makes reading fail: no clean end of a cut stream.
	if _, err := io.Copy(io.Discard, far); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the far end sees %v, want a reset", err)
	}
}

func TestBacklogConcurrentWrites(t *testing.T) {
	near, far := tcpPair(t)
	b := newBacklog(near, 64<<20, func(err error) { t.Error(err) })
	const writers, each, size = 8, 200, 5_000
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for range each {
				if _, err := b.Write(bytes.Repeat([]byte{byte(w)}, size)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	block := make([]byte, size)
	for range writers * each {
		if _, err := io.ReadFull(far, block); err != nil {
			t.Fatal(err)
		}
		if bytes.Count(block, block[:1]) != size {
			t.Fatal("two writes were mixed")
		}
	}
	wg.Wait()
}
