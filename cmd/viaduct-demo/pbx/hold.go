package pbx

import "strings"

// A hold is the direction of the audio in an offer. pion is not told of it: it
// gives the audio up for good at inactive, and answers sendonly with sendrecv.
type hold string

const noHold hold = "sendrecv"

func holdIn(offer string) hold {
	for _, h := range []hold{"sendonly", "recvonly", "inactive"} {
		if strings.Contains(offer, h.line()) {
			return h
		}
	}
	return noHold
}

func (h hold) line() string { return "a=" + string(h) + "\r\n" }

// hide returns offer as if there was no hold.
func (h hold) hide(offer string) string { return strings.ReplaceAll(offer, h.line(), noHold.line()) }

// show returns the answer to such an offer as the answer to the real one
// (RFC 3264 6.1).
func (h hold) show(answer string) string {
	mirrored := map[hold]hold{"sendonly": "recvonly", "recvonly": "sendonly", "inactive": "inactive", noHold: noHold}
	return strings.ReplaceAll(answer, noHold.line(), mirrored[h].line())
}

// listens tells whether the phone wants to hear us.
func (h hold) listens() bool { return h == noHold || h == "recvonly" }
