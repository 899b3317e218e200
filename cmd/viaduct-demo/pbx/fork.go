package pbx

import (
	"sync"

	"github.com/ghettovoice/gosip/sip"
	"go.uber.org/zap"
)

// A fork is one call to all contacts of a user. The first that answers has it.
type fork struct {
	p    *PBX
	tell listener

	mu      sync.Mutex
	legs    []*outgoing
	left    int // legs that may still answer
	settled bool
	best    *refusal // what the caller is told if none answers
}

// fork sends an INVITE to each contact.
func (p *PBX) fork(contacts []sip.Uri, from, to *sip.Address, c content, tell listener) *fork {
	f := &fork{p: p, tell: tell, left: len(contacts)}
	for _, contact := range contacts {
		f.add(dialogOut(from, to, contact), c)
	}
	return f
}

func (f *fork) add(d *dialog, c content) {
	leg, err := f.p.invite(d, c, listener{
		progress: f.progress,
		answered: f.answered,
		failed:   f.failed,
	})
	if err != nil {
		f.p.log.Debug("contact not called", zap.Error(err))
		f.failed(refusal{480, "Temporarily Unavailable"})
		return
	}
	f.mu.Lock()
	f.legs = append(f.legs, leg)
	late := f.settled
	f.mu.Unlock()
	if late {
		leg.cancel()
	}
}

func (f *fork) progress(res sip.Response) {
	f.mu.Lock()
	settled := f.settled
	f.mu.Unlock()
	if !settled && res.StatusCode() > 100 {
		f.tell.progress(res)
	}
}

func (f *fork) answered(by *outgoing, res sip.Response) {
	if !f.giveUp() {
		f.p.bye(by.dialog) // it answered while it was being cancelled
		return
	}
	f.tell.answered(by, res)
}

func (f *fork) failed(r refusal) {
	f.mu.Lock()
	f.left--
	if f.best == nil || r.outranks(*f.best) {
		f.best = &r
	}
	last := f.left == 0 || r.status >= 600
	told := *f.best
	f.mu.Unlock()
	if last && f.giveUp() {
		f.tell.failed(told)
	}
}

// giveUp cancels all legs that have no final response. It returns false if the
// call has been answered, refused or given up before.
func (f *fork) giveUp() bool {
	f.mu.Lock()
	first, legs := !f.settled, f.legs
	f.settled = true
	f.mu.Unlock()
	if first {
		for _, leg := range legs {
			leg.cancel()
		}
	}
	return first
}
