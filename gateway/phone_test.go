package gateway

import (
	"fmt"
	"net/http"
	"strings"
)

// phone is a browser's SIP stack as far as these tests need one: it writes
// what JsSIP 3.13 writes.
type phone struct {
	*browser
	user, viaHost, contactUser string

	sent int // requests
}

// phone connects a browser whose page was just loaded.
func (l *lab) phone(user string) *phone { l.t.Helper(); return l.phoneWith(user, nil) }

// phoneWith does so with further header fields in its handshake.
func (l *lab) phoneWith(user string, header http.Header) *phone {
	l.t.Helper()
	return &phone{
		browser: l.browserWith(header), user: user,
		viaHost: fmt.Sprintf("%-012.12s.invalid", user+"000000000000"), contactUser: fmt.Sprintf("%.8s", user+"c0000000"),
	}
}

// again is the same page on a new connection.
func (p *phone) again(l *lab) *phone {
	l.t.Helper()
	next := *p
	next.browser = l.browser()
	return &next
}

func (p *phone) aor() string { return fmt.Sprintf("sip:%s@pbx.example", p.user) }

// contact is the URI that the phone registers.
func (p *phone) contact() string {
	return fmt.Sprintf("sip:%s@%s;transport=ws", p.contactUser, p.viaHost)
}

// request makes a request without a Contact, outside any dialog.
func (p *phone) request(method, uri string) sip {
	p.sent++
	return newRequest(method, uri,
		fmt.Sprintf("Via: SIP/2.0/WSS %s;branch=z9hG4bK%d", p.viaHost, 4700+p.sent),
		fmt.Sprintf("To: <%s>", uri), fmt.Sprintf("From: \"A; <b>, c\" <%s>;tag=f%s", p.aor(), p.user),
		fmt.Sprintf("Call-ID: %s%d", p.user, p.sent), fmt.Sprintf("CSeq: %d %s", 100+p.sent, method),
		"User-Agent: JsSIP 3.13.8")
}

func (p *phone) invite(uri string) sip {
	return p.request("INVITE", uri).add(fmt.Sprintf("Contact: <%s;ob>", p.contact()))
}

// register makes a REGISTER; the one that the phone repeats it has the same
// Call-ID.
func (p *phone) register(more ...string) sip {
	return p.registerContact(fmt.Sprintf(
		"<%s>;+sip.ice;reg-id=1;+sip.instance=\"<urn:uuid:%s>\";expires=600", p.contact(), p.user)).
		add("Expires: 600", "Supported: path,gruu,outbound").add(more...)
}

// registerContact makes a REGISTER with that Contact header; none if it is empty.
func (p *phone) registerContact(contact string) sip {
	req := p.request("REGISTER", "sip:pbx.example").
		set("To", "<"+p.aor()+">").set("From", "<"+p.aor()+">;tag=r").set("Call-ID", "reg-"+p.contactUser)
	if contact == "" {
		return req
	}
	return req.add("Contact: " + contact)
}

// registered registers the phone and returns the URI of its token, which is
// how the PBX knows it.
func (l *lab) registered(p *phone) string {
	l.t.Helper()
	req := l.up(p, p.register())
	l.down(p, req.reply("200 OK", "Contact: "+req.get("Contact"), "Expires: 600"))
	return req.contactURI()
}

// up sends a request from a browser and returns it as the PBX gets it.
func (l *lab) up(p *phone, req sip) sip {
	l.t.Helper()
	p.send(req)
	got := l.pbx.read()
	if got.get("Call-ID") != req.get("Call-ID") || got.get("CSeq") != req.get("CSeq") {
		l.t.Fatalf("the PBX gets\n%s\ninstead of\n%s", got, req)
	}
	return got
}

// down sends a message from the PBX and returns it as the browser gets it.
func (l *lab) down(p *phone, msg sip) sip {
	l.t.Helper()
	l.pbx.send(msg)
	got := p.read()
	if got.get("Call-ID") != msg.get("Call-ID") || got.get("CSeq") != msg.get("CSeq") || got.method() != msg.method() {
		l.t.Fatalf("the browser gets\n%s\ninstead of\n%s", got, msg)
	}
	return got
}

// answered answers a request that the browser got, and returns the answer as
// the PBX gets it.
func (l *lab) answered(p *phone, req sip, status string) sip {
	l.t.Helper()
	return l.up(p, req.reply(status))
}

// expectAlive shows that a connection works, and that nothing else is under way
// on it or at the PBX: an exchange of its own is the next that each side sees.
func (l *lab) expectAlive(p *phone) {
	l.t.Helper()
	got := l.up(p, p.request("OPTIONS", "sip:alive@pbx.example"))
	l.down(p, got.reply("200 OK"))
}

// expectReached shows that requests for a token reach that browser.
func (l *lab) expectReached(p *phone, token string) {
	l.t.Helper()
	got := l.down(p, l.pbx.request("OPTIONS", token))
	if user := between(got.uri(), "sip:", "@"); user != p.contactUser {
		l.t.Errorf("Request-URI %q, want the phone's own %q", got.uri(), p.contact())
	}
	l.answered(p, got, "200 OK")
}

// expectNobody shows that requests for a token reach nobody.
func (l *lab) expectNobody(token string) {
	l.t.Helper()
	req := l.pbx.request("OPTIONS", token)
	l.pbx.send(req)
	expectAnswer(l.t, req.receivedFrom(l.pbx.conn.LocalAddr()), l.pbx.read(), 480)
}

// tokenOf is the user part of a token's URI.
func tokenOf(uri string) string {
	user, _, _ := strings.Cut(strings.TrimPrefix(uri, "sip:"), "@")
	return user
}
