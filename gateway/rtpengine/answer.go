package rtpengine

import (
	"bytes"
	"fmt"
)

// Answer is what an engine has done.
type Answer struct {
	// SDP is the body for the other end, of an offer or answer. It belongs to who
	// gets the Answer.
	SDP []byte
	// Warning says what the engine did not do, such as delete a call that it does
	// not have. Mostly empty.
	Warning string
}

// Refused is the error of a command that the engine understood and did not execute.
type Refused struct {
	Reason string // in the engine's words
}

// Error returns the engine's words.
func (r *Refused) Error() string { return "rtpengine: refused: " + r.Reason }

// parseAnswer reads what came after a cookie. The error is a *Refused or
// ErrMalformed.
func parseAnswer(text []byte) (Answer, error) {
	var result, sdp, warning, reason []byte
	ok := parseDictionary(text, func(key, value []byte) {
		switch string(key) {
		case "result":
			result = value
		case "sdp":
			sdp = value
		case "warning":
			warning = value
		case "error-reason":
			reason = value
		}
	})
	if !ok {
		return Answer{}, ErrMalformed
	}
	switch string(result) {
	case "ok", "pong":
		return Answer{SDP: bytes.Clone(sdp), Warning: string(warning)}, nil
	case "error":
		return Answer{}, &Refused{Reason: string(reason)}
	}
	return Answer{}, fmt.Errorf("%w: result %.20q", ErrMalformed, result)
}
