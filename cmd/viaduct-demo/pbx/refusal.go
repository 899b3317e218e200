package pbx

import "github.com/ghettovoice/gosip/sip"

// A refusal is a final response that is not a success, or what stands for one
// that never came.
type refusal struct {
	status sip.StatusCode
	reason string
}

// outranks tells whether the caller learns more from r than from other: a
// person who refuses counts for more than a page that was closed.
func (r refusal) outranks(other refusal) bool { return r.weight() > other.weight() }

func (r refusal) weight() int {
	switch {
	case r.status >= 600:
		return 3
	case r.status == 408, r.status == 480, r.status >= 500:
		return 1
	default:
		return 2
	}
}
