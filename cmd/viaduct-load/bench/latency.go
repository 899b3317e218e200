//go:build linux

package bench

import (
	"context"
	"fmt"
	"strings"

	"viaduct/cmd/viaduct-load/drive"
)

// calmRate is a load that leaves any server time, in pairs a second.
const calmRate = 2000

// latency measures how long an answer takes by UDP, with each server at half of
// what it can take, and with all of them at the same rate.
func (b *bench) latency(ctx context.Context) error {
	entrants, leave, err := b.lineUp(ctx, setting{leg: udp}, connections)
	if err != nil {
		return err
	}
	defer leave()
	for _, e := range entrants {
		if b.saturation[e.server.name] > 0 {
			continue
		}
		result, err := b.do(ctx, e, drive.Run{Method: drive.Options, AtOnce: atOnce, WarmUp: warmUp, Time: b.cfg.Time})
		if err != nil {
			return err
		}
		b.saturation[e.server.name] = result.Rate()
	}
	half := func(e *entrant) drive.Run {
		return drive.Run{Method: drive.Options, Rate: int(b.saturation[e.server.name] / 2), WarmUp: warmUp, Time: b.cfg.Time}
	}
	calm := func(*entrant) drive.Run {
		return drive.Run{Method: drive.Options, Rate: calmRate, WarmUp: warmUp, Time: b.cfg.Time}
	}
	all, err := b.latencyTable(ctx, "Latency at half of each server's own saturation", entrants, half)
	if err != nil {
		return err
	}
	if b.measured("viaduct") && b.measured("kamailio") {
		b.report.atMost("p99 at half of its own saturation, ms: viaduct, and kamailio", all.of("viaduct", p99).median, all.of("kamailio", p99).median, 2)
	}
	if all, err = b.latencyTable(ctx, fmt.Sprintf("Latency at %d pairs a second", calmRate), entrants, calm); err != nil {
		return err
	}
	if b.measured("viaduct") {
		b.report.atMost(fmt.Sprintf("p99 at %d pairs a second, ms", calmRate), all.of("viaduct", p99).median, 1, 2)
	}
	return nil
}

func p50(r *drive.Result) float64 { return r.P50.Seconds() * 1000 }
func p99(r *drive.Result) float64 { return r.P99.Seconds() * 1000 }

func (b *bench) latencyTable(ctx context.Context, title string, entrants []*entrant, run func(*entrant) drive.Run) (rounds, error) {
	all, err := b.rounds(ctx, entrants, run)
	if err != nil {
		return nil, err
	}
	t := b.report.table(title+", OPTIONS by UDP, from when it was due to its response, ms",
		"server", "pairs a second", "p50", "p99", "µs of CPU a pair", "errors")
	for _, name := range b.cfg.Servers {
		t.row(name, all.of(name, (*drive.Result).Rate).show(0), all.of(name, p50).show(2), all.of(name, p99).show(2),
			all.of(name, micros).show(1), fmt.Sprint(all.errors(name)))
	}
	t.print()
	return all, nil
}

func upper(l leg) string { return strings.ToUpper(string(l)) }
