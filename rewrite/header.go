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
	PCharging // P-Charge-Info, P-Charging-Vector and P-Charging-Function-Addresses
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
	RSeq
	ContentType
	Require
	Authorization
	ProxyAuthorization
	WWWAuthenticate
	ProxyAuthenticate
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

// longestName is the length of the longest name that headerOf knows.
const longestName = len("p-charging-function-addresses")

// headerOf returns the field that a name stands for, in any case and in the
// compact forms of RFC 3261 7.3.3.
func headerOf(name []byte) Header {
	var buf [longestName]byte
	if len(name) > len(buf) {
		return OtherHeader
	}
	for i, c := range name {
		buf[i] = lower(c)
	}
	switch string(buf[:len(name)]) {
	case "via", "v":
		return Via
	case "route":
		return Route
	case "record-route":
		return RecordRoute
	case "path":
		return Path
	case "p-asserted-identity":
		return PAssertedIdentity
	case "p-preferred-identity":
		return PPreferredIdentity
	case "p-served-user":
		return PServedUser
	case "remote-party-id":
		return RemotePartyID
	case "p-charge-info", "p-charging-vector", "p-charging-function-addresses":
		return PCharging
	case "max-forwards":
		return MaxForwards
	case "contact", "m":
		return Contact
	case "supported", "k":
		return Supported
	case "content-length", "l":
		return ContentLength
	case "call-id", "i":
		return CallID
	case "cseq":
		return CSeq
	case "from", "f":
		return From
	case "to", "t":
		return To
	case "proxy-require":
		return ProxyRequire
	case "expires":
		return Expires
	case "rseq":
		return RSeq
	case "content-type", "c":
		return ContentType
	case "require":
		return Require
	case "authorization":
		return Authorization
	case "proxy-authorization":
		return ProxyAuthorization
	case "www-authenticate":
		return WWWAuthenticate
	case "proxy-authenticate":
		return ProxyAuthenticate
	}
	return OtherHeader
}

// compactForms are the compact forms of fields that only configuration names.
var compactForms = [...]struct {
	compact byte
	full    []byte
}{
	{'a', []byte("Accept-Contact")},
	{'b', []byte("Referred-By")},
	{'d', []byte("Request-Disposition")},
	{'e', []byte("Content-Encoding")},
	{'j', []byte("Reject-Contact")},
	{'n', []byte("Identity-Info")},
	{'o', []byte("Event")},
	{'r', []byte("Refer-To")},
	{'s', []byte("Subject")},
	{'u', []byte("Allow-Events")},
	{'x', []byte("Session-Expires")},
	{'y', []byte("Identity")},
}

// fullName returns the name that a compact form stands for, or name itself.
func fullName(name []byte) []byte {
	if len(name) == 1 {
		for i := range compactForms {
			if form := &compactForms[i]; form.compact == lower(name[0]) {
				return form.full
			}
		}
	}
	return name
}

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
// or that every message needs. One that is left out anyway may be named.
func Strippable(name string) bool {
	switch {
	case !isToken([]byte(name)):
		return false
	case len(name) == 1:
		return false // compact forms have a long one
	}
	h := headerOf([]byte(name))
	return h == OtherHeader || h == PCharging
}
