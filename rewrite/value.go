package rewrite

import "bytes"

// Values walks the comma-separated values of one header field, over all the
// lines it stands on, in order.
type Values struct {
	m        *Message
	kind     Header
	next     int  // line to look at after this one
	pos, end int  // what is left of the line
	open     bool // a value begins at pos, if only an empty one
	bad      bool
}

// Values returns a walk over a field's values.
func (m *Message) Values(h Header) Values {
	next := m.count
	if m.first[h] >= 0 {
		next = int(m.first[h])
	}
	return Values{m: m, kind: h, next: next}
}

// valuesOf walks the values of one line.
func (m *Message) valuesOf(i int) Values {
	l := &m.lines[i]
	return Values{m: m, kind: l.kind, next: m.count, pos: int(l.valueLo), end: int(l.valueHi), open: true}
}

// Next returns the next value without the white space around it; false at the
// end, or where a quoted string or an angle bracket is not closed. Values that
// are empty are passed over, but for Via: what one reader takes for the top Via
// has to be that for every other.
func (v *Values) Next() (Span, bool) {
	for v.open || v.nextLine() {
		lo := v.pos
		hi, ok := valueEnd(v.m.Raw[:v.end], lo, v.kind == Via)
		if !ok {
			return v.fail()
		}
		v.pos, v.open = hi+1, hi < v.end
		switch s := trim(v.m.Raw, lo, hi); {
		case !s.Empty():
			return s, true
		case v.kind == Via:
			return v.fail()
		}
	}
	return Span{}, false
}

// nextLine goes on to the next line of the field.
func (v *Values) nextLine() bool {
	for ; v.next < v.m.count; v.next++ {
		if l := &v.m.lines[v.next]; l.kind == v.kind {
			v.pos, v.end, v.open = int(l.valueLo), int(l.valueHi), true
			v.next++
			return true
		}
	}
	return false
}

// fail ends the walk.
func (v *Values) fail() (Span, bool) {
	v.bad, v.open, v.next = true, false, v.m.count
	return Span{}, false
}

// Bad reports whether the walk ended at a value that is not closed, or at an
// empty Via.
func (v *Values) Bad() bool { return v.bad }

// trim returns raw[lo:hi] without the white space around it. Of nothing but
// white space it leaves the empty text at lo.
func trim(raw []byte, lo, hi int) Span {
	for hi > lo && isSpace(raw[hi-1]) {
		hi--
	}
	for lo < hi && isSpace(raw[lo]) {
		lo++
	}
	return Span{uint16(lo), uint16(hi)}
}

// valueEnd finds the comma that ends the value at pos, or the end of raw. A
// comma inside a quoted string, angle brackets or (in Via) a comment does not.
func valueEnd(raw []byte, pos int, comments bool) (int, bool) {
	if isOneValue(raw[pos:]) {
		return len(raw), true
	}
	for pos < len(raw) {
		switch c := raw[pos]; {
		case c == ',':
			return pos, true
		case c == '"':
			end, ok := quotedEnd(raw, pos)
			if !ok {
				return 0, false
			}
			pos = end
			continue
		case c == '<':
			n := bytes.IndexByte(raw[pos:], '>')
			if n < 0 {
				return 0, false
			}
			pos += n
		case c == '(' && comments:
			end, ok := commentEnd(raw, pos)
			if !ok {
				return 0, false
			}
			pos = end
			continue
		}
		pos++
	}
	return pos, true
}

// isOneValue is the quick look at text in which nothing means anything to
// valueEnd: most Vias.
func isOneValue(text []byte) bool {
	return bytes.IndexByte(text, ',') < 0 && bytes.IndexByte(text, '<') < 0 &&
		bytes.IndexByte(text, '"') < 0 && bytes.IndexByte(text, '(') < 0
}

// quotedEnd returns the offset after the quoted string that begins at pos.
func quotedEnd(raw []byte, pos int) (int, bool) {
	for pos++; pos < len(raw); pos++ {
		switch raw[pos] {
		case '\\':
			pos++
		case '"':
			return pos + 1, true
		}
	}
	return 0, false
}

// commentEnd returns the offset after the comment that begins at pos; comments
// nest (RFC 3261 25.1).
func commentEnd(raw []byte, pos int) (int, bool) {
	for depth := 0; pos < len(raw); pos++ {
		switch raw[pos] {
		case '\\':
			pos++
		case '(':
			depth++
		case ')':
			if depth--; depth == 0 {
				return pos + 1, true
			}
		}
	}
	return 0, false
}

// Address is one value of Contact, Route, From or To.
type Address struct {
	Value  Span // all of it
	URI    Span // without angle brackets
	Params Span // the header parameters, from their first ';'
	Star   bool // `*`
	// target is what a new URI in angle brackets replaces.
	target Span
}

// ParseAddress reads one name-addr or addr-spec; false if it is neither. RFC
// 3261 20.10: without angle brackets "any URI-parameters are header-parameters".
func (m *Message) ParseAddress(s Span) (Address, bool) {
	raw, pos := m.Raw[:s.Hi], int(s.Lo)
	a := Address{Value: s}
	if s.Hi == s.Lo+1 && raw[pos] == '*' {
		a.Star = true
		return a, true
	}
	pos, ok := angleBracket(raw, pos)
	if !ok {
		return a, false
	}
	if pos == len(raw) {
		return m.parseAddrSpec(a)
	}
	n := bytes.IndexByte(raw[pos:], '>')
	if n < 0 || bytes.IndexByte(raw[pos+1:pos+n], '<') >= 0 {
		return a, false
	}
	a.URI = trim(raw, pos+1, pos+n)
	a.target = Span{uint16(pos), uint16(pos + n + 1)}
	a.Params = trim(raw, pos+n+1, len(raw))
	return a, !a.URI.Empty() && (a.Params.Empty() || raw[a.Params.Lo] == ';')
}

// angleBracket returns where the display name at pos ends in '<', or the end of
// raw. It is false where a URI or a parameter comes first, for then one reader
// would take that URI, and another the one in the brackets.
func angleBracket(raw []byte, pos int) (int, bool) {
	name := true
	for pos < len(raw) {
		switch raw[pos] {
		case '<':
			return pos, name
		case ':', ';':
			name = false
		case '"':
			end, ok := quotedEnd(raw, pos)
			if !ok {
				return pos, false
			}
			pos = end
			continue
		}
		pos++
	}
	return pos, true
}

func (m *Message) parseAddrSpec(a Address) (Address, bool) {
	raw, lo := m.Raw[:a.Value.Hi], int(a.Value.Lo)
	hi := lo
	for hi < len(raw) && raw[hi] != ';' && !isSpace(raw[hi]) {
		if raw[hi] == '"' || raw[hi] == '?' || raw[hi] == '>' {
			return a, false
		}
		hi++
	}
	a.URI = Span{uint16(lo), uint16(hi)}
	a.target = a.URI
	a.Params = trim(raw, hi, len(raw))
	return a, hi > lo && (a.Params.Empty() || raw[a.Params.Lo] == ';')
}

// Params walks `;name=value` parameters.
type Params struct {
	raw  []byte
	pos  int
	base int
}

// Params returns a walk over the parameters in s, which begins with ';' or is empty.
func (m *Message) Params(s Span) Params {
	return Params{raw: m.Raw[s.Lo:s.Hi], base: int(s.Lo)}
}

// Param is one parameter. All spans the text from its ';' to the next.
type Param struct {
	All, Name, Value Span
	HasValue         bool
}

// Next returns the next parameter, or false at the end or at something that is
// no parameter.
func (p *Params) Next() (Param, bool) {
	raw, pos := p.raw, p.pos
	for pos < len(raw) && isSpace(raw[pos]) {
		pos++
	}
	if pos >= len(raw) || raw[pos] != ';' {
		return Param{}, false
	}
	start, nameLo := pos, pos+1
	pos, ok := paramEnd(raw, nameLo)
	if !ok {
		return Param{}, false
	}
	equals := bytes.IndexByte(raw[nameLo:pos], '=')
	if quote := bytes.IndexByte(raw[nameLo:pos], '"'); equals >= 0 && (quote < 0 || equals < quote) {
		equals += nameLo
	} else {
		equals = -1
	}
	p.pos = pos
	out := Param{All: p.span(start, pos)}
	nameHi := pos
	if equals >= 0 {
		nameHi = equals
		out.HasValue, out.Value = true, p.trim(equals+1, pos)
	}
	out.Name = p.trim(nameLo, nameHi)
	return out, true
}

// paramEnd finds the ';' that ends the parameter at pos, or the end of raw. One
// inside a quoted string does not; false if such a string is not closed.
func paramEnd(raw []byte, pos int) (int, bool) {
	for {
		end := len(raw)
		if n := bytes.IndexByte(raw[pos:], ';'); n >= 0 {
			end = pos + n
		}
		quote := bytes.IndexByte(raw[pos:end], '"')
		if quote < 0 {
			return end, true
		}
		var ok bool
		if pos, ok = quotedEnd(raw, pos+quote); !ok {
			return 0, false
		}
	}
}

func (p *Params) span(lo, hi int) Span {
	return Span{uint16(p.base + lo), uint16(p.base + hi)}
}

func (p *Params) trim(lo, hi int) Span {
	s := trim(p.raw, lo, hi)
	return p.span(int(s.Lo), int(s.Hi))
}

// Param returns the first parameter of that name in s.
func (m *Message) Param(s Span, name string) (Param, bool) {
	for params := m.Params(s); ; {
		p, ok := params.Next()
		if !ok {
			return Param{}, false
		}
		if equalFold(m.Text(p.Name), name) {
			return p, true
		}
	}
}

// Tagged reports whether the To header has a tag: the request is in a dialog. One
// without a value is none, for what a server takes for the first request of a
// dialog may not say where it goes.
func (m *Message) Tagged() bool { return len(m.Tag(m.To)) > 0 }

// Tag returns the tag of a From or To value, nil if it has none.
func (m *Message) Tag(address Span) []byte {
	a, ok := m.ParseAddress(address)
	if !ok {
		return nil
	}
	tag, ok := m.Param(a.Params, "tag")
	if !ok {
		return nil
	}
	return m.Text(tag.Value)
}
