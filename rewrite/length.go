package rewrite

import "bytes"

// CheckFrame is for a WebSocket message, whose end the frame tells: a
// Content-Length may be absent, else it must be right. CR and LF alone after
// the body are no part of the message.
func (m *Message) CheckFrame() Defect {
	if m.folds && m.foldedLength() {
		return BadContentLength
	}
	have := int(m.Body.Hi - m.Body.Lo)
	want := m.ContentLength
	if want < 0 {
		if blank(m.Text(m.Body)) {
			m.Body.Hi = m.Body.Lo
		}
		return Sound
	}
	switch {
	case want > have:
		return BodyTooShort
	case !blank(m.Raw[int(m.Body.Lo)+want:]):
		return BodyTooLong
	}
	m.Body.Hi = m.Body.Lo + uint16(want)
	return Sound
}

// CheckDatagram is for UDP. RFC 3261 18.3: "If there are additional bytes in
// the transport packet beyond the end of the body, they MUST be discarded."
func (m *Message) CheckDatagram() Defect {
	have, want := int(m.Body.Hi-m.Body.Lo), m.ContentLength
	if want > have {
		return BodyTooShort
	}
	if want >= 0 {
		m.Body.Hi = m.Body.Lo + uint16(want)
	}
	return Sound
}

// foldedLength reports whether a Content-Length stands on several lines, or
// another header goes on with what looks like one. Who takes a stream apart line
// by line, as Kamailio does, reads the second for the length and what follows in
// the body for another request; from the first it reads no length and closes the
// connection that all browsers share.
func (m *Message) foldedLength() bool {
	for i := range m.lines[:m.count] {
		l := &m.lines[i]
		for at := l.lo; ; {
			n := bytes.IndexByte(m.Raw[at:l.hi], '\n')
			if at += uint16(n) + 1; at == l.hi {
				break
			}
			if l.kind == ContentLength && at <= l.valueHi || namesLength(m.Raw[at:l.hi]) {
				return true
			}
		}
	}
	return false
}

// namesLength reports whether text, which has a line end, begins with
// `Content-Length:` in any spelling.
func namesLength(text []byte) bool {
	lo := 0
	for text[lo] == ' ' || text[lo] == '\t' {
		lo++
	}
	hi := lo
	for tokenChar[text[hi]] {
		hi++
	}
	if headerOf(text[lo:hi]) != ContentLength {
		return false
	}
	colon := skipSpace(text, hi)
	return colon < len(text) && text[colon] == ':'
}

func blank(text []byte) bool {
	for _, c := range text {
		if c != '\r' && c != '\n' {
			return false
		}
	}
	return true
}
