package rewrite

import "strconv"

// RequestUp is what changes in a request from a browser to the SIP server.
type RequestUp struct {
	// Via is the value that stands for the browser's top Via.
	Via []byte
	// OwnRoutes is how many of the top Routes name the gateway and are popped.
	OwnRoutes int
	// Contacts holds, for each Contact in order, what stands for its URI, with
	// angle brackets; it is not looked at for `*`.
	Contacts [][]byte
	// Strip names further headers that are not taken from a browser, in full.
	Strip []string
	// ClientIPHeader, if not empty, names a header that says ClientIP.
	ClientIPHeader string
	ClientIP       []byte
	// Unsupported names option tags that are taken out of Supported, besides those
	// of every REGISTER.
	Unsupported []string
	// Body, if not nil, stands for the body.
	Body []byte
}

// Append appends the rewritten request to dst, which must not overlap it.
func (r *RequestUp) Append(dst []byte, m *Message) []byte {
	s := splice{dst: dst, m: m}
	topVia, ownRoutes, contact := true, r.OwnRoutes, 0
	register := m.Is("REGISTER")
	for i := range m.lines[:m.count] {
		l := &m.lines[i]
		switch l.kind {
		case Via:
			if topVia {
				s.replaceTop(i, r.Via)
				s.keep(l.hi)
				r.putAdded(&s)
				topVia = false
			}
		case Route:
			if ownRoutes > 0 {
				ownRoutes -= s.popValues(i, ownRoutes)
			}
		case RecordRoute, Path, PAssertedIdentity, PPreferredIdentity, PServedUser, RemotePartyID, PCharging:
			s.dropLine(l)
		case MaxForwards:
			s.keep(l.valueLo)
			s.dst = strconv.AppendInt(s.dst, int64(m.MaxForwards-1), 10)
			s.pos = int(l.valueHi)
		case Contact:
			contact += s.putContacts(i, r.Contacts[contact:])
		case Supported:
			tags := r.Unsupported
			if register {
				tags = outboundTags
			}
			s.dropOptions(i, tags)
		case ContentLength:
			s.putLength(l, r.Body)
		case OtherHeader:
			if name := fullName(m.Raw[l.lo:l.nameHi]); named(name, r.Strip) || equalFold(name, r.ClientIPHeader) {
				s.dropLine(l)
			}
		}
	}
	return s.finish(true, r.Body)
}

// putAdded writes the header lines that a browser need not send, below our Via.
func (r *RequestUp) putAdded(s *splice) {
	if s.m.MaxForwards < 0 {
		s.put([]byte("Max-Forwards: 70\r\n"))
	}
	if r.ClientIPHeader != "" {
		s.dst = appendHeader(s.dst, r.ClientIPHeader, r.ClientIP)
	}
}

// ResponseUp is what changes in a response from a browser to the SIP server.
type ResponseUp struct {
	// Contact, if not empty, stands for the URI of each Contact, with angle brackets.
	Contact []byte
	// Routes tells that its Record-Route is that of the request: it stays.
	Routes bool
	// Strip names further headers that are not taken from a browser, in full.
	Strip []string
	// Body, if not nil, stands for the body.
	Body []byte
}

// Append appends the rewritten response, without its top Via, to dst, which
// must not overlap it.
func (r *ResponseUp) Append(dst []byte, m *Message) []byte {
	s := splice{dst: dst, m: m}
	pop := 1
	for i := range m.lines[:m.count] {
		l := &m.lines[i]
		switch l.kind {
		case Via:
			if pop > 0 {
				pop -= s.popValues(i, pop)
			}
		case RecordRoute:
			if !r.Routes {
				s.dropLine(l)
			}
		case PAssertedIdentity, PPreferredIdentity, PServedUser, RemotePartyID, PCharging:
			s.dropLine(l)
		case Contact:
			if len(r.Contact) > 0 {
				s.putContact(i, r.Contact)
			}
		case ContentLength:
			s.putLength(l, r.Body)
		case OtherHeader:
			if named(fullName(m.Raw[l.lo:l.nameHi]), r.Strip) {
				s.dropLine(l)
			}
		}
	}
	return s.finish(true, r.Body)
}

// replaceTop puts text in the place of a line's first value.
func (s *splice) replaceTop(i int, text []byte) {
	values := s.m.valuesOf(i)
	if v, ok := values.Next(); ok {
		s.replace(v, text)
	}
}

// putContacts replaces the URIs of one Contact line, and drops their reg-id: a
// registrar without Outbound would answer 439 (RFC 5626 section 6). It returns
// how many of the texts it used.
func (s *splice) putContacts(i int, texts [][]byte) (used int) {
	for values := s.m.valuesOf(i); ; used++ {
		v, ok := values.Next()
		if !ok || used == len(texts) {
			return used
		}
		s.putAddress(v, texts[used])
	}
}

// putContact replaces the URI of every Contact of one line by the same text.
func (s *splice) putContact(i int, text []byte) {
	for values := s.m.valuesOf(i); ; {
		v, ok := values.Next()
		if !ok {
			return
		}
		s.putAddress(v, text)
	}
}

func (s *splice) putAddress(v Span, text []byte) {
	a, ok := s.m.ParseAddress(v)
	if !ok || a.Star {
		return
	}
	s.replace(a.target, text)
	for params := s.m.Params(a.Params); ; {
		p, ok := params.Next()
		if !ok {
			return
		}
		if equalFold(s.m.Text(p.Name), "reg-id") {
			s.drop(p.All.Lo, p.All.Hi)
		}
	}
}

// dropOptions takes option tags out of a line of Supported, and the line if
// nothing else is in it.
func (s *splice) dropOptions(i int, tags []string) {
	l := &s.m.lines[i]
	first, dropped, from := true, false, l.valueLo
	for values := s.m.valuesOf(i); ; {
		v, ok := values.Next()
		if !ok {
			break
		}
		if named(s.m.Text(v), tags) {
			s.drop(from, v.Hi)
			dropped = true
		} else {
			if first && dropped {
				s.drop(from, v.Lo)
			}
			s.keep(v.Hi)
			first = false
		}
		from = v.Hi
	}
	if first && dropped {
		s.undo(l)
	}
}

// outboundTags promise a registrar what a gateway cannot keep.
var outboundTags = []string{"path", "gruu", "outbound"}

// undo takes back what was copied of a line of which no value is left.
func (s *splice) undo(l *line) {
	s.dst = s.dst[:len(s.dst)-int(l.valueLo-l.lo)]
	s.pos = int(l.hi)
}

func named(name []byte, names []string) bool {
	for _, n := range names {
		if equalFold(name, n) {
			return true
		}
	}
	return false
}
