package gateway

import (
	"cmp"
	"net/netip"

	"viaduct/rewrite"
	"viaduct/transport"
)

// fromBrowser relays one message that a browser sent. What the SIP side gets of
// that leaves with a batch, or at once if that is nil.
func (g *Gateway) fromBrowser(conn *transport.WSConn, batch *transport.Batch, msg []byte) {
	w := g.works.get()
	defer g.works.put(w)
	w.batch = batch
	f := conn.Tag.(*flow)
	defect := w.msg.Scan(msg)
	if defect == rewrite.Sound {
		defect = w.msg.CheckFrame()
	}
	switch r := g.pace(f, &w.msg, defect); {
	case r != 0:
		g.refuse(f, w, r)
	case defect != rewrite.Sound:
		g.refuse(f, w, Reason(defect))
	case w.msg.Request:
		g.requestUp(f, w)
	default:
		g.responseUp(f, w)
	}
}

// tooLargeFromBrowser answers a message of which only the beginning was read.
func (g *Gateway) tooLargeFromBrowser(conn *transport.WSConn, head []byte) {
	w := g.works.get()
	defer g.works.put(w)
	_ = w.msg.Scan(head) // cut short as it is, its headers may be whole
	g.refuse(conn.Tag.(*flow), w, ReasonTooLarge)
}

// requestUp relays a request to an upstream: RFC 3261 16.3 to 16.6, as far as
// they change bytes.
func (g *Gateway) requestUp(f *flow, w *work) {
	hop, ok := w.msg.Via(0)
	if !ok {
		g.refuse(f, w, Reason(rewrite.BadVia))
		return
	}
	if g.endsOwnAnswer(w) {
		f.activity.passed(&w.msg, Up)
		return
	}
	if r := checkRequest(&w.msg, &hop); r != 0 {
		g.refuse(f, w, r)
		return
	}
	if r := f.checkBound(&w.msg); r != 0 {
		g.refuse(f, w, r)
		return
	}
	if d := w.splitContacts(); d != rewrite.Sound {
		g.refuse(f, w, Reason(d))
		return
	}
	if r := g.identify(f, w, &hop); r != 0 {
		g.refuse(f, w, r)
		return
	}
	waits, r := g.bridge(f, w, Up, transport.Source{}, w.up.Client, &w.up.Media)
	if waits {
		return
	}
	if r == 0 {
		r = g.relayUp(f, w, &hop)
	}
	if r != 0 {
		f.activity.refused(&w.msg, Up)
		g.refuse(f, w, r)
		return
	}
	g.deliver(f) // it may have bound a client that something waits for
}

// relayUp sends a request to where it belongs.
func (g *Gateway) relayUp(f *flow, w *work, hop *rewrite.ViaHop) Reason {
	g.endMediaOf(f, &w.msg, w.up.Client)
	to, r := g.direct(f, w, hop)
	if r != 0 {
		return r
	}
	return g.sendUp(f, w, hop, to)
}

// checkRequest is RFC 3261 16.3: what a proxy looks at before it relays.
func checkRequest(m *rewrite.Message, hop *rewrite.ViaHop) Reason {
	if d := m.CheckAddresses(); d != rewrite.Sound {
		return Reason(d)
	}
	switch {
	case len(m.Text(hop.Value)) > rewrite.MaxVia:
		return ReasonViaTooLong
	case m.MaxForwards == 0:
		return ReasonMaxForwards
	case m.Has(rewrite.ProxyRequire) && !m.Is("CANCEL") && !m.Is("ACK"):
		// RFC 3261 8.2.2.3: in those it "MUST be ignored".
		return ReasonProxyRequire
	}
	return 0
}

// splitContacts reads the request's Contacts.
func (w *work) splitContacts() rewrite.Defect {
	w.contacts = w.contacts[:0]
	for values := w.msg.Values(rewrite.Contact); ; {
		v, ok := values.Next()
		if !ok && values.Bad() {
			return rewrite.BadAddress
		}
		if !ok {
			return rewrite.Sound
		}
		a, ok := w.msg.ParseAddress(v)
		if !ok {
			return rewrite.BadAddress
		}
		if len(w.contacts) == maxContacts {
			return rewrite.TooManyContacts
		}
		w.contacts = append(w.contacts, a)
	}
}

// sendUp rewrites a request for its leg and sends it; a new one that cannot be
// sent goes to the next upstream that lives.
func (g *Gateway) sendUp(f *flow, w *work, hop *rewrite.ViaHop, to *leg) Reason {
	for {
		r := g.sendOn(f, w, hop, to)
		if r != ReasonUpstreamUnreachable {
			return r
		}
		if to, r = g.next(w, to); r != 0 {
			return r
		}
	}
}

// sendOn does so for one upstream. What TCP does not take of what was to go to a
// UDP upstream that way goes by UDP: the too large request itself, and the
// CANCEL and ACK that follow it.
func (g *Gateway) sendOn(f *flow, w *work, hop *rewrite.ViaHop, to *leg) Reason {
	g.rewriteUp(f, w, hop, to)
	if tcp := g.streamFor(to, len(w.out)); tcp != nil {
		to = tcp
		g.rewriteUp(f, w, hop, to)
	}
	r := g.sendBy(f, w, to)
	if main := to.upstream.main(); r != 0 && to != main {
		g.rewriteUp(f, w, hop, main)
		r = g.sendBy(f, w, main)
	}
	return r
}

// sendBy sends w.out, which was written for that leg.
func (g *Gateway) sendBy(f *flow, w *work, to *leg) Reason {
	if len(w.out) > to.max {
		return ReasonUpstreamTooLarge
	}
	g.noteInvite(w, to)
	g.traceRelayed(Up, f, farEnd(&to.target), w)
	f.activity.opens(&w.msg, Up)
	if err := g.sendTo(f, w, to); err != nil {
		if to == to.upstream.main() {
			g.suspect(to.upstream, err)
		}
		return ReasonUpstreamUnreachable
	}
	g.stats.relayed(Up, &w.msg)
	f.activity.passed(&w.msg, Up)
	return 0
}

// sendTo sends w.out, on behalf of a flow or nil, and again if that may be needed.
func (g *Gateway) sendTo(f *flow, w *work, to *leg) error {
	if g.repeats(to.target.Proto) {
		return g.sendRepeated(f, w, to)
	}
	return g.send(w, to.target)
}

// send sends w.out, with the batch if there is one.
func (g *Gateway) send(w *work, to transport.Target) error {
	if w.batch != nil {
		return w.batch.Send(to, w.out)
	}
	return g.sip.Send(to, w.out)
}

// streamFor returns the leg by TCP for a request that is too large for a
// datagram, else nil. RFC 3261 18.1.1: such a request "MUST be sent using an
// RFC 2914 congestion controlled transport protocol, such as TCP".
func (g *Gateway) streamFor(to *leg, size int) *leg {
	if g.cfg.TCPAbove == 0 || size <= g.cfg.TCPAbove || to.target.Proto != transport.ProtoUDP {
		return nil
	}
	return to.upstream.leg(transport.ProtoTCP)
}

// noteInvite remembers how an INVITE goes, before it can be answered.
func (g *Gateway) noteInvite(w *work, to *leg) {
	m := &w.msg
	if !m.Is("INVITE") {
		return
	}
	sent := invite{seal: w.up, upstream: to.upstream, proto: to.target.Proto}
	sent.seal.Via = nil
	g.invites.add(g.invites.hash(w.up.Via, m.Text(m.CallID), m.CSeq), sent)
}

// rewriteUp writes the request, as it goes by a leg, to w.out.
func (g *Gateway) rewriteUp(f *flow, w *work, hop *rewrite.ViaHop, to *leg) {
	m := &w.msg
	w.up.Via = m.Text(hop.Value)
	w.via = append(w.via[:0], to.via...)
	w.via = w.up.Key.AppendUpSeal(w.via, &w.up, m.Text(m.CallID), m.CSeq)
	contact := to.upstream.main().contact
	for i := range w.contacts {
		w.uris[i] = appendContact(w.uris[i][:0], w.tokens[i], contact)
	}
	w.reqUp.Via = w.via
	w.reqUp.Contacts = w.uris[:len(w.contacts)]
	w.reqUp.Unsupported, w.reqUp.Body = g.unsupported(m), w.body
	w.reqUp.Strip, w.reqUp.ClientIPHeader = g.cfg.StripHeaders, g.cfg.ClientIPHeader
	if w.reqUp.ClientIPHeader != "" {
		w.clientIP = f.client().AppendTo(w.clientIP[:0])
		w.reqUp.ClientIP = w.clientIP
	}
	w.out = w.reqUp.Append(w.out[:0], m)
	g.logRelayed("up", w)
}

// appendContact appends `<sip:token@GW…>`.
func appendContact(dst, token, tail []byte) []byte {
	dst = append(dst, "<sip:"...)
	return append(append(dst, token...), tail...)
}

// responseUp relays a response to where the seal in our Via says that its
// request came from.
func (g *Gateway) responseUp(f *flow, w *work) {
	m := &w.msg
	if r := g.openDown(f, w); r != 0 {
		g.refuse(f, w, r)
		return
	}
	waits, r := g.bridge(f, w, Up, transport.Source{}, w.leg, &w.down.Media)
	if waits {
		return
	}
	if r != 0 {
		g.refuse(f, w, r)
		return
	}
	g.endMedia(m, w.leg, &w.down.Media)
	up := g.upstreamByID(w.down.Upstream)
	back := up.leg(transport.Proto(w.down.Proto))
	w.respUp.Contact, w.respUp.Strip, w.respUp.Body = nil, g.untrusted, w.body
	w.respUp.Routes = w.down.Routes != 0 && w.down.Routes == w.down.Key.Routes(m)
	if m.Status < 300 && back != nil {
		w.uris[0] = appendContact(w.uris[0][:0], w.down.Token, back.contact)
		w.respUp.Contact = w.uris[0]
	}
	next, _ := m.Via(1)
	w.out = w.respUp.Append(w.out[:0], m)
	if len(w.out) > g.maxMessage(transport.Proto(w.down.Proto)) {
		g.refuse(f, w, ReasonUpstreamTooLarge)
		return
	}
	g.logRelayed("up", w)
	g.stats.relayed(Up, m)
	g.traceRelayed(Up, f, transport.Source{Proto: transport.Proto(w.down.Proto), Addr: w.down.Source}, w)
	f.activity.opens(m, Up)
	if !g.replyUp(f, w, back, &next) {
		g.refuse(f, w, ReasonPBXGone)
		return
	}
	f.activity.passed(m, Up)
}

// openDown verifies our Via on a response and that the client may send it.
func (g *Gateway) openDown(f *flow, w *work) Reason {
	m := &w.msg
	ours, ok := m.Via(0)
	if !ok {
		return ReasonForgedResponse
	}
	next, ok := m.Via(1)
	if !ok {
		return ReasonForgedResponse
	}
	param, ok := m.Param(ours.Params, sealParam)
	keys := g.keys.Load()
	hop := w.hop(&next)
	if !ok || !keys.OpenDownSeal(&w.down, w.tok[:], m.Text(param.Value), &hop) {
		return ReasonForgedResponse
	}
	var token rewrite.Token
	if w.uri, token, ok = keys.OpenToken(w.uri[:0], w.down.Token); !ok {
		return ReasonForgedResponse
	}
	w.leg = token.ID
	if w.waiting != nil {
		return 0 // it was the client when the response came
	}
	// A client that is not bound anywhere is on its way back: it alone has seen
	// the seal. One that is bound elsewhere may be half-open there.
	if on := g.clients.flow(token.ID); on != nil && on != f {
		on.conn.Probe(probeTimeout)
		return ReasonNotTheClient
	}
	return 0
}

// hop is what tells a request of the SIP side from every other.
func (w *work) hop(via *rewrite.ViaHop) rewrite.Hop {
	m := &w.msg
	return rewrite.Hop{SentBy: m.Text(via.SentBy), Branch: m.Text(via.Branch), CallID: m.Text(m.CallID), CSeq: m.CSeq}
}

// replyUp sends w.out to the sealed source: by datagram, or by the connection
// that the request came by. RFC 3261 18.2.2: if that is gone, "the server
// SHOULD open a connection to the IP address in the "received" parameter …
// using the port in the "sent-by" value".
func (g *Gateway) replyUp(f *flow, w *work, back *leg, next *rewrite.ViaHop) bool {
	proto, source := transport.Proto(w.down.Proto), w.down.Source
	if !g.admits(source.Addr()) {
		return false
	}
	target := transport.Target{Proto: proto, Addr: source}
	if back != nil {
		target.Local, target.TLS, target.ServerName = back.target.Local, back.target.TLS, back.target.ServerName
	}
	if proto != transport.ProtoUDP {
		if stream := g.sip.Stream(proto, source); stream != nil {
			return stream.Send(w.out) == nil
		}
		if back == nil || back.target.Proto != proto {
			return false
		}
		target = back.target
		if source.Addr() == target.Addr.Addr() {
			target.Addr = netip.AddrPortFrom(source.Addr(), cmp.Or(next.Port, defaultPort(proto)))
		}
	}
	if g.repeats(proto) {
		g.replies(f, w, next, w.msg.Status, target.Addr, target.Local)
	}
	return g.send(w, target) == nil
}
