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
		"Authorization: Digest x\r\n y\r\n\tz\r\nTo: b": "Authorization: ***\n ***\n ***\nTo: b",
		"proxy-authorization\t:x\rTo: b":                "proxy-authorization\t: ***\nTo: b",
		"To: <sip:abcdefghijklmnopqrstuvwxyz234567@h>":  "To: <sip:abcdef***@h>",
		"X: y\n\nAuthorization: in a body":              "X: y\n\nAuthorization: ***",
		"Call-ID: short-and-plain@pbx.example":          "Call-ID: short-and-plain@pbx.example",
		"":                                              "",
	} {
		if got := mask([]byte(in)); got != want {
			t.Errorf("mask(%q) = %q, want %q", in, got, want)
		}
	}
}
