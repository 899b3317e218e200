package e2e

import "testing"

// between are the calls from browser to browser, which pass Kamailio as one
// dialog: each end's remote target is the other's token. The media is real.
var between = []Scenario{
	{Name: "browser to browser, same stack", Play: func(t *testing.T, lab *Lab) {
		call, answered := callBetween(t, lab, lab.Stack)
		renegotiate(t, call, answered)
		renegotiate(t, answered, call)
		call.Bye(t)
		answered.Wait(t, "ended")
	}},
	{Name: "browser to browser, other stack", Play: func(t *testing.T, lab *Lab) {
		other := JsSIP
		if lab.Stack == JsSIP {
			other = SIPJS
		}
		call, answered := callBetween(t, lab, other)
		renegotiate(t, call, answered)
		renegotiate(t, answered, call)
		answered.Bye(t)
		call.Wait(t, "ended")
	}},
}

// callBetween makes alice, on the lab's stack, call bob on the callee's, and
// returns both ends when they are confirmed.
func callBetween(t *testing.T, lab *Lab, callee Stack) (call, answered *Call) {
	t.Helper()
	alice := lab.PhoneIn(lab.PageWith(lab.Stack, PageOptions{RealMedia: true}), "alice", PhoneOptions{})
	bob := lab.PhoneIn(lab.PageWith(callee, PageOptions{RealMedia: true}), "bob", PhoneOptions{})
	alice.Register(t)
	bob.Register(t)

	call = alice.Call(t, bob.URI())
	answered = bob.WaitCall(t, 1)
	answered.Answer(t)
	call.Wait(t, "confirmed")
	answered.Wait(t, "confirmed")
	wantTokenAsTarget(t, lab, alice.Page, bob.Page)
	return call, answered
}

// wantTokenAsTarget follows bob's remote target: the token that viaduct gave the
// PBX reaches alice as it is, and comes back in her ACK, of which bob sees his
// own Contact again.
func wantTokenAsTarget(t *testing.T, lab *Lab, alice, bob *Page) {
	t.Helper()
	isOK := func(m Message) bool { return m.Response(200, "INVITE") }
	isACK := func(m Message) bool { return m.Request("ACK") }
	token := uriOf(lab.PBX.WaitReceived(t, "200 of bob", isOK).Header("Contact"))
	if seen := uriOf(alice.ReceivedFrame(t, "200", isOK).Header("Contact")); seen != token {
		t.Errorf("alice's remote target is %s, the PBX was told %s", seen, token)
	}
	// There was an ACK before, of the 407: it has the R-URI of the INVITE.
	toToken := func(m Message) bool { return isACK(m) && m.RequestURI() == token }
	alice.SentFrame(t, "ACK to bob's token", toToken)
	lab.PBX.WaitReceived(t, "ACK to bob's token", toToken)
	contact := uriOf(bob.SentFrame(t, "200", isOK).Header("Contact"))
	if target := bob.ReceivedFrame(t, "ACK", isACK).RequestURI(); target != contact {
		t.Errorf("the ACK reaches bob as %s, his Contact is %s", target, contact)
	}
}

// renegotiate sends a re-INVITE from one end to the other and waits for its ACK.
func renegotiate(t *testing.T, from, to *Call) {
	t.Helper()
	mark := to.Page.Frames.Mark()
	from.Reinvite(t)
	to.WaitRequest(t, "INVITE")
	from.WaitResponse(t, "INVITE", 200)
	to.Page.Frames.WaitAfter(t, mark, "ACK of the re-INVITE", func(f Frame) bool {
		return !f.Sent && f.Request("ACK")
	})
}
