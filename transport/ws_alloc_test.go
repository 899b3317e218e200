//go:build !race

// The race detector makes sync.Pool forget at random, so nothing here holds
// under it.

package transport

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"

	"github.com/gobwas/ws"
)

// echoing is a server that sends back what it receives.
func echoing(t testing.TB, tlsConfig *tls.Config) *wsServer {
	return startWS(t, WSConfig{Message: func(c *WSConn, msg []byte) { c.Send(msg) }}, tlsConfig)
}

// roundTrip returns a function that sends a stream of frames and reads as many
// bytes as the server answers with, without allocating.
func roundTrip(t testing.TB, conn net.Conn, sent []byte, answer int) func() {
	received := make([]byte, answer)
	return func() {
		if _, err := conn.Write(sent); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(conn, received); err != nil {
			t.Fatal(err)
		}
	}
}

// wsTraffic are the streams whose steady state must not allocate.
func wsTraffic() map[string][]byte {
	long := strings.Repeat("l", 30_000)
	return map[string][]byte{
		"message":           text(strings.Repeat("m", 1200)),
		"several at once":   bytes.Repeat(text(strings.Repeat("m", 700)), 10),
		"longer than reads": text(long),
		"binary":            frame(ws.OpBinary, true, "\xff\xfe"),
		"fragments with a ping": join(frame(ws.OpText, false, long), frame(ws.OpPong, true, "pong"),
			frame(ws.OpContinuation, true, long)),
	}
}

// answered is the size of the echo to a stream.
func answered(stream []byte) (size int) {
	message := 0
	for r := bytes.NewReader(stream); r.Len() > 0; {
		h, _ := ws.ReadHeader(r)
		io.CopyN(io.Discard, r, h.Length)
		if h.OpCode.IsControl() {
			continue
		}
		if message += int(h.Length); h.Fin {
			size += len(appendFrame(nil, ws.OpText, make([]byte, message)))
			message = 0
		}
	}
	return size
}

func TestWSNoAllocations(t *testing.T) {
	for name, stream := range wsTraffic() {
		s := echoing(t, nil)
		p, _ := s.dial(t)
		trip := roundTrip(t, p.Conn, stream, answered(stream))
		if n := testing.AllocsPerRun(1000, trip); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// crypto/tls allocates 24 bytes for each read from the socket. Here it does so
// once more than without this package: it is asked until it has no record left.
func TestWSSNoAllocationsOfOurs(t *testing.T) {
	server, client := wssConfigs(t)
	bare := tlsEchoAllocations(t, server, client)
	s := echoing(t, server)
	p, _ := s.dialTLS(t, nil, client)
	stream := text(strings.Repeat("m", 1200))
	n := testing.AllocsPerRun(1000, roundTrip(t, p.Conn, stream, answered(stream)))
	if n > bare+1 {
		t.Errorf("%v allocations, a bare TLS echo makes %v", n, bare)
	}
}

// tlsEchoAllocations returns what a round trip over nothing but crypto/tls
// allocates.
func tlsEchoAllocations(t *testing.T, server, client *tls.Config) float64 {
	near, far := tcpPair(t)
	echo := tls.Server(near, server)
	go func() {
		block := make([]byte, wsReadBuffer)
		for {
			n, err := echo.Read(block)
			if err != nil {
				return
			}
			echo.Write(block[:n])
		}
	}()
	message := make([]byte, 1200)
	return testing.AllocsPerRun(1000, roundTrip(t, tls.Client(far, client), message, len(message)))
}

// What net/http needed for the handshake, and what reading and writing needed
// for the last message, is not kept by a connection that is idle.
func TestWSIdleMemory(t *testing.T) {
	const conns = 500
	s := echoing(t, nil)
	message := text(strings.Repeat("m", 5000))
	answer := answered(message)
	ends := make([]net.Conn, conns)
	heap, stack := memoryInUse()
	for i := range ends {
		conn, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		p := &wsPeer{Conn: conn, t: t}
		p.raw([]byte(handshake()))
		readPast(t, conn, "\r\n\r\n")
		next(t, s.opened)
		roundTrip(t, conn, message, answer)()
		ends[i] = conn
	}
	heapNow, stackNow := memoryInUse()
	heap, stack = (heapNow-heap)/conns, (stackNow-stack)/conns
	t.Logf("for each idle connection %d bytes, its client end included, and %d of stack", heap, stack)
	if heap > 2500 {
		t.Errorf("%d bytes for each idle connection", heap)
	}
	runtime.KeepAlive(ends)
}

// readPast reads byte by byte, so that nothing has to be buffered.
func readPast(t *testing.T, r io.Reader, end string) {
	t.Helper()
	var got []byte
	for b := make([]byte, 1); !strings.HasSuffix(string(got), end); got = append(got, b[0]) {
		if _, err := r.Read(b); err != nil {
			t.Fatal(err)
		}
	}
}

func memoryInUse() (heap, stack int) {
	runtime.GC()
	runtime.GC() // what sync.Pool kept over the first
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc), int(m.StackInuse)
}

func BenchmarkWSEcho(b *testing.B) {
	server, client := wssConfigs(b)
	message := text(strings.Repeat("m", 1200))
	b.Run("ws", func(b *testing.B) {
		p, _ := echoing(b, nil).dial(b)
		benchmarkTrips(b, p.Conn, message)
	})
	b.Run("wss", func(b *testing.B) {
		p, _ := echoing(b, server).dialTLS(b, nil, client)
		benchmarkTrips(b, p.Conn, message)
	})
}

func benchmarkTrips(b *testing.B, conn net.Conn, message []byte) {
	trip := roundTrip(b, conn, message, answered(message))
	b.ReportAllocs()
	for b.Loop() {
		trip()
	}
}
