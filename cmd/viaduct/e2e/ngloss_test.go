package e2e

import "testing"

// TestLossTowardsEngine: with 30 % of the datagrams between viaduct and the
// engine lost each way, calls are set up and end, and leave nothing.
func TestLossTowardsEngine(t *testing.T) {
	const calls = 4
	for i, stack := range []Stack{JsSIP, SIPJS} {
		t.Run(string(stack), func(t *testing.T) {
			t.Parallel()
			engine := startMediaEngine(t)
			impairer := startImpairer(t, loopback, engine.NG)
			impairer.Set(Impairment{Loss: 0.3})
			engine.Commands = impairer.TowardsViaduct
			lab := newAudioLabWith(t, stack, legs[i], []*MediaEngine{engine})
			phone, callee := lab.Talker(stack, "alice", aliceTone), lab.PlainPhone(plainTone)
			for nth := range calls {
				here, there := phone.Page.Events.Mark(), callee.RTP.Heard.Mark()
				call := phone.Call(t, callee.URI())
				plain := callee.WaitCall(t, nth+1)
				plain.Answer(t)
				call.Wait(t, "confirmed")
				call.Listen(t)
				call.WaitHeard(t, here, plainTone)
				callee.RTP.WaitHeard(t, there, aliceTone)
				there = callee.RTP.Heard.Mark()
				plain.Bye(t)
				call.Wait(t, "ended")
				callee.RTP.WaitHeard(t, there, 0)
			}
			lost := 0
			for _, datagram := range impairer.All() {
				if datagram.Lost {
					lost++
				}
			}
			if lost < calls {
				t.Errorf("%d datagrams were lost", lost)
			}
			lab.WaitNoSession(t)
		})
	}
}
