package gateway

import (
	"encoding/binary"
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"viaduct/rewrite"
)

// Bounds of what one flow's activity remembers; past them the oldest goes.
const (
	maxOpen  = 64 // transactions
	maxCalls = 16
)

// How long an entry without an end is believed.
const (
	openWait      = 64 * timerT1     // RFC 3261 17.1.2.2: a request other than INVITE has failed by then
	openINVITE    = inviteGeneration // a phone that rings for longer is not worth waiting for
	challengeWait = 2 * time.Second  // the way to the browser and back, and the digest's making
)

// activity is what is open on one flow: transactions in both directions, and
// the calls that were answered and not hung up. It says when the flow's
// connection can be closed without cutting anything, and decides nothing else.
// It is safe for concurrent use; the zero value is empty.
type activity struct {
	relayed [2]atomic.Uint32 // messages, by Direction.index

	mu         sync.Mutex
	challenges int               // that were passed on, at most: their Call-IDs may be in open
	open       []openTransaction // oldest first; kept between uses, so that nothing is allocated for a message
	calls      []uint64          // oldest first
}

// openTransaction is open at the latest until that time.
type openTransaction struct {
	id    uint64
	until instant
}

// opens is called before a message is sent that way, so that what follows it
// finds what it has opened: a request's response, and the ACK of one to an INVITE.
func (a *activity) opens(m *rewrite.Message, way Direction) {
	switch {
	case m.Is("ACK"):
	case m.Request:
		a.began(transactionID(m, way), m.Is("INVITE"), time.Now())
	case m.Is("INVITE") && m.Status >= 200:
		a.answered(m, transactionID(m, way.back()), time.Now())
	}
}

// refused is called when a request that way could not be sent after all.
func (a *activity) refused(m *rewrite.Message, way Direction) { a.ended(transactionID(m, way)) }

// passed is called when a message was sent that way: what it ends is over only
// then.
func (a *activity) passed(m *rewrite.Message, way Direction) {
	a.relayed[way.index()].Add(1)
	switch {
	case m.Request && m.Is("ACK"):
		a.ended(transactionID(m, way))
	case m.Request && m.Is("BYE"):
		a.hungUp(callID(m)) // its transaction is open still
	case m.Request || m.Status < 200 || m.Is("INVITE"):
	default:
		a.answered(m, transactionID(m, way.back()), time.Now())
	}
}

// back is the way of the response to what goes that way.
func (d Direction) back() Direction {
	if d == Up {
		return Down
	}
	return Up
}

// answered notes the final response to a transaction.
func (a *activity) answered(m *rewrite.Message, id uint64, now time.Time) {
	// After a challenge the same request follows with credentials (RFC 3261 22.2).
	// It is expected by its Call-ID, which stays.
	if m.Status == 401 || m.Status == 407 {
		a.challenged(callID(m), now.Add(challengeWait))
	} else if a.expects() {
		a.came(callID(m))
	}
	if !m.Is("INVITE") {
		a.ended(id)
		return
	}
	if m.Status < 300 {
		a.dialog(callID(m))
	}
	a.hold(id, now.Add(openWait)) // until the ACK; RFC 3261 17.2.1: Timer H
}

// challenged notes that a call's request will be made once more.
func (a *activity) challenged(callID uint64, until time.Time) {
	a.hold(callID, until)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.challenges++
}

// expects reports whether a request may still be made once more.
func (a *activity) expects() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.challenges > 0
}

// came notes that a call's request was made once more, and answered, if that was
// expected.
func (a *activity) came(callID uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	before := len(a.open)
	if a.drop(callID); len(a.open) < before {
		a.challenges--
	}
}

// began notes a transaction that has been opened.
func (a *activity) began(id uint64, invite bool, now time.Time) {
	wait := openWait
	if invite {
		wait = openINVITE
	}
	a.hold(id, now.Add(wait))
}

// hold keeps a transaction open until that time, whatever was said before.
func (a *activity) hold(id uint64, until time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.drop(id)
	if len(a.open) == maxOpen {
		a.open = slices.Delete(a.open, 0, 1)
	}
	a.open = append(a.open, openTransaction{id, instantOf(until)})
}

// ended notes that a transaction is over.
func (a *activity) ended(id uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.drop(id)
}

func (a *activity) drop(id uint64) {
	a.open = slices.DeleteFunc(a.open, func(t openTransaction) bool { return t.id == id })
}

// dialog notes a call that was answered.
func (a *activity) dialog(callID uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if slices.Contains(a.calls, callID) {
		return
	}
	if len(a.calls) == maxCalls {
		a.calls = slices.Delete(a.calls, 0, 1)
	}
	a.calls = append(a.calls, callID)
}

// hungUp notes that a call is over.
func (a *activity) hungUp(callID uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls = slices.DeleteFunc(a.calls, func(id uint64) bool { return id == callID })
}

// busy reports whether something is open that closing the connection would cut.
func (a *activity) busy(now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	at := instantOf(now)
	a.open = slices.DeleteFunc(a.open, func(t openTransaction) bool { return at >= t.until })
	return len(a.open) > 0 || len(a.calls) > 0
}

// activitySeed makes the hashes of one process.
var activitySeed = maphash.MakeSeed()

// transactionID names the transaction of a request that goes that way. To RFC
// 3261 the ACK of a 2xx is one of its own, but here it ends its INVITE: 13.2.2.4
// gives it the same CSeq number, which but for ACK and CANCEL no other has.
func transactionID(m *rewrite.Message, way Direction) uint64 {
	var n [6]byte
	binary.BigEndian.PutUint32(n[:], m.CSeq)
	n[4] = byte(way.index())
	if m.Is("CANCEL") {
		n[5] = 1
	}
	var h maphash.Hash
	h.SetSeed(activitySeed)
	_, _ = h.Write(n[:])
	_, _ = h.Write(m.Text(m.CallID))
	return h.Sum64()
}

// callID names a call.
func callID(m *rewrite.Message) uint64 { return maphash.Bytes(activitySeed, m.Text(m.CallID)) }
