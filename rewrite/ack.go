package rewrite

import "strconv"

// Ack is the ACK that the gateway itself makes of an INVITE that was refused,
// in place of a browser that has gone. RFC 3261 17.1.1.3 says what is in it.
type Ack struct {
	Invite   *Message // as it was sent
	Response *Message // other than 1xx and 2xx
}

// Append appends the ACK to dst. Both messages must have been scanned without a
// defect.
func (a *Ack) Append(dst []byte) []byte {
	m := a.Invite
	s := splice{dst: dst, m: m}
	s.put([]byte("ACK "), m.Text(m.URI), []byte(" SIP/2.0\r\n"))
	if via, ok := m.Via(0); ok {
		// "The ACK MUST contain a single Via header field, and this MUST be equal to
		// the top Via header field of the original request."
		s.put([]byte("Via: "), m.Text(via.Value), crlf)
	}
	s.put([]byte("Max-Forwards: 70\r\n"))
	for i := range m.lines[:m.count] {
		// "If the INVITE request … had Route header fields, those header fields MUST
		// appear in the ACK."
		if l := &m.lines[i]; l.kind == Route {
			s.pos = int(l.lo)
			s.endLine(l)
		}
	}
	s.put([]byte("From: "), m.Text(m.From), crlf)
	s.put([]byte("To: "), a.Response.Text(a.Response.To), crlf)
	s.put([]byte("Call-ID: "), m.Text(m.CallID), crlf, []byte("CSeq: "))
	s.dst = strconv.AppendUint(s.dst, uint64(m.CSeq), 10)
	s.put([]byte(" ACK\r\nContent-Length: 0\r\n\r\n"))
	return s.dst
}
