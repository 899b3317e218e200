package transaction

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// load is a table under steady load, whose clock a benchmark moves: a request
// takes no time of its own, so that a second of it would be none of a gateway's.
type load struct {
	t       *Table
	perTick uint64 // requests
	n       atomic.Uint64

	clock sync.Mutex
	due   batch
}

func newLoad(perTick uint64) *load {
	return &load{
		t: New(Config{
			Max: 20_000, MaxBytes: 64 << 20,
			Send: func(Peer, uint64, []byte) {}, Unanswered: func(Peer, []byte) {},
		}),
		perTick: perTick,
	}
}

// next returns the number of a request, and has the time pass that lies between
// it and the one before.
func (l *load) next() uint64 {
	n := l.n.Add(1)
	if n%l.perTick == 0 {
		l.pass(tick)
	}
	return n * 0x9E3779B97F4A7C15 // as a hash is
}

func (l *load) pass(d time.Duration) {
	l.clock.Lock()
	defer l.clock.Unlock()
	l.t.mu.Lock()
	l.t.wheel.start = l.t.wheel.start.Add(-d)
	l.t.mu.Unlock()
	l.t.advance(time.Now(), &l.due)
}

// register is a REGISTER of the usual size and its 200.
func (l *load) register() func() {
	m := Message{Bytes: make([]byte, 600), To: server}
	var a Response
	return func() {
		id := l.next()
		l.t.Sent(id, false, &m)
		a = Response{Status: 200, Hash: uint32(id), Flow: 1}
		l.t.Answered(id, &a)
	}
}

// invite is an INVITE as browsers send it and its 200, which leaves two tombstones.
func (l *load) invite() func() {
	m := Message{Bytes: make([]byte, 3000), To: server}
	var a Response
	return func() {
		id := l.next()
		l.t.Sent(id, true, &m)
		a = Response{Invite: true, Status: 200, Hash: uint32(id), Dialog: id + 1, Flow: 1}
		l.t.Answered(id, &a)
	}
}

// refused is an INVITE, its refusal, twice, and the ACK of the browser.
func (l *load) refused() func() {
	invite := Message{Bytes: make([]byte, 3000), To: server}
	ack := Message{Bytes: make([]byte, 500), To: server}
	var a Response
	return func() {
		id := l.next()
		l.t.Sent(id, true, &invite)
		a = Response{Invite: true, Status: 486, Hash: uint32(id), Flow: 1, Invited: a.Invited[:0]}
		l.t.Answered(id, &a)
		l.t.Acked(id, id+1, &ack)
		l.t.Answered(id, &a)
	}
}

// options is an OPTIONS from the SIP server and its 200, which is held.
func (l *load) options() func() {
	m := Message{Bytes: make([]byte, 500), To: server}
	return func() {
		id := l.next()
		l.t.Arrived(id, false, 1)
		l.t.Replied(id, Reply{Status: 200}, &m)
	}
}

// replayed is one whose 200 was lost.
func (l *load) replayed() func() {
	m := Message{Bytes: make([]byte, 500), To: server}
	return func() {
		id := l.next()
		l.t.Arrived(id, false, 1)
		l.t.Replied(id, Reply{Status: 200}, &m)
		l.t.Arrived(id, false, 1)
	}
}

// loads are the kinds of load, at rates that the table has room for.
var loads = map[string]struct {
	perTick uint64
	of      func(*load) func()
}{
	"REGISTER":         {100, (*load).register},
	"INVITE":           {100, (*load).invite},
	"INVITE refused":   {10, (*load).refused},
	"OPTIONS":          {10, (*load).options},
	"OPTIONS replayed": {10, (*load).replayed},
}

// steady returns a load that has lasted for as long as anything is kept.
func steady(tb testing.TB, perTick uint64, of func(*load) func()) (*load, func()) {
	l := newLoad(perTick)
	one := of(l)
	for range 2 * uint64(Lifetime/tick) * perTick {
		one()
	}
	if s := l.t.Stats(); s.Stateless != 0 || s.Tombstones+s.Messages == 0 {
		tb.Fatalf("not steady: %+v", s)
	}
	return l, one
}

// BenchmarkSteady is what the messages of a transaction cost together, the end
// of its timers included.
func BenchmarkSteady(b *testing.B) {
	for name, kind := range loads {
		b.Run(name, func(b *testing.B) {
			_, one := steady(b, kind.perTick, kind.of)
			b.ReportAllocs()
			for b.Loop() {
				one()
			}
		})
		b.Run(name+"/parallel", func(b *testing.B) {
			l, _ := steady(b, kind.perTick, kind.of)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				one := kind.of(l)
				for pb.Next() {
					one()
				}
			})
		})
	}
}

// million fills a table with nearly as many tombstones as it may have, and
// returns the longest time that one of them took.
func million(l *load) (longest time.Duration) {
	for n := range uint64(maxTombstones - 50_000) {
		began := time.Now()
		l.t.Arrived(n*0xD1B54A32D192ED03, true, 1)
		longest = max(longest, time.Since(began))
	}
	return longest
}

// BenchmarkMillion is a REGISTER beside a million tombstones.
func BenchmarkMillion(b *testing.B) {
	l := newLoad(100)
	longest := million(l)
	one := l.register()
	b.ReportAllocs()
	for b.Loop() {
		one()
		if n := l.n.Load(); n%(100*uint64(T4/tick)) == 0 {
			b.StopTimer() // those that last are renewed before they end
			million(l)
			b.StartTimer()
		}
	}
	b.ReportMetric(float64(longest.Microseconds()), "µs-longest-insert")
}

// BenchmarkCollection is one of the garbage collector's with a million tombstones.
func BenchmarkCollection(b *testing.B) {
	for name, fill := range map[string]bool{"empty": false, "million": true} {
		b.Run(name, func(b *testing.B) {
			l := newLoad(1)
			if fill {
				million(l)
			}
			for b.Loop() {
				runtime.GC()
			}
			runtime.KeepAlive(l)
		})
	}
}
