package gateway

import (
	"bytes"
	"encoding/binary"
	"hash/maphash"
	"net/netip"

	"viaduct/gateway/transaction"
	"viaduct/rewrite"
	"viaduct/transport"
)

// What the gateway tells package transaction of the messages that pass by UDP.
// A browser's request is known by the seal in our branch, a request of the SIP
// side by its own top Via (RFC 3261 17.2.3), each with its method; a 2xx to an
// INVITE and its ACK by the dialog (RFC 3261 13.2.2.4).

func (g *Gateway) newTransactions() *transaction.Table {
	return transaction.New(transaction.Config{
		Max: max(g.cfg.MaxTransactions, 0), MaxBytes: g.cfg.MaxTransactionMemory,
		Send: func(to transaction.Peer, flow uint64, msg []byte) {
			g.traceRepeated(to, flow, msg)
			// What the kernel does not take now is sent once more later.
			_ = g.sip.Send(transport.Target{Proto: transport.ProtoUDP, Addr: to.Addr, Local: to.Local}, msg)
		},
		Unanswered: func(_ transaction.Peer, msg []byte) {
			g.stats.timeouts.Add(1)
			g.endUnanswered(msg)
		},
	})
}

// repeats reports whether messages of a transport are sent again.
func (g *Gateway) repeats(proto transport.Proto) bool {
	return proto == transport.ProtoUDP && g.cfg.MaxTransactions > 0
}

// The ways that ids are made, so that no two meet.
const (
	idUp byte = iota
	idDown
	idDialogUp
	idDialogDown
)

// idHash begins an id.
func idHash(way byte) (h maphash.Hash) {
	h.SetSeed(activitySeed)
	_ = h.WriteByte(way)
	return h
}

// writeMethod ends an id: RFC 3261 17.1.3 and 17.2.3, an ACK is of its INVITE's
// transaction, and a CANCEL makes one of its own.
func writeMethod(h *maphash.Hash, m *rewrite.Message) {
	method := m.Method
	if !m.Request {
		method = m.CSeqMethod
	}
	switch text := m.Text(method); string(text) {
	case "INVITE", "ACK":
	default:
		_, _ = h.Write(text)
	}
}

// idOfSeal names the transaction of a browser's request.
func idOfSeal(seal []byte, m *rewrite.Message) uint64 {
	h := idHash(idUp)
	_, _ = h.Write(seal)
	writeMethod(&h, m)
	return h.Sum64()
}

// idOfHop names the transaction of a request of the SIP side with that top Via.
func (w *work) idOfHop(via *rewrite.ViaHop) uint64 {
	h := w.hashHop(via)
	writeMethod(&h, &w.msg)
	return h.Sum64()
}

// idOfInvite names the one that a CANCEL is for (RFC 3261 9.2).
func (w *work) idOfInvite(via *rewrite.ViaHop) uint64 {
	h := w.hashHop(via)
	return h.Sum64()
}

func (w *work) hashHop(via *rewrite.ViaHop) maphash.Hash {
	m := &w.msg
	h := idHash(idDown)
	var n [4]byte
	binary.BigEndian.PutUint32(n[:], m.CSeq)
	_, _ = h.Write(n[:])
	// The From tag, for a stateless proxy may give all its branches one name.
	for _, text := range [...][]byte{m.Text(m.CallID), m.Text(via.SentBy), m.Text(via.Branch), m.Tag(m.From)} {
		_, _ = h.Write(text)
		_ = h.WriteByte(0)
	}
	return h
}

// idOfDialog names a 2xx to an INVITE, and its ACK.
func idOfDialog(way byte, m *rewrite.Message) uint64 {
	h := idHash(way)
	var n [4]byte
	binary.BigEndian.PutUint32(n[:], m.CSeq)
	_, _ = h.Write(n[:])
	for _, text := range [...][]byte{m.Text(m.CallID), m.Tag(m.From), m.Tag(m.To)} {
		_, _ = h.Write(text)
		_ = h.WriteByte(0)
	}
	return h.Sum64()
}

// message is w.out as it is sent on behalf of a flow, nil for the gateway itself.
func (w *work) message(f *flow, to netip.AddrPort, local netip.Addr) transaction.Message {
	m := transaction.Message{Bytes: w.out, To: transaction.Peer{Addr: to, Local: local}}
	if f != nil {
		m.Flow, m.Open = f.id, &f.kept
	}
	return m
}

// sendRepeated sends w.out, a browser's request, to a UDP leg, and again until
// it is answered.
func (g *Gateway) sendRepeated(f *flow, w *work, to *leg) error {
	m := &w.msg
	msg := w.message(f, to.target.Addr, to.target.Local)
	id := idOfSeal(w.via[len(to.via):], m)
	// First, for the answer may be quicker.
	if m.Is("ACK") {
		g.transactions.Acked(id, idOfDialog(idDialogUp, m), &msg)
		return g.send(w, to.target)
	}
	msg.Dialog = m.Tagged() || m.Is("CANCEL")
	g.transactions.Sent(id, m.Is("INVITE"), &msg)
	err := g.send(w, to.target)
	if err != nil {
		w.spare = g.transactions.Failed(id, w.spare[:0])
	}
	return err
}

// answered reports whether a response from a UDP upstream is news to the browser
// on a flow, nil if it is not connected.
func (g *Gateway) answered(from transport.Source, to *flow, w *work, seal []byte) (news bool) {
	m := &w.msg
	r := transaction.Response{
		Invite: m.Is("INVITE"), Status: m.Status, Reliable: m.Has(rewrite.RSeq),
		Invited: w.spare[:0],
	}
	if r.Status < 200 {
		r.Hash = uint32(maphash.Bytes(activitySeed, m.Raw))
	}
	if to != nil {
		r.Flow = to.id
	}
	if r.Invite && r.Status/100 == 2 {
		r.Dialog = idOfDialog(idDialogUp, m)
	}
	id := idOfSeal(seal, m)
	news = g.transactions.Answered(id, &r)
	w.spare = r.Invited
	if len(r.Invited) > 0 {
		g.substituteAck(from, to, w, id)
	}
	return news
}

// substituteAck makes the ACK of a refused INVITE, and sends it if the browser
// is not there to do so.
func (g *Gateway) substituteAck(from transport.Source, to *flow, w *work, id uint64) {
	leg := g.invitedBy(from, w)
	invite := g.works.get()
	defer g.works.put(invite)
	if leg == nil || invite.msg.Scan(w.spare) != rewrite.Sound {
		return
	}
	ack := rewrite.Ack{Invite: &invite.msg, Response: &w.msg}
	invite.out = ack.Append(invite.out[:0])
	msg := invite.message(to, leg.target.Addr, leg.target.Local)
	g.transactions.Substitute(id, &msg)
	if to == nil {
		g.stats.ownAcks.Add(1)
		g.traceOwn(farEnd(&leg.target), invite)
		_ = g.sip.Send(leg.target, invite.out) // sent again when the refusal comes again
	}
}

// invitedBy returns the leg by which the INVITE went that a response is to. RFC
// 3261 17.1.1.2: its ACK "MUST be sent to the same address, port, and transport".
func (g *Gateway) invitedBy(from transport.Source, w *work) *leg {
	m := &w.msg
	if sent, ok := g.invites.find(g.invites.hash(w.up.Via, m.Text(m.CallID), m.CSeq)); ok {
		return sent.upstream.leg(sent.proto)
	}
	return g.upstreamAt(from.Proto, from.Addr).leg(from.Proto)
}

// arrives reports whether a request that came by UDP is to be written to a flow,
// nil for one that waits for its browser.
func (g *Gateway) arrives(w *work, via *rewrite.ViaHop, to *flow) bool {
	m := &w.msg
	var flow uint64
	if to != nil {
		flow = to.id
	}
	switch {
	case m.Is("PRACK"):
		return true // it ends what the browser repeats, and may be repeated for that
	case m.Is("ACK"):
		return g.transactions.AckArrived(w.idOfHop(via), idOfDialog(idDialogDown, m), flow)
	}
	return g.transactions.Arrived(w.idOfHop(via), m.Is("INVITE"), flow)
}

// replies has w.out, the response to a request that came by UDP with that top
// Via, sent again as long as that is needed.
func (g *Gateway) replies(f *flow, w *work, via *rewrite.ViaHop, status int, to netip.AddrPort, local netip.Addr) {
	m := &w.msg
	if m.Is("PRACK") {
		return
	}
	msg := w.message(f, to, local)
	g.transactions.Replied(w.idOfHop(via), transaction.Reply{
		Invite: m.Is("INVITE"), Status: status, Reliable: m.Has(rewrite.RSeq), Brief: m.Is("OPTIONS"),
	}, &msg)
}

// unreachable is called for a datagram that an ICMP error came back for. Anyone
// can make one up, but not the branch of a request that was sent: then new work
// goes elsewhere at once, and the request is answered 503.
func (g *Gateway) unreachable(to netip.AddrPort, datagram []byte, err error) {
	w := g.works.get()
	defer g.works.put(w)
	m := &w.msg
	_ = m.Scan(datagram) // cut short as it is, its first headers may be whole
	via, ok := m.Via(0)
	if !ok || !m.Request {
		return
	}
	target := transport.Target{Proto: transport.ProtoUDP, Addr: to}
	if _, ok := g.openUp(w); ok && w.up.Own {
		if g.probes.end(m.Text(m.CallID), outcome{err: err}) {
			g.suspectAt(target, err)
		}
		return
	}
	seal, _ := bytes.CutPrefix(m.Text(via.Branch), []byte(branchCookie))
	if lost := g.transactions.Failed(idOfSeal(seal, m), nil); len(lost) > 0 {
		g.undeliverable(target, lost, err)
	}
}

// answerStuck answers 503 to the requests that an upstream has left unanswered,
// now that it is dead: their browsers may ask the next one. What belongs to a
// dialog is sent on, for it has nowhere else to go.
func (g *Gateway) answerStuck(up *upstream, err error) {
	to := up.main()
	if to == nil || !g.repeats(to.target.Proto) {
		return
	}
	for _, id := range g.transactions.Stuck(to.target.Addr) {
		if lost := g.transactions.Failed(id, nil); len(lost) > 0 {
			g.undeliverable(to.target, lost, err)
		}
	}
}

// suspectAt has the upstream at an address looked at.
func (g *Gateway) suspectAt(target transport.Target, err error) {
	for _, up := range g.upstreams {
		if l := up.main(); l != nil && l.target.Addr == target.Addr && l.target.Proto == target.Proto {
			g.suspect(up, err)
		}
	}
}
