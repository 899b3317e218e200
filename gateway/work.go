package gateway

import (
	"sync"

	"viaduct/rewrite"
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

	out  []byte // the rewritten message
	via  []byte // our Via
	uri  []byte // the URI that a token holds
	aor  []byte
	tag  []byte
	seal [rewrite.MaxVia]byte   // the Via that a seal holds
	tok  [rewrite.MaxToken]byte // the token that a seal holds

	restore func(user []byte) []byte // restoreContact, bound once: binding allocates
}

// maxContacts bounds the Contacts of a request from a browser.
const maxContacts = 8

type workPool struct{ pool sync.Pool }

func newWorkPool(g *Gateway) *workPool {
	p := &workPool{}
	p.pool.New = func() any {
		w := &work{g: g, contacts: make([]rewrite.Address, 0, maxContacts)}
		w.restore = w.restoreContact
		return w
	}
	return p
}

func (p *workPool) get() *work { return p.pool.Get().(*work) }

func (p *workPool) put(w *work) {
	w.msg.Raw = nil
	p.pool.Put(w)
}
