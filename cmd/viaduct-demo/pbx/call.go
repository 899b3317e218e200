package pbx

import (
	"time"

	"github.com/ghettovoice/gosip/sip"
)

// onRegister is the registrar (RFC 3261 10.3).
func (p *PBX) onRegister(req sip.Request, _ sip.ServerTransaction) {
	user, ok := p.authenticate(req, registrarChallenge)
	if !ok {
		return
	}
	if to := toOf(req); to == nil || userOf(to.Uri) != user {
		p.reply(req, 403, "Not Your Address")
		return
	}
	contacts, refused := p.places.register(user, req, time.Now())
	if refused != nil {
		p.reply(req, refused.status, refused.reason)
		return
	}
	p.reply(req, 200, "OK", contacts...)
}

// authenticate returns the account that req proves to be from. If it proves
// none, it is answered here.
func (p *PBX) authenticate(req sip.Request, c challenge) (user string, ok bool) {
	now := time.Now()
	user, verdict := p.users.check(req, c, now)
	switch verdict {
	case proven:
		if from := fromOf(req); from == nil || userOf(from.Uri) != user {
			p.reply(req, 403, "Not Your Address")
			return "", false
		}
		return user, true
	case wrong:
		p.reply(req, 403, "Wrong User or Password")
	default:
		p.reply(req, c.status, c.reason, p.users.header(c, verdict, now))
	}
	return "", false
}

// onInvite is a new call, or a change to one.
func (p *PBX) onInvite(req sip.Request, tx sip.ServerTransaction) {
	if tagOf(toOf(req)) != "" {
		p.onReinvite(req, tx)
		return
	}
	caller, ok := p.authenticate(req, proxyChallenge)
	if !ok {
		return
	}
	in := newIncoming(p, req, tx, dialogIn(req))
	callee := userOf(req.Recipient())
	switch extension := extensions[callee]; {
	case extension != nil:
		extension(p, in, caller)
	case !p.users.knows(callee):
		in.reject(refusal{404, "Not Found"})
	default:
		p.connect(in, callee)
	}
}

// connect calls callee for in, and connects the two when callee answers.
func (p *PBX) connect(in *incoming, callee string) {
	contacts := p.places.contacts(callee, time.Now())
	if len(contacts) == 0 {
		in.reject(refusal{480, "Not Registered"})
		return
	}
	call := p.fork(contacts, fromOf(in.req), toOf(in.req), contentOf(in.req), listener{
		progress: func(res sip.Response) { in.progress(res.StatusCode(), res.Reason(), contentOf(res)) },
		answered: func(by *outgoing, res sip.Response) { p.join(in, by, res) },
		failed:   in.reject,
	})
	in.wait(p.pauses.answer)
	call.giveUp()
}

// join answers in as by was answered, with res.
func (p *PBX) join(in *incoming, by *outgoing, res sip.Response) {
	pair(in.dialog, by.dialog)
	if !in.passOn(by, res) {
		p.bye(by.dialog)
	}
}

// passOn accepts in as by was answered, with res, and acknowledges by as in is
// acknowledged. It returns false if in has been given up.
func (in *incoming) passOn(by *outgoing, res sip.Response) bool {
	return in.accept(contentOf(res), func(ack sip.Request) { by.acknowledge(contentOf(ack)) })
}

// onReinvite changes the media of a call (hold, resume).
func (p *PBX) onReinvite(req sip.Request, tx sip.ServerTransaction) {
	d := p.dialogs.find(req)
	if d == nil {
		p.reply(req, 481, "Call Does Not Exist")
		return
	}
	d.refresh(req)
	in := newIncoming(p, req, tx, d)
	switch peer, session := d.partner(); {
	case peer != nil:
		p.reconnect(in, peer)
	case session != nil:
		p.renegotiate(in, session)
	default:
		in.reject(refusal{491, "Request Pending"})
	}
}

// reconnect passes a re-INVITE to the other side of the call.
func (p *PBX) reconnect(in *incoming, peer *dialog) {
	o, err := p.invite(peer, contentOf(in.req), listener{
		progress: func(sip.Response) {},
		answered: func(by *outgoing, res sip.Response) {
			if !in.passOn(by, res) {
				by.acknowledge(content{})
			}
		},
		failed: in.reject,
	})
	if err != nil {
		in.reject(refusal{480, "Temporarily Unavailable"})
		return
	}
	if !in.wait(p.pauses.answer) {
		o.cancel()
	}
}

// onAck completes an INVITE of a phone.
func (p *PBX) onAck(ack sip.Request, _ sip.ServerTransaction) {
	if d := p.dialogs.find(ack); d != nil {
		d.confirm(ack)
	}
}

// onBye ends a call from one side.
func (p *PBX) onBye(req sip.Request, _ sip.ServerTransaction) {
	d := p.dialogs.find(req)
	if d == nil {
		p.reply(req, 481, "Call Does Not Exist")
		return
	}
	p.reply(req, 200, "OK")
	p.end(d)
	if peer, _ := d.partner(); peer != nil {
		p.bye(peer)
	}
}

// onInDialog passes UPDATE, INFO and the like to the other side of the call.
func (p *PBX) onInDialog(req sip.Request, _ sip.ServerTransaction) {
	d := p.dialogs.find(req)
	if d == nil {
		p.reply(req, 481, "Call Does Not Exist")
		return
	}
	d.refresh(req)
	switch peer, session := d.partner(); {
	case peer != nil:
		p.forward(req, peer)
	case session != nil && req.Method() == sip.UPDATE && req.Body() != "":
		p.update(req, session)
	default:
		p.reply(req, 200, "OK", p.contact())
	}
}

// forward sends req on in peer and answers it as it is answered there.
func (p *PBX) forward(req sip.Request, peer *dialog) {
	out := peer.next(req.Method(), contentOf(req))
	if req.Method() == sip.UPDATE {
		out.AppendHeader(p.contact())
	}
	res, refused := p.exchange(out)
	if refused != nil {
		p.reply(req, refused.status, refused.reason)
		return
	}
	answer := newResponse(req, "", res.StatusCode(), res.Reason(), contentOf(res))
	if req.Method() == sip.UPDATE && res.IsSuccess() {
		peer.refresh(res)
		answer.AppendHeader(p.contact())
	}
	p.respond(answer)
}

// keep makes d known to later requests, and ends it if nobody else does.
func (p *PBX) keep(d *dialog) {
	if !p.dialogs.add(d) {
		return
	}
	p.spawn(func() {
		if p.pause(p.pauses.call, d.done) {
			p.hangUp(d)
		}
	})
}

// end forgets d. Only the first call returns true.
func (p *PBX) end(d *dialog) bool {
	first := d.finish()
	p.dialogs.remove(d)
	return first
}

// hangUp ends a call from our side, towards both phones.
func (p *PBX) hangUp(d *dialog) {
	p.bye(d)
	if peer, _ := d.partner(); peer != nil {
		p.bye(peer)
	}
}

// bye ends one side of a call.
func (p *PBX) bye(d *dialog) {
	if !p.end(d) {
		return
	}
	if owed := d.owed(); owed != nil {
		owed.acknowledge(content{})
	}
	bye := d.next(sip.BYE, content{})
	p.spawn(func() { p.exchange(bye) })
}

// onOptions says that the PBX is alive and what it can do.
func (p *PBX) onOptions(req sip.Request, _ sip.ServerTransaction) {
	accept := sip.Accept("application/sdp")
	p.reply(req, 200, "OK", &accept)
}

// onMessage passes a text to all phones of a user, or in a call to its other
// side.
func (p *PBX) onMessage(req sip.Request, tx sip.ServerTransaction) {
	if tagOf(toOf(req)) != "" {
		p.onInDialog(req, tx)
		return
	}
	if _, ok := p.authenticate(req, proxyChallenge); !ok {
		return
	}
	callee := userOf(req.Recipient())
	if !p.users.knows(callee) {
		p.reply(req, 404, "Not Found")
		return
	}
	answer := refusal{480, "Not Registered"}
	for _, contact := range p.places.contacts(callee, time.Now()) {
		answer = p.deliver(req, contact)
		if answer.status < 300 {
			break
		}
	}
	p.reply(req, answer.status, answer.reason)
}

// deliver sends the text of req to contact and returns how it was answered.
func (p *PBX) deliver(req sip.Request, contact sip.Uri) refusal {
	d := dialogOut(fromOf(req), toOf(req), contact)
	res, refused := p.exchange(d.next(sip.MESSAGE, contentOf(req)))
	if refused != nil {
		return *refused
	}
	return refusal{res.StatusCode(), res.Reason()}
}
