package rewrite

// CheckFrame is for a WebSocket message, whose end the frame tells: a
// Content-Length may be absent, else it must be right. CR and LF alone after
// the body are no part of the message.
func (m *Message) CheckFrame() Defect {
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

func blank(text []byte) bool {
	for _, c := range text {
		if c != '\r' && c != '\n' {
			return false
		}
	}
	return true
}
