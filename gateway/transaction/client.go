package transaction

import "net/netip"

// Response is what a Table is told of a response from the SIP server.
type Response struct {
	Invite   bool // it is one to an INVITE, by its CSeq
	Status   int
	Reliable bool   // RFC 3262: it has an RSeq
	Hash     uint32 // of the whole message
	Dialog   uint64 // of Call-ID, tags and CSeq number; of a 2xx to an INVITE
	Flow     uint64 // the connection that it would be written to, 0 if there is none
	// Invited is set by Answered to the INVITE, appended from its start, when its
	// first refusal passes: the ACK is made of it.
	Invited []byte
}

// Sent is called when a request other than ACK has been sent to the SIP server
// for the first time: it is sent again until it is answered. The same id is that
// of its responses, and an INVITE's of its ACK.
func (t *Table) Sent(id uint64, invite bool, m *Message) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, r := t.find(id); r != nil {
		return // a browser that repeats itself
	}
	k := clientRequest
	if invite {
		k = clientInvite
	}
	now := t.now()
	i, r := t.add(id, k, m.Flow, now, now+ticks(Lifetime))
	if r == nil {
		return
	}
	if !t.keep(r, m) {
		t.remove(i, r)
		return
	}
	r.wait = uint16(2 * ticks(T1))
	t.schedule(i, r, now, now+ticks(T1))
}

// Answered reports whether a response from the SIP server is to be passed on to
// the browser. One that is not has been answered by the ACK, if it wants one.
func (t *Table) Answered(id uint64, a *Response) (pass bool) {
	due := batches.Get().(*batch)
	defer batches.Put(due)
	pass = t.answered(id, a, due)
	due.send(&t.cfg)
	return pass
}

func (t *Table) answered(id uint64, a *Response, due *batch) (pass bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	i, r := t.find(id)
	switch {
	case a.Invite && a.Status/100 == 2:
		if r != nil {
			t.accept(i, r)
		}
		pass = t.acceptedBy(a, due)
	case r == nil:
		return true
	case a.Status < 200:
		pass = t.provisional(i, r, a)
	case a.Invite:
		pass = t.refused(i, r, a, due)
	default:
		pass = t.final(i, r, a)
	}
	if !pass {
		t.stats.Absorbed[Up]++
	}
	return pass
}

// provisional: RFC 3261 17.1.1.2, an INVITE is not sent again; 17.1.2.2, another
// request is, every T2.
func (t *Table) provisional(i uint32, r *record, a *Response) (pass bool) {
	now := t.now()
	if r.state > proceeding {
		return a.Reliable
	}
	switch {
	case r.kind == clientInvite:
		r.wait = 0
		t.live(i, r, now, now+ticks(pending))
	case r.state == trying:
		r.wait = uint16(ticks(T2))
		t.schedule(i, r, now, r.within(now+ticks(T2)))
	}
	r.state = proceeding
	if r.renews(a.Flow) {
		r.seen = [len(r.seen)]uint32{}
	}
	return r.passes(a.Hash|1) || a.Reliable
}

// final ends a request that is no INVITE. Repetitions reach a browser only on
// another connection than the first, where that may have come too late.
func (t *Table) final(i uint32, r *record, a *Response) (pass bool) {
	if r.state == completed {
		return r.renews(a.Flow)
	}
	t.drop(r)
	r.state, r.flow, r.wait = completed, a.Flow, 0
	now := t.now()
	t.live(i, r, now, now+ticks(T4))
	return true
}

// renews notes that what was written to a connection is to be written to
// another one, and reports whether it is another one.
func (r *record) renews(flow uint64) bool {
	if flow == 0 || flow == r.flow {
		return false
	}
	r.flow = flow
	return true
}

// accept: RFC 6026 7.2, the 2xx itself are told apart by their To tag.
func (t *Table) accept(i uint32, r *record) {
	if r.state == accepted {
		return
	}
	t.drop(r)
	r.state, r.wait = accepted, 0
	now := t.now()
	t.live(i, r, now, now+ticks(Lifetime))
}

// acceptedBy passes the first 2xx of each To tag. A repeated one means that the
// ACK was lost, or is not there yet.
func (t *Table) acceptedBy(a *Response, due *batch) (pass bool) {
	_, r := t.find(a.Dialog)
	if r == nil {
		now := t.now()
		t.add(a.Dialog, acceptance, a.Flow, now, now+ticks(Lifetime))
		return true
	}
	if r.held != 0 {
		t.resend(Up, r, due)
		return false
	}
	return r.renews(a.Flow)
}

// refused: RFC 3261 17.1.1.2, "Any retransmissions of the final response that
// are received while in the "Completed" state MUST cause the ACK to be re-passed
// to the transport layer".
func (t *Table) refused(i uint32, r *record, a *Response, due *batch) (pass bool) {
	switch r.state {
	case trying, proceeding:
		if r.held != 0 {
			a.Invited = append(a.Invited[:0], *t.store.at(r.held).buf...)
		}
		t.drop(r)
		r.state, r.flow, r.wait = completed, a.Flow, 0
		now := t.now()
		t.live(i, r, now, now+ticks(Lifetime))
		return true
	case confirmed:
		t.resend(Up, r, due)
		return false
	case completed:
		// The browser's own ACK is on its way, unless the browser has gone.
		if a.Flow == 0 || a.Flow != r.flow {
			t.resend(Up, r, due)
		}
		return r.renews(a.Flow)
	}
	return true
}

// Substitute gives the transaction of an INVITE that was refused the ACK that
// is sent if the browser is not there to send it.
func (t *Table) Substitute(id uint64, m *Message) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, r := t.find(id); r != nil && r.kind == clientInvite && r.state == completed {
		t.keep(r, m)
	}
}

// Acked is called when a browser's ACK has been sent to the SIP server: it is
// sent again for each final response that comes again.
func (t *Table) Acked(id, dialog uint64, m *Message) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if i, r := t.find(id); r != nil && (r.state == completed || r.state == confirmed) {
		r.state = confirmed
		t.keepOrForget(i, r, m)
		return
	}
	now := t.now()
	i, r := t.find(dialog)
	if r == nil {
		if i, r = t.add(dialog, acceptance, m.Flow, now, now+ticks(Lifetime)); r == nil {
			return
		}
	}
	t.keepOrForget(i, r, m)
}

// keepOrForget keeps an ACK, or else the whole transaction no more: the browser
// then answers each repetition by itself.
func (t *Table) keepOrForget(i uint32, r *record, m *Message) {
	if !t.keep(r, m) {
		t.remove(i, r)
	}
}

// Failed ends a request that could not reach the SIP server, and appends it to
// buf; nothing if it has been answered, or is not known.
func (t *Table) Failed(id uint64, buf []byte) []byte {
	t.mu.Lock()
	defer t.mu.Unlock()
	i, r := t.find(id)
	if r == nil || r.kind > clientInvite || r.state != trying {
		return buf
	}
	buf = append(buf, *t.store.at(r.held).buf...)
	t.remove(i, r)
	return buf
}

// Stuck returns the requests outside a dialog that an address was sent and has
// not answered at all, by id.
func (t *Table) Stuck(to netip.AddrPort) (ids []uint64) {
	t.each(func(r *record) {
		if r.kind <= clientInvite && r.state == trying {
			if h := t.store.at(r.held); h.to.Addr == to && !h.dialog {
				ids = append(ids, r.id)
			}
		}
	})
	return ids
}

// Pending returns how many messages are being sent again.
func (t *Table) Pending() (n int) {
	t.each(func(r *record) {
		if r.wait > 0 && r.held != 0 {
			n++
		}
	})
	return n
}

// each calls f for every record. It takes its time: for what seldom happens.
func (t *Table) each(f func(*record)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := uint32(1); i <= t.slab.used; i++ {
		if r := t.slab.at(i); r.kind != 0 {
			f(r)
		}
	}
}

// resend sends what a record holds once more.
func (t *Table) resend(w Way, r *record, due *batch) {
	if r.held == 0 {
		return
	}
	due.add(t.store.at(r.held), r.flow)
	t.stats.Resent[w]++
}
