package rewrite

import "bytes"

// ViaHop is one Via value in parts (RFC 3261 20.42).
type ViaHop struct {
	Value     Span // all of it
	Transport Span
	SentBy    Span // host and port as they stand
	Host      Span
	Port      uint16 // 0: absent
	Params    Span   // from the first ';'
	Branch    Span   // empty if absent

	branched bool // there is a branch, if without a value
	rport    Span // the name, where it has no value: RFC 3581
}

// Vias returns the number of Via values in the message.
func (m *Message) Vias() int {
	n, _ := m.tally(Via)
	return n
}

// Via returns the i-th Via value, 0 on top.
func (m *Message) Via(i int) (ViaHop, bool) {
	values := m.Values(Via)
	for {
		s, ok := values.Next()
		if !ok {
			return ViaHop{}, false
		}
		if i == 0 {
			return m.parseVia(s)
		}
		i--
	}
}

// parseVia reads `SIP/2.0/transport host[:port] *(;params)`, with white space
// wherever RFC 3261 25.1 lets SLASH, COLON and SEMI have it.
func (m *Message) parseVia(s Span) (ViaHop, bool) {
	raw, pos := m.Raw[:s.Hi], int(s.Lo)
	h := ViaHop{Value: s}
	for part := range 3 {
		lo := pos
		for pos < len(raw) && tokenChar[raw[pos]] {
			pos++
		}
		if lo == pos {
			return h, false
		}
		h.Transport = Span{uint16(lo), uint16(pos)}
		if part == 2 {
			break
		}
		if pos = skipSpace(raw, pos); pos == len(raw) || raw[pos] != '/' {
			return h, false
		}
		pos = skipSpace(raw, pos+1)
	}
	lo := skipSpace(raw, pos)
	if lo == pos {
		return h, false
	}
	end := len(raw)
	if semi := bytes.IndexByte(raw[lo:], ';'); semi >= 0 {
		end = lo + semi
	}
	h.SentBy = trim(raw, lo, end)
	h.Params = trim(raw, end, len(raw))
	return h, m.parseSentBy(&h) && m.parseViaParams(&h)
}

func skipSpace(raw []byte, pos int) int {
	for pos < len(raw) && isSpace(raw[pos]) {
		pos++
	}
	return pos
}

func (m *Message) parseSentBy(h *ViaHop) bool {
	text := m.Text(h.SentBy)
	hi := 0
	if len(text) > 0 && text[0] == '[' {
		hi = bytes.IndexByte(text, ']') + 1
	} else if hi = bytes.IndexByte(text, ':'); hi < 0 {
		hi = len(text)
	}
	h.Host = trim(m.Raw, int(h.SentBy.Lo), int(h.SentBy.Lo)+hi)
	for _, c := range m.Text(h.Host) {
		if isSpace(c) || c == '(' {
			return false
		}
	}
	rest := bytes.TrimSpace(text[hi:])
	if len(rest) == 0 {
		return !h.Host.Empty()
	}
	n, ok := number(bytes.TrimSpace(rest[1:]), 65535)
	h.Port = uint16(max(n, 0))
	return ok && n > 0 && rest[0] == ':' && !h.Host.Empty()
}

func (m *Message) parseViaParams(h *ViaHop) bool {
	params := m.Params(h.Params)
	for {
		p, ok := params.Next()
		if !ok {
			return params.pos == len(params.raw)
		}
		switch name := m.Text(p.Name); {
		case equalFold(name, "branch"):
			// RFC 3261 7.3.1: a parameter "MUST NOT appear more than once". Of two
			// branches one reader takes the first, another the last.
			if h.branched {
				return false
			}
			h.Branch, h.branched = p.Value, true
		case equalFold(name, "rport") && h.rport.Empty() && !p.HasValue:
			h.rport = p.Name
		}
	}
}
