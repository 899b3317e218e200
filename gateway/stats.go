package gateway

import (
	"sync/atomic"

	"viaduct/rewrite"
)

// stats counts what the gateway does, for metrics.go to show. The zero value is
// ready; everything is safe for concurrent use and allocates nothing.
type stats struct {
	sent      sentCounters  // messages relayed
	timeouts  atomic.Uint64 // requests sent again and again, and given up
	ownAcks   atomic.Uint64 // ACKs of final responses that the gateway made itself
	rebinds   atomic.Uint64 // clients that came back on another connection
	guesses   atomic.Uint64 // credentials that the SIP server has refused
	moved     atomic.Uint64 // browsers closed so that they register with another upstream
	heldTotal [numHeldOutcomes]atomic.Uint64

	accepted atomic.Uint64      // handshakes
	closed   [256]atomic.Uint64 // connections, by transport.CloseCause
}

// index numbers the directions, for arrays.
func (d Direction) index() int {
	if d == Down {
		return 1
	}
	return 0
}

// heldOutcome says what became of a held request.
type heldOutcome uint8

const (
	heldDelivered heldOutcome = iota // its client came back
	heldExpired                      // its client did not come back in time
	heldRefused                      // the store was full
	numHeldOutcomes
)

func (o heldOutcome) String() string {
	return [numHeldOutcomes]string{"delivered", "expired", "refused"}[o]
}

// method numbers the SIP methods that have a counter of their own.
type method uint8

// methods are the registered ones; whatever else is sent counts as one, since a
// browser could invent any number.
var methods = [...]string{
	"other", "ACK", "BYE", "CANCEL", "INFO", "INVITE", "MESSAGE", "NOTIFY", "OPTIONS", "PRACK", "PUBLISH", "REFER",
	"REGISTER", "SUBSCRIBE", "UPDATE",
}

// methodOf returns the method of a request, or of the request that a response is to.
func methodOf(m *rewrite.Message) method {
	text := m.Method
	if !m.Request {
		text = m.CSeqMethod
	}
	switch string(m.Text(text)) {
	case "ACK":
		return 1
	case "BYE":
		return 2
	case "CANCEL":
		return 3
	case "INFO":
		return 4
	case "INVITE":
		return 5
	case "MESSAGE":
		return 6
	case "NOTIFY":
		return 7
	case "OPTIONS":
		return 8
	case "PRACK":
		return 9
	case "PUBLISH":
		return 10
	case "REFER":
		return 11
	case "REGISTER":
		return 12
	case "SUBSCRIBE":
		return 13
	case "UPDATE":
		return 14
	}
	return 0
}

// classes are what a message is counted as, by its status / 100, which is 0 of a request.
var classes = [...]string{"request", "1xx", "2xx", "3xx", "4xx", "5xx", "6xx"}

// sentCounters counts messages by direction, method and class.
type sentCounters [2][len(methods)][len(classes)]atomic.Uint64

// relayed counts a message that is sent on in that direction. It is called once
// for each, not for what is sent again.
func (s *stats) relayed(d Direction, m *rewrite.Message) {
	s.sent[d.index()][methodOf(m)][m.Status/100].Add(1)
}
