package e2e

import (
	"slices"
	"strings"
	"testing"
)

// TestAudioBetweenBrowsers: calls between browsers pass the PBX as plain RTP;
// both legs are bridged, each on its own.
func TestAudioBetweenBrowsers(t *testing.T) {
	for i, stacks := range [][2]Stack{{JsSIP, JsSIP}, {JsSIP, SIPJS}, {SIPJS, JsSIP}, {SIPJS, SIPJS}} {
		t.Run(string(stacks[0]+" calls "+stacks[1]), func(t *testing.T) {
			t.Parallel()
			lab := newAudioLab(t, stacks[0], legs[i])
			alice, bob := lab.Talker(stacks[0], "alice", aliceTone), lab.Talker(stacks[1], "bob", bobTone)
			call := alice.Call(t, bob.URI())
			answered := bob.WaitCall(t, 1)
			answered.Answer(t)
			call.Wait(t, "confirmed")
			answered.Wait(t, "confirmed")
			call.Listen(t)
			answered.Listen(t)
			call.WaitHeard(t, 0, bobTone)
			answered.WaitHeard(t, 0, aliceTone)
			wantPlainAtPBX(t, lab)

			here, there := call.Page.Events.Mark(), answered.Page.Events.Mark()
			call.Hold(t)
			call.WaitHeard(t, here, 0)
			answered.WaitHeard(t, there, 0)
			here, there = call.Page.Events.Mark(), answered.Page.Events.Mark()
			call.Resume(t)
			call.WaitHeard(t, here, bobTone)
			answered.WaitHeard(t, there, aliceTone)

			answered.Bye(t)
			call.Wait(t, "ended")
			lab.WaitNoSession(t)
		})
	}
}

// wantPlainAtPBX wants every description that the PBX has seen to be plain RTP.
func wantPlainAtPBX(t *testing.T, lab *AudioLab) {
	t.Helper()
	seen := 0
	for _, m := range lab.PBX.Messages.All() {
		if m.Header("Content-Type") != "application/sdp" {
			continue
		}
		seen++
		if !strings.Contains(m.Body, " RTP/AVP ") || slices.ContainsFunc([]string{"SAVP", "a=ice-", "a=fingerprint", "a=candidate"},
			func(trace string) bool { return strings.Contains(m.Body, trace) }) {
			t.Errorf("%s is not plain:\n%s", m, m.Body)
		}
	}
	if seen == 0 {
		t.Error("the PBX has seen no description")
	}
}
