package gateway

import (
	"fmt"
	"strings"
	"testing"

	"go.uber.org/zap"
)

// TestLogKeepsSecrets: at any level the log shows nobody's digest response, and
// no token or seal with which a client could be hijacked.
func TestLogKeepsSecrets(t *testing.T) {
	l := preparedLab(t)
	l.cfg.Log, l.log = newJournal(l.t, zap.DebugLevel)
	l.start()
	const response = "6629fae49393a05397450978507c4ef1"
	credentials := fmt.Sprintf(`Digest username="alice", realm="pbx", nonce="n", uri="sip:pbx.example",`+"\r\n response=\"%s\"", response)
	p := l.phone("alice")

	req := l.up(p, p.register("Authorization: "+credentials))
	secrets := []string{response, tokenOf(req.contactURI()), strings.TrimPrefix(req.branch(), branchCookie)}
	l.down(p, req.reply("200 OK", "Contact: "+req.get("Contact"), `Authentication-Info: rspauth="`+response+`"`))
	call := l.up(p, p.invite("sip:bob@pbx.example").add("proxy-authorization : "+credentials))
	secrets = append(secrets, tokenOf(call.contactURI()), strings.TrimPrefix(call.branch(), branchCookie))
	l.down(p, call.reply("200 OK"))
	info := l.down(p, l.pbx.request("INFO", req.contactURI()).withBody("the token "+tokenOf(req.contactURI())+" in a body"))
	secrets = append(secrets, param(info.get("Via"), "seal"))
	short := *p
	short.contactUser, short.viaHost = "a", "b" // the shortest token there is
	secrets = append(secrets, tokenOf(l.up(&short, short.invite("sip:bob@pbx.example")).contactURI()))
	l.answered(p, info, "200 OK")

	// Refused messages are shown too, however their lines end.
	for _, end := range []string{"\r\n", "\n", "\r"} {
		p.send(replaceAll(p.register("Authorization: "+credentials).set("Max-Forwards", "0"), "\r\n", end))
		if end == "\r\n" {
			p.read()
		}
	}
	l.pbx.send(info.without("Via").add("Via: " + info.all("Via")[1]).reply("200 OK"))
	l.pbx.send(l.pbx.request("MESSAGE", replaceToken(req.contactURI())))
	l.pbx.read()
	l.expectAlive(p)

	shown := 0
	for _, entry := range l.log.All() {
		text := fmt.Sprint(entry.Message, entry.ContextMap())
		shown += strings.Count(text, "before:")
		for _, secret := range secrets {
			if strings.Contains(text, secret) {
				t.Errorf("the log shows %q:\n%s", secret, text)
			}
		}
	}
	if shown == 0 || l.log.count("refused message") == 0 {
		t.Errorf("the log shows %d relayed messages, %d refused", shown, l.log.count("refused message"))
	}
}

// replaceToken makes a forged token of a good one, long enough to be a secret.
func replaceToken(uri string) string {
	return strings.Replace(uri, tokenOf(uri), flip(tokenOf(uri)), 1)
}

func TestMask(t *testing.T) {
	for in, want := range map[string]string{
		"Authorization: Digest x\r\n y\r\n\tz\r\nTo: b": "Authorization: Digest ***\n ***\n\t***\nTo: b",
		"Proxy-Authorization:  BEARER x y":              "Proxy-Authorization: BEARER ***",
		"Authorization: secret word":                    "Authorization: ***",
		"Authorization: Digest":                         "Authorization: ***",
		"proxy-authorization\t:x\rTo: b":                "proxy-authorization\t: ***\nTo: b",
		"To: <sip:abcdefghijklmnopqrstuvwxyz234567@h>":  "To: <sip:abcdef***@h>",
		"X: y\n\nAuthorization: in a body":              "X: y\n\nAuthorization:**********",
		"Call-ID: short-and-plain@pbx.example":          "Call-ID: short-and-plain@pbx.example",
		"":                                              "",
	} {
		if got := mask([]byte(in)); got != want {
			t.Errorf("mask(%q) = %q, want %q", in, got, want)
		}
	}
}

// TestMaskKeepsLengths: a body is as long as its Content-Length says, and has no
// key of the media left; neither has a URI its password.
func TestMaskKeepsLengths(t *testing.T) {
	const secret = "bWFzdGVyIGtleSBhbmQgc2FsdCBhcmUgaGVyZQ"
	body := "v=0\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:" + secret + "|2^20|1:4\r\n" +
		"a=ice-ufrag:F7gI\r\na=ice-pwd:" + secret + "\r\nk=base64:" + secret + "\r\nA=KEY-MGMT:mikey " + secret + "\r\n" +
		"the token abcdefghijklmnopqrstuvwxyz234567\nAuthorization: Digest response=\"" + secret + "\"\r\n folded " + secret +
		"\r\nRefer-To: <sip:bob:" + secret + "@pbx>\r\na=fingerprint:sha-256 00:11\r\n"
	head := "MESSAGE sip:bob:" + secret + "@pbx SIP/2.0\r\nTo: Bob <SIPS:bob:" + secret + "@pbx>, sip:x@y\r\n" +
		"From: \"a: b@c\" <sip:alice@pbx:5060>;tag=1:2@3\r\n\r\n"
	got := mask([]byte(head + body))
	if strings.Contains(got, secret) || strings.Contains(got, "ghijklmnopqrstuvwxyz") {
		t.Errorf("shown:\n%s", got)
	}
	for _, kept := range []string{
		"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:***", "a=ice-ufrag:F7gI\n", "a=fingerprint:sha-256 00:11\n", "sip:bob:***@pbx SIP/2.0\n",
		"To: Bob <SIPS:bob:***@pbx>, sip:x@y\n", "From: \"a: b@c\" <sip:alice@pbx:5060>;tag=1:2@3\n", "the token abcdef***",
	} {
		if !strings.Contains(got, kept) {
			t.Errorf("no %q in\n%s", kept, got)
		}
	}
	k := masker{}
	exact := string(k.append(nil, []byte(head+body)))
	if _, shown, _ := strings.Cut(exact, "\r\n\r\n"); len(shown) != len(body) {
		t.Errorf("the body has %d bytes, of %d:\n%s", len(shown), len(body), shown)
	}
}

// TestMaskCallID: a Call-ID is shown unless a token is in it, which the keys tell.
func TestMaskCallID(t *testing.T) {
	l := newLab(t)
	token := tokenOf(l.registered(l.phone("alice")))
	const random = "abcdefghijklmnopqrstuvwxyz"
	for in, want := range map[string]string{
		"Call-ID: " + random:              "Call-ID: " + random,
		"i :\t" + random + "@10.0.0.5":    "i :\t" + random + "@10.0.0.5",
		"CALL-ID: 1-" + token + "@pbx":    "CALL-ID: 1-" + token[:6] + "***@pbx",
		"Call-ID: " + token:               "Call-ID: " + token[:6] + "***",
		"In-Reply-To: " + random + "@pbx": "In-Reply-To: abcdef***@pbx",
	} {
		if got := l.masked(sip(in)); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}
