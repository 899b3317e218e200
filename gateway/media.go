package gateway

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"

	"viaduct/gateway/rtpengine"
	"viaduct/rewrite"
	"viaduct/transport"
)

// media has the bodies of calls made for the other side by rtpengine: plain RTP
// for the SIP server, WebRTC for the browser. It keeps no call. What is an offer
// and what an answer is in the message and in the seal of our Via; the engine's
// name for the call is made of the Call-ID and the client, since behind a proxy
// both browsers of a call have the same Call-ID.
type media struct {
	*rtpengine.Client
	optional   bool
	interfaces Interfaces
	bodies     [numBodyOutcomes]atomic.Uint64
}

// bodyOutcome says what became of a body that an engine was wanted for.
type bodyOutcome uint8

const (
	bodyBridged     bodyOutcome = iota
	bodyRefused                 // the engine did not take it
	bodyUnreachable             // no engine answered
	bodyForeign                 // it is no application/sdp
	numBodyOutcomes
)

func (o bodyOutcome) String() string {
	return [numBodyOutcomes]string{"bridged", "refused", "unreachable", "foreign"}[o]
}

// errHungUp: the call is over, and nobody waits for its media.
var errHungUp = errors.New("the call is hung up")

// reliable is the extension that cannot be had with an engine: whether the body
// of a PRACK is an offer or an answer, only a state of the call would tell.
var reliable = []string{"100rel"}

func newMedia(cfg *Config) (*media, error) {
	if len(cfg.RTPEngines) == 0 {
		return nil, nil
	}
	client, err := rtpengine.New(rtpengine.Config{Engines: cfg.RTPEngines, Log: cfg.Log})
	if err != nil {
		return nil, fmt.Errorf("--rtpengine: %w", err)
	}
	return &media{Client: client, optional: cfg.RTPEngineOptional, interfaces: cfg.RTPEngineInterfaces}, nil
}

// question is what an engine is to be asked about a message; its zero value,
// nothing.
type question struct {
	asks             bool
	kind             rtpengine.Kind
	offerer, replier rewrite.Span // From or To
	untagged         bool         // the replier is not known
}

// bridge has the body of a message made for the other side if that is wanted. It
// reports whether the message waits for that, or behind one that does: it is
// relayed later then. A request is refused if r is not 0. What is known of the
// request is in the seal, which bridge fills for a request and reads for a response.
func (g *Gateway) bridge(f *flow, w *work, way Direction, from transport.Source, leg rewrite.ClientID, seal *rewrite.Media) (waits bool, r Reason) {
	if g.media == nil {
		return false, 0
	}
	q, r := g.media.question(&w.msg, seal)
	h := w.waiting
	w.leg = leg
	switch {
	case r != 0:
		return false, r
	case h != nil && h.answered:
		return false, g.useAnswer(w, &q, seal)
	case h == nil && (q.asks || g.follows(f, &w.msg)):
		return g.waitsOn(f, w, way, from)
	case !q.asks:
		return false, 0
	}
	e := g.media.engine(&w.msg, &q, seal)
	if e == nil {
		return false, g.unbridged(w, &q, rtpengine.ErrUnreachable, seal)
	}
	w.parked = true
	g.askEngine(h, e, g.command(w, way, &q))
	return true, 0
}

// question says what is to be asked about a message. A request that begins
// something is noted in its seal, or refused.
func (d *media) question(m *rewrite.Message, seal *rewrite.Media) (q question, r Reason) {
	invites := m.Is("INVITE")
	switch {
	case m.Request && m.Is("CANCEL"):
		*seal = rewrite.Media{InDialog: m.Tagged()}
		return q, 0
	case m.Request && m.Is("ACK"):
		// RFC 3261 13.2.1: it answers the offer that the 2xx had.
		return question{isSDP(m), rtpengine.KindAnswer, m.To, m.From, false}, 0
	case !invites && !m.Is("UPDATE"):
		return q, 0
	case m.Request:
		return d.offers(m, seal)
	case m.Status < 101 || m.Status > 299 || seal.Untouched || !isSDP(m):
		return q, 0
	case !seal.Late:
		return question{true, rtpengine.KindAnswer, m.From, m.To, false}, 0
	case invites && (m.Status >= 200 || !m.Has(rewrite.RSeq)):
		return question{true, rtpengine.KindOffer, m.To, m.From, !seal.InDialog}, 0
	}
	return q, 0
}

// offers does so for an INVITE or UPDATE.
func (d *media) offers(m *rewrite.Message, seal *rewrite.Media) (q question, r Reason) {
	*seal = rewrite.Media{InDialog: m.Tagged()}
	switch {
	case m.Is("INVITE") && requires(m, reliable[0]):
		return q, ReasonReliableProvisional
	case isSDP(m):
		return question{true, rtpengine.KindOffer, m.From, m.To, !seal.InDialog}, 0
	case !m.Body.Empty():
		d.bodies[bodyForeign].Add(1)
		seal.Untouched = true
	case !m.Is("INVITE"):
	case d.AnyHealthy():
		seal.Late = true
	case !d.optional:
		return q, ReasonMediaUnreachable
	default:
		seal.Untouched = true
	}
	return q, 0
}

// isSDP reports whether a message has a body that is nothing but a session description.
func isSDP(m *rewrite.Message) bool {
	if m.Body.Empty() || !m.Has(rewrite.ContentType) {
		return false
	}
	values := m.Values(rewrite.ContentType)
	v, _ := values.Next()
	kind, _, _ := bytes.Cut(m.Text(v), []byte(";"))
	return bytes.EqualFold(bytes.TrimSpace(kind), []byte("application/sdp"))
}

// requires reports whether a message wants an extension.
func requires(m *rewrite.Message, option string) bool {
	for values := m.Values(rewrite.Require); ; {
		v, ok := values.Next()
		if !ok {
			return false
		}
		if bytes.EqualFold(m.Text(v), []byte(option)) {
			return true
		}
	}
}

// follows reports whether a message has to wait for those before it. A BYE waits
// for those of its own call alone.
func (g *Gateway) follows(f *flow, m *rewrite.Message) bool {
	return f.waiting.busy() && !(m.Request && m.Is("BYE") && !f.waiting.has(callID(m)))
}

// waitsOn keeps a message until those before it on its flow have gone and an
// engine has answered; one for which there is no room is refused.
func (g *Gateway) waitsOn(f *flow, w *work, way Direction, from transport.Source) (waits bool, r Reason) {
	m := &w.msg
	first, ok := f.waiting.join(&waiting{
		flow: f, way: way, from: from, text: bytes.Clone(m.Raw[:m.Body.Hi]),
		callID: callID(m), bye: m.Request && m.Is("BYE"),
	})
	if !ok {
		return false, ReasonMediaOverflow
	}
	if first {
		go g.goOn(f) // not here: whoever delivers what was held has a lock that goOn wants
	}
	return true, 0
}

// goOn relays what waits on a flow, until one has to wait for an engine.
func (g *Gateway) goOn(f *flow) {
	for h := f.waiting.first(); h != nil; h = f.waiting.next() {
		if g.proceed(h) {
			return // who gets the engine's answer goes on
		}
	}
}

// proceed relays a message whose turn it is. It reports whether that waits for an
// engine: the message is another goroutine's then.
func (g *Gateway) proceed(h *waiting) (parked bool) {
	w := g.works.get()
	defer g.works.put(w)
	w.waiting = h
	if w.msg.Scan(h.text) != rewrite.Sound {
		return false
	}
	switch {
	case h.way == Up && w.msg.Request:
		g.requestUp(h.flow, w)
	case h.way == Up:
		g.responseUp(h.flow, w)
	case w.msg.Request:
		g.requestDown(h.from, w)
	default:
		if seal, ok := g.openUp(w); ok {
			g.responseTo(h.from, w, seal)
		}
	}
	return w.parked
}

// engine returns which engine is asked, nil if none can be. An offer goes to the
// first that is healthy, so that a call whose engine has died gets its media
// from another with the next offer.
func (d *media) engine(m *rewrite.Message, q *question, seal *rewrite.Media) *rtpengine.Engine {
	callID := m.Text(m.CallID)
	if m.Request || q.kind == rtpengine.KindOffer {
		return d.ForNewCall(callID)
	}
	if seal.Engine != 0 {
		for _, e := range d.Engines() {
			if e.ID() == seal.Engine {
				return e
			}
		}
	}
	return d.ForDialog(callID)
}

// command is what an engine is asked; it points into the message.
func (g *Gateway) command(w *work, way Direction, q *question) rtpengine.Command {
	m := &w.msg
	cmd := rtpengine.Command{
		Kind: q.kind, CallID: legName(m, w.leg), SDP: m.Text(m.Body),
		FromTag: m.Tag(q.offerer), ViaBranch: m.Tag(q.offerer), Profile: rtpengine.TowardsPBX(q.kind),
		Direction: [2]string{g.media.interfaces.Browser, g.media.interfaces.PBX},
	}
	if !q.untagged {
		cmd.ToTag = m.Tag(q.replier)
	}
	if way == Down {
		cmd.Profile = rtpengine.TowardsBrowser(q.kind)
		slices.Reverse(cmd.Direction[:])
	}
	return cmd
}

// legName is the engine's name for the media between a browser and the SIP server.
func legName(m *rewrite.Message, leg rewrite.ClientID) []byte {
	name := append(bytes.Clone(m.Text(m.CallID)), '-')
	return strconv.AppendUint(name, uint64(leg), 16)
}

// askEngine asks an engine about the first message of a flow, and goes on with that
// when it has answered or its time is over.
func (g *Gateway) askEngine(h *waiting, e *rtpengine.Engine, cmd rtpengine.Command) {
	var once sync.Once
	done := func(a rtpengine.Answer, err error) {
		once.Do(func() { g.answeredBy(h, e, cmd, a, err) })
	}
	h.flow.waiting.asked(func() { done(rtpengine.Answer{}, errHungUp) })
	g.media.Ask(e, cmd, done)
}

// answeredBy goes on with what an engine was asked about, with another engine if
// this one is not there.
func (g *Gateway) answeredBy(h *waiting, e *rtpengine.Engine, cmd rtpengine.Command, a rtpengine.Answer, err error) {
	h.flow.waiting.settled()
	away := errors.Is(err, rtpengine.ErrTimeout) || errors.Is(err, rtpengine.ErrUnreachable)
	if away && cmd.Kind == rtpengine.KindOffer {
		callID := cmd.CallID[:bytes.LastIndexByte(cmd.CallID, '-')]
		if other := g.media.ForNewCall(callID); other != nil && other != e {
			g.askEngine(h, other, cmd)
			return
		}
	}
	h.answered, h.engine, h.answer, h.err = true, e, a, err
	g.goOn(h.flow)
}

// useAnswer takes what an engine has said about a message.
func (g *Gateway) useAnswer(w *work, q *question, seal *rewrite.Media) Reason {
	h := w.waiting
	if h.err != nil {
		return g.unbridged(w, q, h.err, seal)
	}
	m := &w.msg
	g.media.bodies[bodyBridged].Add(1)
	w.body = h.answer.SDP
	if begins := m.Request && q.kind == rtpengine.KindOffer; begins && h.engine != g.media.ForDialog(m.Text(m.CallID)) {
		seal.Engine = h.engine.ID()
	}
	return 0
}

// unbridged deals with a body that no engine has made for the other side. A
// request with an offer is refused. Whatever else it is goes on as it came: the
// ends find out what is wrong, and hang up.
func (g *Gateway) unbridged(w *work, q *question, err error, seal *rewrite.Media) Reason {
	m := &w.msg
	outcome, r := bodyUnreachable, ReasonMediaUnreachable
	if _, isRefused := errors.AsType[*rtpengine.Refused](err); isRefused {
		outcome, r = bodyRefused, ReasonMediaRefused
	}
	g.media.bodies[outcome].Add(1)
	g.log.Warn("media not bridged", zap.ByteString("call_id", m.Text(m.CallID)), zap.Stringer("kind", q.kind), zap.Error(err))
	switch {
	case !m.Request || q.kind != rtpengine.KindOffer:
		return 0
	case r == ReasonMediaUnreachable && g.media.optional:
		g.abandon(w)
		seal.Untouched = true
		return 0
	}
	return r
}

// unsupported returns the option tags that a request must not promise.
func (g *Gateway) unsupported(m *rewrite.Message) []string {
	if g.media == nil || !m.Is("INVITE") {
		return nil
	}
	return reliable
}
