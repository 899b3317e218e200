package e2e

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	mathrand "math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"viaduct/cmd/viaduct-load/answer"
	"viaduct/cmd/viaduct-load/drive"
	"viaduct/cmd/viaduct-load/proc"
	"viaduct/cmd/viaduct-load/socket"
)

// What TestAttackMob has: how many attack, how many call and how often.
const (
	attackers = 10_000
	callers   = 200
	callRate  = 100 // calls a second
	rounds    = 3   // with and without attackers, by turns
	slowerMax = 3   // of the 99th percentile, in the median of the rounds
	pssMax    = 512 << 20
)

// endless is the beginning of a frame that never comes to its end.
var endless = socket.AppendHeader(nil, ws.OpText, 60_000, [4]byte{1, 2, 3, 4})

// A hostility is what an attacker does with a connection: what it sends at once,
// and what after each pause for as long as it is let.
type hostility struct {
	name   string
	open   bool // it makes no handshake first
	first  []byte
	then   []byte
	pause  time.Duration
	deaf   bool // it reads nothing
	sudden bool // viaduct closes it at once, so it stands there for a while before it begins
	header string
}

func hostilities(addr netip.AddrPort) []hostility {
	garbage := make([]byte, 512)
	_, _ = rand.Read(garbage) // never fails
	masked := func(op ws.OpCode, fin bool, payload string) []byte {
		frame := ws.MaskFrame(ws.NewFrame(op, fin, []byte(payload)))
		raw, err := ws.CompileFrame(frame)
		if err != nil {
			panic(err) // of a frame that fits in memory: never
		}
		return raw
	}
	request := fmt.Sprintf("OPTIONS sip:echo@pbx.test SIP/2.0\r\nVia: SIP/2.0/WS deaf00000000.invalid;branch=z9hG4bK1\r\n"+
		"To: <sip:echo@pbx.test>\r\nFrom: <sip:deaf@pbx.test>;tag=1\r\nCall-ID: deaf\r\nCSeq: 1 OPTIONS\r\nX: %s\r\nContent-Length: 0\r\n\r\n",
		strings.Repeat("x", 500))
	return []hostility{
		{name: "half-open handshakes", open: true, first: socket.Upgrade(addr, "/ws")[:60], pause: time.Hour},
		{name: "one byte a second", first: endless, then: []byte{0}, pause: time.Second},
		{name: "never reading", first: masked(ws.OpText, true, request), then: masked(ws.OpText, true, request), pause: 2 * time.Second, deaf: true},
		{name: "garbage frames", sudden: true, first: garbage, then: garbage, pause: time.Second},
		{name: "oversized frames", sudden: true, first: masked(ws.OpText, true, strings.Repeat("x", 70_000)), then: garbage, pause: time.Second},
		{name: "fragments without end", first: masked(ws.OpText, false, "x"), then: masked(ws.OpContinuation, false, ""), pause: time.Second},
		{name: "ping floods", sudden: true, first: slices.Repeat(masked(ws.OpPing, true, "flood"), 200), then: slices.Repeat(masked(ws.OpPing, true, "flood"), 200), pause: time.Second},
		{name: "compression offers", sudden: true, header: "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=15\r\n",
			first: append([]byte{0xc1}, masked(ws.OpText, true, "x")[1:]...), then: garbage, pause: time.Second},
	}
}

// A mob is attackers, each with a connection of its own that it opens again
// when it is closed.
type mob struct {
	addr    netip.AddrPort
	stop    context.CancelFunc
	running sync.WaitGroup
	begun   atomic.Int64   // attackers that have had a connection
	open    atomic.Int64   // connections now
	opened  []atomic.Int64 // connections, by hostility
	closed  []atomic.Int64 // of them by viaduct
}

// An attacker whose connection is closed soon opens another. One that would be
// closed at once begins at any moment of its first lull: so nearly all are connected
// all the time, and some hundreds attack and are closed each second.
const (
	reopening = 100 * time.Millisecond
	lull      = 10 * time.Second
)

func gather(t *testing.T, addr netip.AddrPort) *mob {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	kinds := hostilities(addr)
	c := &mob{addr: addr, stop: stop, opened: make([]atomic.Int64, len(kinds)), closed: make([]atomic.Int64, len(kinds))}
	t.Cleanup(c.disperse)
	atOnce := make(chan struct{}, 64)
	for i := range attackers {
		c.running.Go(func() {
			kind := i % len(kinds)
			first := true
			for ctx.Err() == nil {
				atOnce <- struct{}{}
				conn, err := c.connect(ctx, i, kinds[kind])
				<-atOnce
				if first {
					first = false
					c.begun.Add(1)
				}
				if err == nil {
					c.opened[kind].Add(1)
					c.open.Add(1)
					if attack(ctx, conn, kinds[kind]) {
						c.closed[kind].Add(1)
					}
					c.open.Add(-1)
				}
				pause(ctx, reopening)
			}
		})
	}
	return c
}

// disperse ends all attacks and waits for that.
func (c *mob) disperse() {
	c.stop()
	c.running.Wait()
}

// connect opens attacker i's connection, from one of many addresses.
func (c *mob) connect(ctx context.Context, i int, h hostility) (net.Conn, error) {
	from := &net.TCPAddr{IP: net.IPv4(127, 2, 0, byte(1+i%100))}
	conn, err := (&net.Dialer{LocalAddr: from, Timeout: 10 * time.Second}).DialContext(ctx, "tcp", c.addr.String())
	if err != nil {
		return nil, err
	}
	_ = conn.(*net.TCPConn).SetLinger(0) // no port waits for the end of what has ended
	if h.open {
		return conn, nil
	}
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	upgrade := strings.Replace(string(socket.Upgrade(c.addr, "/ws")), "\r\n\r\n", "\r\n"+h.header+"\r\n", 1)
	answer := make([]byte, 1024)
	n := 0
	if _, err = io.WriteString(conn, upgrade); err == nil {
		n, err = conn.Read(answer)
	}
	if err == nil {
		err = socket.CheckUpgraded(answer[:n])
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	_ = conn.SetDeadline(time.Time{})
	return conn, nil
}

// attack does what there is to do until viaduct closes the connection, and
// reports whether it did.
func attack(ctx context.Context, conn net.Conn, h hostility) (closed bool) {
	ended := make(chan struct{})
	if h.deaf {
		_ = conn.(*net.TCPConn).SetReadBuffer(1)
	} else {
		go func() {
			_, _ = io.Copy(io.Discard, conn)
			close(ended)
		}()
	}
	defer func() { _ = conn.Close() }()
	if h.sudden {
		pause(ctx, mathrand.N(lull))
	}
	_, err := conn.Write(h.first)
	for err == nil {
		select {
		case <-ctx.Done():
			return false
		case <-ended:
			return true
		case <-time.After(h.pause):
		}
		_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
		_, err = conn.Write(h.then)
	}
	return true
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// TestAttackMob: 10,000 connections that mean harm stand beside 200 browsers
// that call. All calls succeed, and memory has its bound. How much slower calls
// get is said, and judged with VIADUCT_E2E_FULL=1 alone: the attackers share the
// processors with viaduct.
func TestAttackMob(t *testing.T) {
	addr, pid := launchPlain(t)
	sip := startAnswerer(t)
	via := addr(sip)
	fleet, err := drive.Connect(t.Context(), drive.Config{To: via, Path: "/ws", Answerer: sip, Connections: callers, Threads: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(fleet.Close)

	var quiet, hostile []time.Duration
	var calls, pss int
	fewest := int64(attackers) // connected at the end of a run
	kinds := hostilities(via)
	opened, closed := make([]int64, len(kinds)), make([]int64, len(kinds))
	for range rounds {
		quiet = append(quiet, honestCalls(t, fleet, "quiet").P99)
		c := gather(t, via)
		for c.begun.Load() < attackers {
			pause(t.Context(), 10*time.Millisecond)
		}
		result := honestCalls(t, fleet, "hostile")
		hostile = append(hostile, result.P99)
		calls += result.Pairs / drive.Invite.Pairs()
		fewest = min(fewest, c.open.Load())
		memory, err := proc.MemoryOf(pid())
		if err != nil {
			t.Fatal(err)
		}
		pss = max(pss, memory.PSS)
		c.disperse()
		for i := range kinds {
			opened[i] += c.opened[i].Load()
			closed[i] += c.closed[i].Load()
		}
	}
	before, during := median(quiet), median(hostile)
	t.Logf("p99 without attackers %v, with them %v; %d of them connected at the least; PSS %d MiB", quiet, hostile, fewest, pss>>20)
	if os.Getenv("VIADUCT_E2E_FULL") == "1" && during > slowerMax*before {
		t.Errorf("the 99th percentile is %v in place of %v", during, before)
	}
	if fewest < attackers*9/10 {
		t.Errorf("only %d attackers were connected at once", fewest)
	}
	if pss > pssMax {
		t.Errorf("PSS is %d MiB", pss>>20)
	}
	for i, h := range kinds {
		if opened[i] == 0 {
			t.Errorf("no connection attacked by %s", h.name)
		}
		t.Logf("attack: one of 8 ways of 10,000 attackers beside 200 browsers, %s | %d connections, %d closed by viaduct, %d of all at once at the least; %d calls, all successful, p99 %v in place of %v, PSS %d MiB | viaduct_connections_closed_total",
			h.name, opened[i], closed[i], fewest, calls, during, before, pss>>20)
	}
}

// honestCalls is a run of calls, all of which succeed.
func honestCalls(t *testing.T, fleet *drive.Fleet, name string) *drive.Result {
	t.Helper()
	result, err := fleet.Do(t.Context(), drive.Run{Method: drive.Invite, Rate: callRate, WarmUp: time.Second, Time: 3 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	if result.Errors.Total() != 0 || result.Pairs == 0 {
		t.Errorf("%s: %v", name, result)
	}
	return result
}

func median(all []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}

// startAnswerer starts a SIP server that answers everything at once.
func startAnswerer(t *testing.T) netip.AddrPort {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	t.Cleanup(stop)
	bound, failed := make(chan netip.AddrPort, 1), make(chan error, 1)
	go func() {
		failed <- answer.Serve(ctx, netip.MustParseAddrPort("127.0.0.1:0"), func(at netip.AddrPort) { bound <- at })
	}()
	select {
	case at := <-bound:
		return at
	case err := <-failed:
		t.Fatal(err)
		return netip.AddrPort{}
	}
}

// launchPlain builds viaduct as it is released, and returns a function that
// starts it in front of a SIP server and returns where browsers connect.
func launchPlain(t *testing.T) (launchFor func(sip netip.AddrPort) netip.AddrPort, pid func() int) {
	t.Helper()
	plain := filepath.Join(tempDir(t), "viaduct") // the race detector would be what is measured
	build := exec.Command("go", "build", "-o", plain, "..")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	var via *Viaduct
	return func(sip netip.AddrPort) netip.AddrPort {
		via = launch(t, loopback, []string{plain}, "--upstream=sip:"+sip.String(), "--log-level=info", "--allow-origin=*", "--max-connections=15000")
		via.WaitLog(t, "upstream answered")
		return via.Listen()
	}, func() int { return via.process.cmd.Process.Pid }
}
