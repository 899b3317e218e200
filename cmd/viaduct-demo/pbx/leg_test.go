package pbx

import (
	"crypto/rand"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/ghettovoice/gosip/sip"
)

// A leg is a dialog as the phone sees it.
type leg struct {
	phone    *phone
	callID   string
	from, to string // header values: our side, their side
	target   string
	seq      int
	branch   string // of the latest request
}

// leg returns a dialog that is not one yet.
func (ph *phone) leg(to string) *leg {
	return &leg{
		phone: ph, callID: rand.Text(), target: "sip:" + to + "@" + ph.pbx,
		from: fmt.Sprintf(`"%s" <sip:%s@viaduct.test>;tag=%s`, ph.user, ph.user, rand.Text()),
		to:   fmt.Sprintf("<sip:%s@viaduct.test>", to),
	}
}

// legOf returns the dialog that answering h makes.
func (ph *phone) legOf(h heard) *leg {
	from, _ := h.From()
	to, _ := h.To()
	contact, _ := h.Contact()
	return &leg{
		phone: ph, callID: callIDOf(h), target: contact.Address.String(),
		from: to.Value() + ";tag=tag-of-" + ph.user, to: from.Value(),
	}
}

// send sends a request in the leg, in a transaction of its own.
func (l *leg) send(method, body string, headers ...string) {
	l.seq++
	l.branch = "z9hG4bK" + rand.Text()
	l.write(method, body, headers...)
}

// ack sends the ACK of the 2xx to the latest INVITE.
func (l *leg) ack(body string) {
	l.branch = "z9hG4bK" + rand.Text()
	l.write("ACK", body)
}

// write sends a request with the branch of the latest one.
func (l *leg) write(method, body string, headers ...string) {
	l.phone.t.Helper()
	text := fmt.Sprintf("%s %s SIP/2.0\r\nVia: SIP/2.0/UDP %s;rport;branch=%s\r\nMax-Forwards: 70\r\n"+
		"From: %s\r\nTo: %s\r\nCall-ID: %s\r\nCSeq: %d %s\r\n%s",
		method, l.target, l.phone.addr, l.branch, l.from, l.to, l.callID, l.seq, method,
		strings.Join(l.phone.addressed(headers, body), ""))
	pbx, err := net.ResolveUDPAddr("udp", l.phone.pbx)
	if err != nil {
		l.phone.t.Fatal(err)
	}
	if _, err := l.phone.udp.WriteTo([]byte(text+body), pbx); err != nil {
		l.phone.t.Fatal(err)
	}
}

// credentials answers the challenge of res with password.
func (l *leg) credentials(method string, res heard, password string) string {
	l.phone.t.Helper()
	ask, answer := "WWW-Authenticate", "Authorization"
	if strings.HasPrefix(res.kind(), "407") {
		ask, answer = "Proxy-Authenticate", "Proxy-Authorization"
	}
	headers := res.GetHeaders(ask)
	if len(headers) != 1 {
		l.phone.t.Fatalf("no %s:\n%s", ask, res)
	}
	auth := sip.AuthFromValue(headers[0].Value()).SetMethod(method).SetUri(l.target).
		SetUsername(l.phone.user).SetPassword(password)
	auth.SetNc("00000001")
	auth.SetCNonce("cnonce")
	auth.SetResponse(auth.CalcResponse())
	return answer + ": " + auth.String()
}

// dial sends an INVITE with credentials.
func (ph *phone) dial(to, body string) *leg {
	ph.t.Helper()
	l := ph.leg(to)
	l.send("INVITE", body)
	challenge := ph.expect("407 INVITE")
	l.refuse(challenge)
	l.send("INVITE", body, l.credentials("INVITE", challenge, ph.password))
	return l
}

// refuse acknowledges a final response other than 2xx.
func (l *leg) refuse(res heard) {
	plain := l.to
	to, _ := res.To()
	l.to = to.Value()
	l.write("ACK", "")
	l.to = plain
}

// established takes what a 2xx says.
func (l *leg) established(res heard) {
	to, _ := res.To()
	contact, _ := res.Contact()
	l.to, l.target = to.Value(), contact.Address.String()
}

// register registers the phone's contact and returns the final response.
func (ph *phone) register(password string, headers ...string) heard {
	ph.t.Helper()
	return ph.registerIn(ph.leg(ph.user), password, headers...)
}

func (ph *phone) registerIn(l *leg, password string, headers ...string) heard {
	ph.t.Helper()
	l.send("REGISTER", "", headers...)
	challenge := ph.expect("401 REGISTER")
	l.send("REGISTER", "", append(headers, l.credentials("REGISTER", challenge, password))...)
	for {
		if h := ph.next("an answer to REGISTER"); callIDOf(h) == l.callID && int(seqOf(h)) == l.seq {
			return h
		}
	}
}

// registered returns a phone that can be called.
func registered(t *testing.T, p *PBX, user string) *phone {
	t.Helper()
	ph := newPhone(t, p, user)
	if res := ph.register(ph.password); res.kind() != "200 REGISTER" {
		t.Fatalf("not registered:\n%s", res)
	}
	return ph
}
