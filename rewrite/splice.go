package rewrite

import "strconv"

// splice copies a message to dst from front to back, with changes. Whatever is
// not named in a call is copied as it came.
type splice struct {
	dst []byte
	m   *Message
	pos int
}

// keep copies up to the offset.
func (s *splice) keep(to uint16) {
	s.dst = append(s.dst, s.m.Raw[s.pos:to]...)
	s.pos = int(to)
}

// put writes text that the message does not hold.
func (s *splice) put(text ...[]byte) {
	for _, t := range text {
		s.dst = append(s.dst, t...)
	}
}

// replace copies up to the span and writes text in its place.
func (s *splice) replace(span Span, text []byte) {
	s.keep(span.Lo)
	s.put(text)
	s.pos = int(span.Hi)
}

// drop copies up to the offset and leaves out what follows, up to the other.
func (s *splice) drop(from, to uint16) {
	s.keep(from)
	s.pos = int(to)
}

// dropLine leaves a whole header line out.
func (s *splice) dropLine(l *line) { s.drop(l.lo, l.hi) }

// popValues leaves out the first n of a line's values, the whole line if there
// are no more. It returns how many it left out.
func (s *splice) popValues(i, n int) (popped int) {
	l := &s.m.lines[i]
	for values := s.m.valuesOf(i); ; popped++ {
		v, ok := values.Next()
		if !ok {
			s.dropLine(l)
			return popped
		}
		if popped == n {
			s.drop(l.valueLo, v.Lo)
			return popped
		}
	}
}

// finish copies the rest of the headers, says the body's length where the
// message does not and it is asked for, and copies the body, or puts another in
// its place that is not nil.
func (s *splice) finish(addLength bool, body []byte) []byte {
	s.keep(s.m.end)
	length := int(s.m.Body.Hi - s.m.Body.Lo)
	if body != nil {
		length = len(body)
	}
	if addLength && s.m.ContentLength < 0 {
		s.put([]byte("Content-Length: "))
		s.dst = strconv.AppendInt(s.dst, int64(length), 10)
		s.put(crlf)
	}
	if body == nil {
		s.keep(s.m.Body.Hi)
		return s.dst
	}
	s.keep(s.m.Body.Lo)
	s.put(body)
	return s.dst
}

// putLength says the length of a body that is not nil in a line that says the
// length of another.
func (s *splice) putLength(l *line, body []byte) {
	if body == nil {
		return
	}
	s.keep(l.valueLo)
	s.dst = strconv.AppendInt(s.dst, int64(len(body)), 10)
	s.pos = int(l.valueHi)
}

var crlf = []byte("\r\n")

// appendHeader appends one header line.
func appendHeader(dst []byte, name string, value []byte) []byte {
	dst = append(append(dst, name...), ": "...)
	return append(append(dst, value...), crlf...)
}
