package transaction

// fire deals with a record whose time has come. Now may be well past it, after
// which the record is late once, and not sent for each time that was missed.
func (t *Table) fire(i, now uint32, due *batch) {
	r := t.slab.at(i)
	switch {
	case int32(now-r.ends) >= 0:
		t.expire(i, r, due)
	case r.wait == 0:
		t.schedule(i, r, now, r.ends)
	default:
		t.repeat(i, r, now, due)
	}
}

func (t *Table) expire(i uint32, r *record, due *batch) {
	if r.kind <= clientInvite && r.state == trying {
		due.giveUp(t.store.at(r.held))
	}
	t.remove(i, r)
}

// repeat sends a message again, and sets the time when it is to be sent the
// next time.
func (t *Table) repeat(i uint32, r *record, now uint32, due *batch) {
	way := Up
	if r.kind >= serverRequest {
		way = Down
	}
	t.resend(way, r, due)
	next := r.wait
	switch {
	case r.kind == clientInvite: // timer A
		r.wait = 2 * next
	case r.kind == serverInvite && r.state == proceeding && next > uint16(2*ticks(T1)):
		next, r.wait = 0, 0
	case r.kind == serverInvite && r.state == proceeding:
		r.wait = 2 * next
	default: // timers E and G
		r.wait = min(2*next, uint16(ticks(T2)))
	}
	at := r.ends
	if next != 0 {
		at = r.within(now + uint32(next))
	}
	t.schedule(i, r, now, at)
}
