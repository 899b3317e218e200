package gateway

import (
	"context"
	"math"
	"math/rand/v2"
	"time"

	"github.com/gobwas/ws"

	"viaduct/rewrite"
	"viaduct/transport"
)

// statusServiceRestart is the close code that asks a browser to connect again
// (the WebSocket registry of IANA: "Service Restart").
const statusServiceRestart ws.StatusCode = 1012

// How browsers are moved, in health intervals. A dead upstream's are in a hurry,
// since nobody can call them; those that go back to one which has returned are
// not, and first it has to show that it stays.
const (
	awayWithin  = 1
	backAfter   = 1
	backWithin  = 6
	movingEnds  = backAfter + backWithin + 1
	movingSteps = 50 // in one interval
)

// forever is the time that one has who need not move while something is under way.
const forever time.Duration = math.MaxInt64

// placement says where a connected client is registered.
type placement struct {
	flow     *flow
	client   rewrite.ClientID
	upstream *upstream
}

// placed appends every connected client that an upstream has registered.
func (c *clients) placed(dst []placement) []placement {
	c.mu.RLock()
	defer c.mu.RUnlock()
	for id, b := range c.byID {
		if b.flow != nil && b.registered {
			dst = append(dst, placement{b.flow, id, b.upstream})
		}
	}
	return dst
}

// aorOf returns the address-of-record of a client that is registered on this
// flow, nil if it is not known any more.
func (f *flow) aorOf(id rewrite.ClientID) []byte {
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range f.seen {
		if c := &f.seen[i]; c.registered && c.client == id {
			return c.aor()
		}
	}
	return nil
}

// moveBrowsers closes the connections of browsers that are registered with
// another upstream than the policy now gives them, so that they register where
// they can be called. It does so for a while after the health of an upstream has
// changed, and as long as some wait for the end of a call, and moves no connection
// twice for one change.
func (g *Gateway) moveBrowsers(ctx context.Context) {
	if len(g.upstreams) == 1 {
		return
	}
	step := g.cfg.HealthInterval / movingSteps
	ticker := time.NewTicker(step)
	defer ticker.Stop()
	var placed []placement
	var looked time.Time
	for waiting := false; ; {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			if g.draining.Load() || !g.moving(now) && (!waiting || now.Sub(looked) < g.cfg.HealthInterval) {
				placed = nil
				continue
			}
			placed, looked = g.clients.placed(placed[:0]), now
			waiting = g.moveSome(placed, now, step)
		}
	}
}

// moving reports whether some upstream's health has changed of late.
func (g *Gateway) moving(now time.Time) bool {
	for _, up := range g.upstreams {
		if _, since := up.condition(); now.Sub(since) < movingEnds*g.cfg.HealthInterval {
			return true
		}
	}
	return false
}

// moveSome closes those whose time has come. With a chance of one step in what
// is left of them, they are spread evenly over the time that there is. It reports
// whether there are others who have forever.
func (g *Gateway) moveSome(placed []placement, now time.Time, step time.Duration) (waiting bool) {
	for _, p := range placed {
		left, moves := g.timeToMove(p, now)
		waiting = waiting || moves && left == forever
		if !moves || p.flow.moved || left == forever || rand.N(max(left, 1)) >= step {
			continue
		}
		p.flow.moved = true
		g.stats.moved.Add(1)
		p.flow.conn.CloseFor(transport.CauseMoved, statusServiceRestart, "register again")
	}
	return waiting
}

// timeToMove returns how much time is left for a browser to be moved in; false
// if it stays where it is. One with something under way has forever to go back.
func (g *Gateway) timeToMove(p placement, now time.Time) (left time.Duration, moves bool) {
	aor := p.flow.aorOf(p.client)
	if aor == nil {
		return 0, false
	}
	to := g.byPolicy(aor)
	if to == nil || to == p.upstream {
		return 0, false
	}
	interval := g.cfg.HealthInterval
	is, died := p.upstream.condition()
	_, returned := to.condition()
	switch is {
	case dead:
		begin := died
		if returned.After(begin) {
			begin = returned // until then there was nowhere to go
		}
		return begin.Add(awayWithin * interval).Sub(now), p.flow.since.time().Before(begin)
	case suspected:
		return 0, false
	}
	begin := returned.Add(backAfter * interval)
	switch {
	case now.Before(begin) || !p.flow.since.time().Before(begin):
		return 0, false
	case p.flow.activity.busy(now):
		return forever, true
	}
	return begin.Add(backWithin * interval).Sub(now), true
}
