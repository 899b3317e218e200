package gateway

import (
	"math/rand/v2"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"viaduct/rewrite"
	"viaduct/transport"
)

// work is what the relaying of one message needs: the scanned message and the
// buffers for what it becomes. It is taken from a pool, so that a message in
// steady state costs no allocation.
type work struct {
	g *Gateway

	msg      rewrite.Message
	up       rewrite.UpSeal
	down     rewrite.DownSeal
	reqUp    rewrite.RequestUp
	respUp   rewrite.ResponseUp
	reqDown  rewrite.RequestDown
	respDown rewrite.ResponseDown
	answer   rewrite.Answer

	contacts []rewrite.Address // the request's Contacts
	tokens   [maxContacts][]byte
	uris     [maxContacts][]byte // what stands for each Contact's URI

	out      []byte // the rewritten message
	via      []byte // our Via
	uri      []byte // the URI that a token holds
	aor      []byte
	tag      []byte
	clientIP []byte
	spare    []byte                 // a message that comes back from the transactions
	seal     [rewrite.MaxVia]byte   // the Via that a seal holds
	tok      [rewrite.MaxToken]byte // the token that a seal holds

	waiting *waiting         // what the message is, if it has waited for an engine
	parked  bool             // it waits for one again
	batch   *transport.Batch // what is sent to the SIP side goes with that; nil: at once
	body    []byte           // what an engine has made of its body; nil: that stays
	media   rewrite.Media    // what the seal of a request to a browser says of it
	leg     rewrite.ClientID // the client whose media it is about

	restore func(user []byte) []byte // restoreContact, bound once: binding allocates

	own   bool      // the gateway made the message itself
	began time.Time // zero: not timed
	dice  uint32    // at random, never 0: whether the next one is timed
}

// maxContacts bounds the Contacts of a request from a browser.
const maxContacts = 8

// timedOneIn is how many messages pass for each one that is timed, at random:
// that costs 100 ns.
const timedOneIn = 16

const (
	latencyName = "viaduct_relay_duration_seconds"
	latencyHelp = "Time from when a SIP message was read to when it was sent on or refused. About one in 16 is timed."
)

type workPool struct {
	pool    sync.Pool
	latency prometheus.Histogram
}

func newWorkPool(g *Gateway) *workPool {
	p := &workPool{latency: prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: latencyName, Help: latencyHelp, Buckets: prometheus.ExponentialBuckets(2e-6, 4, 10),
	})}
	p.pool.New = func() any {
		w := &work{g: g, contacts: make([]rewrite.Address, 0, maxContacts), dice: rand.Uint32() | 1}
		w.restore = w.restoreContact
		return w
	}
	return p
}

func (p *workPool) get() *work {
	w := p.pool.Get().(*work)
	// A xorshift (Marsaglia 2003): any rhythm of its own could be that of the traffic.
	w.dice ^= w.dice << 13
	w.dice ^= w.dice >> 17
	w.dice ^= w.dice << 5
	if w.dice%timedOneIn == 0 {
		w.began = time.Now()
	}
	return w
}

func (p *workPool) put(w *work) {
	if !w.began.IsZero() {
		p.latency.Observe(time.Since(w.began).Seconds())
		w.began = time.Time{}
	}
	w.msg.Raw = nil
	w.waiting, w.parked, w.body, w.media, w.batch, w.own = nil, false, nil, rewrite.Media{}, nil, false
	p.pool.Put(w)
}
