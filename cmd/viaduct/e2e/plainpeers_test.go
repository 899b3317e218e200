package e2e

import "testing"

// TestPlainPeersAgree plays plain phones against each other through Kamailio,
// without viaduct and engine: what fails with them and not here is theirs.
func TestPlainPeersAgree(t *testing.T) {
	newPlainLab := func(t *testing.T) *Lab {
		t.Parallel()
		return &Lab{t: t, Host: loopback, PBX: startKamailio(t, loopback)}
	}
	t.Run("plain phone calls plain phone", func(t *testing.T) {
		lab := newPlainLab(t)
		caller, callee := lab.PlainPhone(aliceTone), lab.PlainPhone(plainTone)
		call := caller.Call(t, callee.user())
		answered := callee.WaitCall(t, 1)
		answered.Answer(t)
		call.WaitAnswer(t)
		caller.RTP.WaitHeard(t, 0, plainTone)
		callee.RTP.WaitHeard(t, 0, aliceTone)
		here, there := caller.RTP.Heard.Mark(), callee.RTP.Heard.Mark()
		answered.Renegotiate(t, "inactive")
		caller.RTP.WaitHeard(t, here, 0)
		callee.RTP.WaitHeard(t, there, 0)
		here, there = caller.RTP.Heard.Mark(), callee.RTP.Heard.Mark()
		call.Update(t, "sendrecv")
		caller.RTP.WaitHeard(t, here, plainTone)
		callee.RTP.WaitHeard(t, there, aliceTone)
		call.Bye(t)
		answered.WaitRequest(t, "BYE")
	})
	t.Run("plain phone calls baresip", func(t *testing.T) {
		lab := newPlainLab(t)
		caller, callee := lab.PlainPhone(aliceTone), lab.Baresip(plainTone)
		call := caller.Call(t, callee.user())
		call.WaitAnswer(t)
		caller.RTP.WaitHeard(t, 0, plainTone)
		mark := caller.RTP.Heard.Mark()
		callee.Do(t, "hold", "")
		caller.RTP.WaitHeard(t, mark, 0)
		mark = caller.RTP.Heard.Mark()
		callee.Do(t, "resume", "")
		caller.RTP.WaitHeard(t, mark, plainTone)
		call.Bye(t)
		callee.Wait(t, "CALL_CLOSED")
		callee.WantRecorded(t, aliceTone)
	})
	t.Run("baresip calls plain phone", func(t *testing.T) {
		lab := newPlainLab(t)
		caller, callee := lab.Baresip(aliceTone), lab.PlainPhone(plainTone)
		caller.Do(t, "dial", callee.URI())
		answered := callee.WaitCall(t, 1)
		answered.Answer(t)
		callee.RTP.WaitHeard(t, 0, aliceTone)
		caller.Do(t, "hangup", "")
		answered.WaitRequest(t, "BYE")
		caller.Wait(t, "CALL_CLOSED")
		caller.WantRecorded(t, plainTone)
	})
}
