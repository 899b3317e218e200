//go:build linux

package bench

import (
	"context"
	"fmt"
	"sync"
	"time"

	"viaduct/cmd/viaduct-load/drive"
	"viaduct/cmd/viaduct-load/proc"
)

// storm drops all connections that one process may hold, and has all of them
// back at once, each with a REGISTER.
func (b *bench) storm(ctx context.Context) error {
	sizes, err := sizes()
	if err != nil {
		return err
	}
	most := sizes[len(sizes)-1]
	t := b.report.table(fmt.Sprintf("Storm: %d registered connections dropped, and all back at once with REGISTER", most),
		"server", "all back after", "p50 of one", "slowest", "PSS before", "highest PSS", "errors")
	for _, name := range []string{"null", "viaduct", "kamailio"} {
		if !b.measured(name) {
			continue
		}
		row, err := b.stormOf(ctx, name, most)
		if err != nil {
			row = []string{name, "not: " + err.Error(), "", "", "", "", ""}
			if name != "kamailio" {
				return err
			}
		}
		t.row(row...)
	}
	t.print()
	return nil
}

func (b *bench) stormOf(ctx context.Context, name string, most int) ([]string, error) {
	e, err := b.enter(ctx, name, setting{leg: udp}, 1)
	if err != nil {
		return nil, err
	}
	defer b.leave(e)
	if _, err := e.fleet.Rise(ctx, drive.Rise{To: most, AtOnce: risingAtOnce, Register: true}); err != nil {
		return nil, err
	}
	if err := wait(ctx, settling); err != nil {
		return nil, err
	}
	before, err := proc.MemoryOf(e.server.process.pid())
	if err != nil {
		return nil, err
	}
	highest := watchPSS(e.server.process.pid())
	if err := e.fleet.Drop(); err != nil {
		return nil, err
	}
	risen, err := e.fleet.Rise(ctx, drive.Rise{To: most, AtOnce: most, Register: true})
	peak := highest()
	if err != nil {
		return nil, err
	}
	errors := e.fleet.Errors()
	if !e.server.loose && errors.Total() > 0 {
		b.wrong = errors
	}
	return []string{name, shown(risen.Time), shown(risen.P50), shown(risen.Slowest),
		fmt.Sprintf("%d MB", before.PSS>>20), fmt.Sprintf("%d MB", peak>>20), fmt.Sprint(errors.Total())}, nil
}

func shown(d time.Duration) string { return d.Round(time.Millisecond).String() }

// watchPSS looks at the memory of a process until stop is called, which returns
// the most that it saw.
func watchPSS(pid int) (stop func() int) {
	done := make(chan struct{})
	var watching sync.WaitGroup
	highest := 0
	watching.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			if m, err := proc.MemoryOf(pid); err == nil {
				highest = max(highest, m.PSS)
			}
			select {
			case <-tick.C:
			case <-done:
				return
			}
		}
	})
	return func() int {
		close(done)
		watching.Wait()
		return highest
	}
}
