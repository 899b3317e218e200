// Package transaction makes one hop of SIP over UDP reliable for those who
// cannot do it themselves: a browser never resends (its own transport is
// reliable), and UDP loses. It does what RFC 3261 section 17 and RFC 6026 ask
// of a transaction, as far as that is about resending and about absorbing what
// was resent; everything else stays with the two ends.
//
//	browser            Table                           SIP server
//	   |   request       |   Sent: again and again          |
//	   |---------------->|--------------------------------->|
//	   |                 |   Answered: first one passes     |
//	   |<----------------|<---------------------------------|
//	   |   ACK           |   Acked: again for each repeated |
//	   |---------------->|--------------------------------->|  final
//	   |                 |                                  |
//	   |                 |   Arrived: first one passes,     |
//	   |<----------------|<---------------------------------|  others get the
//	   |   response      |   Replied: again and again       |  last response
//	   |---------------->|--------------------------------->|
//	   |                 |   AckArrived: first one passes   |
//	   |<----------------|<---------------------------------|
//
// It reads no SIP: what it is told of a message are hashes, a status, and where
// it goes. All it knows is soft state within bounds. A message that finds no
// room is relayed without; so is everything after a restart.
package transaction

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// The timers of RFC 3261, table 4.
const (
	T1 = 500 * time.Millisecond
	T2 = 4 * time.Second
	T4 = 5 * time.Second

	// Lifetime is how long a transaction takes at most, but for an INVITE that
	// has been answered provisionally.
	Lifetime = 64 * T1
	// pending is how long such an INVITE may wait for more. RFC 3261 16.6 step
	// 11: timer C "MUST be larger than 3 minutes".
	pending = 4 * time.Minute
)

const (
	// maxTombstones bounds the records that hold no message, 56 bytes each and
	// up to 8 to find it.
	maxTombstones = 1_000_000
	// maxPerFlow bounds the messages held for one connection.
	maxPerFlow = 64
	// maxFired bounds the records that are dealt with while others wait.
	maxFired = 1024
)

// Config is everything a Table is told.
type Config struct {
	// Max and MaxBytes bound the messages that are held.
	Max, MaxBytes int
	// Send sends one datagram again, on behalf of the browser's connection that was
	// last seen to have to do with it, and does not keep msg. It is called without a
	// lock of the table held.
	Send func(to Peer, flow uint64, msg []byte)
	// Unanswered is called, likewise, for a request that has had no response at
	// all in its whole Lifetime. It does not keep msg.
	Unanswered func(to Peer, msg []byte)
}

// Peer is the other end of the hop.
type Peer struct {
	Addr  netip.AddrPort
	Local netip.Addr // the address to send from; the zero value leaves it to the kernel
}

// Message is one that is sent, and may have to be sent again.
type Message struct {
	Bytes []byte // copied if it is kept
	To    Peer
	Flow  uint64        // the browser's connection, not 0; 0: the gateway itself
	Open  *atomic.Int32 // counts what is held for that connection

	Dialog bool // a request in a dialog, which has nowhere else to go
}

// Way is which way a request goes.
type Way int

// The ways.
const (
	Up   Way = iota // to the SIP server
	Down            // to the browser
	Ways
)

// Stats is what a Table holds and has done.
type Stats struct {
	Messages   int          // held, to be sent again
	Bytes      int          // their memory
	Tombstones int          // transactions of which only a hash is left
	Resent     [Ways]uint64 // by the way of the request: requests and ACKs, responses
	Absorbed   [Ways]uint64 // repetitions that were not passed on
	Stateless  uint64       // messages that found no room
}

// Table knows the transactions of the hop. Its methods are safe for concurrent use.
type Table struct {
	cfg  Config
	wake chan struct{} // holds a token when Run has something to do again

	mu    sync.Mutex
	slab  slab
	byID  index
	wheel wheel
	store store
	stats Stats
}

// New returns a Table that holds nothing.
func New(cfg Config) *Table {
	return &Table{
		cfg: cfg, wake: make(chan struct{}, 1),
		wheel: newWheel(time.Now()), store: newStore(cfg.Max, cfg.MaxBytes),
	}
}

// Stats returns what the table holds now and has done so far.
func (t *Table) Stats() Stats {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.stats
	s.Messages, s.Bytes = t.store.count, t.store.bytes
	s.Tombstones = t.slab.count - t.store.count
	return s
}

// Run resends until ctx ends. While the table is empty it costs nothing.
func (t *Table) Run(ctx context.Context) {
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	var due batch
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if t.advance(time.Now(), &due) {
			continue
		}
		ticker.Stop()
		due = batch{}
		select {
		case <-ctx.Done():
			return
		case <-t.wake:
			ticker.Reset(tick)
		}
	}
}

// advance resends what is due and forgets what has ended. It returns false when
// nothing is left.
func (t *Table) advance(now time.Time, due *batch) bool {
	at := t.wheel.tickOf(now)
	for {
		more, left := t.collect(at, due)
		due.send(&t.cfg)
		if !more {
			return left
		}
	}
}

// collect moves what is due until a tick to the batch, as much as that takes.
func (t *Table) collect(until uint32, due *batch) (more, left bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for fired := 0; t.wheel.before(until); {
		i := t.wheel.first()
		if i == 0 {
			t.wheel.step()
			continue
		}
		if due.full() || fired == maxFired {
			return true, true
		}
		fired++
		t.fire(i, until, due)
	}
	if t.slab.count > 0 {
		return false, true
	}
	if len(t.slab.chunks) > 1 { // the memory of a busy hour goes back
		t.byID, t.slab = index{}, slab{}
		t.store.shrink()
	}
	return false, false
}

// add makes a record. nil: there is no room for it.
func (t *Table) add(id uint64, k kind, flow uint64, now, ends uint32) (uint32, *record) {
	if t.slab.count-t.store.count >= maxTombstones {
		t.stats.Stateless++
		return 0, nil
	}
	if t.slab.count == 0 {
		select {
		case t.wake <- struct{}{}:
		default:
		}
	}
	i := t.slab.take()
	r := t.slab.at(i)
	*r = record{id: id, kind: k, flow: flow, ends: ends}
	t.byID.insert(&t.slab, i, r)
	t.wheel.insert(&t.slab, i, r, now, ends)
	return i, r
}

// find returns the record of an id, and its index; nil if there is none.
func (t *Table) find(id uint64) (uint32, *record) {
	i := t.byID.find(&t.slab, id)
	if i == 0 {
		return 0, nil
	}
	return i, t.slab.at(i)
}

func (t *Table) remove(i uint32, r *record) {
	t.drop(r)
	t.wheel.remove(&t.slab, r)
	t.byID.remove(&t.slab, i, r)
	t.slab.give(i)
}

// keep holds a copy of a message in a record, in place of what it held. It
// returns false, and counts, if there is no room.
func (t *Table) keep(r *record, m *Message) bool {
	t.drop(r)
	r.held = t.store.put(m)
	if r.held == 0 {
		t.stats.Stateless++
	}
	return r.held != 0
}

// drop forgets the message of a record.
func (t *Table) drop(r *record) {
	if r.held != 0 {
		t.store.drop(r.held)
		r.held = 0
	}
}

// schedule has a record looked at again at a tick.
func (t *Table) schedule(i uint32, r *record, now, due uint32) {
	t.wheel.remove(&t.slab, r)
	t.wheel.insert(&t.slab, i, r, now, due)
}

// live extends the life of a record and ends what was to be sent again.
func (t *Table) live(i uint32, r *record, now, ends uint32) {
	r.ends = ends
	t.schedule(i, r, now, ends)
}

// now returns the tick that it is. Since asks one clock, Now two.
func (t *Table) now() uint32 { return 1 + ticks(time.Since(t.wheel.start)) }
