//go:build linux

// Package drive is the browsers of a load: many WebSocket connections that send
// what JsSIP sends, and judge each answer.
package drive

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"viaduct/cmd/viaduct-load/proc"
)

// Config is a fleet of browsers.
type Config struct {
	To          netip.AddrPort // the WebSocket's server
	Path        string
	Answerer    netip.AddrPort // the SIP server behind it, the target of calls
	Connections int
	Threads     int
	Loose       bool // the server may add parameters to a browser's own Via
}

// perSource is how many connections come from one address of 127.0.0.0/8. Half
// of what viaduct admits from one.
const perSource = 500

// source is the address that connection i comes from.
func source(i int) netip.AddrPort {
	host := i / perSource
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 1, byte(host / 250), byte(1 + host%250)}), 0)
}

// A Fleet is browsers that are connected. Its methods are called one after the
// other.
type Fleet struct {
	cfg     Config
	workers []*worker
	ended   sync.WaitGroup
	stop    context.CancelFunc
}

// Connect opens all connections, and returns when all handshakes are done.
func Connect(ctx context.Context, cfg Config) (*Fleet, error) {
	f, err := Assemble(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if _, err := f.Rise(ctx, Rise{To: cfg.Connections, AtOnce: 64}); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// Assemble makes a fleet without connections.
func Assemble(ctx context.Context, cfg Config) (*Fleet, error) {
	ctx, stop := context.WithCancel(ctx)
	f := &Fleet{cfg: cfg, stop: stop}
	for i := range cfg.Threads {
		w, err := newWorker(cfg, i)
		if err != nil {
			f.Close()
			return nil, err
		}
		f.workers = append(f.workers, w)
		f.ended.Go(func() {
			runtime.LockOSThread()
			// A thread that ended would take with it the processes that it had
			// started before, if those are to end with their parent.
			defer runtime.UnlockOSThread()
			w.serve(ctx)
		})
	}
	return f, nil
}

// Close ends all connections.
func (f *Fleet) Close() {
	f.stop()
	f.ended.Wait()
	for _, w := range f.workers {
		w.close()
	}
}

// each has every worker do something, and waits for all.
func (f *Fleet) each(do func(*worker) error) error {
	results := make(chan error, len(f.workers))
	for _, w := range f.workers {
		w.orders <- func() { results <- do(w) }
	}
	var failed error
	for range f.workers {
		failed = errors.Join(failed, <-results)
	}
	return failed
}

// A Run is one measurement.
type Run struct {
	Method Method
	AtOnce int           // closed loop: transactions of all connections together that are open at once
	Rate   int           // open loop, instead: transactions a second of all together
	WarmUp time.Duration // before what is measured
	Time   time.Duration // that is measured
	Server int           // process whose CPU is measured, with its descendants; 0 for none

	// AtStart and AtEnd, if not nil, are called where what is measured begins
	// and ends.
	AtStart, AtEnd func()
}

// openWindow is the most transactions that a connection may have open. In the
// open loop they wait past it, and what they wait counts.
const openWindow = 32

// drainTime is how long answers are waited for at the end.
const drainTime = 5 * time.Second

// Do runs r and returns what was measured.
func (f *Fleet) Do(ctx context.Context, r Run) (*Result, error) {
	if (r.AtOnce > 0) == (r.Rate > 0) {
		return nil, errors.New("a run is a closed loop or has a rate")
	}
	begin := time.Now()
	if err := f.each(func(w *worker) error { w.begin(r, begin, len(f.workers)); return nil }); err != nil {
		return nil, err
	}
	start, err := f.sample(ctx, r, begin.Add(r.WarmUp), r.AtStart)
	if err != nil {
		return nil, err
	}
	end, err := f.sample(ctx, r, begin.Add(r.WarmUp+r.Time), r.AtEnd)
	if err != nil {
		return nil, err
	}
	if err := f.each(func(w *worker) error { w.finish(time.Now().Add(drainTime)); return nil }); err != nil {
		return nil, err
	}
	for _, w := range f.workers {
		select {
		case <-w.drained:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	return f.result(r, start, end), nil
}

// sample is what was counted up to one moment.
type sample struct {
	at   time.Time
	done int64 // transactions
	cpu  time.Duration
}

// sample waits until at, calls look, and reads what was counted. What look
// costs is not in it: it is called last at the start and first at the end, on
// other than the server's account.
func (f *Fleet) sample(ctx context.Context, r Run, at time.Time, look func()) (sample, error) {
	var s sample
	if err := waitUntil(ctx, at); err != nil {
		return s, err
	}
	if look != nil {
		look()
	}
	var err error
	if r.Server != 0 {
		if s.cpu, err = proc.CPU(r.Server); err != nil {
			return s, fmt.Errorf("server: %w", err)
		}
	}
	s.at = time.Now()
	for _, w := range f.workers {
		s.done += w.done.Load()
	}
	return s, nil
}

func waitUntil(ctx context.Context, at time.Time) error {
	timer := time.NewTimer(time.Until(at))
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// fine has the calling thread woken when it asked to be, and not 50 µs later.
func fine() { _ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0) }
