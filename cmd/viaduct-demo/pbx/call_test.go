package pbx

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

const (
	offer  = "v=0\r\no=alice 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=x-odd:  two  spaces\r\n"
	answer = "v=0\r\no=bob 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\n"
)

// talking returns the two sides of a call.
func talking(t *testing.T, alice, bob *phone) (caller, callee *leg) {
	t.Helper()
	caller = alice.dial("bob", offer)
	invite := bob.expect("INVITE")
	if invite.Body() != offer {
		t.Fatalf("the offer arrived as %q", invite.Body())
	}
	bob.answer(invite, 180, "Ringing", "")
	alice.expect("180 INVITE")
	bob.answer(invite, 200, "OK", answer)
	ok := alice.expect("200 INVITE")
	if ok.Body() != answer {
		t.Fatalf("the answer arrived as %q", ok.Body())
	}
	caller.established(ok)
	caller.ack("")
	bob.expect("ACK")
	return caller, bob.legOf(invite)
}

// hangUp ends a call by BYE.
func hangUp(by, other *leg) {
	by.send("BYE", "")
	by.phone.expect("200 BYE")
	other.phone.answer(other.phone.expect("BYE"), 200, "OK", "")
}

func both(t *testing.T, test func(t *testing.T, by, other *leg)) {
	for _, name := range []string{"caller", "callee"} {
		t.Run(name, func(t *testing.T) {
			p := startPBX(t, quick)
			caller, callee := talking(t, registered(t, p, "alice"), registered(t, p, "bob"))
			if name == "caller" {
				test(t, caller, callee)
			} else {
				test(t, callee, caller)
			}
			if n := calls(p); n != 0 {
				t.Errorf("%d dialogs are left", n)
			}
		})
	}
}

func calls(p *PBX) int {
	p.dialogs.mu.Lock()
	defer p.dialogs.mu.Unlock()
	return len(p.dialogs.all)
}

func TestEitherSideHangsUp(t *testing.T) {
	both(t, func(_ *testing.T, by, other *leg) { hangUp(by, other) })
}

func TestHoldByReinvite(t *testing.T) {
	both(t, func(t *testing.T, by, other *leg) {
		for _, direction := range []string{"a=sendonly\r\n", "a=sendrecv\r\n"} {
			by.send("INVITE", offer+direction)
			invite := other.phone.expect("INVITE")
			if invite.Body() != offer+direction {
				t.Errorf("the offer arrived as %q", invite.Body())
			}
			other.phone.answer(invite, 200, "OK", answer+direction)
			if ok := by.phone.expect("200 INVITE"); ok.Body() != answer+direction {
				t.Errorf("the answer arrived as %q", ok.Body())
			}
			by.ack("")
			other.phone.expect("ACK")
		}
		hangUp(other, by)
	})
}

func TestReinviteRefused(t *testing.T) {
	both(t, func(_ *testing.T, by, other *leg) {
		by.send("INVITE", offer)
		other.phone.answer(other.phone.expect("INVITE"), 488, "Not Acceptable Here", "")
		other.phone.expect("ACK")
		by.refuse(by.phone.expect("488 INVITE"))
		hangUp(by, other)
	})
}

func TestUpdateAndInfo(t *testing.T) {
	both(t, func(t *testing.T, by, other *leg) {
		by.send("UPDATE", offer)
		update := other.phone.expect("UPDATE")
		if update.Body() != offer {
			t.Errorf("the offer arrived as %q", update.Body())
		}
		other.phone.answer(update, 200, "OK", answer)
		if ok := by.phone.expect("200 UPDATE"); ok.Body() != answer {
			t.Errorf("the answer arrived as %q", ok.Body())
		}

		const digit = "Signal=5\r\nDuration=100\r\n"
		by.send("INFO", digit, "Content-Type: application/dtmf-relay")
		info := other.phone.expect("INFO")
		if c := contentOf(info); c != (content{"application/dtmf-relay", digit}) {
			t.Errorf("the digit arrived as %+v", c)
		}
		other.phone.answer(info, 200, "OK", "")
		by.phone.expect("200 INFO")
		hangUp(by, other)
	})
}

func TestCancel(t *testing.T) {
	p := startPBX(t, quick)
	alice, bob := registered(t, p, "alice"), registered(t, p, "bob")
	call := alice.dial("bob", offer)
	invite := bob.expect("INVITE")
	bob.answer(invite, 180, "Ringing", "")
	alice.expect("180 INVITE")

	call.write("CANCEL", "")
	alice.expect("200 CANCEL")
	call.refuse(alice.expect("487 INVITE"))
	bob.answer(bob.expect("CANCEL"), 200, "OK", "")
	bob.answer(invite, 487, "Request Terminated", "")
	bob.expect("ACK")
}

// A callee may answer just when the caller gives up.
func TestAnswerCrossesCancel(t *testing.T) {
	p := startPBX(t, quick)
	alice, bob := registered(t, p, "alice"), registered(t, p, "bob")
	call := alice.dial("bob", offer)
	invite := bob.expect("INVITE")
	bob.answer(invite, 180, "Ringing", "")
	alice.expect("180 INVITE")

	call.write("CANCEL", "")
	alice.expect("200 CANCEL")
	call.refuse(alice.expect("487 INVITE"))
	bob.expect("CANCEL")
	bob.answer(invite, 200, "OK", answer)
	bob.expect("ACK")
	bob.answer(bob.expect("BYE"), 200, "OK", "")
}

func TestCalleeRefuses(t *testing.T) {
	for status, reason := range map[int]string{486: "Busy Here", 480: "Temporarily Unavailable", 603: "Decline"} {
		t.Run(reason, func(t *testing.T) {
			p := startPBX(t, quick)
			alice, bob := registered(t, p, "alice"), registered(t, p, "bob")
			call := alice.dial("bob", offer)
			bob.answer(bob.expect("INVITE"), status, reason, "")
			bob.expect("ACK")
			res := alice.expect(fmt.Sprint(status, " INVITE"))
			if !strings.HasSuffix(res.StartLine(), reason) {
				t.Errorf("the caller got %s", res.StartLine())
			}
			call.refuse(res)
		})
	}
}

func TestNobodyAnswers(t *testing.T) {
	impatient := quick
	impatient.answer = 50 * time.Millisecond
	p := startPBX(t, impatient)
	alice, bob := registered(t, p, "alice"), registered(t, p, "bob")
	call := alice.dial("bob", offer)
	invite := bob.expect("INVITE")
	call.refuse(alice.expect("480 INVITE"))
	bob.answer(invite, 180, "Ringing", "") // only now may it be cancelled
	bob.answer(bob.expect("CANCEL"), 200, "OK", "")
	bob.answer(invite, 487, "Request Terminated", "")
	bob.expect("ACK")
}

func TestNobodyThere(t *testing.T) {
	p := startPBX(t, quick)
	alice := newPhone(t, p, "alice")
	call := alice.dial("bob", offer)
	call.refuse(alice.expect("480 INVITE"))
	call = alice.dial("carol", offer)
	call.refuse(alice.expect("404 INVITE"))
}

func TestFirstPhoneThatAnswersHasTheCall(t *testing.T) {
	p := startPBX(t, quick)
	alice, desk, mobile := registered(t, p, "alice"), registered(t, p, "bob"), registered(t, p, "bob")
	call := alice.dial("bob", offer)
	atDesk, atMobile := desk.expect("INVITE"), mobile.expect("INVITE")
	desk.answer(atDesk, 180, "Ringing", "")
	alice.expect("180 INVITE")
	mobile.answer(atMobile, 200, "OK", answer)
	ok := alice.expect("200 INVITE")
	call.established(ok)
	call.ack("")
	mobile.expect("ACK")
	desk.answer(desk.expect("CANCEL"), 200, "OK", "")
	desk.answer(atDesk, 487, "Request Terminated", "")
	desk.expect("ACK")
	hangUp(call, mobile.legOf(atMobile))
}

// A page that was closed is still registered: it must not decide the call.
func TestContactThatIsGone(t *testing.T) {
	p := startPBX(t, quick)
	alice, gone, bob := registered(t, p, "alice"), registered(t, p, "bob"), registered(t, p, "bob")
	call := alice.dial("bob", offer)
	here := bob.expect("INVITE")
	gone.answer(gone.expect("INVITE"), 480, "Temporarily Unavailable", "")
	gone.expect("ACK")
	bob.answer(here, 486, "Busy Here", "")
	bob.expect("ACK")
	call.refuse(alice.expect("486 INVITE"))
}

// A browser's offer is larger than what gosip sends by UDP.
func TestLargeOffersGoByTCP(t *testing.T) {
	p := startPBX(t, quick)
	alice, bob := registered(t, p, "alice"), registered(t, p, "bob")
	large := offer + strings.Repeat("a=candidate:1 1 udp 1 127.0.0.1 9 typ host\r\n", 100)

	var calls []*leg
	for range 3 { // at once: they share the first connection
		calls = append(calls, alice.dial("bob", large))
	}
	var invites []heard
	for range calls {
		invites = append(invites, bob.expect("INVITE"))
	}
	for _, invite := range invites {
		if invite.by != "TCP" || invite.Body() != large {
			t.Errorf("the offer arrived by %s as %d bytes", invite.by, len(invite.Body()))
		}
		bob.answer(invite, 486, "Busy Here", "")
		bob.expect("ACK")
		alice.expect("486 INVITE")
	}
}

// Without an ACK the 200 is repeated.
func TestAnswerIsRepeatedUntilAcknowledged(t *testing.T) {
	p := startPBX(t, quick)
	alice, bob := registered(t, p, "alice"), registered(t, p, "bob")
	call := alice.dial("bob", offer)
	invite := bob.expect("INVITE")
	bob.answer(invite, 200, "OK", answer)
	call.established(alice.expect("200 INVITE"))
	alice.expectAgain("200 INVITE")
	call.ack("late")
	if ack := bob.expect("ACK"); ack.Body() != "late" {
		t.Errorf("the ACK arrived with %q", ack.Body())
	}
	bob.answer(invite, 200, "OK", answer) // as if that ACK had been lost
	bob.expectAgain("ACK")
	hangUp(call, bob.legOf(invite))
}

func TestByeBeforeAck(t *testing.T) {
	p := startPBX(t, quick)
	alice, bob := registered(t, p, "alice"), registered(t, p, "bob")
	call := alice.dial("bob", offer)
	invite := bob.expect("INVITE")
	bob.answer(invite, 200, "OK", answer)
	call.established(alice.expect("200 INVITE"))
	call.send("BYE", "")
	bob.expect("ACK")
	bob.answer(bob.expect("BYE"), 200, "OK", "")
	alice.expect("200 BYE")
}

func TestStrangersInNoCall(t *testing.T) {
	p := startPBX(t, quick)
	alice := newPhone(t, p, "alice")
	for _, method := range []string{"BYE", "INFO", "UPDATE", "INVITE", "MESSAGE"} {
		l := alice.leg("bob")
		l.to += ";tag=unknown"
		l.send(method, "")
		alice.expect("481 " + method)
	}
}

func TestMessageAndOptions(t *testing.T) {
	p := startPBX(t, quick)
	alice, bob := newPhone(t, p, "alice"), registered(t, p, "bob")
	l := alice.leg("bob")
	l.send("OPTIONS", "")
	if ok := alice.expect("200 OPTIONS"); len(ok.GetHeaders("Allow")) == 0 {
		t.Errorf("no Allow:\n%s", ok)
	}

	const text = "Content-Type: text/plain"
	l.send("MESSAGE", "hello", text)
	challenge := alice.expect("407 MESSAGE")
	l.send("MESSAGE", "hello", text, l.credentials("MESSAGE", challenge, alice.password))
	message := bob.expect("MESSAGE")
	if c := contentOf(message); c != (content{"text/plain", "hello"}) {
		t.Errorf("the text arrived as %+v", c)
	}
	bob.answer(message, 202, "Accepted", "")
	alice.expect("202 MESSAGE")
}
