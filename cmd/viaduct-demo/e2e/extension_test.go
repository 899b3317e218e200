package e2e

import "testing"

// TestExtensions calls each number that the embedded PBX serves itself.
func TestExtensions(t *testing.T) {
	p := openPhone(t, startDemo(t))

	p.Dial(t, "600")
	p.WaitTalking(t)
	p.WaitText(t, "#peer", "Echo")
	p.WaitHears(t)
	p.WaitMeter(t, "#meter-peer")
	p.Click(t, "#hold")
	p.WaitText(t, "#state", "On hold")
	p.Click(t, "#hold")
	p.WaitTalking(t)
	p.WaitHears(t)
	p.Click(t, "#keys button[value='1']")
	p.WaitText(t, "#digits", "Sent 1")
	p.Click(t, "#hang-up")
	p.WaitOutcome(t, "You hung up")

	p.Dial(t, "601")
	p.WaitTalking(t)
	p.WaitOutcome(t, "The other side hung up")

	p.Dial(t, "602")
	p.WaitOutcome(t, "Busy (486)")

	p.Dial(t, "603")
	p.WaitText(t, "#state", "Ringing")
	p.Click(t, "#hang-up")
	p.WaitOutcome(t, "Call cancelled")

	p.Dial(t, "604")
	p.WaitOutcome(t, "Call declined (603)")
	p.Click(t, "#answer")
	p.WaitTalking(t)
	p.WaitText(t, "#peer", "Call back")
	p.WaitHears(t)
	p.Click(t, "#hang-up")
	p.WaitOutcome(t, "You hung up")
}
