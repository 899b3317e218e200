//go:build linux

package drive

import (
	"context"
	"net/netip"
	"os"
	"testing"
	"time"

	"viaduct/cmd/viaduct-load/answer"
	"viaduct/cmd/viaduct-load/null"
	"viaduct/cmd/viaduct-load/socket"
)

var anyPort = netip.MustParseAddrPort("127.0.0.1:0")

// serve runs a role until the test ends, and returns where it listens.
func serve(t *testing.T, role func(ctx context.Context, ready func(netip.AddrPort)) error) netip.AddrPort {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	addr, ended := make(chan netip.AddrPort, 1), make(chan error, 1)
	go func() { ended <- role(ctx, func(bound netip.AddrPort) { addr <- bound }) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("it ended: %v", err)
		}
	})
	select {
	case bound := <-addr:
		return bound
	case err := <-ended:
		ended <- nil
		t.Fatal(err)
		return anyPort
	}
}

// fleet is browsers behind a null relay to a SIP server.
func fleet(t *testing.T, answerer netip.AddrPort, tcp bool, threads int) *Fleet {
	t.Helper()
	addr := serve(t, func(ctx context.Context, ready func(netip.AddrPort)) error {
		return null.Serve(ctx, null.Config{Listen: anyPort, Upstream: answerer, TCP: tcp}, ready)
	})
	f, err := Connect(t.Context(), Config{To: addr, Path: "/ws", Answerer: answerer, Connections: 20, Threads: threads})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(f.Close)
	return f
}

func answering(t *testing.T) netip.AddrPort {
	return serve(t, func(ctx context.Context, ready func(netip.AddrPort)) error { return answer.Serve(ctx, anyPort, ready) })
}

// TestFleet has every method answered, by UDP and TCP, in both loops.
func TestFleet(t *testing.T) {
	for _, tcp := range []bool{false, true} {
		f := fleet(t, answering(t), tcp, 2)
		for _, method := range []Method{Options, Register, Message, Invite} {
			for _, r := range []Run{{AtOnce: 20}, {Rate: 1000}} {
				r.Method, r.Time, r.Server = method, 100*time.Millisecond, os.Getpid()
				result, err := f.Do(t.Context(), r)
				if err != nil {
					t.Fatal(err)
				}
				if result.Errors.Total() != 0 || result.Pairs < 10*method.Pairs() || result.Max == 0 {
					t.Errorf("tcp %v, %v", tcp, result)
				}
			}
		}
	}
}

// TestRise drops all connections and has them back, registered.
func TestRise(t *testing.T) {
	f := fleet(t, answering(t), false, 2)
	for range 2 {
		if err := f.Drop(); err != nil {
			t.Fatal(err)
		}
		risen, err := f.Rise(t.Context(), Rise{To: 600, AtOnce: 600, Register: true})
		if err != nil {
			t.Fatal(err)
		}
		if risen.Slowest <= 0 || risen.Slowest > risen.Time+time.Second {
			t.Errorf("%+v", risen)
		}
		if errors := f.Errors(); errors.Total() != 0 {
			t.Error(errors)
		}
	}
}

// TestMissing has a SIP server that says nothing.
func TestMissing(t *testing.T) {
	t.Parallel()
	_, silent, err := socket.ListenUDP(anyPort)
	if err != nil {
		t.Fatal(err)
	}
	result, err := fleet(t, silent, false, 1).Do(t.Context(), Run{Method: Options, AtOnce: 20, Time: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if result.Errors.Missing != 20 || result.Errors.Total() != 20 {
		t.Error(result)
	}
}

// TestGone has a server that is gone: that nothing was asked is no success.
func TestGone(t *testing.T) {
	f := fleet(t, answering(t), false, 1)
	if err := f.Drop(); err != nil {
		t.Fatal(err)
	}
	result, err := f.Do(t.Context(), Run{Method: Options, AtOnce: 20, Time: 10 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if result.Errors.Closed != 20 || result.Errors.Total() != 20 {
		t.Error(result)
	}
}

func TestSource(t *testing.T) {
	seen := map[netip.Addr]int{}
	for i := range 20_000 {
		addr := source(i).Addr()
		if !addr.IsLoopback() {
			t.Fatalf("%d comes from %v", i, addr)
		}
		if seen[addr]++; seen[addr] > perSource {
			t.Fatalf("more than %d from %v", perSource, addr)
		}
	}
}
