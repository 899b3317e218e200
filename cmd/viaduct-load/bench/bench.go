//go:build linux

// Package bench measures servers that relay between WebSocket and SIP, turn by
// turn, so that what disturbs the machine disturbs all of them.
package bench

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"viaduct/cmd/viaduct-load/drive"
)

// Config is what is measured.
type Config struct {
	Viaduct     string        // the binary
	Rounds      int           // runs of each server
	Time        time.Duration // of each run
	Connections int
	Window      int
}

// leg is how a relay reaches the SIP server.
type leg string

const (
	udp leg = "udp"
	tcp leg = "tcp"
)

type bench struct {
	cfg        Config
	out        io.Writer
	dir        string
	answerer   netip.AddrPort
	viaductEnv []string
}

// Bench measures and prints.
func Bench(ctx context.Context, cfg Config, out io.Writer) error {
	dir, err := os.MkdirTemp("", "viaduct-load-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	answering, addr, err := role(ctx, "answer", "answer")
	if err != nil {
		return err
	}
	defer answering.stop()
	b := &bench{cfg: cfg, out: out, dir: dir, answerer: addr}
	return b.saturate(ctx, udp, drive.Options)
}

// saturate loads each server as much as it takes, in turns.
func (b *bench) saturate(ctx context.Context, leg leg, method drive.Method) error {
	results := map[string][]*drive.Result{}
	names := []string{"null", "viaduct"}
	for range b.cfg.Rounds {
		for _, name := range names {
			result, err := b.once(ctx, name, leg, method)
			if err != nil {
				return err
			}
			fmt.Fprintf(b.out, "%-10s %v\n", name, result)
			results[name] = append(results[name], result)
		}
	}
	for _, name := range names {
		cpu := median(results[name], func(r *drive.Result) float64 { return float64(r.CPUPerPair().Nanoseconds()) / 1000 })
		rate := median(results[name], (*drive.Result).Rate)
		fmt.Fprintf(b.out, "%-10s %s %s: %.2f µs server CPU a pair, %.0f pairs/s\n", name, leg, method, cpu, rate)
	}
	return nil
}

func (b *bench) once(ctx context.Context, name string, on leg, method drive.Method) (*drive.Result, error) {
	begin := map[string]func(context.Context, leg) (*server, error){"null": b.startNull, "viaduct": b.startViaduct}[name]
	s, err := begin(ctx, on)
	if err != nil {
		return nil, err
	}
	defer s.process.stop()
	fleet, err := drive.Connect(ctx, drive.Config{
		To: s.addr, Path: s.path, Answerer: b.answerer, Connections: b.cfg.Connections, Threads: 1, Loose: s.loose,
	})
	if err != nil {
		return nil, err
	}
	defer fleet.Close()
	return fleet.Do(ctx, drive.Run{
		Method: method, Window: b.cfg.Window, WarmUp: 500 * time.Millisecond, Time: b.cfg.Time, Server: s.process.pid(),
	})
}

func median(results []*drive.Result, of func(*drive.Result) float64) float64 {
	values := make([]float64, 0, len(results))
	for _, r := range results {
		values = append(values, of(r))
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// ready asks viaduct whether it is.
func (s *server) ready() bool {
	response, err := http.Get("http://" + s.admin.String() + "/readyz")
	if err != nil {
		return false
	}
	defer func() { _ = response.Body.Close() }()
	return response.StatusCode == http.StatusOK
}

func closeFD(fd int) { _ = unix.Close(fd) }
