package e2e

import "testing"

// TestTwoTabs is the demo's first minute: the second tab is the second
// account, and the two call each other both ways.
func TestTwoTabs(t *testing.T) {
	alice, bob := openPhones(t, startDemo(t))
	for _, p := range []struct {
		page *Page
		user string
	}{{alice, "1001"}, {bob, "1002"}} {
		var user string
		p.page.Evaluate(t, `document.querySelector('#account-choice').value`, &user)
		if user != p.user {
			t.Errorf("%s took the account %s, want %s", p.page.name, user, p.user)
		}
	}

	Connect(t, alice, bob, "1002")
	alice.WaitText(t, "#peer", "Bob")
	bob.WaitText(t, "#peer", "Alice")
	for _, p := range []*Page{alice, bob} {
		p.WaitHears(t)
		p.WaitMeter(t, "#meter-me")
		p.WaitMeter(t, "#meter-peer")
	}
	alice.Click(t, "#hang-up")
	alice.WaitOutcome(t, "You hung up")
	bob.WaitOutcome(t, "The other side hung up")

	// The other way, by a button, and the callee ends it.
	bob.Click(t, "#contacts button[value='1001']")
	alice.Click(t, "#answer")
	for _, p := range []*Page{alice, bob} {
		p.WaitTalking(t)
		p.WaitHears(t)
	}
	alice.Click(t, "#hang-up")
	alice.WaitOutcome(t, "You hung up")
	bob.WaitOutcome(t, "The other side hung up")
}

// TestInTheCall: hold and resume, mute, keys.
func TestInTheCall(t *testing.T) {
	alice, bob := openPhones(t, startDemo(t))
	Connect(t, alice, bob, "1002")

	alice.Click(t, "#hold")
	alice.WaitText(t, "#state", "On hold")
	bob.WaitText(t, "#state", "put you on hold")
	bob.WaitSilence(t)
	alice.Click(t, "#hold")
	alice.WaitTalking(t)
	bob.WaitTalking(t)
	alice.WaitHears(t)
	bob.WaitHears(t)

	bob.Click(t, "#hold")
	alice.WaitText(t, "#state", "put you on hold")
	bob.Click(t, "#hold")
	alice.WaitTalking(t)
	alice.WaitHears(t)

	alice.Click(t, "#mute")
	alice.WaitText(t, "#state", "muted")
	bob.WaitSilence(t)
	alice.Click(t, "#mute")
	bob.WaitHears(t)

	alice.Click(t, "#keys button[value='4']")
	alice.Press(t, "body", "2")
	alice.Press(t, "body", "#")
	alice.WaitText(t, "#digits", "Sent 42#")
	bob.WaitText(t, "#digits", "Received 42#")

	bob.Click(t, "#hang-up")
	bob.WaitOutcome(t, "You hung up")
	alice.WaitOutcome(t, "The other side hung up")
}

// TestDevices: another microphone and speaker, in the middle of a call.
func TestDevices(t *testing.T) {
	alice, bob := openPhones(t, startDemo(t))
	Connect(t, alice, bob, "1002")
	alice.Click(t, "#devices summary")
	for _, device := range []string{"#microphone", "#speaker"} {
		alice.WaitFor(t, device+":has(option:nth-child(2))")
		alice.act(t, "selectOption", device, map[string]int{"index": 1})
	}
	bob.WaitHears(t)
	alice.WaitHears(t)
	alice.WaitMeter(t, "#meter-me")
	alice.Click(t, "#hang-up")
	bob.WaitOutcome(t, "The other side hung up")
}

// TestNotAnswered: what both sides are told when there is no call after all.
func TestNotAnswered(t *testing.T) {
	alice, bob := openPhones(t, startDemo(t))

	alice.Dial(t, "1002")
	alice.WaitText(t, "#state", "Ringing")
	bob.Click(t, "#reject")
	alice.WaitOutcome(t, "Busy (486)")
	bob.WaitOutcome(t, "Call declined")

	alice.Dial(t, "1002")
	bob.WaitFor(t, "#answer")
	alice.Click(t, "#hang-up")
	alice.WaitOutcome(t, "Call cancelled")
	bob.WaitOutcome(t, "The caller gave up")

	alice.Dial(t, "1003")
	alice.WaitOutcome(t, "Not available at the moment (480)")
	alice.Dial(t, "999")
	alice.WaitOutcome(t, "Nobody has this number (404)")
	alice.Dial(t, "@")
	alice.WaitOutcome(t, "neither a number nor an address")

	bob.Click(t, "#registration")
	bob.WaitText(t, "#line", "not registered")
	alice.Dial(t, "1002")
	alice.WaitOutcome(t, "Not available at the moment (480)")
	bob.Click(t, "#registration")
	bob.WaitRegistered(t)
}

// TestMicrophoneRefused: the page says so, and calls nobody.
func TestMicrophoneRefused(t *testing.T) {
	d := startDemo(t)
	p := openPage(t, d.Page, Options{"microphone": false})
	p.WaitRegistered(t)
	p.Dial(t, "1002")
	p.WaitText(t, "#notice", "may not use the microphone")
	p.WaitOutcome(t, "Call cancelled")
}
