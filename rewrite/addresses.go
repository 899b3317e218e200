package rewrite

import (
	"bytes"
	"net/netip"
)

// CheckAddresses is for a request of a browser: what tells where it goes, for whom
// and to which call it belongs (Request-URI, Vias, To, From and Call-ID) can be
// read in one way only.
func (m *Message) CheckAddresses() Defect {
	switch {
	case !plainURI(m.Text(m.URI), false):
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
// is as RFC 3261 25.1 has it, with a branch that is a token, if any: those stay.
func (m *Message) readableVias() bool {
	values := m.Values(Via)
	values.Next()
	for {
		v, ok := values.Next()
		if !ok {
			return true
		}
		hop, ok := m.parseVia(v)
		if !ok || !m.isSIP2(&hop) || hop.branched && !isToken(m.Text(hop.Branch)) || !isHost(m.Text(hop.Host)) || !m.plainParams(hop.Params) {
			return false
		}
	}
}

// plainURI reports whether a SIP URI can be a Request-URI, or stand in To or From,
// where one that cannot be read names nobody; of other schemes the SIP server knows
// more. RFC 3261 19.1.1: headers are "not allowed" there, and RFC 4475 3.1.2.11 has
// a proxy forward none.
func plainURI(text []byte, unread bool) bool {
	colon := bytes.IndexByte(text, ':')
	if colon < 0 || !equalFold(text[:colon], "sip") && !equalFold(text[:colon], "sips") {
		return true
	}
	uri, ok := ParseURI(text)
	if !ok {
		return unread
	}
	at := bytes.IndexByte(text, '@')
	if at >= 0 && (len(uri.User) == 0 || uri.User[0] == ':') {
		return false // a password of nobody
	}
	return bytes.IndexByte(text[at+1:], '?') < 0
}

// isSIP2 reports whether a Via begins with `SIP/2.0/`, however it is spaced.
func (m *Message) isSIP2(h *ViaHop) bool {
	const protocol = version + "/"
	n := 0
	for _, c := range m.Raw[h.Value.Lo:h.Transport.Lo] {
		if isSpace(c) {
			continue
		}
		if n == len(protocol) || lower(c) != lower(protocol[n]) {
			return false
		}
		n++
	}
	return n == len(protocol)
}

// isHost reports whether text has only what a host name or an address in brackets
// may have.
func isHost(text []byte) bool {
	if len(text) > 2 && text[0] == '[' && text[len(text)-1] == ']' {
		_, err := netip.ParseAddr(string(text[1 : len(text)-1]))
		return err == nil
	}
	return isToken(text)
}

// plainParams reports whether parameters have names that are tokens, and values, if
// any, that are tokens, hosts or quoted.
func (m *Message) plainParams(s Span) bool {
	for params := m.Params(s); ; {
		p, ok := params.Next()
		if !ok {
			return params.pos == len(params.raw)
		}
		value := m.Text(p.Value)
		if !isToken(m.Text(p.Name)) || p.HasValue && (len(value) == 0 || value[0] != '"' && !isTokenOrHost(value)) {
			return false
		}
	}
}

func isTokenOrHost(text []byte) bool {
	for _, c := range text {
		if !tokenChar[c] && c != ':' && c != '[' && c != ']' {
			return false
		}
	}
	return len(text) > 0
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
	return ok && plainURI(m.Text(a.URI), true) && !hasControls(m.Text(a.URI)) && m.singleTag(a.Params)
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
