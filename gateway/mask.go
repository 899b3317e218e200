package gateway

import (
	"bytes"
	"strings"

	"viaduct/rewrite"
)

// lineEnds makes each of CRLF, CR and LF an LF.
var lineEnds = strings.NewReplacer("\r\n", "\n", "\r", "\n")

// mask makes a message fit for a log: what its reader could log in with, listen
// in with, or hijack a client with, is left out. Every line ends in LF.
func mask(msg []byte) string {
	m := masker{}
	return lineEnds.Replace(string(m.append(nil, msg)))
}

// masker leaves out of messages what nobody but their receiver is to know:
// credentials, tokens and seals, the keys of media (RFC 4568, RFC 8839), and
// passwords in URIs. A body stays as long as its Content-Length says: there a
// star stands for each character.
type masker struct {
	// keys tell the tokens in a Call-ID from the random ones that most stacks make,
	// which stay whole: by them a call is found. Without keys none does.
	keys *rewrite.Keyring
	uri  []byte // what a token is opened to

	body   bool // the line is of the body
	secret bool // the header that the line belongs to is one
}

// append appends a message. Its lines end as the most lenient reader would have
// it, and the body is looked at too: it may hold messages.
func (k *masker) append(dst, msg []byte) []byte {
	k.body, k.secret = false, false
	for len(msg) > 0 {
		end := bytes.IndexAny(msg, "\r\n")
		if end < 0 {
			return k.line(dst, msg)
		}
		dst = k.line(dst, msg[:end])
		if end == 0 {
			k.body = true
		}
		next := end + 1
		if bytes.HasPrefix(msg[end:], crlf) {
			next++
		}
		dst = append(dst, msg[end:next]...)
		msg = msg[next:]
	}
	return dst
}

var crlf = []byte("\r\n")

func (k *masker) line(dst, line []byte) []byte {
	if len(line) > 0 && (line[0] == ' ' || line[0] == '\t') {
		if k.secret {
			return k.stars(append(dst, line[0]), line[1:])
		}
		return k.text(dst, line)
	}
	name, value, found := bytes.Cut(line, colon)
	if k.secret = isCredentials(bytes.TrimSpace(name)); k.secret {
		dst = append(append(dst, name...), ':')
		switch {
		case !k.body:
			return append(append(append(dst, ' '), schemeOf(value)...), "***"...)
		case !found:
			return dst[:len(dst)-1]
		}
		return k.stars(dst, value)
	}
	if isCallID(bytes.TrimSpace(name)) {
		return k.callID(append(append(dst, name...), line[len(name):len(line)-len(value)]...), value)
	}
	if shown := shownOfKey(line); shown > 0 {
		return k.stars(append(dst, line[:shown]...), line[shown:])
	}
	return k.text(dst, line)
}

var colon = []byte(":")

// stars stands for a secret.
func (k *masker) stars(dst, secret []byte) []byte {
	if !k.body {
		return append(dst, "***"...)
	}
	for range secret {
		dst = append(dst, '*')
	}
	return dst
}

// callID appends a Call-ID without the tokens in it: a SIP server may make one of
// what it knows of a client.
func (k *masker) callID(dst, value []byte) []byte {
	return k.runs(dst, value, func(run []byte) bool {
		if k.keys == nil {
			return true
		}
		var ok bool
		k.uri, _, ok = k.keys.OpenToken(k.uri[:0], run)
		return ok
	})
}

// text appends what may have tokens, seals and URIs with a password in it.
func (k *masker) text(dst, line []byte) []byte {
	for {
		at := bytes.IndexByte(line, '@')
		from, found := passwordIn(line[:max(at, 0)])
		switch {
		case at < 0:
			return k.runs(dst, line, nil)
		case found:
			dst = k.stars(k.runs(dst, line[:from], nil), line[from:at])
		default:
			dst = k.runs(dst, line[:at], nil)
		}
		dst = append(dst, '@')
		line = line[at+1:]
	}
}

// passwordIn returns where the password begins in what stands before an @, if
// there is one: RFC 3261 25.1, userinfo = user [ ":" password ] "@".
func passwordIn(before []byte) (from int, found bool) {
	start := 1 + bytes.LastIndexAny(before, "<>\" ,\t")
	scheme := bytes.IndexByte(before[start:], ':')
	if scheme < 0 || !isSIP(before[start:start+scheme]) {
		return 0, false
	}
	user := start + scheme + 1
	end := bytes.IndexByte(before[user:], ':')
	return user + end + 1, end >= 0
}

func isSIP(scheme []byte) bool {
	return bytes.EqualFold(scheme, []byte("sip")) || bytes.EqualFold(scheme, []byte("sips"))
}

// runs leaves of each token and seal what tells it from others. A run of their
// characters is taken for one if it is long enough; secret, if it is not nil, has
// the last word.
func (k *masker) runs(dst, line []byte, secret func(run []byte) bool) []byte {
	const shortest, shown = 20, 6 // the tag and origin of a token alone are 20 characters
	for len(line) > 0 {
		run := 0
		for run < len(line) && (line[run] >= 'a' && line[run] <= 'z' || line[run] >= '2' && line[run] <= '7') {
			run++
		}
		switch {
		case run >= shortest && (secret == nil || secret(line[:run])):
			dst = k.stars(append(dst, line[:shown]...), line[shown:run])
		default:
			run = max(run, 1)
			dst = append(dst, line[:run]...)
		}
		line = line[run:]
	}
	return dst
}

func isCredentials(name []byte) bool {
	for _, known := range [...]string{"authorization", "proxy-authorization", "authentication-info", "proxy-authentication-info"} {
		if len(name) == len(known) && bytes.EqualFold(name, []byte(known)) {
			return true
		}
	}
	return false
}

// schemeOf returns the scheme of credentials with the space behind it, nothing of what
// has none: Wireshark takes a message without it for malformed.
func schemeOf(credentials []byte) []byte {
	credentials = bytes.TrimLeft(credentials, " \t")
	for _, known := range [...]string{"digest ", "basic ", "bearer "} {
		if len(credentials) > len(known) && bytes.EqualFold(credentials[:len(known)], []byte(known)) {
			return credentials[:len(known)]
		}
	}
	return nil
}

func isCallID(name []byte) bool {
	return bytes.EqualFold(name, []byte("call-id")) || bytes.EqualFold(name, []byte("i"))
}

// shownOfKey returns how much of a line of SDP may be shown that holds a key of
// the media, 0 of any other line. Most browsers' are DTLS's, and hold none.
func shownOfKey(line []byte) int {
	for _, key := range [...]string{"a=crypto:", "a=ice-pwd:", "a=key-mgmt:", "k="} {
		if len(line) >= len(key) && bytes.EqualFold(line[:len(key)], []byte(key)) {
			if inline := bytes.Index(line, []byte("inline:")); inline > 0 {
				return inline + len("inline:")
			}
			return len(key)
		}
	}
	return 0
}

// maskTokens is what runs makes of a text of its own.
func maskTokens(text string) string {
	k := masker{}
	return string(k.runs(nil, []byte(text), nil))
}
