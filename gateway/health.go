package gateway

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"

	"viaduct/transport"
)

// health is what is known of whether an upstream answers. It is safe for
// concurrent use; the zero value is alive, as every upstream is until proved
// otherwise.
type health struct {
	state  atomic.Uint32 // a condition
	rtt    atomic.Int64  // of the last OPTIONS that was answered, nanoseconds
	spoke  atomic.Bool   // something came from it since the open probe began
	deaf   atomic.Bool   // it has spoken while it left an OPTIONS unanswered
	polite atomic.Bool   // it has answered an OPTIONS

	mu    sync.Mutex // guards changes of state, and since
	since time.Time  // when it began or ceased to be alive

	doubts chan struct{} // wakes who asks it, when it is suspected
}

// condition is a state of health.
type condition uint32

const (
	alive     condition = iota
	suspected           // a transport error; it is being asked
	dead                // it did not answer
)

// alive reports whether new work may go there.
func (h *health) alive() bool { return condition(h.state.Load()) == alive }

// condition returns the state, and since when the upstream is alive or is not;
// the zero time if it always was.
func (h *health) condition() (condition, time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return condition(h.state.Load()), h.since
}

// rise makes the upstream alive, and returns how long it was not.
func (h *health) rise(now time.Time) (after time.Duration, changed bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.alive() {
		return 0, false
	}
	after, h.since = now.Sub(h.since), now
	h.state.Store(uint32(alive))
	return after, true
}

// fall makes the upstream suspected or dead. It returns what it was before; a
// dead one is not suspected any more.
func (h *health) fall(to condition, now time.Time) (before condition) {
	h.mu.Lock()
	defer h.mu.Unlock()
	before = condition(h.state.Load())
	if before == alive {
		h.since = now
	}
	h.state.Store(uint32(max(before, to)))
	return before
}

// runHealth keeps asking every upstream how it is and where it is, and moves
// browsers to those that live, until ctx ends.
func (g *Gateway) runHealth(ctx context.Context) {
	var running sync.WaitGroup
	for _, up := range g.upstreams {
		running.Go(func() { g.attend(ctx, up) })
	}
	running.Go(func() { g.keepLocated(ctx) })
	running.Go(func() { g.moveBrowsers(ctx) })
	running.Wait()
}

// attend asks one upstream twice in a health interval, and at once when it is
// suspected. The second time comes at random, so that upstreams are not asked
// together, nor by several gateways.
func (g *Gateway) attend(ctx context.Context, up *upstream) {
	answer, err := g.check(ctx, up)
	if g.cfg.Answered != nil && ctx.Err() == nil {
		g.cfg.Answered(up.String(), answer, err)
	}
	next := time.NewTimer(rand.N(g.healthPeriod()))
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-up.doubts:
		case <-next.C:
			next.Reset(g.healthPeriod())
		}
		_, _ = g.check(ctx, up)
	}
}

// healthPeriod is the time between two probes, and how long each waits: one that
// dies right after an answer is known to be dead a health interval later.
func (g *Gateway) healthPeriod() time.Duration { return g.cfg.HealthInterval / 2 }

// check asks an upstream once, and draws the consequences. One that has just
// died is asked again at once if it is found elsewhere.
func (g *Gateway) check(ctx context.Context, up *upstream) (answer string, err error) {
	answer, err = g.probe(ctx, up)
	switch {
	case ctx.Err() != nil:
		return answer, err
	case err == nil:
		up.polite.Store(true)
		g.revive(up)
		return answer, err
	case errors.Is(err, errNoAnswer) && up.spoke.Load():
		up.deaf.Store(true)
		g.revive(up)
		return answer, err
	case errors.Is(err, errNoAnswer) && up.ignoresOptions():
		g.revive(up)
		return answer, err
	}
	before := g.bury(up, dead, err)
	if before == dead {
		g.leaveStream(up)
	}
	g.answerStuck(up, err)
	if g.seek(ctx, up) && before != dead {
		return g.check(ctx, up)
	}
	return answer, err
}

// heard notes that something came which cannot be forged, a seal or a token of
// ours: whatever became of an OPTIONS, the upstream lives.
func (g *Gateway) heard(from transport.Source) {
	up := g.upstreamAt(from.Proto, from.Addr)
	if up.likeness(from.Proto, from.Addr) == 0 || up.spoke.Load() { // a peer's says nothing
		return
	}
	up.spoke.Store(true)
}

// ignoresOptions reports whether an upstream answers everything but OPTIONS: its
// silence says nothing.
func (h *health) ignoresOptions() bool { return h.deaf.Load() && !h.polite.Load() }

// suspect takes an upstream for dead after a transport error, and has it asked
// at once: whether it is dead, only an OPTIONS tells.
func (g *Gateway) suspect(up *upstream, err error) {
	if isOurs(err) || g.bury(up, suspected, err) != alive {
		return
	}
	select {
	case up.doubts <- struct{}{}:
	default:
	}
}

// isOurs reports whether an error says nothing of the other end.
func isOurs(err error) bool {
	return errors.Is(err, syscall.EMSGSIZE) || errors.Is(err, syscall.ENOBUFS) || errors.Is(err, net.ErrClosed)
}

func (g *Gateway) bury(up *upstream, as condition, err error) (before condition) {
	if before = up.fall(as, time.Now()); before == alive {
		g.log.Warn("upstream down", zap.Stringer("upstream", up), zap.Error(err))
	}
	return before
}

func (g *Gateway) revive(up *upstream) {
	if after, changed := up.rise(time.Now()); changed {
		g.log.Info("upstream up", zap.Stringer("upstream", up), zap.Duration("lasted", after))
	}
}
