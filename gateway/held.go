package gateway

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"viaduct/rewrite"
	"viaduct/transport"
)

// Bounds of what waits for browsers that are just reconnecting.
const (
	maxHeld       = 1000
	maxHeldBytes  = 8 << 20
	maxHeldClient = 8
	// maxHeldAnswers bounds the responses among them, which anyone can ask for: the
	// rest of the room is for what the SIP server asks.
	maxHeldAnswers = 200

	// afterStart is how long after the start any client may be on its way back.
	afterStart = 35 * time.Second
	// holdDialog and holdInitial are how long a message is held from its first
	// copy on, in a dialog and outside: a caller goes to voicemail in the end.
	holdDialog  = 30 * time.Second
	holdInitial = 8*time.Second - 2*heldTick
	// holdQuietly is how long an INVITE is held without a 100. RFC 3261 17.2.1: the
	// server "MUST generate a 100 (Trying) response … unless it knows that the TU
	// will generate a provisional or final response within 200 ms".
	holdQuietly = 200 * time.Millisecond
	// heldTick is how often what is held is looked at.
	heldTick = 50 * time.Millisecond
)

// heldMessage is a message from the SIP side for a browser that is away.
type heldMessage struct {
	id     uint64 // of a request's transaction
	token  rewrite.Token
	from   transport.Source
	text   []byte
	invite bool // an INVITE, and no response
	answer bool // a response
	trying time.Time
	until  time.Time
}

// heldStore is the messages that wait for their browsers, in the order in which
// they came. It is safe for concurrent use.
type heldStore struct {
	wake chan struct{} // holds a token when there is something again
	some atomic.Int32  // how many, to be asked without a lock

	// giving is held while messages are given to their browsers, or answered in
	// their place: each is dealt with once, and in its turn. A message is in the
	// store until that is done, so that nothing overtakes it.
	giving sync.Mutex

	mu    sync.Mutex
	all   []*heldMessage
	bytes int
}

func newHeldStore() *heldStore { return &heldStore{wake: make(chan struct{}, 1)} }

// len returns how many messages are held.
func (s *heldStore) len() int { return int(s.some.Load()) }

// add holds a message; false if there is no room.
func (s *heldStore) add(h *heldMessage) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	client, answers := 0, 0
	for _, o := range s.all {
		if o.token.ID == h.token.ID {
			client++
		}
		if o.answer {
			answers++
		}
	}
	if h.answer && answers == maxHeldAnswers || len(s.all) == maxHeld || s.bytes+len(h.text) > maxHeldBytes || client == maxHeldClient {
		return false
	}
	s.all = append(s.all, h)
	s.bytes += len(h.text)
	s.some.Add(1)
	select {
	case s.wake <- struct{}{}:
	default:
	}
	return true
}

// holds reports whether a request is held already.
func (s *heldStore) holds(id uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.all, func(h *heldMessage) bool { return !h.answer && h.id == id })
}

// first returns the first one that matches, nil if none does.
func (s *heldStore) first(match func(*heldMessage) bool) *heldMessage {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.IndexFunc(s.all, match); i >= 0 {
		return s.all[i]
	}
	return nil
}

// take removes those that match and returns them in order. Giving must be held.
func (s *heldStore) take(match func(*heldMessage) bool) (taken []*heldMessage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = slices.DeleteFunc(s.all, func(h *heldMessage) bool {
		if !match(h) {
			return false
		}
		taken = append(taken, h)
		s.bytes -= len(h.text)
		return true
	})
	s.some.Store(int32(len(s.all)))
	return taken
}

func (s *heldStore) remove(h *heldMessage) { s.take(func(o *heldMessage) bool { return o == h }) }

// untried returns the INVITEs that have waited for long enough to be told so.
func (s *heldStore) untried(now time.Time) (invites []*heldMessage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range s.all {
		if h.invite && !h.trying.IsZero() && !now.Before(h.trying) {
			h.trying = time.Time{}
			invites = append(invites, h)
		}
	}
	return invites
}

// hold keeps a message for a client that is away until it is back; false if there
// is no hope, or no room.
func (g *Gateway) hold(h *heldMessage, w *work) bool {
	if time.Since(g.started) >= afterStart && !g.clients.expected(&h.token) {
		return false
	}
	m, now := &w.msg, time.Now()
	h.text = bytes.Clone(m.Raw)
	h.until = now.Add(holdInitial - g.transactions.Waited(h.id)) // it may have been lost with a connection
	if m.Tagged() {
		h.until = now.Add(holdDialog)
	}
	if h.answer {
		h.until = now.Add(comeback)
	}
	if h.invite = m.Request && m.Is("INVITE"); h.invite {
		h.trying = now.Add(holdQuietly)
	}
	if !g.held.add(h) {
		g.stats.heldTotal[heldRefused].Add(1)
		return false
	}
	return true
}

// await deals with a request whose client is not connected: it is held, or
// answered; false if the client is back. One that was lost has just been given to
// a flow that was closing.
func (g *Gateway) await(from transport.Source, w *work, via *rewrite.ViaHop, token *rewrite.Token, lost bool) bool {
	m := &w.msg
	if m.Is("OPTIONS") && !m.Tagged() {
		g.refuseDown(from, w, ReasonNoConnection) // who asks whether a browser is there is told so
		return true
	}
	g.held.giving.Lock()
	defer g.held.giving.Unlock()
	if g.clients.reach(token) != nil {
		return false
	}
	id := w.idOfHop(via)
	switch {
	case m.Is("CANCEL") && g.cancelHeld(from, w, via, id):
	case !lost && g.awaits(from, w, via, id):
		g.traceAbsorbed(nil, from, w)
	case g.hold(&heldMessage{id: id, token: *token, from: from}, w):
	default:
		g.giveUp(from, w, ReasonNoConnection)
	}
	return true
}

// awaits reports whether a request is the copy of one that is held, or that was
// answered. Such a copy is answered as that one was, the held INVITE by its 100;
// the ACK of an answer ends that.
func (g *Gateway) awaits(from transport.Source, w *work, via *rewrite.ViaHop, id uint64) bool {
	held := g.held.holds(id)
	return g.repeats(from.Proto) && !g.arrives(w, via, nil) || held
}

// holdResponse keeps a response for its client, which is away; false if it cannot be.
func (g *Gateway) holdResponse(from transport.Source, w *work) bool {
	if !w.up.HasClient || w.up.Register != rewrite.RegisterNone {
		return false
	}
	token := rewrite.Token{ID: w.up.Client}
	if !g.hold(&heldMessage{token: token, from: from, answer: true}, w) {
		return false
	}
	g.deliverTo(&token)
	return true
}

// cancelHeld ends a held INVITE whose CANCEL has come. RFC 3261 9.2: the CANCEL
// gets 200 and the INVITE 487.
func (g *Gateway) cancelHeld(from transport.Source, w *work, via *rewrite.ViaHop, id uint64) bool {
	invite := w.idOfInvite(via)
	taken := g.held.take(func(h *heldMessage) bool { return h.invite && h.id == invite })
	if len(taken) == 0 {
		return false
	}
	if g.repeats(from.Proto) {
		g.transactions.Arrived(id, false, 0)
	}
	g.answerHeld(from, w, rewrite.Answer{Status: 200, Phrase: "OK"})
	g.traceOwn(from, w)
	for _, h := range taken {
		g.answerText(h, rewrite.Answer{Status: 487, Phrase: "Request Terminated"})
	}
	return true
}

// answerText answers a request that was held.
func (g *Gateway) answerText(h *heldMessage, a rewrite.Answer) {
	w := g.works.get()
	defer g.works.put(w)
	if w.msg.Scan(h.text) == rewrite.Sound && w.msg.Answerable() {
		g.answerHeld(h.from, w, a)
		g.traceOwn(h.from, w)
	}
}

// answerHeld answers the request of w in a transaction: what has been told 100
// does not ask again.
func (g *Gateway) answerHeld(from transport.Source, w *work, a rewrite.Answer) {
	m := &w.msg
	via, ok := m.Via(0)
	if !ok {
		return
	}
	w.answer = a
	w.answer.Source = from.Addr
	if a.Status > 100 {
		w.answer.Tag = g.toTag(w)
	}
	w.out = w.answer.Append(w.out[:0], m)
	if g.repeats(from.Proto) {
		g.replies(nil, w, &via, a.Status, from.Addr, from.Local)
	}
	_ = g.sip.Reply(from, w.out)
}

// deliver gives a flow what was held for the clients that it reaches now.
func (g *Gateway) deliver(f *flow) {
	if g.held.len() == 0 {
		return
	}
	g.held.giving.Lock()
	defer g.held.giving.Unlock()
	for {
		h := g.held.first(func(h *heldMessage) bool { return g.clients.reach(&h.token) == f })
		if h == nil {
			return
		}
		// It may have come back after an earlier one was looked at.
		h = g.held.first(func(o *heldMessage) bool { return o.token.ID == h.token.ID })
		if !g.give(f, h) {
			return // the rest waits on, for the flow is closing
		}
		g.stats.heldTotal[heldDelivered].Add(1)
		g.held.remove(h)
	}
}

// deliverTo does so for a client that may have come back since it was looked for.
func (g *Gateway) deliverTo(client *rewrite.Token) {
	if f := g.clients.reach(client); f != nil {
		g.deliver(f)
	}
}

// give writes what was held to the browser on a flow; false if that is closing.
func (g *Gateway) give(f *flow, h *heldMessage) bool {
	w := g.works.get()
	defer g.works.put(w)
	if w.msg.Scan(h.text) != rewrite.Sound {
		return true
	}
	if h.from.Proto == transport.ProtoUDP {
		_ = w.msg.CheckDatagram() // it is known to be sound: this cuts what is behind the body
	}
	if h.answer {
		return g.giveResponse(f, h, w)
	}
	hop, _ := w.msg.Via(0)
	token, ok := g.openToken(w)
	if !ok { // its key was removed
		g.giveUp(h.from, w, ReasonForgedToken)
		return true
	}
	return g.writeDown(h.from, w, &hop, &token, f)
}

// giveResponse is responseTo for a response that was news when it came.
func (g *Gateway) giveResponse(f *flow, h *heldMessage, w *work) bool {
	seal, ok := g.openUp(w)
	if !ok {
		return true
	}
	if g.repeats(h.from.Proto) {
		g.answered(h.from, f, w, seal) // a repetition does not reach this connection again
	}
	return g.passDown(h.from, f, w)
}

// keepHeld answers what has waited too long, until ctx ends. While nothing is
// held it costs nothing.
func (g *Gateway) keepHeld(ctx context.Context) {
	ticker := time.NewTicker(heldTick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			g.tendHeld(now)
		}
		if g.held.len() > 0 {
			continue
		}
		ticker.Stop()
		select {
		case <-ctx.Done():
			return
		case <-g.held.wake:
			ticker.Reset(heldTick)
		}
	}
}

// dismissHeld answers, at the end, what the SIP server does not repeat: it would
// wait for an answer that nobody gives.
func (g *Gateway) dismissHeld() {
	g.held.giving.Lock()
	defer g.held.giving.Unlock()
	for _, h := range g.held.take(func(h *heldMessage) bool {
		return !h.answer && (!g.repeats(h.from.Proto) || h.invite && h.trying.IsZero())
	}) {
		g.stats.heldTotal[heldExpired].Add(1)
		g.expireHeld(h)
	}
}

func (g *Gateway) tendHeld(now time.Time) {
	g.held.giving.Lock()
	defer g.held.giving.Unlock()
	if !g.draining.Load() { // then the SIP server goes on repeating, to who comes after us
		for _, h := range g.held.untried(now) {
			g.answerText(h, rewrite.Answer{Status: 100, Phrase: "Trying"})
		}
	}
	for _, h := range g.held.take(func(h *heldMessage) bool { return !now.Before(h.until) }) {
		g.stats.heldTotal[heldExpired].Add(1)
		g.expireHeld(h)
	}
}

// expireHeld gives up one that its client did not come back for.
func (g *Gateway) expireHeld(h *heldMessage) {
	w := g.works.get()
	defer g.works.put(w)
	switch {
	case w.msg.Scan(h.text) != rewrite.Sound:
	case h.answer:
		g.giveUp(h.from, w, ReasonBrowserGone)
	default:
		g.giveUp(h.from, w, ReasonNoConnection)
	}
}

// giveUp is refuseDown for what has begun a transaction: its answer is sent again.
func (g *Gateway) giveUp(from transport.Source, w *work, r Reason) {
	g.noteRefusedDown(from, w, r)
	g.endCancelled(w)
	w.out = w.out[:0]
	if a := g.answerFor(r, &w.msg); a.Status != 0 {
		g.answerHeld(from, w, a)
	}
	g.traceRefused(Down, r, nil, from, w)
}
