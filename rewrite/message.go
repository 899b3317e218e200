package rewrite

import (
	"bytes"
	"math"
)

// The caps of one message. Past them a request is answered 400.
const (
	MaxLength = 65535 // bytes, so that a Span fits in four bytes
	maxLines  = 256
	maxVias   = 64
	maxRoutes = 32
)

// Span is a half-open range of Message.Raw.
type Span struct{ Lo, Hi uint16 }

// Empty reports whether the span holds no byte.
func (s Span) Empty() bool { return s.Lo == s.Hi }

// line is one header line with its folds.
type line struct {
	lo, nameHi, valueLo, valueHi, hi uint16
	kind                             Header
}

// Message is one SIP message, scanned. It owns no memory but its own: all Spans
// point into Raw, which stays the caller's. The zero value is ready for Scan
// and may be scanned again; it is large, so keep and reuse it.
type Message struct {
	Raw []byte

	Request bool // false: a response
	Method  Span // of a request's start line
	URI     Span // Request-URI
	Status  int  // of a response

	CallID     Span
	From, To   Span // whole values
	CSeq       uint32
	CSeqMethod Span

	MaxForwards   int // -1: absent
	ContentLength int // -1: absent
	Body          Span

	head  uint16 // end of the start line
	end   uint16 // of the headers, without the empty line
	first [numHeaders]int16
	count int
	folds bool // a header line goes on on the next
	lines [maxLines]line
}

// Text returns the bytes of a span of the message, not a copy.
func (m *Message) Text(s Span) []byte { return m.Raw[s.Lo:s.Hi] }

// Has reports whether the message has a header field.
func (m *Message) Has(h Header) bool { return m.first[h] >= 0 }

// Scan reads raw, which must stay unchanged as long as the message is used. It
// makes one pass and allocates nothing. When it finds a defect it goes on as far
// as it can, so that [Message.Answerable] tells whether the sender can be told,
// and returns the first one, else Sound.
func (m *Message) Scan(raw []byte) Defect {
	m.reset(raw)
	if len(raw) > MaxLength {
		m.Raw = raw[:MaxLength]
	}
	defect := m.scanStart()
	if defect == NotSIP {
		return defect
	}
	keep(&defect, m.scanLines())
	keep(&defect, m.scanValues())
	if len(raw) > MaxLength {
		return TooLong
	}
	return defect
}

// keep records the first defect.
func keep(have *Defect, found Defect) {
	if *have == Sound {
		*have = found
	}
}

func (m *Message) reset(raw []byte) {
	m.Raw, m.Request, m.Status, m.count = raw, false, 0, 0
	m.Method, m.URI, m.CallID, m.From, m.To, m.CSeqMethod, m.Body = Span{}, Span{}, Span{}, Span{}, Span{}, Span{}, Span{}
	m.CSeq, m.MaxForwards, m.ContentLength = 0, -1, -1
	m.head, m.end, m.folds = 0, 0, false
	for i := range m.first {
		m.first[i] = -1
	}
}

// scanLines splits the header section into lines and knows their names.
func (m *Message) scanLines() (defect Defect) {
	raw, pos := m.Raw, int(m.head)
	ends, paired := 0, true // line ends, and that they are CRLF
	for pos < len(raw) {
		if n := emptyLine(raw[pos:]); n > 0 {
			m.end, m.Body = uint16(pos), Span{uint16(pos + n), uint16(len(raw))}
			if n == 1 {
				keep(&defect, BareLineEnd)
			}
			keep(&defect, m.distrust(ends, paired))
			return defect
		}
		next, folds, allPaired := lineEnd(raw, pos)
		ends, paired, m.folds = ends+1+folds, paired && allPaired, m.folds || folds > 0
		switch {
		case next < 0: // the rest of the line is missing, and with it what its value means
			next = len(raw)
		case m.count == maxLines:
			keep(&defect, TooManyLines)
		case !m.addLine(pos, next):
			keep(&defect, BadHeaderLine)
		}
		pos = next
	}
	m.end, m.Body = uint16(pos), Span{uint16(pos), uint16(pos)}
	keep(&defect, NoHeaderEnd)
	keep(&defect, m.distrust(0, false))
	return defect
}

// emptyLine returns the length of the line end that raw begins with: 2, 1 for
// a bare LF, else 0.
func emptyLine(raw []byte) int {
	switch {
	case raw[0] == '\n':
		return 1
	case len(raw) > 1 && raw[0] == '\r' && raw[1] == '\n':
		return 2
	}
	return 0
}

// lineEnd returns the offset after the header line at pos with its folds
// (RFC 3261 7.3.1: a line that begins with SP or HT goes on the one before), or
// -1 if the line does not end; further how many folds it has, and whether each
// LF follows a CR.
func lineEnd(raw []byte, pos int) (next, folds int, paired bool) {
	for paired = true; ; folds++ {
		n := bytes.IndexByte(raw[pos:], '\n')
		if n < 0 {
			return -1, folds, false
		}
		paired = paired && n > 0 && raw[pos+n-1] == '\r'
		pos += n + 1
		if pos == len(raw) || raw[pos] != ' ' && raw[pos] != '\t' {
			return pos, folds, paired
		}
	}
}

// addLine records the header line raw[lo:hi], which ends in LF.
func (m *Message) addLine(lo, hi int) bool {
	raw, nameHi := m.Raw, lo
	for tokenChar[raw[nameHi]] {
		nameHi++
	}
	colon := nameHi
	for raw[colon] == ' ' || raw[colon] == '\t' {
		colon++
	}
	if nameHi == lo || raw[colon] != ':' {
		return false
	}
	value, kind := trim(raw, colon+1, hi), headerOf(raw[lo:nameHi])
	m.lines[m.count] = line{uint16(lo), uint16(nameHi), value.Lo, value.Hi, uint16(hi), kind}
	if m.first[kind] < 0 {
		m.first[kind] = int16(m.count)
	}
	m.count++
	return true
}

// distrust looks for NUL, bare CR and bare LF in the header lines. Two readers
// could take such a line differently: it is not known by its name any more, so
// that nothing is read or copied from it. There are so many line ends, and
// paired says that all of them are CRLF.
func (m *Message) distrust(ends int, paired bool) Defect {
	section := m.Raw[m.head:m.end]
	if paired && bytes.Count(section, []byte("\r")) == ends && bytes.IndexByte(section, 0) < 0 {
		return Sound
	}
	if clean(section) {
		return Sound
	}
	for i := range m.first {
		m.first[i] = -1
	}
	for i := range m.lines[:m.count] {
		l := &m.lines[i]
		if !clean(m.Raw[l.lo:l.hi]) {
			l.kind = OtherHeader
		}
		if m.first[l.kind] < 0 {
			m.first[l.kind] = int16(i)
		}
	}
	return BareLineEnd
}

// clean reports whether text has no NUL, and CR and LF in pairs only.
func clean(text []byte) bool {
	crs := bytes.Count(text, []byte("\r"))
	if bytes.Count(text, []byte("\n")) != crs || bytes.IndexByte(text, 0) >= 0 {
		return false
	}
	for ; crs > 0; crs-- {
		cr := bytes.IndexByte(text, '\r')
		if cr+1 == len(text) || text[cr+1] != '\n' {
			return false
		}
		text = text[cr+2:]
	}
	return true
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

// scanValues reads the values that every message must have, and checks that no
// field stands twice that may stand once.
func (m *Message) scanValues() (defect Defect) {
	for i := range m.lines[:m.count] {
		l := &m.lines[i]
		if l.kind.single() && int(m.first[l.kind]) != i {
			keep(&defect, DuplicateHeader)
			continue
		}
		value := Span{l.valueLo, l.valueHi}
		switch l.kind {
		case CallID:
			m.CallID = value
		case From:
			m.From = value
		case To:
			m.To = value
		case CSeq:
			keep(&defect, m.scanCSeq(value))
		case MaxForwards:
			n, ok := number(m.Text(value), 255)
			if !ok {
				keep(&defect, BadMaxForwards)
			}
			m.MaxForwards = n
		case ContentLength:
			n, ok := number(m.Text(value), math.MaxInt32)
			if !ok {
				keep(&defect, BadContentLength)
			}
			m.ContentLength = n
		}
	}
	if !m.Has(Via) {
		keep(&defect, MissingVia)
	}
	if m.CallID.Empty() || m.From.Empty() || m.To.Empty() || m.CSeqMethod.Empty() {
		keep(&defect, MissingHeader)
	}
	keep(&defect, m.countValues())
	return defect
}

func (m *Message) countValues() Defect {
	if n, ok := m.tally(Via); !ok {
		return BadVia
	} else if n > maxVias {
		return TooManyVias
	}
	if n, ok := m.tally(Route); !ok {
		return BadAddress
	} else if n > maxRoutes {
		return TooManyRoutes
	}
	return Sound
}

// tally counts the comma-separated values of a field over all its lines.
func (m *Message) tally(h Header) (n int, ok bool) {
	values := m.Values(h)
	for {
		if _, more := values.Next(); !more {
			return n, !values.bad
		}
		n++
	}
}

// scanCSeq reads `1*DIGIT LWS Method`. RFC 3261 8.1.1.5: the number "MUST be
// less than 2**31", and the method "MUST match that of the request".
func (m *Message) scanCSeq(s Span) Defect {
	text := m.Text(s)
	digits := 0
	for digits < len(text) && text[digits] >= '0' && text[digits] <= '9' {
		digits++
	}
	method := digits
	for method < len(text) && isSpace(text[method]) {
		method++
	}
	if digits == 0 || method == digits || !isToken(text[method:]) {
		return BadCSeq
	}
	m.CSeqMethod = Span{s.Lo + uint16(method), s.Hi}
	n, ok := number(text[:digits], math.MaxInt32)
	if !ok || m.Request && !bytes.Equal(m.Text(m.CSeqMethod), m.Text(m.Method)) {
		return BadCSeq // which an answer can repeat
	}
	m.CSeq = uint32(n)
	return Sound
}

// number reads digits only, up to limit.
func number(text []byte, limit int) (n int, ok bool) {
	if len(text) == 0 {
		return -1, false
	}
	for _, c := range text {
		if c < '0' || c > '9' {
			return -1, false
		}
		if n = n*10 + int(c-'0'); n > limit {
			return -1, false
		}
	}
	return n, true
}

// Answerable reports whether a defective request still holds what a response
// must repeat (RFC 3261 8.2.6.2): Via, From, To, Call-ID and CSeq.
func (m *Message) Answerable() bool {
	return m.Request && m.Has(Via) && !m.From.Empty() && !m.To.Empty() && !m.CallID.Empty() &&
		!m.CSeqMethod.Empty() && !m.Is("ACK")
}

// Is reports whether the request's method, or the CSeq method of a response, is
// name. RFC 3261 7.1: methods are case-sensitive.
func (m *Message) Is(name string) bool {
	if m.Request {
		return string(m.Text(m.Method)) == name
	}
	return string(m.Text(m.CSeqMethod)) == name
}

// StatusLine returns a response's status and reason phrase, such as "200 OK".
func (m *Message) StatusLine() string {
	text := m.Raw[:m.head]
	return string(bytes.TrimSpace(text[min(len(version), len(text)):]))
}
