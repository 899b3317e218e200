package gateway

import "viaduct/rewrite"

// checkBound refuses a request that speaks for another address-of-record than
// the one that its connection is bound to. Contacts need no look: each becomes a
// token, which reaches the connection of whoever sent it.
//
// In a dialog the SIP server knows both ends by their tags, and From is of its
// own making where it was the browser that was called: the To of its INVITE, which
// may be an extension, the server's address or a token. There the request goes
// where the dialog does, and From is left alone.
func (f *flow) checkBound(m *rewrite.Message) Reason {
	switch {
	case f.bound == nil, m.Tagged() && !standsAlone(m):
		return 0
	case !namedBy(f.bound, m, m.From), m.Is("REGISTER") && !namedBy(f.bound, m, m.To):
		return ReasonNotTheUser
	}
	return 0
}

// standsAlone tells the methods that do something without a dialog too: a To tag
// that was made up must not carry them past.
func standsAlone(m *rewrite.Message) bool {
	return m.Is("REGISTER") || m.Is("MESSAGE") || m.Is("PUBLISH") || m.Is("SUBSCRIBE")
}

// namedBy reports whether the value of a From or To means that address-of-record.
func namedBy(aor *rewrite.URI, m *rewrite.Message, address rewrite.Span) bool {
	a, ok := m.ParseAddress(address)
	if !ok || a.Star {
		return false
	}
	uri, ok := rewrite.ParseURI(m.Text(a.URI))
	return ok && uri.SameAoR(aor)
}
