//go:build linux

package drive

import (
	"errors"
	"time"
)

// schedule is when transactions are due in the open loop.
type schedule struct {
	next time.Time
	each time.Duration
}

// begin starts the transactions of a run.
func (w *worker) begin(r Run, at time.Time, workers int) {
	w.run, w.running = r, true
	w.errors = Errors{}
	w.latencies.Reset()
	w.fromAt, w.endAt, w.drainAt = at.Add(r.WarmUp), at.Add(r.WarmUp+r.Time), time.Time{}
	w.sweepAt = at.Add(sweepEach)
	w.open = 0
	window := openWindow
	if r.Rate > 0 {
		each := time.Duration(workers) * time.Second / time.Duration(r.Rate)
		w.schedule = schedule{at.Add(each * time.Duration(w.index) / time.Duration(workers)), each}
	} else {
		window = min(openWindow, r.AtOnce/max(w.cfg.Connections, 1)+2)
	}
	for _, c := range w.conns {
		if c.fd < 0 {
			w.errors.Closed++
			w.errors.add(errGone, nil)
		}
		c.resize(window)
	}
	if r.Rate == 0 {
		for range max(r.AtOnce/workers, 1) {
			w.another()
		}
	}
}

// another starts the next transaction of the closed loop.
func (w *worker) another() {
	if c, i := w.free(); c != nil {
		w.start(c, i, w.run.Method, time.Now())
	}
}

// resize gives a connection its slots. Numbers go on where they were, so that
// no transaction is taken for an earlier one.
func (c *conn) resize(window int) {
	highest := firstNumber
	for i := range c.slots {
		highest = max(highest, c.slots[i].last)
	}
	highest += numbersEach * window
	highest -= highest % (numbersEach * window)
	c.slots = make([]slot, window)
	for i := range c.slots {
		c.slots[i].last = highest + numbersEach*i
	}
}

// slotOf is the slot whose transaction has the message of that number.
func (c *conn) slotOf(number int) *slot { return &c.slots[number/numbersEach%len(c.slots)] }

// start sends the request of a new transaction.
func (w *worker) start(c *conn, i int, method Method, due time.Time) {
	if c.fd < 0 {
		return
	}
	s := &c.slots[i]
	s.last += numbersEach * len(c.slots)
	if s.last+numbersEach > lastNumber {
		s.last = firstNumber - firstNumber%(numbersEach*len(c.slots)) + numbersEach*(i+len(c.slots))
	}
	s.seq, s.method, s.stage, s.due, s.sent = s.last, method, asked, due, due
	w.open++
	w.write(c, w.shapes.first[method].numbered(c.number, s.seq))
}

// finish starts no more transactions, and gives up those without an answer at
// deadline.
func (w *worker) finish(deadline time.Time) { w.drainAt = deadline }

// due does what is due now, and returns until when nothing is.
func (w *worker) due(now time.Time) time.Duration {
	if !w.drainAt.IsZero() {
		if w.open == 0 || now.After(w.drainAt) {
			w.errors.Missing += w.open
			w.running = false
			w.drained <- struct{}{}
		}
		return idlePause
	}
	if now.After(w.sweepAt) {
		w.sweep(now)
		w.sweepAt = now.Add(sweepEach)
	}
	if w.run.Rate == 0 {
		return idlePause
	}
	for !w.schedule.next.After(now) {
		c, i := w.free()
		if c == nil {
			return idlePause // all are busy: what waits counts from when it was due
		}
		w.start(c, i, w.run.Method, w.schedule.next)
		w.schedule.next = w.schedule.next.Add(w.schedule.each)
	}
	return min(max(time.Until(w.schedule.next), 0), idlePause)
}

// free finds the next connection with a slot that is free.
func (w *worker) free() (*conn, int) {
	for range w.conns {
		c := w.conns[w.turn%len(w.conns)]
		w.turn++
		if c.fd < 0 {
			continue
		}
		c.next = (c.next + 1) % len(c.slots)
		if c.slots[c.next].seq == 0 {
			return c, c.next
		}
	}
	return nil, 0
}

// sweep gives up transactions that were not answered, and starts others.
func (w *worker) sweep(now time.Time) {
	for _, c := range w.conns {
		for i := range c.slots {
			if s := &c.slots[i]; s.seq != 0 && now.Sub(s.sent) > patience {
				w.errors.Missing++
				w.end(c, s)
			}
		}
	}
}

var (
	errGone       = errors.New("a connection was gone before the run")
	errUnexpected = errors.New("a response that nothing asked for")
	errRefused    = errors.New("another status than 200")
	errUntagged   = errors.New("a response without a tag in To")
)

// message judges a response and goes on with its transaction.
func (w *worker) message(c *conn, msg []byte) {
	var r reply
	if err := r.read(msg, c.number, w.cfg.Loose); err != nil {
		w.errors.Bad++
		w.errors.add(err, msg)
		return
	}
	if len(c.slots) == 0 {
		w.unexpected(msg)
		return
	}
	s := c.slotOf(r.branch)
	switch {
	case r.status < 200 && (r.call != s.seq || s.stage == hungUp):
		w.errors.Late++ // datagrams may overtake each other
	case s.seq == 0 || r.call != s.seq:
		w.unexpected(msg)
	case r.status == 100:
	case r.branch == s.seq+int(markThird-markSeq) && s.stage == hungUp:
		w.final(c, s, &r, s.seq+int(markThird-markSeq), "BYE", msg)
	case r.branch != s.seq || s.stage == hungUp:
		w.unexpected(msg)
	case r.status == 180 && s.method == Invite && s.stage == asked:
		s.stage = ringing
	case s.method == Invite && r.status == 200:
		w.answered(c, s, &r, msg)
	default:
		w.final(c, s, &r, s.seq, string(s.method), msg)
	}
}

func (w *worker) unexpected(msg []byte) {
	w.errors.Unexpected++
	w.errors.add(errUnexpected, msg)
}

// answered acknowledges a call and ends it.
func (w *worker) answered(c *conn, s *slot, r *reply, msg []byte) {
	switch {
	case r.cseq != s.seq || string(r.method) != string(Invite):
		w.bad(errCSeq, msg)
	case !r.tagged:
		w.bad(errUntagged, msg)
	}
	s.stage = hungUp
	w.write(c, w.shapes.ack.numbered(c.number, s.seq))
	if c.fd >= 0 {
		w.write(c, w.shapes.bye.numbered(c.number, s.seq))
	}
}

func (w *worker) bad(why error, msg []byte) {
	w.errors.Bad++
	w.errors.add(why, msg)
}

// final takes the final response that ends a transaction.
func (w *worker) final(c *conn, s *slot, r *reply, cseq int, method string, msg []byte) {
	switch {
	case r.status != 200:
		w.errors.Refused++
		w.errors.add(errRefused, msg)
	case r.cseq != cseq || string(r.method) != method:
		w.bad(errCSeq, msg)
	case !r.tagged:
		w.bad(errUntagged, msg)
	}
	now := time.Now()
	if !s.due.Before(w.fromAt) && s.due.Before(w.endAt) {
		_ = w.latencies.RecordValue(max(now.Sub(s.due).Microseconds(), 1))
	}
	w.done.Add(1)
	w.end(c, s)
}

// end frees a slot; in the closed loop the next transaction begins.
func (w *worker) end(c *conn, s *slot) {
	s.seq = 0
	w.open--
	if c.life == registering {
		w.risen(c)
		return
	}
	if w.run.Rate == 0 && w.drainAt.IsZero() {
		w.another()
	}
}
