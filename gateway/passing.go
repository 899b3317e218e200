package gateway

import (
	"bytes"
	"net/netip"
	"time"

	"viaduct/gateway/hep"
	"viaduct/gateway/transaction"
	"viaduct/transport"
)

// What passes is shown to the viewers of the trace and copied to the HEP
// collector here. While there are neither, a message pays for one atomic load.

// observed reports whether anybody is told.
func (g *Gateway) observed() bool { return g.hep != nil || g.traces.open.Load() != nil }

// farEnd is a target as what comes from it would be.
func farEnd(to *transport.Target) transport.Source {
	return transport.Source{Proto: to.Proto, Addr: to.Addr, Local: to.Local}
}

// traceRelayed tells of a message just before it is sent, as w.out, to or from
// that end of the SIP side.
func (g *Gateway) traceRelayed(d Direction, f *flow, far transport.Source, w *work) {
	if g.observed() {
		kind := TraceRelayed
		if w.own {
			kind = TraceOwn
		}
		g.observe(&TraceEvent{Direction: d, Kind: kind}, f, far, w)
	}
}

// traceRefused tells of one that is not relayed; w.out is the answer to it, if
// there is one. Flow f is nil where no browser is known.
func (g *Gateway) traceRefused(d Direction, r Reason, f *flow, far transport.Source, w *work) {
	if !g.observed() {
		return
	}
	kind := TraceRefused
	if len(w.out) > 0 {
		kind = TraceAnswered
	}
	g.observe(&TraceEvent{Direction: d, Kind: kind, Reason: r}, f, far, w)
}

// traceAbsorbed tells of a duplicate from the SIP side.
func (g *Gateway) traceAbsorbed(f *flow, far transport.Source, w *work) {
	if g.observed() {
		w.out = w.out[:0]
		g.observe(&TraceEvent{Direction: Down, Kind: TraceAbsorbed}, f, far, w)
	}
}

// traceOwn tells of a message to the SIP side that the gateway made, w.out.
func (g *Gateway) traceOwn(far transport.Source, w *work) {
	if g.observed() {
		g.observe(&TraceEvent{Direction: Up, Kind: TraceOwn}, nil, far, w)
	}
}

// traceRepeated tells of one that is sent to the SIP side again.
func (g *Gateway) traceRepeated(to transaction.Peer, flow uint64, msg []byte) {
	if !g.observed() {
		return
	}
	w := g.works.get()
	defer g.works.put(w)
	_ = w.msg.Scan(msg) // it was sent before
	w.out = append(w.out[:0], msg...)
	far := transport.Source{Proto: transport.ProtoUDP, Addr: to.Addr, Local: to.Local}
	g.observe(&TraceEvent{Direction: Up, Kind: TraceRepeated}, g.flows.get(flow), far, w)
}

// observe adds to an event what is wanted to know of the message of w, and hands
// it on. Flow f is nil where no browser is known.
func (g *Gateway) observe(e *TraceEvent, f *flow, far transport.Source, w *work) {
	e.Time = time.Now()
	e.Transport, e.Peer = far.Proto, far.Addr
	if e.Peer.IsValid() {
		e.PeerLocal = g.localEnd(far)
	}
	if f != nil {
		e.Connection, e.Browser, e.BrowserLocal = f.id, f.conn.RemoteAddr(), f.conn.LocalAddr()
	}
	before := w.msg.Raw
	if e.Kind == TraceRepeated || e.Kind == TraceOwn {
		before = nil
	}
	if g.hep != nil {
		g.mirror(e, before, w)
	}
	var p *passed // copied for the first who wants it
	for _, t := range g.traces.all() {
		if !t.filter.wants(f, &w.msg) || !t.affords(len(before)+len(w.out), e.Time) {
			continue
		}
		if p == nil {
			p = &passed{event: *e, callID: bytes.Clone(w.msg.Text(w.msg.CallID)), before: bytes.Clone(before), after: bytes.Clone(w.out)}
			if f != nil {
				p.event.User = f.user()
			}
		}
		t.add(p)
	}
}

// localEnd returns the address of the gateway that the other end sees: that of the
// listener, on every transport.
func (g *Gateway) localEnd(far transport.Source) netip.AddrPort {
	at := g.sip.Addr()
	if far.Proto == transport.ProtoTLS && g.sipTLS != nil {
		at = g.sip.TLSAddr()
	}
	addr := far.Local
	if !addr.IsValid() {
		addr = at.Addr()
	}
	if l := g.upstreamAt(far.Proto, far.Addr).leg(far.Proto); addr.IsUnspecified() && l != nil && l.target.Local.IsValid() {
		addr = l.target.Local
	}
	return netip.AddrPortFrom(addr, at.Port())
}

// mirror copies a message for the HEP collector as it was on each side.
func (g *Gateway) mirror(e *TraceEvent, before []byte, w *work) {
	browser := [2]netip.AddrPort{e.Browser, e.BrowserLocal}
	pbx := [2]netip.AddrPort{e.Peer, e.PeerLocal}
	came, went := browser, pbx
	if e.Direction == Down {
		came, went = pbx, browser
	}
	if e.Kind == TraceAnswered {
		went = came
	}
	callID := w.msg.Text(w.msg.CallID)
	copied := func(msg []byte, from, to netip.AddrPort, ofBrowser bool) {
		if len(msg) > 0 && from.IsValid() && to.IsValid() {
			g.hep.Copy(&hep.Packet{
				Time: e.Time, From: from, To: to, UDP: !ofBrowser && e.Transport == transport.ProtoUDP,
				Correlation: callID, Payload: msg,
			})
		}
	}
	copied(before, came[0], came[1], came == browser)
	copied(w.out, went[1], went[0], went == browser)
}

// masker is what leaves secrets out of what is shown and copied.
func (g *Gateway) masker() masker { return masker{keys: g.keys.Load()} }

// newHEP returns what copies messages to the collector, nil if there is none.
func (g *Gateway) newHEP() *hep.Sender {
	if g.cfg.HEP == "" {
		return nil
	}
	k := g.masker()
	return hep.New(hep.Config{
		Collector: g.cfg.HEP, Resolver: g.resolver, Log: g.log,
		Mask: func(dst, msg []byte) []byte {
			k.keys = g.keys.Load() // they may change
			return k.append(dst, msg)
		},
	})
}
