package pbx

import (
	"errors"
	"sync"

	"github.com/ghettovoice/gosip/sip"
	"github.com/ghettovoice/gosip/transaction"
	"go.uber.org/zap"
)

// A listener is told how a call of ours fares: any number of times progress,
// then once one of the others, unless the call is given up.
type listener struct {
	progress func(res sip.Response)
	answered func(by *outgoing, res sip.Response)
	failed   func(r refusal)
}

// An outgoing is an INVITE to a phone.
type outgoing struct {
	p      *PBX
	dialog *dialog
	seq    uint32
	tx     sip.ClientTransaction
	tell   listener

	mu        sync.Mutex
	proceeds  bool // a provisional response has come
	cancelled bool
	final     bool
	ack       sip.Request // of the 2xx, once sent
}

// invite sends an INVITE in d, which may be a new dialog.
func (p *PBX) invite(d *dialog, c content, tell listener) (*outgoing, error) {
	req := d.next(sip.INVITE, c)
	req.AppendHeader(p.contact())
	o := &outgoing{p: p, dialog: d, seq: seqOf(req), tell: tell}
	tx, err := p.request(req)
	if err != nil {
		return nil, err
	}
	o.tx = tx
	p.spawn(o.listen)
	return o, nil
}

// listen ends when gosip forgets the transaction: a repeated 2xx is
// acknowledged until then.
func (o *outgoing) listen() {
	for res := range o.tx.Responses() {
		switch {
		case res.IsProvisional():
			o.proceed(res)
		case res.IsSuccess():
			o.success(res)
		default:
			o.fail(refusal{res.StatusCode(), res.Reason()})
		}
	}
	o.fail(o.fault())
}

func (o *outgoing) proceed(res sip.Response) {
	o.mu.Lock()
	first, cancelled := !o.proceeds, o.cancelled
	o.proceeds = true
	o.mu.Unlock()
	if cancelled && first {
		o.sendCancel()
	}
	if !cancelled {
		o.tell.progress(res)
	}
}

func (o *outgoing) success(res sip.Response) {
	o.mu.Lock()
	first, ack := !o.final, o.ack
	o.final = true
	o.mu.Unlock()
	switch {
	case first:
		o.dialog.establish(res)
		o.dialog.owe(o)
		o.p.keep(o.dialog)
		o.tell.answered(o, res)
	case ack != nil:
		o.send(ack)
	}
}

func (o *outgoing) fail(r refusal) {
	o.mu.Lock()
	first := !o.final
	o.final = true
	o.mu.Unlock()
	if first {
		o.tell.failed(r)
	}
}

// fault returns what stands for the final response that never came.
func (o *outgoing) fault() refusal {
	var tx transaction.TxError
	for err := range o.tx.Errors() {
		if errors.As(err, &tx) && tx.Timeout() {
			return refusal{408, "Request Timeout"}
		}
	}
	return refusal{480, "Temporarily Unavailable"}
}

// cancel gives the INVITE up. If it is answered all the same, listener is told.
func (o *outgoing) cancel() {
	o.mu.Lock()
	first, proceeds, final := !o.cancelled, o.proceeds, o.final
	o.cancelled = true
	o.mu.Unlock()
	// "If no provisional response has been received, the CANCEL request MUST
	// NOT be sent; rather, the client MUST wait for the arrival of a
	// provisional response before sending the request." (RFC 3261 9.1)
	if first && proceeds && !final {
		o.sendCancel()
	}
}

func (o *outgoing) sendCancel() {
	if err := o.tx.Cancel(); err != nil {
		o.p.log.Debug("CANCEL not sent", zap.Error(err))
	}
}

// acknowledge sends the ACK of the 2xx. Only the first call counts.
func (o *outgoing) acknowledge(c content) {
	o.mu.Lock()
	first := o.ack == nil
	if first {
		o.ack = o.dialog.ack(o.seq, c)
	}
	ack := o.ack
	o.mu.Unlock()
	if first {
		o.send(ack)
	}
}

func (o *outgoing) send(ack sip.Request) {
	if err := o.p.server.Send(ack); err != nil {
		o.p.log.Debug("ACK not sent", zap.Error(err))
	}
}
