package gateway

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ghettovoice/gosip/log"
	gosip "github.com/ghettovoice/gosip/sip"
	"github.com/ghettovoice/gosip/sip/parser"
)

// ack makes the ACK of a 2xx.
func (p *phone) ack(invite, ok sip) sip {
	cseq, _, _ := strings.Cut(invite.get("CSeq"), " ")
	return p.request("ACK", ok.contactURI()).set("Call-ID", invite.get("Call-ID")).set("From", invite.get("From")).
		set("To", ok.get("To")).set("CSeq", cseq+" ACK")
}

// TestRefusedInvite: the ACK of a refusal is sent again for each that comes
// again, and the browser sees none of those.
func TestRefusedInvite(t *testing.T) {
	l := newLab(t)
	alice := l.phone("alice")
	invite := alice.invite("sip:bob@pbx.example")
	sent := l.up(alice, invite)
	busy := sent.reply("486 Busy Here")
	got := l.down(alice, busy)
	l.pbx.send(busy)
	l.expectAlive(alice) // its ACK is awaited
	ack := l.up(alice, invite.as("ACK").set("To", got.get("To")))
	for range 3 {
		l.pbx.send(busy)
		l.pbx.expectAgain(ack)
	}
	l.expectAlive(alice)
	if n := l.gw.stats.ownAcks.Load(); n != 0 {
		t.Errorf("the gateway made %d ACKs", n)
	}
}

// TestOwnAck: the gateway acknowledges the refusal of an INVITE whose browser
// has gone, at once, and again when the refusal comes again.
func TestOwnAck(t *testing.T) {
	for name, seen := range map[string]bool{"gone before the refusal": false, "gone before its ACK": true} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			alice := l.phone("alice")
			sent := l.up(alice, alice.invite("sip:bob@pbx.example;x=%41").
				add("Route: <sip:"+l.pbx.addr()+";lr;a=b>", "Subject:  of none of its ACK's\r\n business"))
			l.down(alice, sent.reply("180 Ringing"))
			refusal := sent.reply("603 Decline", "Record-Route: <sip:elsewhere.example;lr>")
			if seen {
				l.down(alice, refusal)
			}
			l.hangUp(alice.browser)
			l.pbx.send(refusal)
			ack := l.pbx.read()
			expectAckOf(t, sent, refusal, ack)
			for range 2 {
				l.pbx.send(refusal)
				l.pbx.expectAgain(ack)
			}
			l.expectAlive(l.phone("bob"))
		})
	}
}

// expectAckOf checks an ACK against RFC 3261 17.1.1.3, and against the one that
// gosip makes.
func expectAckOf(t *testing.T, invite, refusal, ack sip) {
	t.Helper()
	if ack.start() != "ACK "+invite.uri()+" SIP/2.0" {
		t.Errorf("%q", ack.start())
	}
	cseq, _, _ := strings.Cut(invite.get("CSeq"), " ")
	for name, want := range map[string][]string{
		"Via": {invite.get("Via")}, "From": {invite.get("From")}, "To": {refusal.get("To")},
		"Call-ID": {invite.get("Call-ID")}, "CSeq": {cseq + " ACK"}, "Route": invite.all("Route"),
		"Max-Forwards": {"70"}, "Content-Length": {"0"},
	} {
		if got := ack.all(name); fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if lines, rest := ack.lines(); len(lines) != 7+len(invite.all("Route")) || rest != "\r\n\r\n" {
		t.Errorf("there is more in\n%s", ack)
	}
	want := gosip.NewAckRequest("", parsed(t, invite).(gosip.Request), parsed(t, refusal).(gosip.Response), "", nil)
	got := parsed(t, ack).(gosip.Request)
	if got.StartLine() != want.StartLine() || len(got.Headers()) != len(want.Headers()) {
		t.Errorf("the ACK is\n%s\nthat of gosip\n%s", got, want)
	}
	for _, h := range want.Headers() {
		if have := got.GetHeaders(h.Name()); len(have) != 1 || have[0].String() != h.String() {
			t.Errorf("%s: %v, that of gosip has %v", h.Name(), have, h)
		}
	}
}

func parsed(t *testing.T, m sip) gosip.Message {
	t.Helper()
	msg, err := parser.ParseMessage([]byte(m), log.NewDefaultLogrusLogger().WithPrefix("test"))
	if err != nil {
		t.Fatalf("gosip: %v\n%s", err, m)
	}
	return msg
}

// TestAcceptedInvite: a repeated 2xx is answered by the ACK that was lost. Until
// there is one, it reaches the browser on a new connection only; that of another
// fork always does.
func TestAcceptedInvite(t *testing.T) {
	l := newLab(t)
	alice := l.phone("alice")
	l.registered(alice)
	invite := alice.invite("sip:bob@pbx.example")
	sent := l.up(alice, invite)
	ok := sent.reply("200 OK", "Contact: <sip:bob@"+l.pbx.addr()+">")
	first := l.down(alice, ok)
	l.pbx.send(ok)
	l.expectAlive(alice)

	alice = l.reconnected(alice)
	if again := l.down(alice, ok); again != first {
		t.Errorf("the browser gets\n%s\nafter\n%s", again, first)
	}
	l.pbx.send(ok)
	l.expectAlive(alice)

	ack := l.up(alice, alice.ack(invite, first))
	for range 2 {
		l.pbx.send(ok)
		l.pbx.expectAgain(ack)
	}
	fork := sip(strings.ReplaceAll(string(ok), "tag=callee", "tag=other"))
	other := l.down(alice, fork)
	otherAck := l.up(alice, alice.ack(invite, other))
	l.pbx.send(fork)
	l.pbx.expectAgain(otherAck)
	l.pbx.send(ok)
	l.pbx.expectAgain(ack)
	l.expectAlive(alice)
}

// TestResponsesUpAreRepeated: to an INVITE, a browser's 180 is sent again, and
// its refusal until the ACK comes, which it gets once.
func TestResponsesUpAreRepeated(t *testing.T) {
	l := newLab(t)
	alice := l.phone("alice")
	invite := l.pbx.request("INVITE", l.registered(alice))
	got := l.down(alice, invite)
	ringing := l.answered(alice, got, "180 Ringing")
	l.pbx.expectAgain(ringing)
	l.pbx.send(invite)
	l.pbx.expectAgain(ringing)

	busy := l.answered(alice, got, "486 Busy Here")
	for range 2 {
		l.pbx.expectAgain(busy)
	}
	l.pbx.send(invite)
	l.pbx.expectAgain(busy)
	ack := invite.as("ACK").set("To", busy.get("To"))
	l.down(alice, ack)
	for range 2 {
		l.pbx.send(ack)
	}
	l.pbx.send(invite)
	l.expectAlive(alice)
}

// TestAckDown: the ACK of a browser's 2xx reaches it once on each connection.
func TestAckDown(t *testing.T) {
	l := newLab(t)
	alice := l.phone("alice")
	token := l.registered(alice)
	invite := l.pbx.request("INVITE", token)
	ok := l.answered(alice, l.down(alice, invite), "200 OK")
	ack := invite.as("ACK").set("To", ok.get("To")).
		set("Via", "SIP/2.0/UDP "+l.pbx.addr()+";rport;branch=z9hG4bKack")
	l.down(alice, ack)
	l.pbx.send(ack)
	l.expectAlive(alice)
	alice = l.reconnected(alice)
	l.down(alice, ack)
	l.pbx.send(ack)
	l.expectAlive(alice)
}
