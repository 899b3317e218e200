//go:build linux

package bench

import (
	"context"
	"fmt"
	"slices"
	"time"

	"viaduct/cmd/viaduct-load/drive"
)

// What the browsers of all parts have in common.
const (
	connections = 200
	callers     = 4000                   // connections, where they make calls: viaduct keeps 64 messages of each, an ACK for 32 s
	atOnce      = 200                    // transactions that are open in the closed loop
	warmUp      = 300 * time.Millisecond // before each run
)

// voidAbove is how much of Kamailio's stateless cost the null relay may have: it
// does less, so past that something else was measured.
const voidAbove = 0.4

// spread is a figure of several runs.
type spread struct{ median, least, most float64 }

func spreadOf(values []float64) spread {
	if len(values) == 0 {
		return spread{}
	}
	values = slices.Sorted(slices.Values(values))
	middle := len(values) / 2
	return spread{(values[middle] + values[(len(values)-1)/2]) / 2, values[0], values[len(values)-1]}
}

// show is the figure with its spread.
func (s spread) show(digits int) string {
	return fmt.Sprintf("%.*f (%.*f–%.*f)", digits, s.median, digits, s.least, digits, s.most)
}

// cost loads each server as much as it takes.
func (b *bench) cost(ctx context.Context) error {
	for _, leg := range []leg{udp, tcp} {
		if err := b.costOf(ctx, leg); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) costOf(ctx context.Context, leg leg) error {
	most, err := mostConnections() // of this process, which has the browsers of all servers
	if err != nil {
		return err
	}
	for _, work := range []struct {
		method      drive.Method
		connections int
	}{{drive.Options, connections}, {drive.Invite, min(callers, most/len(b.cfg.Servers))}} {
		entrants, leave, err := b.lineUp(ctx, setting{leg: leg}, work.connections)
		if err != nil {
			return err
		}
		err = b.costOfWork(ctx, leg, work.method, entrants)
		leave()
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) costOfWork(ctx context.Context, leg leg, method drive.Method, entrants []*entrant) error {
	all, err := b.rounds(ctx, entrants, func(*entrant) drive.Run {
		return drive.Run{Method: method, AtOnce: atOnce, WarmUp: warmUp, Time: b.cfg.Time}
	})
	if err != nil {
		return err
	}
	b.costTable(leg, method, all)
	for _, e := range entrants {
		if e.server.admin.IsValid() && method == drive.Options {
			return b.allocations(ctx, leg, e)
		}
	}
	return nil
}

// rounds are runs of each server, alternating.
type rounds []map[string]*drive.Result

func (b *bench) rounds(ctx context.Context, entrants []*entrant, run func(*entrant) drive.Run) (rounds, error) {
	var all rounds
	for range b.cfg.Rounds {
		round := map[string]*drive.Result{}
		for _, e := range entrants {
			result, err := b.do(ctx, e, run(e))
			if err != nil {
				return nil, err
			}
			round[e.server.name] = result
		}
		all = append(all, round)
	}
	return all, nil
}

// valid are the rounds in which the null relay cost little enough.
func (r rounds) valid() rounds {
	return slices.DeleteFunc(slices.Clone(r), func(round map[string]*drive.Result) bool {
		null, kamailio := round["null"], round["kamailio"]
		return null != nil && kamailio != nil && micros(null) > voidAbove*micros(kamailio)
	})
}

// of is a figure of one server over all rounds.
func (r rounds) of(name string, figure func(*drive.Result) float64) spread {
	var values []float64
	for _, round := range r {
		values = append(values, figure(round[name]))
	}
	return spreadOf(values)
}

// errors of one server over all rounds.
func (r rounds) errors(name string) int {
	sum := 0
	for _, round := range r {
		sum += round[name].Errors.Total()
	}
	return sum
}

func micros(r *drive.Result) float64 { return float64(r.CPUPerPair().Nanoseconds()) / 1000 }

func (b *bench) costTable(leg leg, method drive.Method, all rounds) {
	valid := all.valid()
	what := "OPTIONS and its response"
	if method == drive.Invite {
		what = "a call with 3 kB: a third of INVITE, 180, 200, ACK, BYE, 200"
	}
	title := fmt.Sprintf("CPU of a pair by %s: %s", upper(leg), what)
	if void := len(all) - len(valid); void > 0 {
		b.report.note("%s: %d of %d rounds are **void**, the null relay cost more than %.1f of Kamailio's stateless forward.", title, void, len(all), voidAbove)
		title += fmt.Sprintf(" (%d of %d rounds void)", void, len(all))
	}
	if len(valid) == 0 {
		valid = all // and the table says so
	}
	b.costAims(leg, method, valid)
	t := b.report.table(title, "server", "µs of CPU a pair", "of null", "of viaduct", "pairs a second", "errors")
	null, viaduct := valid.of("null", orNothing(micros)).median, valid.of("viaduct", orNothing(micros)).median
	for _, name := range b.cfg.Servers {
		cpu, rate := valid.of(name, micros), valid.of(name, (*drive.Result).Rate)
		t.row(name, cpu.show(1), ratio(cpu.median, null), ratio(cpu.median, viaduct), rate.show(0), fmt.Sprint(all.errors(name)))
		if leg == udp && method == drive.Options {
			b.saturation[name] = rate.median
		}
	}
	t.print()
}

// orNothing is figure for servers that may not be measured.
func orNothing(figure func(*drive.Result) float64) func(*drive.Result) float64 {
	return func(r *drive.Result) float64 {
		if r == nil {
			return 0
		}
		return figure(r)
	}
}

func ratio(a, b float64) string {
	if b == 0 {
		return ""
	}
	return fmt.Sprintf("%.2f", a/b)
}

// allocRate is the load under which allocations are counted, in pairs a second.
const allocRate = 5000

// allocations counts what viaduct's whole process allocates for a message.
func (b *bench) allocations(ctx context.Context, leg leg, e *entrant) error {
	t := b.report.table(fmt.Sprintf("Allocations of viaduct by %s, whole process, at %d pairs a second", upper(leg), allocRate),
		"messages", "allocations a message")
	for _, method := range []drive.Method{drive.Options, drive.Register, drive.Message} {
		idle, err := b.allocated(ctx, e, drive.Run{})
		if err != nil {
			return err
		}
		loaded, err := b.allocated(ctx, e, drive.Run{Method: method, Rate: allocRate, WarmUp: warmUp, Time: b.cfg.Time})
		if err != nil {
			return err
		}
		messages := 2 * allocRate * b.cfg.Time.Seconds()
		each := max(loaded-idle, 0) / messages
		t.row(string(method), fmt.Sprintf("%.2f", each))
		b.report.atMost(fmt.Sprintf("%s by %s: allocations a message", method, upper(leg)), each, 0.005, 3)
	}
	t.print()
	return nil
}

// allocated counts the allocations during a run, or as long without one.
func (b *bench) allocated(ctx context.Context, e *entrant, r drive.Run) (float64, error) {
	var before, after metrics
	var failed error
	read := func(into *metrics) func() {
		return func() {
			m, err := e.server.metrics()
			if err != nil {
				failed = err
			}
			*into = m
		}
	}
	if r.Rate == 0 {
		read(&before)()
		if err := wait(ctx, b.cfg.Time); err != nil {
			return 0, err
		}
		read(&after)()
	} else {
		r.AtStart, r.AtEnd = read(&before), read(&after)
		if _, err := b.do(ctx, e, r); err != nil {
			return 0, err
		}
	}
	return after[mallocs] - before[mallocs], failed
}

func wait(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
