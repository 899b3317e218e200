package pbx

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/ghettovoice/gosip/sip"
)

const (
	realm      = "viaduct-demo"
	nonceLives = 5 * time.Minute
)

// A verdict is what a request's credentials are worth.
type verdict int

const (
	unproven verdict = iota // no credentials, or made for a nonce of someone else
	stale                   // for a nonce of ours that is too old
	wrong                   // unknown user or wrong password
	proven
)

// An authority checks digest credentials (RFC 2617, MD5). A nonce is the time
// it was made and a MAC of it, so none has to be remembered.
type authority struct {
	passwords map[string]string
	key       [32]byte
}

func newAuthority(accounts []Account) *authority {
	a := &authority{passwords: make(map[string]string)}
	for _, account := range accounts {
		a.passwords[account.User] = account.Password
	}
	rand.Read(a.key[:])
	return a
}

func (a *authority) knows(user string) bool {
	_, ok := a.passwords[user]
	return ok
}

// A challenge names the headers of one of the two kinds of digest challenge.
type challenge struct {
	status sip.StatusCode
	reason string
	ask    string
	answer string
}

var (
	registrarChallenge = challenge{401, "Unauthorized", "WWW-Authenticate", "Authorization"}
	proxyChallenge     = challenge{407, "Proxy Authentication Required", "Proxy-Authenticate", "Proxy-Authorization"}
)

// header returns the header that asks for credentials.
func (a *authority) header(c challenge, v verdict, now time.Time) sip.Header {
	contents := fmt.Sprintf(`Digest realm="%s", nonce="%s", algorithm=MD5, qop="auth"`, realm, a.nonce(now))
	if v == stale {
		contents += `, stale=true`
	}
	return &sip.GenericHeader{HeaderName: c.ask, Contents: contents}
}

// check returns whom req is from and what its credentials are worth.
func (a *authority) check(req sip.Request, c challenge, now time.Time) (user string, v verdict) {
	for _, header := range req.GetHeaders(c.answer) {
		auth := sip.AuthFromValue(header.Value())
		if auth.Realm() != realm {
			continue
		}
		age, ours := a.age(auth.Nonce(), now)
		if !ours {
			return "", unproven
		}
		password, known := a.passwords[auth.Username()]
		given := auth.Response()
		expected := auth.SetMethod(string(req.Method())).SetPassword(password).CalcResponse()
		switch {
		case !known || subtle.ConstantTimeCompare([]byte(given), []byte(expected)) == 0:
			return auth.Username(), wrong
		case age > nonceLives:
			return auth.Username(), stale
		default:
			return auth.Username(), proven
		}
	}
	return "", unproven
}

func (a *authority) nonce(now time.Time) string {
	made := binary.BigEndian.AppendUint64(nil, uint64(now.UnixNano()))
	return hex.EncodeToString(append(made, a.mac(made)...))
}

// age returns how old nonce is, if it is one of ours.
func (a *authority) age(nonce string, now time.Time) (age time.Duration, ours bool) {
	raw, err := hex.DecodeString(nonce)
	if err != nil || len(raw) < 8 || !hmac.Equal(raw[8:], a.mac(raw[:8])) {
		return 0, false
	}
	return now.Sub(time.Unix(0, int64(binary.BigEndian.Uint64(raw)))), true
}

func (a *authority) mac(made []byte) []byte {
	hash := hmac.New(sha256.New, a.key[:])
	hash.Write(made)
	return hash.Sum(nil)[:16]
}
