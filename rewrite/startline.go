package rewrite

import "bytes"

const version = "SIP/2.0"

// scanStart reads the start line. It returns NotSIP where no answer can make
// sense, and a milder defect where the line's kind is clear.
func (m *Message) scanStart() Defect {
	lf := bytes.IndexByte(m.Raw, '\n')
	if lf < 1 {
		return NotSIP
	}
	m.head = uint16(lf + 1)
	text, defect := m.Raw[:lf], Sound
	if text[lf-1] == '\r' {
		text = text[:lf-1]
	} else {
		defect = BareLineEnd
	}
	if bytes.IndexByte(text, '\r') >= 0 || bytes.IndexByte(text, 0) >= 0 {
		defect = BareLineEnd
	}
	if len(text) >= 4 && equalFold(text[:4], "SIP/") {
		keep(&defect, m.scanStatusLine(text))
	} else {
		keep(&defect, m.scanRequestLine(text))
	}
	return defect
}

// scanStatusLine reads `SIP/2.0 SP 3DIGIT SP Reason-Phrase`.
func (m *Message) scanStatusLine(text []byte) Defect {
	const phrase = len(version) + len(" 200 ")
	if len(text) < phrase-1 {
		return NotSIP
	}
	if !equalFold(text[:len(version)], version) {
		return BadVersion
	}
	if text[len(version)] != ' ' || (len(text) >= phrase && text[phrase-1] != ' ') {
		return BadStartLine
	}
	if len(text) > phrase && (text[phrase] == ' ' || text[phrase] == '\t') {
		return BadStartLine
	}
	for _, c := range text[len(version)+1 : phrase-1] {
		if c < '0' || c > '9' {
			return BadStartLine
		}
		m.Status = m.Status*10 + int(c-'0')
	}
	if m.Status < 100 || m.Status > 699 {
		return BadStartLine
	}
	return Sound
}

// scanRequestLine reads `Method SP Request-URI SP SIP/2.0`. RFC 3261 7.1: "no
// LWS is allowed in any of the elements."
func (m *Message) scanRequestLine(text []byte) Defect {
	first, last := bytes.IndexByte(text, ' '), bytes.LastIndexByte(text, ' ')
	if first == last || !isToken(text[:first]) || !plausibleURI(text[first+1:last]) || !equalFold(text[last+1:], version) {
		return m.scanBadRequestLine(text)
	}
	m.Request = true
	m.Method = Span{0, uint16(first)}
	m.URI = Span{uint16(first + 1), uint16(last)}
	return Sound
}

// scanBadRequestLine tells a request with a fault in its start line, which is
// answered, from what is no SIP at all: it has a method, and a version further on.
func (m *Message) scanBadRequestLine(text []byte) Defect {
	method := 0
	for method < len(text) && tokenChar[text[method]] {
		method++
	}
	rest := text[method:]
	at := versionAt(rest)
	if method == 0 || at < 0 || rest[0] != ' ' && rest[0] != '\t' {
		return NotSIP
	}
	m.Request = true
	m.Method = Span{0, uint16(method)}
	// Of three parts with one space between them, the version alone is wrong.
	if at >= 2 && rest[0] == ' ' && rest[at-1] == ' ' && plausibleURI(rest[1:at-1]) && isVersion(rest[at:]) && !equalFold(rest[at:], version) {
		return BadVersion
	}
	return BadStartLine
}

// versionAt returns where a word begins with `SIP/`, or -1.
func versionAt(text []byte) int {
	const name = "SIP/"
	for i := 1; i+len(name) <= len(text); i++ {
		if (text[i-1] == ' ' || text[i-1] == '\t') && equalFold(text[i:i+len(name)], name) {
			return i
		}
	}
	return -1
}

// isVersion reports whether text is `SIP/` and something else without white space.
func isVersion(text []byte) bool {
	_, number, _ := bytes.Cut(text, []byte("/"))
	return isToken(number)
}

// plausibleURI rejects what cannot stand in a Request-URI at all; whether the
// scheme or the host means something is for the SIP server to say.
func plausibleURI(uri []byte) bool {
	for _, c := range uri {
		if c <= ' ' || c == '<' || c == '>' || c == '"' || c == 0x7f {
			return false
		}
	}
	colon := bytes.IndexByte(uri, ':')
	return colon > 0 && colon < len(uri)-1
}
