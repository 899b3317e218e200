package e2e

import "testing"

// The tones of the ends of a call, in Hz.
const (
	aliceTone = 700
	bobTone   = 1300
	plainTone = 1900
)

// An audioScenario is a Scenario of calls between browsers that know WebRTC and
// phones that know plain RTP.
type audioScenario struct {
	name   string
	stacks []Stack // default: both
	play   func(t *testing.T, lab *AudioLab)
}

var audioScenarios = []audioScenario{
	{name: "browser calls, browser hangs up", play: func(t *testing.T, lab *AudioLab) {
		call, plain := callPlain(t, lab)
		call.Bye(t)
		plain.WaitRequest(t, "BYE")
		call.Wait(t, "ended")
	}},
	{name: "browser calls, phone hangs up", play: func(t *testing.T, lab *AudioLab) {
		call, plain := callPlain(t, lab)
		plain.Bye(t)
		call.Wait(t, "ended")
	}},
	{name: "phone calls, browser hangs up", play: func(t *testing.T, lab *AudioLab) {
		call, plain := plainCalls(t, lab)
		call.Bye(t)
		plain.WaitRequest(t, "BYE")
		call.Wait(t, "ended")
	}},
	{name: "phone calls, phone hangs up", play: func(t *testing.T, lab *AudioLab) {
		call, plain := plainCalls(t, lab)
		plain.Bye(t)
		call.Wait(t, "ended")
	}},
	{name: "phone calls without an offer", play: func(t *testing.T, lab *AudioLab) {
		phone := lab.Talker(lab.Stack, "alice", aliceTone)
		plain := lab.PlainPhone(plainTone).CallLate(t, "alice")
		call := phone.WaitCall(t, 1)
		call.Answer(t)
		plain.WaitAnswer(t)
		call.Wait(t, "confirmed")
		waitTalk(t, call, plain)
		plain.Bye(t)
		call.Wait(t, "ended")
	}},
	{name: "early media", play: func(t *testing.T, lab *AudioLab) {
		phone, callee := lab.Talker(lab.Stack, "alice", aliceTone), lab.PlainPhone(plainTone)
		call := phone.Call(t, callee.URI(), map[string]any{"earlyMedia": true})
		plain := callee.WaitCall(t, 1)
		plain.Progress(t, "183 Session Progress", true)
		call.Wait(t, "progress")
		call.Listen(t)
		call.WaitHeard(t, 0, plainTone)
		plain.Answer(t)
		call.Wait(t, "confirmed")
		plain.WaitRequest(t, "ACK")
		callee.RTP.WaitHeard(t, 0, aliceTone)
		call.Bye(t)
		plain.WaitRequest(t, "BYE")
	}},
	{name: "digits", play: func(t *testing.T, lab *AudioLab) {
		call, plain := callPlain(t, lab)
		call.Dial(t, "19#")
		for nth, digit := range []string{"1", "9", "#"} {
			digits := plain.phone.RTP.Digits.WaitCount(t, nth+1, "digits", func(string) bool { return true })
			if digits[nth] != digit {
				t.Fatalf("digit %d is %s, want %s", nth, digits[nth], digit)
			}
		}
		plain.Bye(t)
		call.Wait(t, "ended")
	}},
	{name: "hold and resume by the browser", play: func(t *testing.T, lab *AudioLab) {
		call, plain := callPlain(t, lab)
		here, there := call.Page.Events.Mark(), plain.phone.RTP.Heard.Mark()
		call.Hold(t)
		call.WaitHeard(t, here, 0)
		plain.phone.RTP.WaitHeard(t, there, 0)
		here, there = call.Page.Events.Mark(), plain.phone.RTP.Heard.Mark()
		call.Resume(t)
		call.WaitHeard(t, here, plainTone)
		plain.phone.RTP.WaitHeard(t, there, aliceTone)
		call.Bye(t)
		plain.WaitRequest(t, "BYE")
	}},
	{name: "hold and resume by the phone", play: func(t *testing.T, lab *AudioLab) {
		call, plain := callPlain(t, lab)
		here, there := call.Page.Events.Mark(), plain.phone.RTP.Heard.Mark()
		plain.Renegotiate(t, "inactive")
		call.WaitHeard(t, here, 0)
		plain.phone.RTP.WaitHeard(t, there, 0)
		here, there = call.Page.Events.Mark(), plain.phone.RTP.Heard.Mark()
		plain.Renegotiate(t, "sendrecv")
		call.WaitHeard(t, here, plainTone)
		plain.phone.RTP.WaitHeard(t, there, aliceTone)
		plain.Bye(t)
		call.Wait(t, "ended")
	}},
	{name: "music on hold", play: func(t *testing.T, lab *AudioLab) {
		call, plain := callPlain(t, lab)
		here, there := call.Page.Events.Mark(), plain.phone.RTP.Heard.Mark()
		plain.phone.RTP.SetTone(plainTone + 100)
		plain.Renegotiate(t, "sendonly")
		call.WaitHeard(t, here, plainTone+100)
		plain.phone.RTP.WaitHeard(t, there, 0)
		here, there = call.Page.Events.Mark(), plain.phone.RTP.Heard.Mark()
		plain.phone.RTP.SetTone(plainTone)
		plain.Renegotiate(t, "sendrecv")
		call.WaitHeard(t, here, plainTone)
		plain.phone.RTP.WaitHeard(t, there, aliceTone)
		plain.Bye(t)
		call.Wait(t, "ended")
	}},
	{name: "phone renegotiates, with an offer and without", play: func(t *testing.T, lab *AudioLab) {
		call, plain := callPlain(t, lab)
		for i, renegotiate := range []func(){
			func() { plain.Renegotiate(t, "sendrecv") },
			func() { plain.RenegotiateLate(t) },
		} {
			renegotiate()
			waitOtherTones(t, call, plain, 100*(i+1))
		}
		plain.Bye(t)
		call.Wait(t, "ended")
	}},
	{name: "browser renegotiates", play: func(t *testing.T, lab *AudioLab) {
		call, plain := callPlain(t, lab)
		call.Reinvite(t)
		call.WaitResponse(t, "INVITE", 200)
		waitOtherTones(t, call, plain, 100)
		call.Bye(t)
		plain.WaitRequest(t, "BYE")
	}},
	{name: "UPDATE both ways", stacks: []Stack{JsSIP}, play: func(t *testing.T, lab *AudioLab) {
		call, plain := callPlain(t, lab)
		plain.Update(t, "sendrecv")
		waitOtherTones(t, call, plain, 100)
		call.Update(t)
		call.WaitResponse(t, "UPDATE", 200)
		waitOtherTones(t, call, plain, 200)
		plain.Bye(t)
		call.Wait(t, "ended")
	}},
	{name: "phone refuses", play: func(t *testing.T, lab *AudioLab) {
		phone, callee := lab.Talker(lab.Stack, "alice", aliceTone), lab.PlainPhone(plainTone)
		call := phone.Call(t, callee.URI())
		callee.WaitCall(t, 1).Refuse(t, "486 Busy Here")
		if failed := call.Wait(t, "failed"); failed.Status != 486 {
			t.Errorf("%d %s, want 486", failed.Status, failed.Cause)
		}
	}},
	{name: "browser refuses", play: func(t *testing.T, lab *AudioLab) {
		phone := lab.Talker(lab.Stack, "alice", aliceTone)
		plain := lab.PlainPhone(plainTone).Call(t, "alice")
		call := phone.WaitCall(t, 1)
		call.Reject(t, 486)
		plain.waitResponse(t, "INVITE", 486)
	}},
	{name: "browser gives up", play: func(t *testing.T, lab *AudioLab) {
		phone, callee := lab.Talker(lab.Stack, "alice", aliceTone), lab.PlainPhone(plainTone)
		call := phone.Call(t, callee.URI())
		callee.WaitCall(t, 1).Progress(t, "183 Session Progress", true)
		call.Wait(t, "progress")
		call.Cancel(t)
		call.Wait(t, "failed")
	}},
	{name: "browser calls baresip", play: func(t *testing.T, lab *AudioLab) {
		phone, callee := lab.Talker(lab.Stack, "alice", aliceTone), lab.Baresip(plainTone)
		call := phone.Call(t, callee.URI())
		call.Wait(t, "confirmed")
		callee.Wait(t, "CALL_ESTABLISHED")
		call.Listen(t)
		call.WaitHeard(t, 0, plainTone)
		call.Dial(t, "5")
		if digit := callee.Wait(t, "CALL_DTMF_START"); digit.Param != "5" {
			t.Errorf("baresip heard the digit %s", digit.Param)
		}
		call.Bye(t)
		callee.Wait(t, "CALL_CLOSED")
		callee.WantRecorded(t, aliceTone)
	}},
	{name: "baresip calls browser", play: func(t *testing.T, lab *AudioLab) {
		phone, caller := lab.Talker(lab.Stack, "alice", aliceTone), lab.Baresip(plainTone)
		caller.Do(t, "dial", phone.URI())
		call := phone.WaitCall(t, 1)
		call.Answer(t)
		call.Wait(t, "confirmed")
		caller.Wait(t, "CALL_ESTABLISHED")
		call.Listen(t)
		call.WaitHeard(t, 0, plainTone)
		mark := call.Page.Events.Mark()
		caller.Do(t, "hold", "")
		call.WaitHeard(t, mark, 0)
		mark = call.Page.Events.Mark()
		caller.Do(t, "resume", "")
		call.WaitHeard(t, mark, plainTone)
		caller.Do(t, "hangup", "")
		call.Wait(t, "ended")
		caller.Wait(t, "CALL_CLOSED")
		caller.WantRecorded(t, aliceTone)
	}},
}

// TestAudio plays every scenario as TestAudio/SCENARIO/STACK. No engine has a
// session when it is over.
func TestAudio(t *testing.T) {
	for i, scenario := range audioScenarios {
		stacks := scenario.stacks
		if stacks == nil {
			stacks = []Stack{JsSIP, SIPJS}
		}
		for j, stack := range stacks {
			t.Run(scenario.name+"/"+string(stack), func(t *testing.T) {
				t.Parallel()
				lab := newAudioLab(t, stack, legs[(i+3*j)%len(legs)])
				scenario.play(t, lab)
				lab.WaitNoSession(t)
			})
		}
	}
}

// callPlain makes alice call a plain phone, and returns both ends when each
// hears the other.
func callPlain(t *testing.T, lab *AudioLab) (*Call, *PlainCall) {
	t.Helper()
	phone, callee := lab.Talker(lab.Stack, "alice", aliceTone), lab.PlainPhone(plainTone)
	call := phone.Call(t, callee.URI())
	plain := callee.WaitCall(t, 1)
	plain.Progress(t, "180 Ringing", false)
	plain.Answer(t)
	call.Wait(t, "confirmed")
	plain.WaitRequest(t, "ACK")
	waitTalk(t, call, plain)
	return call, plain
}

// waitOtherTones has the phone sound otherwise than before, which the browser
// hears; and the phone still hears the browser.
func waitOtherTones(t *testing.T, call *Call, plain *PlainCall, by int) {
	t.Helper()
	mark := call.Page.Events.Mark()
	plain.phone.RTP.SetTone(plainTone + by)
	call.WaitHeard(t, mark, plainTone+by)
	if heard := plain.phone.RTP.Heard.All(); !sounds(heard[len(heard)-1], aliceTone) {
		plain.phone.RTP.WaitHeard(t, len(heard), aliceTone)
	}
}

// plainCalls is callPlain the other way round.
func plainCalls(t *testing.T, lab *AudioLab) (*Call, *PlainCall) {
	t.Helper()
	phone := lab.Talker(lab.Stack, "alice", aliceTone)
	plain := lab.PlainPhone(plainTone).Call(t, "alice")
	call := phone.WaitCall(t, 1)
	call.Answer(t)
	plain.WaitAnswer(t)
	call.Wait(t, "confirmed")
	waitTalk(t, call, plain)
	return call, plain
}

// waitTalk waits until a browser and a plain phone hear each other.
func waitTalk(t *testing.T, call *Call, plain *PlainCall) {
	t.Helper()
	call.Listen(t)
	call.WaitHeard(t, 0, plainTone)
	plain.phone.RTP.WaitHeard(t, 0, aliceTone)
}
