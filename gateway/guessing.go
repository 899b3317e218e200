package gateway

import (
	"hash/maphash"
	"net/netip"
	"slices"
	"time"

	"github.com/gobwas/ws"
	lru "github.com/hashicorp/golang-lru/v2"
	"go.uber.org/zap"

	"viaduct/rewrite"
	"viaduct/transport"
)

// A browser that guesses passwords is told by what the SIP server answers to
// requests that came with credentials. Each refusal counts against its connection
// and its address. Past slowFailures the connection may try once for each that
// is forgiven; past its last one it is closed.
//
// A browser also sends what it has left of another connection, or of a server that
// is gone: credentials under an old nonce, which few servers call stale. So some
// refusals by 401 and 407 are pardoned, if a REGISTER is accepted before the
// connection ends or there are too many of them; else they count all the same.
//
// Many users can share an address. So what is known of an address shortens what
// a new connection may get wrong, and nothing else: whose first password is
// right notices nothing, and has the whole budget from then on. The price: behind
// such an address who mistypes a password is closed after the second time, and an
// attacker who reconnects for each guess is made slow by the handshakes alone;
// for that there is the log, and fail2ban. The memory of an address ends by time,
// not by a login: neither a neighbour's nor an attacker's own makes room for more
// guesses.
var (
	// failures are those of one connection; one with the whole burst is closed.
	failures = budget{interval: 10 * time.Second, burst: 10}
	// addressFailures are those of all connections of one address.
	addressFailures = budget{interval: time.Minute, burst: 20}
	// pardons are those of one connection; where passwords are guessed it begins
	// with one.
	pardons = budget{interval: time.Minute, burst: slowFailures - 1}
)

const (
	slowFailures = 5
	// addressCounts is what a new connection begins with at most.
	addressCounts = 8
	// maxAddresses is how many addresses are remembered, some 100 bytes each.
	maxAddresses = 20_000
	// maxTries bounds the requests with credentials that a connection has under way.
	maxTries = 64
	// maxGuests is the same for one that has not been let in yet, failures included.
	maxGuests = 32
)

// credentials says which kinds of them a request has.
type credentials uint8

const (
	withAuthorization credentials = 1 << iota
	withProxyAuthorization
)

// credentialsOf returns those of a request that can be refused for them.
func credentialsOf(m *rewrite.Message) (with credentials) {
	if !m.Request || m.Is("ACK") || m.Is("CANCEL") {
		return 0
	}
	if m.Has(rewrite.Authorization) {
		with = withAuthorization
	}
	if m.Has(rewrite.ProxyAuthorization) {
		with |= withProxyAuthorization
	}
	return with
}

// try is a request with credentials that has no answer yet. The Via, Call-ID and
// CSeq number name it, as the seal in our own branch does; half of a hash will do.
type try struct {
	id    uint32
	until uint32 // in seconds
	with  credentials
}

func tryID(via []byte, m *rewrite.Message) uint32 {
	var h maphash.Hash
	h.SetSeed(activitySeed)
	_, _ = h.Write(via)
	_ = h.WriteByte(0)
	_, _ = h.Write(m.Text(m.CallID))
	return uint32(h.Sum64()) ^ m.CSeq
}

// paceTry says why a request with credentials may not pass. One that comes while
// its connection is slowed counts as another failure.
func (g *Gateway) paceTry(f *flow, m *rewrite.Message, with credentials, now time.Duration) Reason {
	hop, ok := m.Via(0)
	if !ok {
		return 0 // it is refused for that
	}
	count := f.failed.count(failures, now)
	if count >= slowFailures && f.refused.Load() {
		if f.fails(now) {
			f.closeGuesser()
		}
		return ReasonGuessing
	}
	wait := openWait
	if m.Is("INVITE") {
		wait = openINVITE
	}
	if !f.tries(try{tryID(m.Text(hop.Value), m), uint32((now + wait) / time.Second), with}, count, uint32(now/time.Second)) {
		return ReasonGuessing
	}
	return 0
}

// tries notes a try; false if too many are under way for a guest with so many
// failures. Of those of a user the oldest is forgotten.
func (f *flow) tries(t try, failed int, now uint32) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.tried) >= maxGuests-failed {
		f.tried = slices.DeleteFunc(f.tried, func(t try) bool { return t.until < now })
	}
	if len(f.tried) >= maxGuests-failed && !f.proven {
		return false
	}
	if len(f.tried) == maxTries {
		f.tried = slices.Delete(f.tried, 0, 1)
	}
	f.tried = append(f.tried, t)
	f.trying.Store(int32(len(f.tried)))
	return true
}

// answers returns with what credentials the request came that is answered, 0 if
// with none; the first time alone.
func (f *flow) answers(id uint32) (with credentials) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := slices.IndexFunc(f.tried, func(t try) bool { return t.id == id })
	if i < 0 {
		return 0
	}
	with = f.tried[i].with
	f.tried = slices.Delete(f.tried, i, i+1)
	f.trying.Store(int32(len(f.tried)))
	return with
}

// judge looks at a response that a browser is to be sent: whether it lets in, or
// refuses, who has sent credentials. It comes before the browser can know that,
// and reports whether the connection has made its last failure.
func (g *Gateway) judge(f *flow, w *work) (last bool) {
	m := &w.msg
	if f.trying.Load() == 0 || m.Status <= 100 {
		return false
	}
	with := f.answers(tryID(w.up.Via, m))
	register := m.Is("REGISTER")
	switch {
	case with == 0:
	case register && m.Status/100 == 2:
		g.letIn(f)
	case refuses(m, with, register || !f.isProven()):
		return g.failed(f, m)
	}
	return false
}

// refuses reports whether a response says that the credentials were wrong. A 401
// to those for a proxy asks for others, and a stale nonce for the same ones. Who
// is let in may call wrong numbers.
func refuses(m *rewrite.Message, with credentials, unknown bool) bool {
	switch m.Status {
	case 401:
		return with&withAuthorization != 0 && !m.Stale()
	case 407:
		return with&withProxyAuthorization != 0 && !m.Stale()
	case 403, 404:
		return unknown
	}
	return false
}

// letIn gives a connection that has registered what its address had cost it, and
// pardons it.
func (g *Gateway) letIn(f *flow) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.pardoned.Store(0)
	if !f.proven && !f.refused.Load() {
		f.failed.until.Store(0)
	}
	f.proven = true
}

func (f *flow) isProven() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.proven
}

// failed notes that credentials were refused. Its line in the log is what
// deploy/fail2ban reads.
func (g *Gateway) failed(f *flow, m *rewrite.Message) (last bool) {
	now := g.now()
	if (m.Status == 401 || m.Status == 407) && f.pardons.take(pardons, now) {
		f.pardoned.Add(1)
		return false
	}
	f.refused.Store(true)
	for range 1 + f.pardoned.Swap(0) {
		g.noteFailure(f, aorOfSender(m), now, zap.String("method", string(m.Text(m.CSeqMethod))), zap.Int("status", m.Status),
			zap.String("call_id", string(m.Text(m.CallID))))
		last = f.fails(now)
	}
	return last
}

// noteFailure counts a failure for the address, and logs it.
func (g *Gateway) noteFailure(f *flow, user string, now time.Duration, more ...zap.Field) {
	g.stats.guesses.Add(1)
	g.guessers.failed(f.client(), now)
	if entry := g.log.Check(zap.WarnLevel, "authentication failed"); entry != nil {
		entry.Write(append([]zap.Field{zap.Stringer("client", f.client()), zap.String("user", user)}, more...)...)
	}
}

// fails counts a failure, and reports whether it was the last.
func (f *flow) fails(now time.Duration) bool {
	return f.failed.charge(failures, now) >= failures.burst
}

func (f *flow) closeGuesser() {
	f.conn.CloseFor(transport.CauseGuessing, ws.StatusPolicyViolation, "credentials refused too often")
}

// aorOfSender returns the address-of-record that a request was sent for, cut short.
func aorOfSender(m *rewrite.Message) string {
	const longest = 128
	a, ok := m.ParseAddress(m.From)
	if !ok {
		return ""
	}
	aor := rewrite.AppendAoR(nil, m.Text(a.URI))
	return string(aor[:min(len(aor), longest)])
}

// leave counts for an address the tries that nobody waited for: their answers
// could else be had on another connection, where they count against nobody. What
// was pardoned counts too, for no REGISTER was accepted.
func (g *Gateway) leave(f *flow, why transport.CloseCause) {
	if why == transport.CauseShutdown || why == transport.CauseMoved {
		return
	}
	for range f.trying.Load() {
		g.guessers.failed(f.client(), g.now())
	}
	for range f.pardoned.Swap(0) {
		g.noteFailure(f, f.user(), g.now())
	}
}

// guessers are the addresses of which credentials were refused of late. Only who
// fails is remembered, and of too many those who have not failed for longest are
// forgotten: golang-lru is that, bounded and safe for concurrent use.
type guessers struct {
	byAddress *lru.Cache[netip.Addr, *spent]
}

func newGuessers() guessers {
	cache, err := lru.New[netip.Addr, *spent](maxAddresses)
	if err != nil {
		panic(err) // only a size below one fails
	}
	return guessers{cache}
}

// guesser is what counts as one address: of IPv6 the network of one customer,
// who has any number of addresses in it.
func guesser(addr netip.Addr) netip.Addr {
	if addr = addr.Unmap().WithZone(""); addr.Is6() {
		if network, err := addr.Prefix(64); err == nil {
			return network.Addr()
		}
	}
	return addr
}

// failed counts a failure.
func (g guessers) failed(addr netip.Addr, now time.Duration) {
	key := guesser(addr)
	have, known := g.byAddress.Get(key)
	if !known {
		have = new(spent)
		if other, known, _ := g.byAddress.PeekOrAdd(key, have); known {
			have = other
		}
	}
	have.charge(addressFailures, now)
}

// begin makes a new connection's failures those that its address has left it.
func (g guessers) begin(f *flow, from netip.Addr, now time.Duration) {
	if have, known := g.byAddress.Peek(guesser(from)); known {
		count := min(have.count(addressFailures, now), addressCounts)
		f.failed.set(failures, now, count)
		if count >= slowFailures {
			f.pardons.set(pardons, now, pardons.burst-1)
		}
	}
}
