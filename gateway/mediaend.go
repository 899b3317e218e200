package gateway

import (
	"go.uber.org/zap"

	"viaduct/gateway/rtpengine"
	"viaduct/rewrite"
)

// abandon takes the media back of a request that begins a call, and is not
// relayed.
func (g *Gateway) abandon(w *work) {
	if m := &w.msg; w.waiting != nil && w.waiting.answered && m.Request && m.Is("INVITE") && !m.Tagged() {
		g.hangUp(legName(m, w.leg))
	}
}

// endMedia ends the media of a call that is over: hung up, or refused for good.
// After 401, 407 and 422 the same INVITE comes again (RFC 3261 22.2, RFC 4028 6).
func (g *Gateway) endMedia(m *rewrite.Message, leg rewrite.ClientID, seal *rewrite.Media) {
	if g.media == nil {
		return
	}
	switch {
	case m.Request && m.Is("BYE"):
	case m.Request || !m.Is("INVITE") || m.Status < 300 || seal.InDialog:
		return
	case m.Status == 401 || m.Status == 407 || m.Status == 422:
		return
	}
	g.hangUp(legName(m, leg))
}

// endCancelled does so for the call of a CANCEL that its browser was not there
// for: nobody answers the INVITE any more.
func (g *Gateway) endCancelled(w *work) {
	if m := &w.msg; g.media != nil && m.Request && m.Is("CANCEL") && !m.Tagged() {
		if token, ok := g.openToken(w); ok {
			g.hangUp(legName(m, token.ID))
		}
	}
}

// endUnanswered does so for a browser's INVITE, as it was sent, that the SIP
// server has not answered in all its time.
func (g *Gateway) endUnanswered(msg []byte) {
	if g.media == nil {
		return
	}
	w := g.works.get()
	defer g.works.put(w)
	m := &w.msg
	if m.Scan(msg) != rewrite.Sound || !m.Request || !m.Is("INVITE") || m.Tagged() {
		return
	}
	if _, ok := g.openUp(w); ok {
		g.hangUp(legName(m, w.up.Client))
	}
}

// endMediaOf does so for a BYE of a browser. It has no Contact, and so may be of
// any client that the flow is known to have.
func (g *Gateway) endMediaOf(f *flow, m *rewrite.Message, leg rewrite.ClientID) {
	if g.media == nil || !m.Is("BYE") {
		return
	}
	g.hangUp(legName(m, leg))
	for _, other := range f.clients() {
		if other != leg {
			g.hangUp(legName(m, other))
		}
	}
}

// hangUp has every engine forget a call. One was set up by another than the
// first choice if that was down then, and an engine that does not know a call
// does not mind.
func (g *Gateway) hangUp(name []byte) {
	cmd := rtpengine.Command{Kind: rtpengine.KindDelete, CallID: name}
	for _, e := range g.media.Engines() {
		g.media.Ask(e, cmd, func(_ rtpengine.Answer, err error) {
			if err != nil {
				g.log.Debug("media not deleted", zap.Stringer("engine", e), zap.ByteString("call", name), zap.Error(err))
			}
		})
	}
}
