package rewrite

import (
	"bytes"
	"strings"
)

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

// SameAoR reports whether two URIs name one address-of-record: its user, whose
// case matters, at its host. Whether it is reached by TLS, by which port and with
// which parameters does not matter. RFC 3261 19.1.4: "characters other than those
// in the "reserved" set are equivalent to their ""%" HEX HEX" encoding".
func (u *URI) SameAoR(v *URI) bool {
	a, b := u.User, v.User
	for len(a) > 0 && len(b) > 0 {
		charA, sizeA := userChar(a)
		charB, sizeB := userChar(b)
		if charA != charB {
			return false
		}
		a, b = a[sizeA:], b[sizeB:]
	}
	return len(a) == 0 && len(b) == 0 && equalHost(u.Host, v.Host)
}

func equalHost(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

// escaped is added to a reserved character that stands as "%" HEX HEX: it is not
// the character itself.
const escaped = 0x100

// userChar returns the first character of a user part and how many bytes it has.
func userChar(text []byte) (char, size int) {
	if text[0] != '%' || len(text) < 3 {
		return int(text[0]), 1
	}
	high, low := hexDigit(text[1]), hexDigit(text[2])
	if high < 0 || low < 0 {
		return int(text[0]), 1
	}
	char = high<<4 | low
	if strings.IndexByte(";/?:@&=+$,", byte(char)) >= 0 || char == '%' {
		char |= escaped
	}
	return char, 3
}

func hexDigit(c byte) int {
	switch c = lower(c); {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	}
	return -1
}
