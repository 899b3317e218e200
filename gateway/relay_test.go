package gateway

import (
	"fmt"
	"strings"
	"testing"
)

func TestRegister(t *testing.T) {
	l := newLab(t)
	p := l.phone("alice")
	req := p.register()
	up := l.up(p, req)
	for _, never := range []string{".invalid", "transport=ws", "WSS", "reg-id", "outbound"} {
		if strings.Contains(string(up), never) {
			t.Errorf("the PBX sees %q in\n%s", never, up)
		}
	}
	if !strings.HasPrefix(up.get("Via"), "SIP/2.0/UDP "+l.bound.SIP.String()+";rport;branch=z9hG4bK") {
		t.Errorf("Via: %s", up.get("Via"))
	}
	if got := up.get("Max-Forwards"); got != "69" {
		t.Errorf("Max-Forwards: %s", got)
	}
	down := l.down(p, up.reply("200 OK", "Contact: "+strings.ReplaceAll(up.get("Contact"), ";expires=600", ""), "Expires: 300"))
	if down.get("Via") != req.get("Via") {
		t.Errorf("Via: %s, want %s", down.get("Via"), req.get("Via"))
	}
	if c := down.get("Contact"); !strings.HasPrefix(c, "<"+p.contact()+">;") || !strings.HasSuffix(c, ";expires=300") {
		t.Errorf("Contact: %s", c)
	}
}

func TestCallToBrowser(t *testing.T) {
	l := newLab(t)
	p := l.phone("alice")
	token := l.registered(p)
	invite := l.pbx.request("INVITE", token).add("Contact: <sip:bob@" + l.pbx.addr() + ">")
	got := l.down(p, invite)
	if got.uri() != p.contact() {
		t.Errorf("Request-URI %q", got.uri())
	}
	want := invite.receivedFrom(l.pbx.conn.LocalAddr()).get("Via")
	if vias := got.all("Via"); len(vias) != 2 || vias[1] != want {
		t.Errorf("Vias %q, want %q below ours", vias, want)
	}
	p.send(got.reply("200 OK", "Contact: <"+p.contact()+">"))
	ok := l.pbx.read()
	if v := ok.all("Via"); len(v) != 1 || v[0] != want {
		t.Errorf("Vias up %q", v)
	}
	if c := ok.get("Contact"); c != "<"+token+">" {
		t.Errorf("Contact up %q, want %q", c, token)
	}
	if c := l.down(p, invite.as("CANCEL")); c.branch() != got.branch() {
		t.Errorf("CANCEL has another branch: %q and %q", c.get("Via"), got.get("Via"))
	}
}

// TestContactInAnswers: a response tells the PBX the token where it would
// otherwise send to the browser's own Contact, and is left alone where it
// sends the caller elsewhere.
func TestContactInAnswers(t *testing.T) {
	l := newLab(t)
	p := l.phone("alice")
	token := l.registered(p)
	for _, test := range []struct{ status, contact, want string }{
		{"180 Ringing", p.contact(), token},
		{"200 OK", p.contact(), token},
		{"302 Moved Temporarily", "sip:carol@pbx.example", "sip:carol@pbx.example"},
		{"485 Ambiguous", "sip:carol@pbx.example", "sip:carol@pbx.example"},
	} {
		req := l.down(p, l.pbx.request("INVITE", token))
		if got := l.up(p, req.reply(test.status, "Contact: <"+test.contact+">")).contactURI(); got != test.want {
			t.Errorf("%s: Contact %q, want %q", test.status, got, test.want)
		}
	}
}

// TestForgedIdentity: a browser cannot say who it is nor where answers go.
func TestForgedIdentity(t *testing.T) {
	l := newLab(t, func(c *Config) { c.StripHeaders = []string{"X-Trunk"} })
	p := l.phone("alice")
	forged := []string{
		"Record-Route: <sip:evil.example;lr>", "Path: <sip:evil.example;lr>", "P-Asserted-Identity: <sip:boss@pbx.example>",
		"P-Preferred-Identity: <sip:boss@pbx.example>", "P-Served-User: <sip:boss@pbx.example>",
		"Remote-Party-ID: <sip:boss@pbx.example>;screen=yes", "record-route \t: <sip:evil.example;lr>", "x-trunk: yes",
	}
	for _, method := range []string{"INVITE", "REGISTER", "MESSAGE"} {
		got := l.up(p, p.request(method, "sip:bob@pbx.example").add(forged...).add("X-Mine: stays"))
		for _, word := range []string{"evil", "boss", "trunk", "Trunk"} {
			if strings.Contains(string(got), word) {
				t.Errorf("the PBX sees %q in\n%s", word, got)
			}
		}
		if got.get("X-Mine") != "stays" {
			t.Errorf("X-Mine is gone:\n%s", got)
		}
	}
}

func TestClientIPHeader(t *testing.T) {
	l := newLab(t, func(c *Config) { c.ClientIPHeader = "X-Client-IP" })
	p := l.phone("alice")
	got := l.up(p, p.request("OPTIONS", "sip:bob@pbx.example").add("x-client-ip: 10.0.0.1"))
	if ips := got.all("X-Client-IP"); fmt.Sprint(ips) != "[127.0.0.1]" {
		t.Errorf("X-Client-IP: %q", ips)
	}
	token := l.registered(p)
	l.pbx.send(l.pbx.request("OPTIONS", token))
	p.send(p.read().reply("200 OK", "x-client-ip: 10.0.0.1"))
	if ips := l.pbx.read().all("X-Client-IP"); len(ips) > 0 {
		t.Errorf("a response with X-Client-IP: %q", ips)
	}
}

// TestProxyRequireIgnored: RFC 3261 8.2.2.3 has a CANCEL's ignored.
func TestProxyRequireIgnored(t *testing.T) {
	l := newLab(t)
	p := l.phone("alice")
	invite := p.invite("sip:bob@pbx.example")
	l.up(p, invite)
	if got := l.up(p, invite.as("CANCEL").add("Proxy-Require: teleport")); got.method() != "CANCEL" {
		t.Errorf("the PBX gets %s", got.start())
	}
}

// TestBodyThatLooksLikeAMessage: without a Content-Length a second message in
// the frame is body, and is said to be, lest the PBX take it for a request.
func TestBodyThatLooksLikeAMessage(t *testing.T) {
	l := newLab(t)
	p := l.phone("alice")
	second := string(p.request("BYE", "sip:victim@pbx.example"))
	got := l.up(p, p.request("MESSAGE", "sip:bob@pbx.example").without("Content-Length")+sip(second))
	if got.get("Content-Length") != fmt.Sprint(len(second)) || got.body() != second {
		t.Errorf("Content-Length %s, body %q", got.get("Content-Length"), got.body())
	}
	l.expectAlive(p)
}

// TestForwards: absent Max-Forwards is added, and every kind of line that a
// browser may write of its own passes.
func TestForwards(t *testing.T) {
	l := newLab(t)
	p := l.phone("alice")
	for name, test := range map[string]struct {
		req    sip
		header string
		want   string
	}{
		"no Max-Forwards":        {p.request("INFO", "sip:b@pbx.example").without("Max-Forwards"), "Max-Forwards", "70"},
		"last hop":               {p.request("INFO", "sip:b@pbx.example").set("Max-Forwards", "1"), "Max-Forwards", "0"},
		"an unknown method":      {p.request("PUNT", "sip:b@pbx.example"), "User-Agent", "JsSIP 3.13.8"},
		"Via of 300 characters":  {p.request("INFO", "sip:b@pbx.example").set("Via", viaOf(300)), "User-Agent", "JsSIP 3.13.8"},
		"a telephone number":     {p.request("INVITE", "tel:+12125551212"), "To", "<tel:+12125551212>"},
		"no Content-Length":      {p.request("INFO", "sip:b@pbx.example").without("Content-Length"), "Content-Length", "0"},
		"compact Content-Length": {p.request("INFO", "sip:b@pbx.example").without("Content-Length").add("l: 2") + "hi", "l", "2"},
		"line ends behind":       {p.request("INFO", "sip:b@pbx.example").withBody("hi") + "\r\n\r\n", "Content-Length", "2"},
		"eight Contacts":         {p.request("REGISTER", "sip:pbx.example").add(repeat("Contact: <sip:c@c.invalid>", maxContacts)...), "User-Agent", "JsSIP 3.13.8"},
	} {
		if got := l.up(p, test.req).get(test.header); got != test.want {
			t.Errorf("%s: %s %q, want %q", name, test.header, got, test.want)
		}
	}
}

// viaOf makes a Via value of that length.
func viaOf(length int) string {
	via := "SIP/2.0/WSS long.invalid;branch=z9hG4bK1;x="
	return via + strings.Repeat("x", length-len(via))
}

func repeat(line string, times int) (lines []string) {
	for range times {
		lines = append(lines, line)
	}
	return lines
}
