package rewrite

import "bytes"

// URI is a SIP or SIPS URI in parts; the slices point into the text it was
// read from.
type URI struct {
	Secure bool   // sips
	User   []byte // with a password, without '@'; empty if absent
	Host   []byte // IPv6 with its brackets
	Port   uint16 // 0: absent
	Params []byte // from the first ';', without headers
}

// ParseURI reads a sip: or sips: URI; false for any other scheme and for what
// could be read in two ways.
func ParseURI(text []byte) (u URI, ok bool) {
	switch {
	case len(text) > 4 && equalFold(text[:4], "sip:"):
		text = text[4:]
	case len(text) > 5 && equalFold(text[:5], "sips:"):
		u.Secure, text = true, text[5:]
	default:
		return u, false
	}
	if at := bytes.IndexByte(text, '@'); at >= 0 {
		u.User, text = text[:at], text[at+1:]
		if bytes.IndexByte(text, '@') >= 0 {
			return u, false
		}
	}
	end := bytes.IndexAny(text, ";?")
	if end < 0 {
		end = len(text)
	}
	u.Host, u.Port, ok = splitHostPort(text[:end])
	if !ok {
		return u, false
	}
	if end < len(text) && text[end] == ';' {
		u.Params = text[end:]
		if q := bytes.IndexByte(u.Params, '?'); q >= 0 {
			u.Params = u.Params[:q]
		}
	}
	return u, true
}

// splitHostPort reads `host[:port]`; an IPv6 host stands in brackets.
func splitHostPort(text []byte) (host []byte, port uint16, ok bool) {
	hi := 0
	if len(text) > 0 && text[0] == '[' {
		if hi = bytes.IndexByte(text, ']') + 1; hi == 0 {
			return nil, 0, false
		}
	} else if hi = bytes.IndexByte(text, ':'); hi < 0 {
		hi = len(text)
	}
	host = text[:hi]
	if len(host) == 0 || bytes.IndexByte(host, ' ') >= 0 {
		return nil, 0, false
	}
	if hi == len(text) {
		return host, 0, true
	}
	if text[hi] != ':' {
		return nil, 0, false
	}
	n, ok := number(text[hi+1:], 65535)
	return host, uint16(n), ok && n > 0
}

// AppendAoR appends the address-of-record that a URI names, `user@host`: RFC
// 3261 10.3 compares it after removing every parameter; the host has no case.
// A URI that is no SIP URI is taken as it stands.
func AppendAoR(dst, uri []byte) []byte {
	u, ok := ParseURI(uri)
	if !ok {
		return append(dst, uri...)
	}
	dst = append(append(dst, u.User...), '@')
	for _, c := range u.Host {
		dst = append(dst, lower(c))
	}
	return dst
}
