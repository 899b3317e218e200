package rewrite

import (
	"bytes"
	"net/netip"
	"strconv"
)

// Answer is a response that the gateway gives by itself to a request.
type Answer struct {
	Status int
	Phrase string
	// Tag is the To tag where the request has none. RFC 3261 8.2.6.2 wants one
	// in every response but a 100.
	Tag []byte
	// RetryAfter is in seconds; 0: no such header.
	RetryAfter int
	// Unsupported lists the option tags of a 420.
	Unsupported []byte
	// Source is where the request came from, for the top Via's received and
	// rport; the zero value leaves the Via as it is.
	Source netip.AddrPort
}

// Append appends the response to m, which must be [Message.Answerable], to dst.
func (a *Answer) Append(dst []byte, m *Message) []byte {
	s := splice{dst: dst, m: m}
	s.put([]byte("SIP/2.0 "))
	s.dst = strconv.AppendInt(s.dst, int64(a.Status), 10)
	s.put([]byte(" "), []byte(a.Phrase), crlf)
	for i := range m.lines[:m.count] {
		l := &m.lines[i]
		switch l.kind {
		case Via:
			s.pos = int(l.lo)
			if i == int(m.first[Via]) && a.Source.IsValid() {
				s.putReceived(a.Source)
			}
			s.endLine(l)
		case From, CallID, CSeq:
			if i == int(m.first[l.kind]) {
				s.pos = int(l.lo)
				s.endLine(l)
			}
		case To:
			if i == int(m.first[To]) {
				a.putTo(&s, l)
			}
		}
	}
	if a.RetryAfter > 0 {
		s.put([]byte("Retry-After: "))
		s.dst = strconv.AppendInt(s.dst, int64(a.RetryAfter), 10)
		s.put(crlf)
	}
	if len(a.Unsupported) > 0 {
		s.dst = appendHeader(s.dst, "Unsupported", a.Unsupported)
	}
	s.put([]byte("Content-Length: 0\r\n\r\n"))
	return s.dst
}

func (a *Answer) putTo(s *splice, l *line) {
	s.pos = int(l.lo)
	s.keep(l.valueHi)
	if len(a.Tag) > 0 && !s.m.Tagged() {
		s.put([]byte(";tag="), a.Tag)
	}
	s.endLine(l)
}

// endLine copies what is left of a line's value, and ends the line.
func (s *splice) endLine(l *line) {
	s.keep(l.valueHi)
	s.put(crlf)
}

// Joined returns all values of a field, over all its lines, as one.
func (m *Message) Joined(h Header) []byte {
	var all [][]byte
	for values := m.Values(h); ; {
		v, ok := values.Next()
		if !ok {
			return bytes.Join(all, []byte(", "))
		}
		all = append(all, m.Text(v))
	}
}
