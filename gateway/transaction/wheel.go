package transaction

import "time"

const (
	tick  = 25 * time.Millisecond
	slots = 2048 // 51 s, more than the Lifetime; what is later goes round
)

// wheel is the one timer of all records: a ring of lists, one for each tick.
type wheel struct {
	start time.Time
	done  uint32 // every tick before this one has been dealt with
	heads [slots]uint32
}

func newWheel(start time.Time) wheel { return wheel{start: start, done: 1} }

// tickOf returns the tick of a time. Ticks wrap around after three years.
func (w *wheel) tickOf(at time.Time) uint32 { return 1 + ticks(at.Sub(w.start)) }

func ticks(d time.Duration) uint32 { return uint32(d / tick) }

// before reports whether ticks up to that one are to be dealt with.
func (w *wheel) before(until uint32) bool { return int32(until-w.done) >= 0 }

// first returns the first record of the current tick, 0 if there is none.
func (w *wheel) first() uint32 { return w.heads[w.done%slots] }

func (w *wheel) step() { w.done++ }

// slot is where a record that is due at a tick waits: at the earliest in the
// tick that is dealt with next, at the latest a whole turn away.
func (w *wheel) slot(due uint32) uint32 {
	if int32(due-w.done) < 1 {
		due = w.done + 1
	}
	if due-w.done >= slots {
		due = w.done + slots - 1
	}
	return due
}

// insert has the record found at its due tick.
func (w *wheel) insert(s *slab, i uint32, r *record, now, due uint32) {
	if s.count == 1 {
		w.done = now // it stood still while there was nothing to do
	}
	r.due = w.slot(due)
	head := &w.heads[r.due%slots]
	r.prev, r.next = 0, *head
	if *head != 0 {
		s.at(*head).prev = i
	}
	*head = i
}

func (w *wheel) remove(s *slab, r *record) {
	if r.prev != 0 {
		s.at(r.prev).next = r.next
	} else {
		w.heads[r.due%slots] = r.next
	}
	if r.next != 0 {
		s.at(r.next).prev = r.prev
	}
}
