package gateway

import (
	"crypto/hmac"
	"net/netip"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"viaduct/rewrite"
	"viaduct/transport"
)

// retryAfter is what a 503 asks for, in seconds (RFC 3261 21.5.4).
const retryAfter = 5

// answers holds the response that a reason gives to a request; the reasons that
// are not in it are never told to anyone.
var answers = map[Reason]rewrite.Answer{
	ReasonMaxForwards:         {Status: 483, Phrase: "Too Many Hops"},
	ReasonProxyRequire:        {Status: 420, Phrase: "Bad Extension"},
	ReasonForeignRoute:        {Status: 403, Phrase: "Route Not Allowed"},
	ReasonNotTheUser:          {Status: 403, Phrase: "Not Your Address"},
	ReasonViaTooLong:          {Status: 400, Phrase: "Via Too Long"},
	ReasonContactTooLong:      {Status: 400, Phrase: "Contact Too Long"},
	ReasonTooLarge:            {Status: 513, Phrase: "Message Too Large"},
	ReasonUpstreamTooLarge:    {Status: 513, Phrase: "Message Too Large"},
	ReasonUpstreamUnreachable: {Status: 503, Phrase: "SIP Server Unreachable", RetryAfter: retryAfter},
	ReasonForgedToken:         {Status: 403, Phrase: "Unknown Contact"},
	ReasonNoConnection:        {Status: 480, Phrase: "Not Connected"},
	ReasonReliableProvisional: {Status: 420, Phrase: "Bad Extension", Unsupported: []byte(reliable[0])},
	ReasonMediaUnreachable:    {Status: 503, Phrase: "Media Relay Unreachable", RetryAfter: retryAfter},
	ReasonMediaRefused:        {Status: 488, Phrase: "Not Acceptable Here"},
	ReasonMediaOverflow:       {Status: 503, Phrase: "Too Many Messages Wait", RetryAfter: retryAfter},
	ReasonOverRate:            {Status: 503, Phrase: "Too Many Requests", RetryAfter: retryAfter},
	ReasonGuessing:            {Status: 503, Phrase: "Credentials Refused Too Often", RetryAfter: int(failures.interval / time.Second)},
}

// answerFor returns the response that tells the sender of m why it was refused;
// its Status is 0 if there is none to tell.
func (g *Gateway) answerFor(r Reason, m *rewrite.Message) rewrite.Answer {
	if !m.Answerable() {
		return rewrite.Answer{}
	}
	a := answers[r]
	if int(r) < rewrite.NumDefects {
		a.Status, a.Phrase = rewrite.Defect(r).Answer()
	}
	if r == ReasonProxyRequire {
		// RFC 3261 16.3 step 5: the 420 lists "those option tags the element did
		// not understand", which are all.
		a.Unsupported = m.Joined(rewrite.ProxyRequire)
	}
	return a
}

// refuse counts and logs what a browser sent and was not relayed, and answers it.
func (g *Gateway) refuse(f *flow, w *work, r Reason) {
	g.dropped[r].Add(1)
	g.abandon(w)
	if entry := g.refusal[r].Check(zap.WarnLevel, "refused"); entry != nil {
		g.writeRefused(entry, w, zap.String("side", "browser"), zap.Stringer("client", f.client()), zap.Stringer("remote", f.conn.RemoteAddr()))
	}
	g.writeAnswer(w, r, netip.AddrPort{})
	g.traceRefused(Up, r, f, transport.Source{}, w)
	if len(w.out) > 0 {
		_ = f.conn.Send(w.out) // a browser that is gone needs no answer
	}
}

// refuseDown does the same for what came from the SIP side.
func (g *Gateway) refuseDown(from transport.Source, w *work, r Reason) {
	g.noteRefusedDown(from, w, r)
	g.writeAnswer(w, r, from.Addr)
	g.traceRefused(Down, r, nil, from, w)
	if len(w.out) > 0 {
		_ = g.sip.Reply(from, w.out) // the sender repeats what it needs an answer to
	}
}

func (g *Gateway) noteRefusedDown(from transport.Source, w *work, r Reason) {
	g.dropped[r].Add(1)
	g.abandon(w)
	if entry := g.refusal[r].Check(zap.WarnLevel, "refused"); entry != nil {
		g.writeRefused(entry, w, zap.String("side", "sip"), zap.Stringer("remote", from.Addr), zap.Stringer("transport", from.Proto))
	}
}

// writeAnswer writes the response to what was refused to w.out, nothing if
// there is none to tell. The source is that of a request of the SIP side.
func (g *Gateway) writeAnswer(w *work, r Reason, source netip.AddrPort) {
	w.out = w.out[:0]
	w.answer = g.answerFor(r, &w.msg)
	if w.answer.Status == 0 {
		return
	}
	w.answer.Source, w.answer.Tag = source, g.toTag(w)
	w.out = w.answer.Append(w.out, &w.msg)
}

// toTag makes the To tag of an answer, a pure function of the request.
func (g *Gateway) toTag(w *work) []byte {
	hop, _ := w.msg.Via(0)
	h := w.hop(&hop)
	w.tag = g.keys.Load().First().AppendTag(w.tag[:0], &h)
	return w.tag
}

// endsOwnAnswer reports whether an ACK is for an answer that the gateway itself
// gave: it goes no further. RFC 3261 17.1.1.3 gives it the INVITE's top Via, and
// so the tag that was made of that.
func (g *Gateway) endsOwnAnswer(w *work) bool {
	m := &w.msg
	if !m.Is("ACK") {
		return false
	}
	to, ok := m.ParseAddress(m.To)
	if !ok {
		return false
	}
	tag, ok := m.Param(to.Params, "tag")
	return ok && hmac.Equal(m.Text(tag.Value), g.toTag(w))
}

// writeRefused adds to an entry of the log what was refused.
func (g *Gateway) writeRefused(entry *zapcore.CheckedEntry, w *work, fields ...zap.Field) {
	m := &w.msg
	if m.Request {
		fields = append(fields, zap.ByteString("method", m.Text(m.Method)))
	} else if m.Status != 0 {
		fields = append(fields, zap.Int("status", m.Status))
	}
	entry.Write(append(fields, zap.ByteString("call_id", m.Text(m.CallID)))...)
	if entry := g.log.Check(zap.DebugLevel, "refused message"); entry != nil {
		entry.Write(zap.String("message", mask(m.Raw)))
	}
}

// logRelayed shows a whole message, before and after, to whoever asks for it by
// the log level.
func (g *Gateway) logRelayed(direction string, w *work) {
	if entry := g.log.Check(zap.DebugLevel, "relayed"); entry != nil {
		entry.Write(zap.String("direction", direction), zap.String("before", mask(w.msg.Raw)), zap.String("after", mask(w.out)))
	}
}
