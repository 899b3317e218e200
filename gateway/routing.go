package gateway

import (
	"hash/fnv"
	"strconv"
	"strings"

	"viaduct/rewrite"
)

// direct decides which way a browser's request goes. CANCEL and ACK go the way
// of their INVITE, and carry its seal, as long as it is remembered.
func (g *Gateway) direct(f *flow, w *work, hop *rewrite.ViaHop) (*leg, Reason) {
	m := &w.msg
	w.reqUp.OwnRoutes = g.ownRoutes(f.conn.Host(), m)
	if !m.Tagged() && !g.routesKnown(m, w.reqUp.OwnRoutes) {
		return nil, ReasonForeignRoute
	}
	if m.Is("CANCEL") || m.Is("ACK") {
		hash := g.invites.hash(m.Text(hop.Value), m.Text(m.CallID), m.CSeq)
		if sent, ok := g.invites.find(hash); ok {
			w.up = sent.seal
			if w.up.HasClient {
				g.clients.claim(w.up.Client, w.up.Origin, f) // it alone knows that INVITE
			}
			return usable(sent.upstream.leg(sent.proto))
		}
	}
	if m.Tagged() {
		return usable(g.inDialog(w).main())
	}
	return g.newWork(w)
}

// newWork returns the leg for a request outside a dialog.
func (g *Gateway) newWork(w *work) (*leg, Reason) {
	up := g.byPolicy(w.aor)
	if up == nil {
		return nil, ReasonUpstreamUnreachable
	}
	return usable(up.main())
}

// next returns the leg for a request that could not be sent by one, whose
// upstream is suspected by now. What belongs to a dialog or an INVITE goes
// nowhere else.
func (g *Gateway) next(w *work, failed *leg) (*leg, Reason) {
	m := &w.msg
	if m.Tagged() || m.Is("CANCEL") || m.Is("ACK") {
		return nil, ReasonUpstreamUnreachable
	}
	to, r := g.newWork(w)
	if r == 0 && to.upstream == failed.upstream {
		return nil, ReasonUpstreamUnreachable
	}
	return to, r
}

func usable(l *leg) (*leg, Reason) {
	if l == nil {
		return nil, ReasonUpstreamUnreachable
	}
	return l, 0
}

// inDialog returns the upstream that a request in a dialog names: by its top
// Route, else by its Request-URI (RFC 3261 12.2.1.1), else the policy's, whose
// choice does not change when an upstream dies.
func (g *Gateway) inDialog(w *work) *upstream {
	m := &w.msg
	routes := m.Values(rewrite.Route)
	for range w.reqUp.OwnRoutes {
		routes.Next()
	}
	if top, ok := routes.Next(); ok {
		if up := g.namedBy(m, top); up != nil {
			return up
		}
	}
	if uri, ok := rewrite.ParseURI(m.Text(m.URI)); ok {
		if up := g.named(uri.Host, uri.Port); up != nil {
			return up
		}
	}
	return g.byPolicyOfAll(w.aor)
}

// byPolicy returns the upstream for an address-of-record among those that can
// be reached, nil if none can.
func (g *Gateway) byPolicy(aor []byte) *upstream {
	return g.choose(aor, (*upstream).reachable)
}

// byPolicyOfAll does the same whatever their health.
func (g *Gateway) byPolicyOfAll(aor []byte) *upstream {
	return g.choose(aor, func(*upstream) bool { return true })
}

// choose is the policy among the upstreams that may be chosen. The hash is a
// rendezvous: a further upstream takes its share and moves nobody else, and the
// share of one that dies is spread over the others.
func (g *Gateway) choose(aor []byte, may func(*upstream) bool) (best *upstream) {
	var score uint64
	for _, up := range g.upstreams {
		if !may(up) {
			continue
		}
		if g.cfg.Policy == PolicyFailover {
			return up
		}
		if s := weight(aor, up.id); s >= score {
			best, score = up, s
		}
	}
	return best
}

// weight is FNV-1a over both, without the allocation of hash/fnv.
func weight(aor []byte, id uint32) uint64 {
	const offset, prime = 14695981039346656037, 1099511628211
	h := uint64(offset)
	for _, c := range aor {
		h = (h ^ uint64(c)) * prime
	}
	for range 4 {
		h = (h ^ uint64(id&0xff)) * prime
		id >>= 8
	}
	h ^= h >> 32
	return h * prime
}

// upstreamID names an upstream in seals, the same in every run.
func upstreamID(text string) uint32 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(text))
	return h.Sum32()
}

// upstreamByID returns the upstream that a seal names, else the first: a peer
// that is no upstream is answered in its name.
func (g *Gateway) upstreamByID(id uint32) *upstream {
	for _, up := range g.upstreams {
		if up.id == id {
			return up
		}
	}
	return g.upstreams[0]
}

// named returns the upstream that a host and port mean, or nil.
func (g *Gateway) named(host []byte, port uint16) *upstream {
	for _, up := range g.upstreams {
		if up.names(host, port) {
			return up
		}
	}
	for _, up := range g.upstreams {
		if up.known(host) {
			return up
		}
	}
	return nil
}

func (g *Gateway) namedBy(m *rewrite.Message, route rewrite.Span) *upstream {
	a, ok := m.ParseAddress(route)
	if !ok {
		return nil
	}
	uri, ok := rewrite.ParseURI(m.Text(a.URI))
	if !ok {
		return nil
	}
	return g.named(uri.Host, uri.Port)
}

// routesKnown reports whether every Route but the gateway's own is an upstream:
// outside a dialog a browser may not send a request anywhere else.
func (g *Gateway) routesKnown(m *rewrite.Message, own int) bool {
	routes := m.Values(rewrite.Route)
	for i := 0; ; i++ {
		route, ok := routes.Next()
		if !ok {
			return true
		}
		if i >= own && g.namedBy(m, route) == nil {
			return false
		}
	}
}

// ownRoutes returns 1 if the top Route is the gateway, as browsers preload it
// (RFC 7118 appendix A), by the Host of their handshake, else 0. RFC 3261 16.4: "If the first value in the
// Route header field indicates this proxy, the proxy MUST remove that value".
func (g *Gateway) ownRoutes(host string, m *rewrite.Message) int {
	routes := m.Values(rewrite.Route)
	top, ok := routes.Next()
	if !ok {
		return 0
	}
	a, ok := m.ParseAddress(top)
	if !ok {
		return 0
	}
	uri, ok := rewrite.ParseURI(m.Text(a.URI))
	switch {
	case !ok:
		return 0
	case uri.Port == 0 && g.named(uri.Host, 0) != nil:
		return 0 // a server on the gateway's own host, as it writes its Record-Route
	case isHostPort(uri, host), g.isAdvertised(uri):
		return 1
	}
	return 0
}

func (g *Gateway) isAdvertised(uri rewrite.URI) bool {
	for _, up := range g.upstreams {
		for _, l := range up.route.Load().legs {
			if l != nil && isHostPort(uri, string(l.host)) {
				return true
			}
		}
	}
	return false
}

// isHostPort reports whether a URI's host and port are `host[:port]` as text.
// The URI may leave the port out, and a browser leaves the one out of its Host
// that ws or wss implies.
func isHostPort(uri rewrite.URI, text string) bool {
	rest, ok := cutFold(text, uri.Host)
	switch {
	case !ok || len(rest) > 0 && rest[0] != ':':
		return false
	case uri.Port == 0:
		return true
	case len(rest) == 0:
		return uri.Port == 80 || uri.Port == 443
	}
	var buf [8]byte
	port := strconv.AppendUint(append(buf[:0], ':'), uint64(uri.Port), 10)
	return rest == string(port)
}

func cutFold(text string, prefix []byte) (rest string, ok bool) {
	if len(text) < len(prefix) || !strings.EqualFold(text[:len(prefix)], string(prefix)) {
		return "", false
	}
	return text[len(prefix):], true
}
