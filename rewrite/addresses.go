package rewrite

import "bytes"

// CheckAddresses is for a request of a browser: what tells where it goes, for whom
// and to which call it belongs (Request-URI, Vias, To, From and Call-ID) can be
// read in one way only.
func (m *Message) CheckAddresses() Defect {
	switch {
	case !plainTarget(m.Text(m.URI)):
		return BadStartLine
	case !m.readableVias():
		return BadVia
	case !m.singleAddress(m.To), !m.singleAddress(m.From):
		return BadAddress
	case !isCallID(m.Text(m.CallID)):
		return BadCallID
	}
	return Sound
}

// isCallID reports whether a Call-ID has only what RFC 3261 25.1 lets a word have,
// and @ and =, which some put there: no white space of any script, no separators.
func isCallID(text []byte) bool {
	for _, c := range text {
		if c <= ' ' || c >= 0x7f || c == ',' || c == ';' {
			return false
		}
	}
	return true
}

// readableVias reports whether every Via below the top one, which is read anyway,
// can be read and has a branch that is a token, if any: those stay.
func (m *Message) readableVias() bool {
	values := m.Values(Via)
	values.Next()
	for {
		v, ok := values.Next()
		if !ok {
			return true
		}
		hop, ok := m.parseVia(v)
		if !ok || hop.branched && !isToken(m.Text(hop.Branch)) {
			return false
		}
	}
}

// plainTarget reports whether a SIP URI can be a Request-URI; of other schemes
// the SIP server knows more. RFC 3261 19.1.1: headers are "not allowed" there,
// and RFC 4475 3.1.2.11 has a proxy forward none.
func plainTarget(text []byte) bool {
	colon := bytes.IndexByte(text, ':')
	if colon < 0 || !equalFold(text[:colon], "sip") && !equalFold(text[:colon], "sips") {
		return true
	}
	if _, ok := ParseURI(text); !ok {
		return false
	}
	return bytes.IndexByte(text[bytes.IndexByte(text, '@')+1:], '?') < 0
}

// singleAddress reports whether a value is one address with one tag at most. Behind
// a comma outside of quotes and brackets one reader finds a second address (RFC
// 4475 3.1.2.15), and of two tags one takes the first, another the last.
func (m *Message) singleAddress(s Span) bool {
	if bytes.IndexByte(m.Text(s), ',') >= 0 {
		if end, ok := valueEnd(m.Raw[:s.Hi], int(s.Lo), false); !ok || end < int(s.Hi) {
			return false
		}
	}
	a, ok := m.ParseAddress(s)
	return ok && !hasControls(m.Text(a.URI)) && m.singleTag(a.Params)
}

// hasControls reports whether text has a control character, such as a fold's.
func hasControls(text []byte) bool {
	for _, c := range text {
		if c < ' ' || c == 0x7f {
			return true
		}
	}
	return false
}

// singleTag reports whether parameters have one tag at most, which is a token
// (RFC 3261 25.1) or absent, and names that are tokens.
func (m *Message) singleTag(s Span) bool {
	tagged := false
	for params := m.Params(s); ; {
		p, ok := params.Next()
		if !ok {
			return params.pos == len(params.raw)
		}
		if name := m.Text(p.Name); !isToken(name) {
			return false
		} else if !equalFold(name, "tag") {
			continue
		}
		if tagged || p.HasValue && !p.Value.Empty() && !isToken(m.Text(p.Value)) {
			return false
		}
		tagged = true
	}
}
