package transaction

import (
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
			Send: func(Peer, []byte) {}, Unanswered: func(Peer) {},
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

// options is an OPTIONS from the SIP server and its 200, which is held.
func (l *load) options() func() {
	m := Message{Bytes: make([]byte, 500), To: server}
	return func() {
		id := l.next()
		l.t.Arrived(id, false, 1)
		l.t.Replied(id, Reply{Status: 200}, &m)
	}
}

// loads are the kinds of load, at rates that the table has room for.
var loads = map[string]struct {
	perTick uint64
	of      func(*load) func()
}{
	"REGISTER": {100, (*load).register},
	"INVITE":   {100, (*load).invite},
	"OPTIONS":  {10, (*load).options},
}

// steady returns a load that has lasted for as long as anything is kept, beside
// so many tombstones that last.
func steady(tb testing.TB, perTick uint64, of func(*load) func(), tombstones int) (*load, func()) {
	l := newLoad(perTick)
	for n := range tombstones {
		l.t.Arrived(uint64(n)<<32+1, true, 1)
	}
	one := of(l)
	for range 2 * uint64(Lifetime/tick) * perTick {
		one()
	}
	s := l.t.Stats()
	if s.Stateless != 0 || s.Tombstones+s.Messages < tombstones {
		tb.Fatalf("not steady: %+v", s)
	}
	return l, one
}

func BenchmarkSteady(b *testing.B) {
	for name, kind := range loads {
		b.Run(name, func(b *testing.B) {
			_, one := steady(b, kind.perTick, kind.of, 0)
			b.ReportAllocs()
			for b.Loop() {
				one()
			}
		})
		b.Run(name+"/parallel", func(b *testing.B) {
			l, _ := steady(b, kind.perTick, kind.of, 0)
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
