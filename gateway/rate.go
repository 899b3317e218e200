package gateway

import (
	"sync/atomic"
	"time"

	"github.com/gobwas/ws"

	"viaduct/rewrite"
	"viaduct/transport"
)

// inDialogTimes is how many times larger than --rate and --burst the budget of
// all that is no initial request is: what was begun is not cut short.
const inDialogTimes = 4

// maxRate bounds --rate and --burst: what is more is no bound.
const maxRate = 1_000_000

// budget is what may be spent: one each interval on average, burst at once.
type budget struct {
	interval time.Duration
	burst    int
}

// times is a budget that many times as large.
func (b budget) times(n int) budget { return budget{b.interval / time.Duration(n), b.burst * n} }

// spent is what has been spent of a budget, by the generic cell rate algorithm
// (ITU-T I.371): the time since the start of the process at which nothing of it
// counts any more. That is one word and one atomic operation for a token bucket,
// where golang.org/x/time/rate has a mutex and 88 bytes, three times for each of
// a million connections. The zero value has spent nothing.
type spent struct{ until atomic.Int64 }

// take spends one of b, and reports whether it was there.
func (s *spent) take(b budget, now time.Duration) bool {
	for {
		have := s.until.Load()
		from := max(have, int64(now))
		if from-int64(now) > int64(b.interval)*int64(b.burst-1) {
			return false
		}
		if s.until.CompareAndSwap(have, from+int64(b.interval)) {
			return true
		}
	}
}

// charge spends one of b whether it is there or not, and returns how many count
// then, at most twice the burst.
func (s *spent) charge(b budget, now time.Duration) int {
	for {
		have := s.until.Load()
		until := min(max(have, int64(now))+int64(b.interval), int64(now)+2*int64(b.interval)*int64(b.burst))
		if s.until.CompareAndSwap(have, until) {
			return b.counts(until, now)
		}
	}
}

// count returns how many count still.
func (s *spent) count(b budget, now time.Duration) int { return b.counts(s.until.Load(), now) }

// set makes it so many.
func (s *spent) set(b budget, now time.Duration, n int) {
	s.until.Store(int64(now) + int64(b.interval)*int64(n))
}

func (b budget) counts(until int64, now time.Duration) int {
	left := until - int64(now) + int64(b.interval) - 1
	return int(max(left, 0) / int64(b.interval))
}

// rates are what one connection may send; without an interval as much as it likes.
type rates struct{ initial, other budget }

func newRates(rate, burst int) rates {
	if rate < 0 {
		return rates{}
	}
	initial := budget{time.Second / time.Duration(rate), burst}
	return rates{initial, initial.times(inDialogTimes)}
}

// now is the time since the start, by the clock that never jumps.
func (g *Gateway) now() time.Duration { return time.Since(g.started) }

// pace charges a browser's message to the budget that it is of, and says why it
// may not pass. An initial request that finds its own empty is charged to that of
// all other messages: who goes on regardless is closed with those who flood.
func (g *Gateway) pace(f *flow, m *rewrite.Message, defect rewrite.Defect) Reason {
	sound := defect == rewrite.Sound && m.Request
	with := credentialsOf(m)
	if g.rates.initial.interval == 0 && with == 0 {
		return 0
	}
	now := g.now()
	r := Reason(0)
	if g.rates.initial.interval != 0 {
		if r = g.paceRate(f, sound && isInitial(m), now); r == ReasonFarOverRate {
			f.conn.CloseFor(transport.CauseRate, ws.StatusPolicyViolation, "too many messages")
		}
	}
	if r == 0 && sound && with != 0 {
		return g.paceTry(f, m, with, now)
	}
	return r
}

func (g *Gateway) paceRate(f *flow, initial bool, now time.Duration) Reason {
	switch {
	case initial && f.initial.take(g.rates.initial, now):
		return 0
	case !f.other.take(g.rates.other, now):
		return ReasonFarOverRate
	case initial:
		return ReasonOverRate
	}
	return 0
}

// isInitial reports whether a request begins something. A CANCEL ends what has
// been let through, and an ACK has no answer that could refuse it.
func isInitial(m *rewrite.Message) bool { return !m.Is("ACK") && !m.Is("CANCEL") && !m.Tagged() }
