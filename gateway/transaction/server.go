package transaction

import "time"

// Reply is what a Table is told of a response from a browser.
type Reply struct {
	Invite   bool // it is one to an INVITE, by its CSeq
	Status   int
	Reliable bool // RFC 3262: it has an RSeq
	Brief    bool // the request does nothing, so that it may be carried out twice
}

// Arrived reports whether a request other than ACK from the SIP server is to be
// written to that connection. One that is not has been answered with the last
// response, if there is one. Flow 0 is a request that waits for its browser.
func (t *Table) Arrived(id uint64, invite bool, flow uint64) (pass bool) {
	due := batches.Get().(*batch)
	defer batches.Put(due)
	pass = t.arrived(id, invite, flow, due)
	due.send(&t.cfg)
	return pass
}

func (t *Table) arrived(id uint64, invite bool, flow uint64, due *batch) (pass bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, r := t.find(id)
	if r == nil {
		k, life := serverRequest, Lifetime
		if invite {
			k, life = serverInvite, pending
		}
		now := t.now()
		t.add(id, k, flow, now, now+ticks(life))
		return true
	}
	// Without a final response, the connection that the request was written to
	// may have been lost before the browser saw it.
	if r.state <= proceeding && r.flow != flow {
		r.flow = flow
		return true
	}
	t.resend(Down, r, due)
	t.stats.Absorbed[Down]++
	return false
}

// Waited returns how long ago an INVITE from the SIP server came to which no
// response has been seen yet; 0 for all else.
func (t *Table) Waited(id uint64) time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, r := t.find(id)
	if r == nil || r.kind != serverInvite || r.state != trying {
		return 0
	}
	return time.Duration(t.now()-(r.ends-ticks(pending))) * tick
}

// Replied is called when a browser's response has been sent to the SIP server
// for the first time.
func (t *Table) Replied(id uint64, a Reply, m *Message) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if a.Status < 200 && a.Reliable {
		return // the browser repeats it until its PRACK
	}
	now := t.now()
	i, r := t.find(id)
	msg := *m
	switch {
	case r == nil: // of before a restart, or made up
		k := serverRequest
		if a.Invite {
			k = serverInvite
		}
		if i, r = t.add(id, k, m.Flow, now, now+ticks(Lifetime)); r == nil {
			return
		}
	case !a.Invite:
		msg.Open = nil // nothing is under way any more, and the SIP server has asked for it
	}
	if r.has(a) {
		return
	}
	if !t.keep(r, &msg) {
		t.remove(i, r)
		return
	}
	t.answer(i, r, a, now)
}

// has reports whether a final response was there before this one, which is not
// a 2xx that the browser repeats.
func (r *record) has(a Reply) bool {
	return r.state > accepted || r.state == accepted && a.Status/100 != 2
}

// answer says how long a response is kept and when it is sent again.
func (t *Table) answer(i uint32, r *record, a Reply, now uint32) {
	r.wait = 0
	switch {
	case a.Status < 200 && a.Invite:
		r.state = proceeding
		t.live(i, r, now, now+ticks(pending))
		if a.Status > 100 {
			r.wait = uint16(2 * ticks(T1))
			t.schedule(i, r, now, now+ticks(T1))
		}
	case a.Status < 200:
		r.state = proceeding
	case a.Invite && a.Status < 300:
		// The 2xx is the browser's to repeat: RFC 3261 13.3.1.4.
		r.state = accepted
		t.live(i, r, now, now+ticks(Lifetime))
	case a.Invite:
		r.state, r.wait = completed, uint16(2*ticks(T1))
		r.ends = now + ticks(Lifetime)
		t.schedule(i, r, now, now+ticks(T1))
	case a.Brief:
		r.state = completed
		t.live(i, r, now, now+ticks(T4))
	default:
		r.state = completed
		t.live(i, r, now, now+ticks(Lifetime))
	}
}

// AckArrived reports whether an ACK from the SIP server is to be written to
// that connection: the first one is, unless it is of an INVITE that was answered
// while it waited for its browser. The id is that of the INVITE, if the ACK
// shares its branch; an ACK to a 2xx is known by its dialog.
func (t *Table) AckArrived(id, dialog, flow uint64) (pass bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if i, r := t.find(id); r != nil && r.kind == serverInvite {
		switch r.state {
		case completed:
			t.drop(r)
			r.state, r.wait = confirmed, 0
			now := t.now()
			t.live(i, r, now, now+ticks(Lifetime))
			if r.flow != 0 {
				return true
			}
			fallthrough // no browser has seen that INVITE
		case confirmed:
			t.stats.Absorbed[Down]++
			return false
		}
	}
	_, r := t.find(dialog)
	if r == nil {
		now := t.now()
		t.add(dialog, delivery, flow, now, now+ticks(Lifetime))
		return true
	}
	if r.renews(flow) {
		return true
	}
	t.stats.Absorbed[Down]++
	return false
}
