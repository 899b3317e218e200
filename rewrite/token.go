package rewrite

import (
	"bytes"
	"encoding/binary"
	"errors"
)

// MaxToken is the length of the longest token, in characters: the width of the
// contact columns that PBXs have.
const MaxToken = 80

// ErrContactTooLong says that a Contact URI does not fit in a token. What fits:
// 50 lower-case letters and digits, where each phrase that browsers' stacks
// repeat (such as `.invalid;transport=ws`) counts as one, besides the scheme.
var ErrContactTooLong = errors.New("the Contact URI does not fit in a token of 80 characters")

// The token's parts, in bytes; the package comment draws them.
const (
	tokenTagSize = 6
	originSize   = 6
)

// Origin is a keyed hash of an address-of-record and the Via host it was seen
// with: 48 bits, of one Key.
type Origin uint64

// ClientID names a client: a keyed hash of its Origin and its Contact's user
// and host, of one Key. It is the same for all URI parameters.
type ClientID uint64

// Token is what a token says.
type Token struct {
	Key    *Key // that it verified with
	Origin Origin
	ID     ClientID
}

// Origin returns the origin of a client. The caller brings equal addresses into
// equal bytes first.
func (k *Key) Origin(aor, viaHost []byte) Origin {
	s := k.sealer(domainOrigin)
	defer k.release(s)
	s.field(aor)
	s.field(viaHost)
	return readOrigin(s.hash())
}

func appendOrigin(dst []byte, o Origin) []byte {
	return append(binary.BigEndian.AppendUint16(dst, uint16(o>>32)), byte(o>>24), byte(o>>16), byte(o>>8), byte(o))
}

func readOrigin(b []byte) Origin {
	return Origin(binary.BigEndian.Uint16(b))<<32 | Origin(binary.BigEndian.Uint32(b[2:]))
}

// client returns the id of the client with that Contact URI.
func (k *Key) client(o Origin, uri []byte) ClientID {
	s := k.sealer(domainClient)
	defer k.release(s)
	user, host := userAndHost(uri)
	s.msg = appendOrigin(s.msg, o)
	s.field(user)
	s.field(host)
	return ClientID(binary.BigEndian.Uint64(s.hash()))
}

// userAndHost takes a URI apart for hashing. It need not be a valid one: any
// text has a user and a host, the host with its port.
func userAndHost(uri []byte) (user, host []byte) {
	_, rest, _ := bytes.Cut(uri, []byte(":"))
	user, host, found := bytes.Cut(rest, []byte("@"))
	if !found {
		user, host = nil, rest
	}
	if end := bytes.IndexAny(host, ";?"); end >= 0 {
		host = host[:end]
	}
	return user, host
}

// AppendToken appends the token for a client of that origin whose Contact URI
// is contactURI, as it stands in the message, and returns the client's id too.
// The error is ErrContactTooLong, and dst is then returned as it was.
func (k *Key) AppendToken(dst []byte, o Origin, contactURI []byte) (token []byte, id ClientID, err error) {
	s := k.sealer(domainToken)
	defer k.release(s)
	from := len(s.msg)
	s.msg = appendOrigin(s.msg, o)
	s.msg = appendContact(s.msg, contactURI)
	if base32Len(tokenTagSize+len(s.msg)-from) > MaxToken {
		return dst, 0, ErrContactTooLong
	}
	return s.seal(dst, from, tokenTagSize), k.client(o, contactURI), nil
}

// OpenToken appends the Contact URI that the token was made of to dst, byte for
// byte. It tries the keys in order; false, and dst as it was, if the token is of
// none of them.
func (r *Keyring) OpenToken(dst, token []byte) (uri []byte, t Token, ok bool) {
	if len(token) > MaxToken {
		return dst, Token{}, false
	}
	for _, k := range r.keys {
		if uri, o, ok := k.openToken(dst, token); ok {
			return uri, Token{Key: k, Origin: o, ID: k.client(o, uri[len(dst):])}, true
		}
	}
	return dst, Token{}, false
}

func (k *Key) openToken(dst, token []byte) (uri []byte, o Origin, ok bool) {
	s := k.sealer(domainToken)
	defer k.release(s)
	text, ok := s.open(token, tokenTagSize)
	if !ok || len(text) <= originSize {
		return dst, 0, false
	}
	uri, ok = appendURI(dst, text[originSize:])
	return uri, readOrigin(text), ok
}

// The short form of a Contact URI, what JsSIP and SIP.js make by default:
// `sip:` user `@` host `.invalid`, both parts of base-32 digits as JavaScript's
// toString(32) writes them.
const (
	shortDigits  = "0123456789abcdefghijklmnopqrstuv"
	shortUserLen = 8
	shortHostLen = 12
	shortUserLo  = len("sip:")
	shortAt      = shortUserLo + shortUserLen
	shortHostLo  = shortAt + 1
	shortHostHi  = shortHostLo + shortHostLen
)

// shortEnds are what follows the host in the short form, by the first nibble.
var shortEnds = [...]string{
	".invalid",
	".invalid;transport=ws",
	".invalid;transport=ws;ob",
	".invalid;transport=wss",
	".invalid;transport=wss;ob",
	".invalid;ob",
}

// anonymousParty comes before an end of the short form in what both stacks call
// the Contact of an anonymous caller; anonymousForm is the first nibble for
// shortEnds[0], the others follow.
const (
	anonymousParty = "sip:anonymous@anonymous"
	anonymousForm  = 6
)

// longForm is the first nibble for longSchemes[0], the others follow.
const longForm = 13

var longSchemes = [...]string{"", "sips:", "sip:"}

var shortValues = reverse(shortDigits)

// appendContact appends the contact field of a token.
func appendContact(dst, uri []byte) []byte {
	w := bitWriter{out: dst}
	if form, ok := shortForm(uri); ok {
		w.put(form, 4)
		for _, part := range [2][]byte{uri[shortUserLo:shortAt], uri[shortHostLo:shortHostHi]} {
			for _, c := range part {
				w.put(shortValues[c], 5)
			}
		}
		return w.out
	}
	if form, ok := anonymous(uri); ok {
		w.put(form, 4)
		w.put(0, 4)
		return w.out
	}
	for i := len(longSchemes) - 1; ; i-- {
		if rest, ok := bytes.CutPrefix(uri, []byte(longSchemes[i])); ok {
			w.put(byte(longForm+i), 4)
			return code(w, rest)
		}
	}
}

// shortForm returns the first nibble for a URI that has the short form.
func shortForm(uri []byte) (form byte, ok bool) {
	if len(uri) < shortHostHi || string(uri[:shortUserLo]) != "sip:" || uri[shortAt] != '@' {
		return 0, false
	}
	for i, c := range uri[shortUserLo:shortHostHi] {
		if shortValues[c] == none && i != shortUserLen {
			return 0, false
		}
	}
	return shortEnd(uri[shortHostHi:])
}

// anonymous returns the first nibble for an anonymous caller's URI.
func anonymous(uri []byte) (form byte, ok bool) {
	end, ok := bytes.CutPrefix(uri, []byte(anonymousParty))
	if !ok {
		return 0, false
	}
	form, ok = shortEnd(end)
	return anonymousForm + form, ok
}

// shortEnd returns the place of end in shortEnds.
func shortEnd(end []byte) (place byte, ok bool) {
	for i, text := range shortEnds {
		if string(end) == text {
			return byte(i), true
		}
	}
	return 0, false
}

// appendURI reverses appendContact; false if it writes no such field.
func appendURI(dst, contact []byte) ([]byte, bool) {
	r := bitReader{in: contact}
	form := int(r.take(4))
	if form >= longForm {
		dst = append(dst, longSchemes[form-longForm]...)
		return appendDecoded(dst, r)
	}
	if end := form - anonymousForm; 0 <= end && end < len(shortEnds) && r.left() == 4 {
		return append(append(dst, anonymousParty...), shortEnds[end]...), true
	}
	if form >= len(shortEnds) || r.left() != 5*(shortUserLen+shortHostLen) {
		return dst, false
	}
	dst = append(dst, "sip:"...)
	for range shortUserLen {
		dst = append(dst, shortDigits[r.take(5)])
	}
	dst = append(dst, '@')
	for range shortHostLen {
		dst = append(dst, shortDigits[r.take(5)])
	}
	return append(dst, shortEnds[form]...), true
}
