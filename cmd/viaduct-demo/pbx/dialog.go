package pbx

import (
	"crypto/rand"
	"sync"

	"github.com/ghettovoice/gosip/sip"
)

// A dialog is one side of a call (RFC 3261 12): what the PBX and one phone say
// to each other.
type dialog struct {
	callID string
	local  *sip.Address // with our tag

	done chan struct{} // closed when the dialog has ended

	mu       sync.Mutex
	remote   *sip.Address // with the phone's tag, once known
	target   sip.Uri
	seq      uint32       // of the latest request we sent
	awaiting *unconfirmed // the 2xx whose ACK has not come
	unacked  *outgoing    // our latest INVITE that was answered
	peer     *dialog      // the other side of a bridged call
	session  session      // the media of a call with an extension
	over     bool
}

// An unconfirmed is a 2xx to an INVITE that is repeated until its ACK comes.
type unconfirmed struct {
	seq   uint32
	done  chan struct{}
	acked func(ack sip.Request)
}

// dialogIn returns the dialog that a 2xx to req makes.
func dialogIn(req sip.Request) *dialog {
	d := &dialog{
		callID: callIDOf(req),
		local:  tagged(toOf(req), rand.Text()),
		remote: fromOf(req),
		done:   make(chan struct{}),
	}
	d.refresh(req)
	return d
}

// dialogOut returns the dialog that an INVITE from us to contact makes once it
// is answered.
func dialogOut(from, to *sip.Address, contact sip.Uri) *dialog {
	return &dialog{
		callID: rand.Text(),
		local:  tagged(from, rand.Text()),
		remote: tagged(to, ""),
		target: contact,
		done:   make(chan struct{}),
	}
}

// refresh takes the remote target from msg (RFC 3261 12.2).
func (d *dialog) refresh(msg sip.Message) {
	contact, ok := msg.Contact()
	if !ok || contact.Address.IsWildcard() {
		return
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.target = contact.Address.Clone()
}

// establish takes from a 2xx what only it knows.
func (d *dialog) establish(res sip.Response) {
	d.refresh(res)
	d.mu.Lock()
	defer d.mu.Unlock()
	d.remote = toOf(res)
}

// next returns the dialog's next request.
func (d *dialog) next(method sip.RequestMethod, c content) sip.Request {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.seq++
	return d.build(method, d.seq, c)
}

// ack returns the ACK of the 2xx to our INVITE with seq.
func (d *dialog) ack(seq uint32, c content) sip.Request {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.build(sip.ACK, seq, c)
}

// build needs d.mu.
func (d *dialog) build(method sip.RequestMethod, seq uint32, c content) sip.Request {
	callID, forwards := sip.CallID(d.callID), sip.MaxForwards(70)
	req := sip.NewRequest("", method, d.target.Clone(), "SIP/2.0", []sip.Header{
		newVia(),
		d.local.Clone().AsFromHeader(),
		d.remote.Clone().AsToHeader(),
		&callID,
		&sip.CSeq{SeqNo: seq, MethodName: method},
		&forwards,
	}, "", nil)
	c.addTo(req)
	return req
}

// newVia leaves out what gosip's transport layer fills in.
func newVia() sip.Header {
	branch := sip.String{Str: sip.GenerateBranch()}
	return sip.ViaHeader{&sip.ViaHop{
		ProtocolName: "SIP", ProtocolVersion: "2.0", Params: sip.NewParams().Add("branch", branch),
	}}
}

// await remembers a 2xx to the INVITE with seq until its ACK comes.
func (d *dialog) await(seq uint32, acked func(ack sip.Request)) *unconfirmed {
	u := &unconfirmed{seq, make(chan struct{}), acked}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.awaiting = u
	return u
}

// confirm is called with each ACK of a 2xx; repeated ones change nothing.
func (d *dialog) confirm(ack sip.Request) {
	d.mu.Lock()
	u := d.awaiting
	if u == nil || u.seq != seqOf(ack) {
		d.mu.Unlock()
		return
	}
	d.awaiting = nil
	d.mu.Unlock()
	close(u.done)
	u.acked(ack)
}

// pair makes a and b the two sides of a call.
func pair(a, b *dialog) {
	a.setPeer(b)
	b.setPeer(a)
}

func (d *dialog) setPeer(peer *dialog) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.peer = peer
}

// partner returns the other side of the call, and the media if that is an
// extension. Both are nil while the call is being set up.
func (d *dialog) partner() (*dialog, session) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.peer, d.session
}

// carry hands session to the dialog, which closes it when it ends.
func (d *dialog) carry(session session) {
	d.mu.Lock()
	over := d.over
	d.session = session
	d.mu.Unlock()
	if over {
		session.close()
	}
}

func (d *dialog) ended() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.over
}

// owe remembers that o, an INVITE of ours, was answered and wants its ACK.
func (d *dialog) owe(o *outgoing) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.unacked = o
}

// finish ends the dialog here, without a word to the phone. Only the first
// call returns true.
func (d *dialog) finish() bool {
	d.mu.Lock()
	first, awaiting, session := !d.over, d.awaiting, d.session
	d.over, d.awaiting = true, nil
	d.mu.Unlock()
	if !first {
		return false
	}
	close(d.done)
	if awaiting != nil {
		close(awaiting.done)
	}
	if session != nil {
		session.close()
	}
	return true
}

// owed returns the INVITE that owe was called with, or nil.
func (d *dialog) owed() *outgoing {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.unacked
}

// A dialogID is how a request names its dialog, as the PBX sees it.
type dialogID struct{ callID, local, remote string }

// dialogs are all calls there are. It is safe for concurrent use.
type dialogs struct {
	mu  sync.Mutex
	all map[dialogID]*dialog
}

func newDialogs() *dialogs { return &dialogs{all: make(map[dialogID]*dialog)} }

func (d *dialog) id() dialogID {
	d.mu.Lock()
	defer d.mu.Unlock()
	return dialogID{d.callID, tagOf(d.local), tagOf(d.remote)}
}

// add returns false if it has d already, or d has ended.
func (ds *dialogs) add(d *dialog) bool {
	id := d.id()
	ds.mu.Lock()
	defer ds.mu.Unlock()
	if ds.all[id] != nil || d.ended() {
		return false
	}
	ds.all[id] = d
	return true
}

func (ds *dialogs) remove(d *dialog) {
	id := d.id()
	ds.mu.Lock()
	defer ds.mu.Unlock()
	delete(ds.all, id)
}

// find returns the dialog that a request from a phone is in, or nil.
func (ds *dialogs) find(req sip.Request) *dialog {
	id := dialogID{callIDOf(req), tagOf(toOf(req)), tagOf(fromOf(req))}
	ds.mu.Lock()
	defer ds.mu.Unlock()
	return ds.all[id]
}

// finish ends all dialogs without a word to the phones.
func (ds *dialogs) finish() {
	ds.mu.Lock()
	all := ds.all
	ds.all = make(map[dialogID]*dialog)
	ds.mu.Unlock()
	for _, d := range all {
		d.finish()
	}
}
