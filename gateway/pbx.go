package gateway

import (
	"bytes"
	"net/netip"
	"time"

	"go.uber.org/zap"

	"viaduct/rewrite"
	"viaduct/transport"
)

// sealParam is the parameter of our Via on requests to a browser. PBXs find Via
// parameters by substring: it holds none of `branch=`, `maddr=`, `ttl=`, `rport`.
const sealParam = "seal"

// branchCookie begins every branch (RFC 3261 8.1.1.7).
const branchCookie = "z9hG4bK"

// fromSIP relays one message that an upstream or an allowed peer sent.
func (g *Gateway) fromSIP(from transport.Source, msg []byte) {
	w := g.works.get()
	defer g.works.put(w)
	defect := w.msg.Scan(msg)
	if defect == rewrite.Sound && from.Proto == transport.ProtoUDP {
		defect = w.msg.CheckDatagram()
	}
	switch {
	case defect != rewrite.Sound:
		g.refuseDown(from, w, Reason(defect))
	case w.msg.Request:
		g.requestDown(from, w)
	default:
		g.responseDown(from, w)
	}
}

// requestDown relays a request to the client that the token in its Request-URI
// names.
func (g *Gateway) requestDown(from transport.Source, w *work) {
	m := &w.msg
	hop, ok := m.Via(0)
	if !ok {
		g.refuseDown(from, w, Reason(rewrite.BadVia))
		return
	}
	if g.endsOwnAnswer(w) {
		if g.repeats(from.Proto) {
			g.arrives(w, &hop, nil) // that answer is not sent again
		}
		return
	}
	token, ok := g.openToken(w)
	if !ok {
		g.refuseDown(from, w, ReasonForgedToken)
		return
	}
	g.heard(from)
	for lost := w.waiting != nil; ; {
		if to := g.clients.reach(&token); to != nil {
			g.deliver(to) // what came before it goes before it
			if g.writeDown(from, w, &hop, &token, to) {
				return
			}
			lost = true
			continue
		}
		w.leg = token.ID
		g.abandon(w)
		g.endMedia(m, token.ID, nil)
		if g.await(from, w, &hop, &token, lost) {
			g.deliverTo(&token)
			return
		}
	}
}

// openToken verifies the token in the Request-URI, and puts the URI that it
// stands for into w.uri.
func (g *Gateway) openToken(w *work) (token rewrite.Token, ok bool) {
	m := &w.msg
	uri, ok := rewrite.ParseURI(m.Text(m.URI))
	if !ok {
		return token, false
	}
	w.down.Token = uri.User
	w.uri, token, ok = g.keys.Load().OpenToken(w.uri[:0], uri.User)
	return token, ok
}

// writeDown writes a request whose token was opened to the browser on a flow,
// unless that has it already; false if the flow is closing, and so left.
func (g *Gateway) writeDown(from transport.Source, w *work, hop *rewrite.ViaHop, token *rewrite.Token, to *flow) bool {
	m := &w.msg
	by := g.upstreamAt(from.Proto, from.Addr).leg(from.Proto)
	if by == nil {
		g.refuseDown(from, w, ReasonUpstreamUnreachable)
		return true
	}
	if w.waiting == nil && g.repeats(from.Proto) && !g.arrives(w, hop, to) {
		g.traceAbsorbed(to, from, w)
		g.probeSilent(w, hop, to)
		return true
	}
	if waits, r := g.bridge(to, w, Down, from, token.ID, &w.media); waits {
		return true
	} else if r != 0 {
		if g.repeats(from.Proto) {
			g.arrives(w, hop, nil) // no browser gets its ACK either
		}
		g.giveUp(from, w, r)
		return true
	}
	g.endMedia(m, token.ID, nil)
	g.rewriteDown(from, w, hop, token.Key, by)
	g.stats.relayed(Down, m)
	g.traceRelayed(Down, to, from, w)
	to.activity.opens(m, Down)
	if to.conn.Send(w.out) != nil {
		g.clients.leave(to)
		return false
	}
	to.activity.passed(m, Down)
	return true
}

// probeSilent looks whether a browser is still there that an INVITE has come for
// again: stacks answer 100 at once.
func (g *Gateway) probeSilent(w *work, hop *rewrite.ViaHop, to *flow) {
	if w.msg.Is("INVITE") && g.transactions.Waited(w.idOfHop(hop)) > 0 {
		to.conn.Probe(probeTimeout)
	}
}

// rewriteDown writes the request, as the browser gets it, to w.out. The branch
// is a function of the PBX's own, so that CANCEL and ACK meet their INVITE
// whatever connection they come by; the token's key makes it, so that it stays
// the same when keys change.
func (g *Gateway) rewriteDown(from transport.Source, w *work, via *rewrite.ViaHop, key *rewrite.Key, by *leg) {
	hop := w.hop(via)
	w.down = rewrite.DownSeal{
		Proto: uint8(from.Proto), Source: from.Addr, Upstream: by.upstream.id, Media: w.media, Routes: key.Routes(&w.msg), Token: w.down.Token,
	}
	w.via = append(w.via[:0], "SIP/2.0/WSS "...)
	w.via = append(w.via, by.host...)
	w.via = key.AppendBranch(append(w.via, ";branch="...), &hop)
	w.via = key.AppendDownSeal(append(w.via, ";"+sealParam+"="...), &w.down, &hop)
	w.reqDown = rewrite.RequestDown{
		URI: w.uri, Via: w.via, Source: from.Addr, Unsupported: g.unsupported(&w.msg), Body: w.body,
	}
	w.out = w.reqDown.Append(w.out[:0], &w.msg)
	g.logRelayed("down", w)
}

// responseDown relays a response to the browser that the seal in our branch names.
func (g *Gateway) responseDown(from transport.Source, w *work) {
	seal, ok := g.openUp(w)
	if !ok {
		g.refuseDown(from, w, ReasonForgedSeal)
		return
	}
	g.heard(from)
	if w.up.Own {
		g.probes.end(w.msg.Text(w.msg.CallID), outcome{answer: w.msg.StatusLine()})
		return
	}
	g.responseTo(from, w, seal)
}

// responseTo relays a response whose seal was opened.
func (g *Gateway) responseTo(from transport.Source, w *work, seal []byte) {
	to := g.flowOf(&w.up)
	if to != nil {
		g.deliver(to) // what came before it goes before it
	}
	if w.waiting == nil && g.repeats(from.Proto) && !g.answered(from, to, w, seal) {
		g.traceAbsorbed(to, from, w)
		return
	}
	if to != nil && g.passDown(from, to, w) {
		return
	}
	g.endMedia(&w.msg, w.up.Client, &w.up.Media)
	if g.holdResponse(from, w) {
		return
	}
	g.refuseDown(from, w, ReasonBrowserGone)
}

// passDown writes a response to the browser on a flow; false if that is closing,
// and so left.
func (g *Gateway) passDown(from transport.Source, to *flow, w *work) bool {
	m := &w.msg
	if waits, r := g.bridge(to, w, Down, from, w.up.Client, &w.up.Media); waits {
		return true
	} else if r != 0 {
		g.refuseDown(from, w, r)
		return true
	}
	g.endMedia(m, w.up.Client, &w.up.Media)
	w.respDown = rewrite.ResponseDown{Via: w.up.Via, Body: w.body}
	registered := w.up.Register != rewrite.RegisterNone && m.Status/100 == 2
	if registered {
		w.respDown.Restore = w.restore
		g.registered(to, w, g.upstreamAt(from.Proto, from.Addr))
	}
	w.out = w.respDown.Append(w.out[:0], m)
	g.logRelayed("down", w)
	g.stats.relayed(Down, m)
	g.traceRelayed(Down, to, from, w)
	to.activity.opens(m, Down)
	last := g.judge(to, w)
	if to.conn.Send(w.out) != nil {
		g.clients.leave(to)
		return false
	}
	to.activity.passed(m, Down)
	if last {
		to.closeGuesser()
	}
	if registered {
		g.deliver(to)
	}
	return true
}

// openUp verifies our Via on a response, and returns its seal: nothing else
// reaches a browser.
func (g *Gateway) openUp(w *work) (seal []byte, ok bool) {
	m := &w.msg
	ours, ok := m.Via(0)
	if !ok {
		return nil, false
	}
	seal, ok = bytes.CutPrefix(m.Text(ours.Branch), []byte(branchCookie))
	return seal, ok && g.keys.Load().OpenUpSeal(&w.up, w.seal[:], seal, m.Text(m.CallID), m.CSeq)
}

// flowOf returns the flow that a response goes to: the one it was asked on,
// else the one by which its client is reached now.
func (g *Gateway) flowOf(seal *rewrite.UpSeal) *flow {
	if seal.HasFlow {
		if f := g.flows.get(seal.Flow); f != nil {
			return f
		}
	}
	if seal.HasClient {
		return g.clients.reach(&rewrite.Token{ID: seal.Client})
	}
	return nil
}

// restoreContact gives a client's own binding its URI back.
func (w *work) restoreContact(user []byte) []byte {
	uri, token, ok := w.g.keys.Load().OpenToken(w.uri[:0], user)
	w.uri = uri
	if !ok || token.Origin != w.up.Origin {
		return nil
	}
	return uri
}

// registered notes what the SIP server made of a REGISTER that came by flow f.
func (g *Gateway) registered(f *flow, w *work, by *upstream) {
	switch seal := &w.up; seal.Register {
	case rewrite.RegisterBind:
		g.register(seal.Client, seal.Origin, by, f, g.bindListed(f, w, by))
	case rewrite.RegisterUnbind:
		g.unregister(seal.Client, f)
		g.bindListed(f, w, by)
	case rewrite.RegisterWildcard:
		w.setAoR(f, nil, true)
		for _, id := range f.clientsOf(w.aor) {
			g.unregister(id, f)
		}
		g.clients.unregisterAbsent(seal.Origin)
	}
}

// bindListed binds the client's further Contacts, which the 2xx lists too, if
// they are nowhere else. It returns the expiry in seconds of the one that the
// REGISTER is about.
func (g *Gateway) bindListed(f *flow, w *work, by *upstream) (expires int) {
	m, keys := &w.msg, g.keys.Load()
	expires = m.DefaultExpires()
	for values := m.Values(rewrite.Contact); ; {
		v, ok := values.Next()
		if !ok {
			return expires
		}
		a, ok := m.ParseAddress(v)
		if !ok {
			continue
		}
		uri, ok := rewrite.ParseURI(m.Text(a.URI))
		if !ok {
			continue
		}
		var token rewrite.Token
		w.uri, token, ok = keys.OpenToken(w.uri[:0], uri.User)
		if !ok || token.Origin != w.up.Origin {
			continue
		}
		if token.ID == w.up.Client {
			expires = m.Expires(a)
		} else if g.clients.claim(token.ID, token.Origin, f) == f {
			g.register(token.ID, token.Origin, by, f, m.Expires(a))
		}
	}
}

func (g *Gateway) unregister(id rewrite.ClientID, f *flow) {
	g.clients.unregister(id, f)
	f.setRegistered(id, false)
}

func (g *Gateway) register(id rewrite.ClientID, origin rewrite.Origin, by *upstream, f *flow, seconds int) {
	if g.clients.register(id, origin, by, f, time.Duration(seconds)*time.Second) {
		g.stats.rebinds.Add(1)
	}
	f.setRegistered(id, true)
}

// undeliverable is called with what was given to a connection that failed
// before it was written. A request that had gone by TCP for its size goes by
// UDP then (RFC 3261 18.1.1); any other is answered 503 as if by the upstream,
// since 16.9 takes a transport error "as if a 503 had been received".
func (g *Gateway) undeliverable(to transport.Target, msg []byte, err error) {
	w := g.works.get()
	defer g.works.put(w)
	m := &w.msg
	if m.Scan(msg) != rewrite.Sound || !m.Request {
		g.dropped[ReasonPBXGone].Add(1)
		return
	}
	_, ours := g.openUp(w)
	if ours && w.up.Own {
		g.probes.end(m.Text(m.CallID), outcome{err: err})
		return
	}
	if by := g.legTo(to); ours && by != nil && by != by.upstream.main() {
		if hop, ok := m.Via(0); ok && g.sendByUDP(w, &hop, by.upstream.main()) {
			return
		}
	}
	const r = ReasonUpstreamUnreachable
	g.dropped[r].Add(1)
	g.suspectAt(to, err)
	g.log.Warn("upstream unreachable", zap.Stringer("remote", to.Addr), zap.Stringer("transport", to.Proto), zap.Error(err))
	g.writeAnswer(w, r, netip.AddrPort{})
	g.traceRefused(Up, r, nil, farEnd(&to), w)
	if len(w.out) > 0 {
		g.answerUp(transport.Source{Proto: to.Proto, Addr: to.Addr}, w.out)
	}
}

// answerUp relays an answer that the gateway gives in place of an upstream. It is
// no sign of life.
func (g *Gateway) answerUp(from transport.Source, msg []byte) {
	w := g.works.get()
	defer g.works.put(w)
	if w.msg.Scan(msg) != rewrite.Sound {
		return
	}
	w.own = true
	if seal, ok := g.openUp(w); ok {
		g.responseTo(from, w, seal)
	}
}

// sendByUDP sends a request that was made for TCP, and whose seal was opened, by
// the UDP leg, whose Via differs in the transport alone.
func (g *Gateway) sendByUDP(w *work, hop *rewrite.ViaHop, udp *leg) bool {
	m := &w.msg
	w.via = append(w.via[:0], udp.via...)
	w.via = append(w.via, bytes.TrimPrefix(m.Text(hop.Branch), []byte(branchCookie))...)
	top := rewrite.ResponseDown{Via: w.via}
	w.out = top.Append(w.out[:0], m)
	if len(w.out) > udp.max {
		return false
	}
	return g.sendTo(g.flowOf(&w.up), w, udp) == nil
}

// upstreamAt returns the upstream that speaks from an address by a transport,
// else the first: a peer that is no upstream is served in its name.
func (g *Gateway) upstreamAt(proto transport.Proto, addr netip.AddrPort) *upstream {
	best, score := g.upstreams[0], 0
	for _, up := range g.upstreams {
		if s := up.likeness(proto, addr); s > score {
			best, score = up, s
		}
	}
	return best
}

// legTo returns the leg to a target, nil if its upstream has moved.
func (g *Gateway) legTo(to transport.Target) *leg {
	for _, up := range g.upstreams {
		if l := up.leg(to.Proto); l != nil && l.target == to {
			return l
		}
	}
	return nil
}
