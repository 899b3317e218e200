package transaction

import (
	"slices"
	"time"
)

// model is a Table in the plainest way: a list of entries, all of which are
// looked at for each question, and timers that are times.
type model struct {
	max, maxBytes int
	entries       []*entry
	open          map[uint64]int // messages held by connection
	sent          []string
	stats         Stats
}

type entry struct {
	id       uint64
	kind     kind
	state    state
	flow     uint64 // of what was relayed last
	ends     time.Time
	next     time.Time     // to be sent, zero if not
	interval time.Duration // after which it is sent once more
	copies   int           // still to be sent; of a provisional response
	msg      *Message      // nil: a tombstone
	seen     []uint32
}

func (m *model) find(id uint64) *entry {
	for _, e := range m.entries {
		if e.id == id {
			return e
		}
	}
	return nil
}

func (m *model) add(e *entry) *entry {
	m.entries = append(m.entries, e)
	return e
}

func (m *model) remove(e *entry) {
	m.release(e)
	m.entries = slices.DeleteFunc(m.entries, func(o *entry) bool { return o == e })
}

// room is what a message takes: the next power of two, 512 at least.
func room(m *Message) int {
	n := 512
	for n < len(m.Bytes) {
		n *= 2
	}
	return n
}

// hold has an entry hold a message; the entry is removed if there is no room.
func (m *model) hold(e *entry, msg *Message) bool {
	m.release(e)
	count, bytes := m.held()
	if count+1 > m.max || bytes+room(msg) > m.maxBytes || msg.Open != nil && m.open[msg.Flow] == maxPerFlow {
		m.stats.Stateless++
		return false
	}
	if msg.Open != nil {
		m.open[msg.Flow]++
	}
	e.msg = msg
	return true
}

func (m *model) release(e *entry) {
	if e.msg != nil {
		if e.msg.Open != nil {
			m.open[e.msg.Flow]--
		}
	}
	e.msg, e.next = nil, time.Time{}
}

func (m *model) held() (count, bytes int) {
	for _, e := range m.entries {
		if e.msg != nil {
			count++
			bytes += room(e.msg)
		}
	}
	return count, bytes
}

func (m *model) send(w Way, e *entry) {
	if e.msg != nil {
		m.sent = append(m.sent, string(e.msg.Bytes))
		m.stats.Resent[w]++
	}
}

// advance does what is due.
func (m *model) advance(now time.Time) {
	for _, e := range slices.Clone(m.entries) {
		switch {
		case !now.Before(e.ends):
			if e.state == trying && e.kind <= clientInvite {
				m.sent = append(m.sent, "unanswered")
			}
			m.remove(e)
		case !e.next.IsZero() && !now.Before(e.next):
			m.repeat(e, now)
		}
	}
}

func (m *model) repeat(e *entry, now time.Time) {
	if e.kind <= clientInvite {
		m.send(Up, e)
	} else {
		m.send(Down, e)
	}
	if e.copies--; e.copies == 0 {
		e.next = time.Time{}
		return
	}
	e.next = now.Add(e.interval)
	e.interval *= 2
	if e.kind != clientInvite {
		e.interval = min(e.interval, T2)
	}
}

// start has a message sent at T1 and after intervals that double.
func (e *entry) start(now time.Time, copies int) {
	e.next, e.interval, e.copies = now.Add(T1), 2*T1, copies
}

func (m *model) Sent(now time.Time, id uint64, invite bool, msg *Message) {
	if m.find(id) != nil {
		return
	}
	e := &entry{id: id, kind: clientRequest, flow: msg.Flow, ends: now.Add(Lifetime)}
	if invite {
		e.kind = clientInvite
	}
	if m.hold(e, msg) {
		m.add(e).start(now, -1)
	}
}

func (m *model) Answered(now time.Time, id uint64, a *Response) (pass bool, invited []byte) {
	e := m.find(id)
	switch {
	case a.Invite && a.Status/100 == 2:
		if e != nil && e.state != accepted {
			m.release(e)
			e.state, e.ends = accepted, now.Add(Lifetime)
		}
		pass = m.accepted(now, a)
	case e == nil:
		return true, nil
	case a.Status < 200:
		pass = m.provisional(now, e, a)
	case e.state == confirmed:
		m.send(Up, e)
	case e.state == completed:
		if a.Invite && (a.Flow == 0 || a.Flow != e.flow) {
			m.send(Up, e) // the own ACK
		}
		pass = m.elsewhere(e, a.Flow)
	case e.state == accepted:
		pass = true
	default:
		pass = true
		life := T4
		if a.Invite {
			invited, life = e.msg.Bytes, Lifetime
		}
		m.release(e)
		e.state, e.flow, e.ends = completed, a.Flow, now.Add(life)
	}
	if !pass {
		m.stats.Absorbed[Up]++
	}
	return pass, invited
}

func (m *model) elsewhere(e *entry, flow uint64) bool {
	if flow == 0 || flow == e.flow {
		return false
	}
	e.flow = flow
	return true
}

func (m *model) accepted(now time.Time, a *Response) (pass bool) {
	e := m.find(a.Dialog)
	switch {
	case e == nil:
		m.add(&entry{id: a.Dialog, kind: acceptance, flow: a.Flow, ends: now.Add(Lifetime)})
		return true
	case e.msg != nil:
		m.send(Up, e)
		return false
	}
	return m.elsewhere(e, a.Flow)
}

func (m *model) provisional(now time.Time, e *entry, a *Response) (pass bool) {
	if e.state > proceeding {
		return a.Reliable
	}
	if e.kind == clientInvite {
		e.next, e.ends = time.Time{}, now.Add(pending)
	} else if e.state == trying {
		e.next, e.interval = now.Add(T2), T2
	}
	e.state = proceeding
	if m.elsewhere(e, a.Flow) {
		e.seen = nil
	}
	if slices.Contains(e.seen, a.Hash) {
		return a.Reliable
	}
	e.seen = append(e.seen, a.Hash)
	e.seen = e.seen[max(0, len(e.seen)-3):]
	return true
}

func (m *model) Substitute(id uint64, msg *Message) {
	if e := m.find(id); e != nil && e.kind == clientInvite && e.state == completed {
		m.hold(e, msg)
	}
}

func (m *model) Acked(now time.Time, id, dialog uint64, msg *Message) {
	e := m.find(id)
	if e != nil && e.state >= completed {
		e.state = confirmed
	} else if e = m.find(dialog); e == nil {
		e = m.add(&entry{id: dialog, kind: acceptance, flow: msg.Flow, ends: now.Add(Lifetime)})
	}
	if !m.hold(e, msg) {
		m.remove(e)
	}
}

func (m *model) Failed(id uint64) []byte {
	e := m.find(id)
	if e == nil || e.state != trying || e.kind > clientInvite {
		return nil
	}
	defer m.remove(e)
	return e.msg.Bytes
}

func (m *model) Arrived(now time.Time, id uint64, invite bool, flow uint64) (pass bool) {
	e := m.find(id)
	if e == nil {
		e = m.add(&entry{id: id, kind: serverRequest, flow: flow, ends: now.Add(Lifetime)})
		if invite {
			e.kind, e.ends = serverInvite, now.Add(pending)
		}
		return true
	}
	if e.state <= proceeding && e.flow != flow {
		e.flow = flow
		return true
	}
	m.send(Down, e)
	m.stats.Absorbed[Down]++
	return false
}

func (m *model) Replied(now time.Time, id uint64, a Reply, msg *Message) {
	e := m.find(id)
	final := a.Status >= 200
	switch {
	case !final && a.Reliable:
		return
	case e == nil:
		e = m.add(&entry{id: id, kind: serverRequest, flow: msg.Flow, ends: now.Add(Lifetime)})
		if a.Invite {
			e.kind = serverInvite
		}
	case e.state >= completed, e.state == accepted && a.Status/100 != 2:
		return
	case !a.Invite: // it takes no room of its connection
		uncounted := *msg
		uncounted.Open = nil
		msg = &uncounted
	}
	if !m.hold(e, msg) {
		m.remove(e)
		return
	}
	switch {
	case !final:
		e.state = proceeding
		if a.Invite {
			e.ends = now.Add(pending)
			if a.Status > 100 {
				e.start(now, 2)
			}
		}
		return
	case a.Invite && a.Status < 300:
		e.state = accepted
	default:
		e.state = completed
		if a.Invite {
			e.start(now, -1)
		}
	}
	e.ends = now.Add(Lifetime)
}

func (m *model) AckArrived(now time.Time, id, dialog, flow uint64) (pass bool) {
	if e := m.find(id); e != nil && e.state == completed {
		m.release(e)
		e.state, e.ends = confirmed, now.Add(Lifetime)
		if e.flow == 0 {
			m.stats.Absorbed[Down]++
		}
		return e.flow != 0
	} else if e != nil && e.state == confirmed {
		m.stats.Absorbed[Down]++
		return false
	}
	e := m.find(dialog)
	if e == nil {
		m.add(&entry{id: dialog, kind: delivery, flow: flow, ends: now.Add(Lifetime)})
		return true
	}
	if m.elsewhere(e, flow) {
		return true
	}
	m.stats.Absorbed[Down]++
	return false
}
