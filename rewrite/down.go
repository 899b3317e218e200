package rewrite

import (
	"net/netip"
	"strconv"
)

// RequestDown is what changes in a request from the SIP server to a browser.
type RequestDown struct {
	// URI is the browser's own Contact URI: the new Request-URI.
	URI []byte
	// Via is the value that goes on top.
	Via []byte
	// Source is where the request came from.
	Source netip.AddrPort
	// Unsupported names option tags that are taken out of Supported.
	Unsupported []string
	// Body, if not nil, stands for the body.
	Body []byte
}

// Append appends the rewritten request to dst, which must not overlap it. The
// message must have a Via.
func (r *RequestDown) Append(dst []byte, m *Message) []byte {
	s := splice{dst: dst, m: m}
	s.replace(m.URI, r.URI)
	for i := range m.lines[:m.count] {
		l := &m.lines[i]
		switch l.kind {
		case Via:
			if i == int(m.first[Via]) {
				s.keep(l.lo)
				s.put([]byte("Via: "), r.Via, crlf)
				s.putReceived(r.Source)
			}
		case Supported:
			s.dropOptions(i, r.Unsupported)
		case ContentLength:
			s.putLength(l, r.Body)
		}
	}
	return s.finish(false, r.Body)
}

// putReceived says in the top Via where the message came from. RFC 3261 18.2.1:
// "If the host portion of the "sent-by" parameter contains a domain name, or if
// it contains an IP address that differs from the packet source address, the
// server MUST add a "received" parameter". RFC 3581 section 4: where rport is
// asked for, the port and "received" are added in any case.
func (s *splice) putReceived(source netip.AddrPort) {
	hop, ok := s.m.Via(0)
	if !ok {
		return
	}
	addr := source.Addr().Unmap().WithZone("") // `received` has no zone (RFC 3261 25.1)
	if !hop.rport.Empty() {
		s.keep(hop.rport.Hi)
		s.put([]byte("="))
		s.dst = strconv.AppendUint(s.dst, uint64(source.Port()), 10)
	} else if sameHost(s.m.Text(hop.Host), addr) {
		return
	}
	s.keep(hop.Value.Hi)
	s.put([]byte(";received="))
	s.dst = addr.AppendTo(s.dst)
}

// sameHost reports whether a sent-by host is that IP address as text.
func sameHost(host []byte, addr netip.Addr) bool {
	var buf [48]byte
	if len(host) > 1 && host[0] == '[' {
		host = host[1 : len(host)-1]
	}
	return string(host) == string(addr.AppendTo(buf[:0]))
}

// ResponseDown is what changes in a response from the SIP server to a browser.
type ResponseDown struct {
	// Via is the browser's own Via, which stands for ours.
	Via []byte
	// Restore, if not nil, is called with the user part of each Contact URI and
	// returns the URI that stands for it, or nil to leave it as it is. The
	// result is used before the next call.
	Restore func(user []byte) []byte
	// Body, if not nil, stands for the body.
	Body []byte
}

// Append appends the rewritten response to dst, which must not overlap it. The
// message must have a Via.
func (r *ResponseDown) Append(dst []byte, m *Message) []byte {
	s := splice{dst: dst, m: m}
	topVia := true
	for i := range m.lines[:m.count] {
		switch m.lines[i].kind {
		case Via:
			if topVia {
				s.replaceTop(i, r.Via)
				topVia = false
			}
		case Contact:
			if r.Restore != nil {
				r.restoreContacts(&s, i)
			}
		case ContentLength:
			s.putLength(&m.lines[i], r.Body)
		}
	}
	return s.finish(false, r.Body)
}

// restoreContacts gives a browser its own bindings back, each with the expiry
// that it looks for there (RFC 3261 10.3 step 8: every Contact in the 2xx has
// one; some registrars say it in the Expires header alone).
func (r *ResponseDown) restoreContacts(s *splice, i int) {
	for values := s.m.valuesOf(i); ; {
		v, ok := values.Next()
		if !ok {
			return
		}
		a, ok := s.m.ParseAddress(v)
		if !ok || a.Star {
			continue
		}
		uri, ok := ParseURI(s.m.Text(a.URI))
		if !ok {
			continue
		}
		original := r.Restore(uri.User)
		if original == nil {
			continue
		}
		s.keep(a.target.Lo)
		s.put([]byte("<"), original, []byte(">"))
		s.pos = int(a.target.Hi)
		if _, has := s.m.Param(a.Params, "expires"); !has {
			s.keep(v.Hi)
			s.put([]byte(";expires="))
			s.dst = strconv.AppendInt(s.dst, int64(s.m.DefaultExpires()), 10)
		}
	}
}

// DefaultExpires is the expiry in seconds of a Contact without one of its own:
// the Expires header, else 3,600 (RFC 3261 10.2.1.1).
func (m *Message) DefaultExpires() int {
	if m.Has(Expires) {
		l := &m.lines[m.first[Expires]]
		if n, ok := number(m.Raw[l.valueLo:l.valueHi], 1<<31); ok {
			return n
		}
	}
	return 3600
}

// Expires is the expiry in seconds that a Contact asks for or was given.
func (m *Message) Expires(a Address) int {
	if p, ok := m.Param(a.Params, "expires"); ok {
		if n, ok := number(m.Text(p.Value), 1<<31); ok {
			return n
		}
		return 3600 // RFC 3261 10.3 step 7: malformed values are taken as 3600
	}
	return m.DefaultExpires()
}
