package rewrite

import "bytes"

// CheckAddresses is for a request of a browser: what tells where it goes and for
// whom (Request-URI, To and From) can be read in one way only.
func (m *Message) CheckAddresses() Defect {
	switch {
	case !plainTarget(m.Text(m.URI)):
		return BadStartLine
	case !m.singleAddress(m.To), !m.singleAddress(m.From):
		return BadAddress
	}
	return Sound
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

// singleAddress reports whether a value is one address: behind a comma outside of
// quotes and brackets one reader finds a second (RFC 4475 3.1.2.15).
func (m *Message) singleAddress(s Span) bool {
	if bytes.IndexByte(m.Text(s), ',') >= 0 {
		if end, ok := valueEnd(m.Raw[:s.Hi], int(s.Lo), false); !ok || end < int(s.Hi) {
			return false
		}
	}
	_, ok := m.ParseAddress(s)
	return ok
}
