//go:build linux

package bench

import (
	"context"
	"fmt"
	"runtime"

	"golang.org/x/sys/unix"

	"viaduct/cmd/viaduct-load/drive"
)

// spareFiles are what a process needs besides its connections.
const spareFiles = 200

// mostConnections is how many one process may hold here.
func mostConnections() (int, error) {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return 0, err
	}
	return min(int(limit.Cur), 20_000) - spareFiles, nil
}

// sizes are how many connections are tried; the last is the most.
func sizes() ([]int, error) {
	most, err := mostConnections()
	if err != nil {
		return nil, err
	}
	var all []int
	for _, n := range []int{100, 1000, 10_000} {
		if n < most {
			all = append(all, n)
		}
	}
	return append(all, most), nil
}

// growthRounds are fewer: each is as many runs as there are sizes and servers.
const growthRounds = 3

// growth measures the cost with more connections, of which each has its turn,
// and with fewer cores.
func (b *bench) growth(ctx context.Context) error {
	sizes, err := sizes()
	if err != nil {
		return err
	}
	heading := []string{"server"}
	for _, n := range sizes {
		heading = append(heading, fmt.Sprintf("%d connections", n))
	}
	t := b.report.table(fmt.Sprintf("µs of CPU a pair as connections grow, OPTIONS by UDP, %d at once, each connection in turn, medians of %d runs",
		atOnce, growthRounds), heading...)
	for _, entry := range []struct {
		name  string
		cores int
	}{{"null", 0}, {"viaduct", 1}, {"viaduct", runtime.NumCPU()}} {
		cells, err := b.growthOf(ctx, entry.name, entry.cores, sizes)
		if err != nil {
			return err
		}
		name := entry.name
		if entry.cores > 0 {
			name = fmt.Sprintf("%s, GOMAXPROCS=%d", name, entry.cores)
		}
		t.row(append([]string{name}, cells...)...)
	}
	t.print()
	return nil
}

func (b *bench) growthOf(ctx context.Context, name string, cores int, sizes []int) ([]string, error) {
	e, err := b.enter(ctx, name, setting{leg: udp, cores: cores}, sizes[0])
	if err != nil {
		return nil, err
	}
	defer b.leave(e)
	var cells []string
	for _, n := range sizes {
		if _, err := e.fleet.Rise(ctx, drive.Rise{To: n, AtOnce: risingAtOnce}); err != nil {
			return nil, err
		}
		var values []float64
		for range growthRounds {
			result, err := b.do(ctx, e, drive.Run{Method: drive.Options, AtOnce: atOnce, WarmUp: warmUp, Time: b.cfg.Time})
			if err != nil {
				return nil, err
			}
			values = append(values, micros(result))
		}
		cells = append(cells, spreadOf(values).show(1))
	}
	return cells, nil
}
