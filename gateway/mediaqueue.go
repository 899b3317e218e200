package gateway

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"viaduct/gateway/rtpengine"
	"viaduct/transport"
)

const (
	// maxWaiting bounds the messages that wait on one flow.
	maxWaiting = 64
	// byePatience is how long an engine is waited for once a BYE of that flow
	// waits too: who hangs up does not care what becomes of the media.
	byePatience = 250 * time.Millisecond
)

// waiting is a message that waits for an engine, or behind one that does.
type waiting struct {
	flow   *flow
	way    Direction
	from   transport.Source // of one on its way down
	text   []byte
	callID uint64
	bye    bool

	// What the engine has said, once it has.
	answered bool
	engine   *rtpengine.Engine
	answer   rtpengine.Answer
	err      error
}

// mediaQueue is the messages of one flow, in both directions, that wait. The
// first of them waits for an engine, or is being relayed by the one goroutine
// that goes on with the others then. The zero value is empty; it is safe for
// concurrent use.
type mediaQueue struct {
	some atomic.Int32 // how many, to be asked without a lock

	mu     sync.Mutex
	all    []*waiting
	giveUp func()      // ends the engine's time for the first one; nil: it has not been asked
	timer  *time.Timer // until giveUp is called
}

// busy reports whether anything waits. Of no queue it does not.
func (q *mediaQueue) busy() bool { return q != nil && q.some.Load() > 0 }

// has reports whether a message of a call waits.
func (q *mediaQueue) has(callID uint64) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.ContainsFunc(q.all, func(h *waiting) bool { return h.callID == callID })
}

// join puts a message at the end; not ok if there is no room. The first one is
// for the caller to go on with.
func (q *mediaQueue) join(h *waiting) (first, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.all) == maxWaiting {
		return false, false
	}
	q.all = append(q.all, h)
	q.some.Add(1)
	q.hurry()
	return len(q.all) == 1, true
}

// asked notes that an engine is asked about the first message, and how that ends
// before its time.
func (q *mediaQueue) asked(giveUp func()) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.giveUp = giveUp
	q.hurry()
}

// hurry limits the engine's time if a BYE waits.
func (q *mediaQueue) hurry() {
	if q.giveUp != nil && q.timer == nil && slices.ContainsFunc(q.all, func(h *waiting) bool { return h.bye }) {
		q.timer = time.AfterFunc(byePatience, q.giveUp)
	}
}

// settled notes that the engine is not waited for any more.
func (q *mediaQueue) settled() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.giveUp = nil
	if q.timer != nil {
		q.timer.Stop()
		q.timer = nil
	}
}

// first returns the first message.
func (q *mediaQueue) first() *waiting {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.all[0]
}

// next takes the first message away and returns the one after it, nil if there
// is none.
func (q *mediaQueue) next() *waiting {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.all = slices.Delete(q.all, 0, 1)
	q.some.Add(-1)
	if len(q.all) == 0 {
		return nil
	}
	return q.all[0]
}
