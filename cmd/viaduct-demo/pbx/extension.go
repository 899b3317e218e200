package pbx

import (
	"time"

	"github.com/ghettovoice/gosip/sip"
	"go.uber.org/zap"
)

// An extension serves a call to it. It returns when the INVITE has its final
// response.
type extension func(p *PBX, in *incoming, caller string)

// extensions by what is dialled: a word or a number.
var extensions = map[string]extension{
	"echo": (*PBX).echo, "600": (*PBX).echo,
	"bye": (*PBX).sayBye, "601": (*PBX).sayBye,
	"busy": (*PBX).beBusy, "602": (*PBX).beBusy,
	"ring": (*PBX).onlyRing, "603": (*PBX).onlyRing,
	"callback": (*PBX).callBack, "604": (*PBX).callBack,
}

// echo sends the caller's audio back.
func (p *PBX) echo(in *incoming, _ string) {
	p.answer(in, func(sip.Request) {})
}

// sayBye answers and hangs up after a while.
func (p *PBX) sayBye(in *incoming, _ string) {
	p.answer(in, func(sip.Request) {
		p.spawn(func() {
			if p.pause(p.pauses.talk, in.dialog.done) {
				p.hangUp(in.dialog)
			}
		})
	})
}

func (p *PBX) beBusy(in *incoming, _ string) {
	in.reject(refusal{486, "Busy Here"})
}

// onlyRing rings until the caller has had enough.
func (p *PBX) onlyRing(in *incoming, _ string) {
	in.progress(180, "Ringing", content{})
	in.wait(p.pauses.answer)
}

// callBack declines, and then calls the caller: an echo for who answers.
func (p *PBX) callBack(in *incoming, caller string) {
	in.reject(refusal{603, "Calling You Back"})
	if p.pause(p.pauses.callBack, nil) {
		p.callEcho(caller, toOf(in.req), fromOf(in.req), in.req.Body())
	}
}

// callEcho calls user, whose own offer was theirs, at all its contacts; whoever
// answers is sent its audio back.
func (p *PBX) callEcho(user string, from, to *sip.Address, theirs string) {
	session, offer, err := p.media.offer(p.ctx, theirs)
	if err != nil {
		p.log.Warn("no offer to call back with", zap.Error(err))
		return
	}
	contacts := p.places.contacts(user, time.Now())
	if len(contacts) == 0 {
		session.close()
		return
	}
	done := make(chan struct{})
	call := p.fork(contacts, from, to, sdp(offer), listener{
		progress: func(sip.Response) {},
		answered: func(by *outgoing, res sip.Response) {
			defer close(done)
			p.start(by, session, res)
		},
		failed: func(refusal) {
			defer close(done)
			session.close()
		},
	})
	p.pause(p.pauses.answer, done)
	if call.giveUp() {
		session.close()
	}
}

// start begins the media of a call of ours that was answered with res.
func (p *PBX) start(by *outgoing, session session, res sip.Response) {
	by.dialog.carry(session)
	by.acknowledge(content{})
	if err := session.accept(res.Body()); err != nil {
		p.log.Info("answer not understood", zap.Error(err))
		p.hangUp(by.dialog)
		return
	}
	p.endWithMedia(by.dialog, session)
}

// answer answers a call with an echo of its audio.
func (p *PBX) answer(in *incoming, acked func(sip.Request)) {
	session, answer, err := p.media.answer(p.ctx, in.req.Body())
	if err != nil {
		p.log.Info("offer not understood", zap.Error(err))
		in.reject(refusal{488, "Not Acceptable Here"})
		return
	}
	in.dialog.carry(session)
	if !in.accept(sdp(answer), acked) {
		session.close()
		return
	}
	p.endWithMedia(in.dialog, session)
}

// endWithMedia hangs up when the phone's media is gone: a page that was closed
// sends no BYE. One that hangs up does, and its media may be closed before the
// BYE is here.
func (p *PBX) endWithMedia(d *dialog, session session) {
	p.spawn(func() {
		select {
		case <-session.gone():
			if p.pause(p.pauses.bye, d.done) {
				p.hangUp(d)
			}
		case <-d.done:
		case <-p.ctx.Done():
		}
	})
}

// renegotiate answers a re-INVITE to an extension.
func (p *PBX) renegotiate(in *incoming, session session) {
	answer, err := session.answer(p.ctx, in.req.Body())
	if err != nil {
		p.log.Info("offer not understood", zap.Error(err))
		in.reject(refusal{488, "Not Acceptable Here"})
		return
	}
	in.accept(sdp(answer), func(sip.Request) {})
}

// update answers an UPDATE with an offer to an extension.
func (p *PBX) update(req sip.Request, session session) {
	answer, err := session.answer(p.ctx, req.Body())
	if err != nil {
		p.log.Info("offer not understood", zap.Error(err))
		p.reply(req, 488, "Not Acceptable Here")
		return
	}
	res := newResponse(req, "", 200, "OK", sdp(answer))
	res.AppendHeader(p.contact())
	p.respond(res)
}
