package pbx

import (
	"sync"
	"time"

	"github.com/ghettovoice/gosip/sip"
)

// Retransmission of a 2xx to an INVITE (RFC 3261 13.3.1.4).
const (
	t1 = 500 * time.Millisecond
	t2 = 4 * time.Second
)

// An incoming is an INVITE from a phone, until it has its final response.
type incoming struct {
	p      *PBX
	req    sip.Request
	tx     sip.ServerTransaction
	dialog *dialog       // the one that a 2xx makes or, of a re-INVITE, the one it is in
	done   chan struct{} // closed with the final response

	mu    sync.Mutex
	final bool
}

func newIncoming(p *PBX, req sip.Request, tx sip.ServerTransaction, d *dialog) *incoming {
	return &incoming{p: p, req: req, tx: tx, dialog: d, done: make(chan struct{})}
}

// settle returns true to the first who has a final response to send.
func (in *incoming) settle() bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.final {
		return false
	}
	in.final = true
	close(in.done)
	return true
}

func (in *incoming) response(status sip.StatusCode, reason string, c content) sip.Response {
	return newResponse(in.req, tagOf(in.dialog.local), status, reason, c)
}

// progress sends a provisional response.
func (in *incoming) progress(status sip.StatusCode, reason string, c content) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.final {
		return
	}
	res := in.response(status, reason, c)
	res.AppendHeader(in.p.contact())
	in.p.respond(res)
}

func (in *incoming) reject(r refusal) {
	if in.settle() {
		in.p.respond(in.response(r.status, r.reason, content{}))
	}
}

// accept sends 200 until the ACK comes, which acked is called with. It returns
// false if the INVITE has been given up.
func (in *incoming) accept(c content, acked func(ack sip.Request)) bool {
	if !in.settle() {
		return false
	}
	in.p.keep(in.dialog)
	res := in.response(200, "OK", c)
	res.AppendHeader(in.p.contact())
	u := in.dialog.await(seqOf(in.req), acked)
	in.p.respond(res)
	in.p.spawn(func() { in.repeat(res, u) })
	return true
}

// repeat sends res again until its ACK comes. The PBX does it: gosip's
// transaction has done its part with the first.
func (in *incoming) repeat(res sip.Response, u *unconfirmed) {
	for waited, interval := time.Duration(0), t1; waited < 64*t1; {
		if !in.p.pause(interval, u.done) {
			return
		}
		in.p.respond(res)
		waited += interval
		interval = min(2*interval, t2)
	}
	// "If the server retransmits the 2xx response for 64*T1 seconds without
	// receiving an ACK, the dialog is confirmed, but the session SHOULD be
	// terminated." (RFC 3261 13.3.1.4)
	in.p.hangUp(in.dialog)
}

// wait returns true when the INVITE has its final response, by whomever. It
// answers a CANCEL, and without an answer within limit sends 480; both give the
// INVITE up.
func (in *incoming) wait(limit time.Duration) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-in.done:
		return true
	case cancel, ok := <-in.tx.Cancels():
		if ok {
			in.p.respond(newResponse(cancel, tagOf(in.dialog.local), 200, "OK", content{}))
		}
		in.reject(refusal{487, "Request Terminated"})
	case <-timer.C:
		in.reject(refusal{480, "No Answer"})
	case <-in.p.ctx.Done():
		in.settle()
	}
	return false
}
