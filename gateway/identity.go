package gateway

import (
	"bytes"
	"slices"
	"time"

	"viaduct/rewrite"
)

// probeTimeout is how long a connection has to prove that it lives after
// another one named its client.
const probeTimeout = 5 * time.Second

// identify decides on whose behalf a browser's request goes: it makes the
// tokens of its Contacts, and fills w.up but for the Via. A client is named
// where it is known to be on this flow; else the flow itself is, so that what
// comes back finds the connection it was asked on and moves nothing.
func (g *Gateway) identify(f *flow, w *work, hop *rewrite.ViaHop) Reason {
	m := &w.msg
	viaHost := m.Text(hop.Host)
	register := m.Is("REGISTER")
	w.setAoR(f, viaHost, register)
	first, named, r := g.signContacts(f, w, viaHost)
	if r != 0 {
		return r
	}
	if register {
		g.identifyRegister(f, w, first, named, viaHost)
		return 0
	}
	if !named {
		first, named = g.last(f, viaHost, w.aor)
	}
	w.up = rewrite.UpSeal{Key: g.keys.Load().First(), HasFlow: true, Flow: f.id}
	if !named {
		return 0
	}
	w.up.Key, w.up.Origin = first.key, first.origin
	switch on := g.place(f, w, first.client); on {
	case f:
		w.up.HasFlow, w.up.HasClient, w.up.Client = false, true, first.client
	case nil:
	default:
		on.conn.Probe(probeTimeout)
	}
	if g.media != nil { // the response has to tell whose media it is about
		w.up.HasClient, w.up.Client = true, first.client
	}
	return 0
}

// place returns the flow on which a client is, after a message that forms or
// refreshes a dialog has bound a client that is nowhere yet.
func (g *Gateway) place(f *flow, w *work, id rewrite.ClientID) *flow {
	m := &w.msg
	forms := m.Is("INVITE") || m.Is("SUBSCRIBE") || m.Is("REFER") || m.Is("UPDATE") || m.Is("NOTIFY")
	if len(w.contacts) > 0 && forms {
		return g.clients.claim(id, w.up.Origin, f)
	}
	return g.clients.flow(id)
}

// identifyRegister seals who registers, and on which flow: a client moves only
// when the SIP server has accepted it.
func (g *Gateway) identifyRegister(f *flow, w *work, first contact, named bool, viaHost []byte) {
	if !named {
		var known bool
		if first, known = g.last(f, viaHost, w.aor); !known || !bytes.Equal(first.aor(), w.aor) {
			first.key = g.keys.Load().First()
			first.origin = first.key.Origin(w.aor, viaHost)
		}
	}
	w.up = rewrite.UpSeal{
		Key: first.key, HasFlow: true, Flow: f.id,
		HasClient: named, Client: first.client,
		Register: w.registerKind(), Origin: first.origin,
	}
	if !named {
		return
	}
	if on := g.clients.flow(first.client); on != nil && on != f {
		on.conn.Probe(probeTimeout)
	}
}

func (w *work) registerKind() rewrite.Register {
	switch {
	case len(w.contacts) == 0:
		return rewrite.RegisterFetch
	case w.contacts[0].Star:
		return rewrite.RegisterWildcard
	case w.msg.Expires(w.contacts[0]) == 0:
		return rewrite.RegisterUnbind
	}
	return rewrite.RegisterBind
}

// last returns the client that a request without a Contact is of, unless its key
// has been removed: a seal made with that would not verify.
func (g *Gateway) last(f *flow, viaHost, aor []byte) (contact, bool) {
	c, ok := f.last(viaHost, aor)
	return c, ok && slices.Contains(g.keys.Load().Keys(), c.key)
}

// setAoR finds the address-of-record that a request is sent for.
func (w *work) setAoR(f *flow, viaHost []byte, register bool) {
	m := &w.msg
	header := m.From
	if register {
		header = m.To
	}
	text := m.Text(header)
	if a, ok := m.ParseAddress(header); ok {
		text = m.Text(a.URI)
	}
	w.aor = rewrite.AppendAoR(w.aor[:0], text)
	if register {
		return
	}
	var uri []byte
	if len(w.contacts) > 0 {
		uri = m.Text(w.contacts[0].URI)
	}
	w.aor = f.appendAoR(w.aor, viaHost, uri)
}

// signContacts makes the token of each Contact, and returns the client that the
// first of them means.
func (g *Gateway) signContacts(f *flow, w *work, viaHost []byte) (first contact, named bool, r Reason) {
	for i, a := range w.contacts {
		if a.Star {
			continue
		}
		c, err := g.contact(f, w, viaHost, w.msg.Text(a.URI))
		if err != nil {
			return contact{}, false, ReasonContactTooLong
		}
		if w.tokens[i] = c.token(); !named {
			first, named = c, true
		}
	}
	return first, named, 0
}

// contact returns the client that a Contact means, with its token. A client
// keeps the key of its registration, since with another one the SIP server would
// hold it twice, and in its calls the one by which they reach it.
func (g *Gateway) contact(f *flow, w *work, viaHost, uri []byte) (contact, error) {
	keys, holds := g.keys.Load(), g.clients.known
	if w.msg.Is("REGISTER") {
		holds = g.clients.registered
	}
	c, ok := f.find(viaHost, w.aor, uri)
	if ok && (c.key == keys.First() || slices.Contains(keys.Keys(), c.key) && holds(c.client)) {
		return c, nil
	}
	c, err := newContact(keys.First(), viaHost, w.aor, uri)
	if err != nil {
		return c, err
	}
	if !holds(c.client) {
		for _, key := range keys.Keys()[1:] {
			if old, err := newContact(key, viaHost, w.aor, uri); err == nil && holds(old.client) {
				c = old
			}
		}
	}
	f.remember(c)
	return c, nil
}

func newContact(key *rewrite.Key, viaHost, aor, uri []byte) (c contact, err error) {
	c = contact{key: key, origin: key.Origin(aor, viaHost)}
	text := make([]byte, 0, len(viaHost)+len(aor)+len(uri)+rewrite.MaxToken)
	for i, part := range [...][]byte{viaHost, aor, uri} {
		text = append(text, part...)
		c.ends[i] = uint32(len(text))
	}
	text, c.client, err = key.AppendToken(text, c.origin, uri)
	c.text = bytes.Clone(text) // without the room to spare
	return c, err
}
