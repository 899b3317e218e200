package e2e

import (
	"os/exec"
	"testing"
)

// TestRTPEngine calls the echo by plain RTP, which an rtpengine bridges.
func TestRTPEngine(t *testing.T) {
	ng := freePort(t)
	engine := start(t, exec.Command("rtpengine", "--config-file=none", "--table=-1", "--foreground", "--log-stderr",
		"--interface=127.0.0.1", "--listen-ng="+ng))
	engine.WaitLine(t, "Startup complete")
	p := openPhone(t, startDemo(t, "--rtpengine="+ng))

	p.Dial(t, "600")
	p.WaitTalking(t)
	p.WaitHears(t)
	p.Click(t, "#hold")
	p.WaitText(t, "#state", "On hold")
	p.Click(t, "#hold")
	p.WaitTalking(t)
	p.WaitHears(t)
	p.Click(t, "#hang-up")
	p.WaitOutcome(t, "You hung up")

	p.Dial(t, "604")
	p.WaitOutcome(t, "Call declined (603)")
	p.Click(t, "#answer")
	p.WaitTalking(t)
	p.WaitHears(t)
	p.Click(t, "#hang-up")
	p.WaitOutcome(t, "You hung up")
}
