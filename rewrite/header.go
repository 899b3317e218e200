package rewrite

// Header is a header field that the gateway reads or changes; every other
// field is OtherHeader.
type Header uint8

// The header fields that matter here.
const (
	OtherHeader Header = iota
	Via
	Route
	RecordRoute
	Path
	PAssertedIdentity
	PPreferredIdentity
	PServedUser
	RemotePartyID
	MaxForwards
	Contact
	Supported
	ContentLength
	CallID
	CSeq
	From
	To
	ProxyRequire
	Expires
	numHeaders
)

// single tells the fields that may stand only once in a message. Two of one of
// them are two readings of one message, which is how requests are smuggled.
func (h Header) single() bool {
	switch h {
	case ContentLength, CSeq, CallID, From, To, MaxForwards:
		return true
	}
	return false
}

// headerOf returns the field that a name stands for, in any case and in the
// compact forms of RFC 3261 7.3.3.
func headerOf(name []byte) Header {
	switch len(name) {
	case 1:
		return compactHeader(name[0])
	case 2:
		return match(name, "To", To)
	case 3:
		return match(name, "Via", Via)
	case 4:
		return either(match(name, "From", From), match(name, "CSeq", CSeq), match(name, "Path", Path))
	case 5:
		return match(name, "Route", Route)
	case 7:
		return either(match(name, "Contact", Contact), match(name, "Call-ID", CallID), match(name, "Expires", Expires))
	case 9:
		return match(name, "Supported", Supported)
	case 12:
		return either(match(name, "Max-Forwards", MaxForwards), match(name, "Record-Route", RecordRoute), OtherHeader)
	case 13:
		return either(match(name, "Proxy-Require", ProxyRequire), match(name, "P-Served-User", PServedUser), OtherHeader)
	case 14:
		return match(name, "Content-Length", ContentLength)
	case 15:
		return match(name, "Remote-Party-ID", RemotePartyID)
	case 19:
		return match(name, "P-Asserted-Identity", PAssertedIdentity)
	case 20:
		return match(name, "P-Preferred-Identity", PPreferredIdentity)
	}
	return OtherHeader
}

func compactHeader(c byte) Header {
	switch c | 0x20 {
	case 'v':
		return Via
	case 'm':
		return Contact
	case 'l':
		return ContentLength
	case 'i':
		return CallID
	case 'f':
		return From
	case 't':
		return To
	case 'k':
		return Supported
	}
	return OtherHeader
}

func match(name []byte, full string, h Header) Header {
	if equalFold(name, full) {
		return h
	}
	return OtherHeader
}

func either(a, b, c Header) Header { return max(a, b, c) }

// equalFold compares ASCII without regard to case. Unlike bytes.EqualFold it
// does not fold U+017F or U+212A, which are no letters of a SIP token.
func equalFold(b []byte, s string) bool {
	if len(b) != len(s) {
		return false
	}
	for i := range b {
		if lower(b[i]) != lower(s[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c | 0x20
	}
	return c
}

// tokenChar tells the characters of an RFC 3261 token.
var tokenChar = func() (t [256]bool) {
	for c := '0'; c <= '9'; c++ {
		t[c] = true
	}
	for c := 'a'; c <= 'z'; c++ {
		t[c], t[c-0x20] = true, true
	}
	for _, c := range "-.!%*_+`'~" {
		t[c] = true
	}
	return t
}()

func isToken(b []byte) bool {
	for _, c := range b {
		if !tokenChar[c] {
			return false
		}
	}
	return len(b) > 0
}

// Strippable reports whether a header field of that name may be left out of
// messages or added to them by configuration: it is none that the gateway reads
// or that every message needs.
func Strippable(name string) bool {
	switch {
	case !isToken([]byte(name)):
		return false
	case len(name) == 1:
		return false // compact forms have a long one
	case equalFold([]byte(name), "Content-Type"):
		return false
	}
	return headerOf([]byte(name)) == OtherHeader
}
