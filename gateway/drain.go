package gateway

import (
	"math/rand/v2"
	"time"

	"github.com/gobwas/ws"
	"go.uber.org/zap"

	"viaduct/transport"
)

const (
	// maxSpread bounds the time over which idle browsers are sent away: they all
	// connect again somewhere, and about one a millisecond is no herd.
	maxSpread = 5 * time.Second
	// lastSpread is the same for those that are sent away from what they do.
	lastSpread = time.Second
)

// drain sends every browser away (1001): one at which nothing is open soon, the
// others when that is done, or when they have been waited for long enough. New
// ones are refused meanwhile, all else goes on. It returns the error of a
// listener that failed.
func (g *Gateway) drain(failed <-chan error) error {
	until := time.Now().Add(g.cfg.DrainTimeout)
	g.draining.Store(true)
	g.web.Drain()
	g.log.Info("draining", zap.Int("connections", len(g.flows.list())), zap.Duration("timeout", g.cfg.DrainTimeout))
	if err := g.sendAway(failed, maxSpread, until, func(f *flow, now time.Time) bool { return !f.activity.busy(now) && !f.waiting.busy() }); err != nil {
		return err
	}
	if left := len(g.flows.list()); left > 0 {
		g.log.Warn("not waiting any longer", zap.Int("connections", left))
	}
	if err := g.sendAway(failed, lastSpread, time.Now().Add(lastSpread), func(*flow, time.Time) bool { return true }); err != nil {
		return err
	}
	g.dismissHeld()
	return g.settle(failed, until)
}

// settle waits until the SIP server has what was said last, or until that time.
func (g *Gateway) settle(failed <-chan error, until time.Time) error {
	look := time.NewTicker(25 * time.Millisecond)
	defer look.Stop()
	for g.transactions.Pending() > 0 && time.Now().Before(until) {
		select {
		case err := <-failed:
			return err
		case <-look.C:
		}
	}
	return nil
}

// sendAway closes the connections that may be closed, each from a moment of its
// own within a spread, until none is left, or until that time.
func (g *Gateway) sendAway(failed <-chan error, spread time.Duration, until time.Time, may func(*flow, time.Time) bool) error {
	open := g.flows.list()
	begun := time.Now()
	spread = min(spread, time.Duration(1+len(open))*time.Millisecond)
	salt := rand.Uint64()
	look := time.NewTicker(min(max(spread/100, 5*time.Millisecond), 50*time.Millisecond))
	defer look.Stop()
	for now := begun; len(open) > 0 && now.Before(until); open = g.flows.list() {
		for _, f := range open {
			if moment := time.Duration((f.id ^ salt) % uint64(spread)); now.Sub(begun) >= moment && may(f, now) {
				f.conn.CloseFor(transport.CauseShutdown, ws.StatusGoingAway, "going away")
			}
		}
		select {
		case err := <-failed:
			return err
		case now = <-look.C:
		}
	}
	return nil
}

// list returns the open connections.
func (s *flows) list() []*flow {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := make([]*flow, 0, len(s.byID))
	for _, f := range s.byID {
		all = append(all, f)
	}
	return all
}
