package e2e

import "testing"

// TestOtherSSRC: a phone that comes back from hold with another SSRC is heard,
// and so is one that returns to an SSRC that it had before. Chromium forgets the
// SSRCs that it had when a description is inactive. It does not when one is
// sendonly: a PBX whose music on hold has an SSRC of its own, and which returns
// to the first one, is not heard again.
func TestOtherSSRC(t *testing.T) {
	for i, stack := range []Stack{JsSIP, SIPJS} {
		t.Run(string(stack), func(t *testing.T) {
			t.Parallel()
			lab := newAudioLab(t, stack, legs[i])
			call, plain := callPlain(t, lab)
			first := plain.phone.RTP.SSRC()
			for i, ssrc := range []uint32{first + 1, first, first + 2, first + 1} {
				plain.Renegotiate(t, "inactive")
				mark, tone := call.Page.Events.Mark(), plainTone+300*(i+1)
				plain.phone.RTP.SetTone(tone)
				plain.phone.RTP.SetSSRC(ssrc)
				plain.Renegotiate(t, "sendrecv")
				call.WaitHeard(t, mark, tone)
			}
			// Music on hold.
			mark, tone := call.Page.Events.Mark(), plainTone+100
			plain.phone.RTP.SetTone(tone)
			plain.phone.RTP.SetSSRC(first + 3)
			plain.Renegotiate(t, "sendonly")
			call.WaitHeard(t, mark, tone)
			call.Bye(t)
			plain.WaitRequest(t, "BYE")
			lab.WaitNoSession(t)
		})
	}
}
