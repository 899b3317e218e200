package transport

import "fmt"

// CloseCause says why a connection ended. Its String is short and stable, fit
// for the label of a counter.
type CloseCause uint8

// The causes.
const (
	open CloseCause = iota

	CausePeer      // the browser closed it, with a closing handshake
	CauseLost      // the TCP or TLS connection ended without one
	CauseLocal     // WSConn.Close
	CauseMoved     // sent to register elsewhere; closed 1012
	CauseRate      // more messages than its user allows; closed 1008
	CauseGuessing  // credentials that were refused again and again; closed 1008
	CauseShutdown  // WSServer.Close, and what it is told to close before
	CauseSilent    // no sign of life for two pings, or within a Probe
	CauseIdle      // no SIP message for FirstMessage or MaxIdle; closed 1008
	CauseBacklog   // the browser did not read; closed 1008
	CauseFlood     // too many pings and keepalives; closed 1008
	CauseOversized // a message over MaxMessage; closed 1009
	CauseFragments // a message of too many frames; closed 1009
	CauseProtocol  // a violation of RFC 6455; closed 1002
	CauseNotUTF8   // a text message that is not UTF-8; closed 1007
	endOfCauses
)

// CloseCauses returns every cause there is, so that counters can start at
// zero.
func CloseCauses() []CloseCause {
	var all []CloseCause
	for c := open + 1; c < endOfCauses; c++ {
		all = append(all, c)
	}
	return all
}

func (c CloseCause) String() string {
	switch c {
	case CausePeer:
		return "peer"
	case CauseLost:
		return "lost"
	case CauseLocal:
		return "local"
	case CauseMoved:
		return "moved"
	case CauseRate:
		return "rate"
	case CauseGuessing:
		return "guessing"
	case CauseShutdown:
		return "shutdown"
	case CauseSilent:
		return "silent"
	case CauseIdle:
		return "idle"
	case CauseBacklog:
		return "backlog"
	case CauseFlood:
		return "flood"
	case CauseOversized:
		return "oversized"
	case CauseFragments:
		return "fragments"
	case CauseProtocol:
		return "protocol"
	case CauseNotUTF8:
		return "not_utf8"
	default:
		return fmt.Sprintf("CloseCause(%d)", uint8(c))
	}
}
