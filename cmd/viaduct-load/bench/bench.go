//go:build linux

// Package bench measures servers that relay between WebSocket and SIP, turn by
// turn, so that what disturbs the machine disturbs all of them.
package bench

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"runtime/debug"
	"slices"
	"time"

	"viaduct/cmd/viaduct-load/drive"
	"viaduct/cmd/viaduct-load/proc"
)

// A Part is one of the things that are measured.
type Part string

// The parts, in their order.
const (
	Cost    Part = "cost"    // CPU of a pair and pairs a second, as fast as it goes
	Latency Part = "latency" // at half of that, and at a fixed rate
	Growth  Part = "growth"  // the cost with more connections and cores
	Idle    Part = "idle"    // memory of a connection
	Storm   Part = "storm"   // all connections dropped, and back
)

// Config is what is measured.
type Config struct {
	Viaduct string        // the binary
	Rounds  int           // runs of each server
	Time    time.Duration // of each run
	Parts   []Part
	// Patience is how many runs are done again in all, if others disturb them.
	Patience int
	Servers  []string
	Write    string // the file of the report, "" for none
}

type bench struct {
	cfg      Config
	dir      string // for files of the servers
	answerer netip.AddrPort
	report   *report

	help              []byte // of viaduct
	certFile, keyFile string // for wss

	processes  map[string]processes // of Kamailio, by variant and leg
	saturation map[string]float64   // pairs a second by UDP, by server
	stateless  float64              // messages that viaduct relayed without keeping them
	repeated   int                  // runs
	runs       int                  // that count
	disturbed  int                  // of them
	wrong      drive.Errors         // of null and viaduct, whose answers must all come
}

// errWrong is a measurement whose answers were not all as they should be.
var errWrong = errors.New("not every answer was as it should be")

// Bench measures and prints.
func Bench(ctx context.Context, cfg Config, out io.Writer) error {
	debug.SetGCPercent(400) // the load's own garbage is not what is measured
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
	b := &bench{cfg: cfg, dir: dir, answerer: addr, report: newReport(out), processes: map[string]processes{}, saturation: map[string]float64{}}
	if b.certFile, b.keyFile, err = certificate(dir); err != nil {
		return err
	}
	begin := time.Now()
	for _, part := range []struct {
		name Part
		run  func(context.Context) error
	}{{Cost, b.cost}, {Latency, b.latency}, {Growth, b.growth}, {Idle, b.idle}, {Storm, b.storm}} {
		if !slices.Contains(cfg.Parts, part.name) {
			continue
		}
		if err := part.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	b.close(time.Since(begin))
	if cfg.Write != "" {
		if err := os.WriteFile(cfg.Write, b.report.page(b), 0o644); err != nil {
			return err
		}
	}
	if b.wrong.Total() > 0 {
		return fmt.Errorf("%w: %v", errWrong, b.wrong)
	}
	return nil
}

// An entrant is a server with its browsers.
type entrant struct {
	server *server
	fleet  *drive.Fleet
}

func (e *entrant) close() {
	if e.fleet != nil {
		e.fleet.Close()
	}
	e.server.process.stop()
}

// enter starts a server and connects browsers to it.
func (b *bench) enter(ctx context.Context, name string, how setting, connections int) (*entrant, error) {
	s, err := b.start(ctx, name, how)
	if err != nil {
		return nil, err
	}
	e := &entrant{server: s}
	e.fleet, err = drive.Connect(ctx, drive.Config{
		To: s.addr, Path: s.path, Answerer: b.answerer, Connections: connections, Threads: 1, Loose: s.loose,
	})
	if err != nil {
		e.close()
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return e, nil
}

// lineUp is enter for each server that is measured. They stay while the runs
// alternate: a server without load costs nothing.
func (b *bench) lineUp(ctx context.Context, how setting, connections int) (entrants []*entrant, leave func(), err error) {
	leave = func() {
		for _, e := range entrants {
			b.leave(e)
		}
	}
	for _, name := range b.cfg.Servers {
		e, err := b.enter(ctx, name, how, connections)
		if err != nil {
			leave()
			return nil, nil, err
		}
		entrants = append(entrants, e)
	}
	return entrants, leave, nil
}

// leave ends a server, after what it counted was read.
func (b *bench) leave(e *entrant) {
	if e.server.admin.IsValid() {
		if m, err := e.server.metrics(); err == nil {
			b.stateless += m[stateless]
		}
	}
	e.close()
}

// A run is disturbed when other processes have used more of the machine than
// this, in cores. It is done again, but not for ever.
const (
	disturbedAbove = 0.1
	triesEach      = 3
)

// do is one run. Errors of null and viaduct are errors of the bench.
func (b *bench) do(ctx context.Context, e *entrant, r drive.Run) (*drive.Result, error) {
	for try := 1; ; try++ {
		result, others, err := b.try(ctx, e, r)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e.server.name, err)
		}
		b.report.say("%-12s %v, others %.2f cores", e.server.name, result, others)
		if others > disturbedAbove && try < triesEach && b.repeated < b.cfg.Patience {
			b.repeated++
			continue
		}
		b.runs++
		if others > disturbedAbove {
			b.disturbed++
		}
		if !e.server.loose && result.Errors.Total() > 0 {
			b.wrong = result.Errors
		}
		return result, nil
	}
}

// try is one run, and how many cores others than the bench and what it started
// kept busy meanwhile.
func (b *bench) try(ctx context.Context, e *entrant, r drive.Run) (result *drive.Result, others float64, err error) {
	r.Server = e.server.process.pid()
	var before, after time.Duration
	var failed error
	look := func(into *time.Duration, then func()) func() {
		return func() {
			if then != nil {
				then()
			}
			busy, err := proc.Busy()
			own, ownErr := proc.CPU(os.Getpid())
			failed = errors.Join(failed, err, ownErr)
			*into = busy - own
		}
	}
	r.AtStart, r.AtEnd = look(&before, r.AtStart), look(&after, r.AtEnd)
	result, err = e.fleet.Do(ctx, r)
	if err = errors.Join(err, failed, e.server.process.alive()); err != nil {
		return nil, 0, err
	}
	return result, max((after-before).Seconds()/result.Time.Seconds(), 0), nil
}

// close says at the end what holds for all of it.
func (b *bench) close(took time.Duration) {
	b.report.atMost("messages relayed without being kept to be sent again", b.stateless, 0, 0)
	b.report.aimTable()
	b.report.note("Messages that viaduct relayed without keeping them to be sent again: %.0f. It ran with "+
		"--max-transactions=%d and --max-transaction-memory=%d.", b.stateless, transactions, transactionMemory)
	b.report.note("Runs done again since other processes kept more than %.1f cores busy: %d. Runs that count although they did: %d of %d.",
		disturbedAbove, b.repeated, b.disturbed, b.runs)
	b.report.took = took.Round(time.Second)
	b.report.say("took %v", b.report.took)
}
