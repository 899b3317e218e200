package gateway

import (
	"fmt"
	"strings"
	"testing"
)

// phone is a browser's SIP stack as far as these tests need one: it writes
// what JsSIP 3.13 writes.
type phone struct {
	*browser
	user, viaHost, contactUser string
}

func (l *lab) phone(user string) *phone {
	return &phone{browser: l.browser(), user: user, viaHost: user + "0123456.invalid", contactUser: "c0" + user}
}

func (p *phone) via(branch string) string {
	return fmt.Sprintf("SIP/2.0/WSS %s;branch=z9hG4bK%s", p.viaHost, branch)
}

func (p *phone) contact() string {
	return fmt.Sprintf("sip:%s@%s;transport=ws", p.contactUser, p.viaHost)
}

func (p *phone) register(cseq int, more string) string {
	return fmt.Sprintf("REGISTER sip:pbx.example SIP/2.0\r\nVia: %s\r\nMax-Forwards: 69\r\n"+
		"To: <sip:%[2]s@pbx.example>\r\nFrom: \"A; <b>, c\" <sip:%[2]s@pbx.example>;tag=f1\r\nCall-ID: reg-%[2]s\r\nCSeq: %d REGISTER\r\n"+
		"%sContact: <%s>;+sip.ice;reg-id=1;+sip.instance=\"<urn:uuid:%[2]s>\";expires=600\r\n"+
		"Expires: 600\r\nSupported: path,gruu,outbound\r\nUser-Agent: JsSIP 3.13.8\r\nContent-Length: 0\r\n\r\n",
		p.via(fmt.Sprint("r", cseq)), p.user, cseq, more, p.contact())
}

// registered registers the phone and returns its token's URI as the PBX knows it.
func (p *phone) registered(l *lab) string {
	l.t.Helper()
	p.send(p.register(1, ""))
	req := l.pbx.read()
	contact := req.get("Contact")
	l.pbx.send(req.reply("200 OK", "Contact: "+contact+";expires=600"))
	res := p.read()
	if res.start() != "SIP/2.0 200 OK" {
		l.t.Fatalf("REGISTER answered %q", res)
	}
	return between(contact, "<", ">")
}

func TestRegister(t *testing.T) {
	l := newLab(t)
	p := l.phone("alice")
	p.send(p.register(1, ""))
	up := l.pbx.read()
	for _, never := range []string{".invalid", "transport=ws", "WSS", "reg-id", "outbound"} {
		if strings.Contains(string(up), never) {
			t.Errorf("the PBX sees %q in\n%s", never, up)
		}
	}
	if !strings.HasPrefix(up.get("Via"), "SIP/2.0/UDP "+l.bound.SIP.String()+";rport;branch=z9hG4bK") {
		t.Errorf("Via: %s", up.get("Via"))
	}
	if got := up.get("Max-Forwards"); got != "68" {
		t.Errorf("Max-Forwards: %s", got)
	}
	l.pbx.send(up.reply("200 OK", "Contact: "+up.get("Contact"), "Expires: 300"))
	down := p.read()
	if down.get("Via") != p.via("r1") {
		t.Errorf("Via: %s, want %s", down.get("Via"), p.via("r1"))
	}
	if c := down.get("Contact"); !strings.HasPrefix(c, "<"+p.contact()+">") || !strings.Contains(c, "expires=") {
		t.Errorf("Contact: %s", c)
	}
}

func TestCallToBrowser(t *testing.T) {
	l := newLab(t)
	p := l.phone("alice")
	uri := p.registered(l)
	invite := fmt.Sprintf("INVITE %s SIP/2.0\r\nVia: SIP/2.0/UDP %s;rport;branch=z9hG4bKpbx1\r\nFrom: <sip:bob@pbx>;tag=b\r\n"+
		"To: <%[1]s>\r\nCall-ID: call1\r\nCSeq: 7 INVITE\r\nContact: <sip:bob@%[2]s>\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n", uri, l.pbx.addr())
	l.pbx.send(invite)
	got := p.read()
	if got.start() != "INVITE "+p.contact()+" SIP/2.0" {
		t.Errorf("start line %q", got.start())
	}
	vias := got.all("Via")
	if len(vias) != 2 || !strings.Contains(vias[1], ";rport=") || !strings.Contains(vias[1], ";received=127.0.0.1") {
		t.Errorf("Vias %q", vias)
	}
	p.send(got.reply("200 OK", "Contact: <"+p.contact()+">"))
	ok := l.pbx.read()
	if v := ok.all("Via"); len(v) != 1 || !strings.Contains(v[0], "branch=z9hG4bKpbx1") {
		t.Errorf("Vias up %q", v)
	}
	if c := ok.get("Contact"); c != "<"+uri+">" {
		t.Errorf("Contact up %q, want %q", c, uri)
	}
	cancel := strings.ReplaceAll(invite, "INVITE", "CANCEL")
	l.pbx.send(cancel)
	if c := p.read(); between(c.all("Via")[0], "branch=", ";") != between(vias[0], "branch=", ";") {
		t.Errorf("CANCEL has another branch: %q and %q", c.all("Via"), vias)
	}
}
