package e2e

import "testing"

// TestRestartInCall: viaduct is killed and started again in the middle of a call.
// The audio goes on meanwhile, and the BYE ends the engine's session.
func TestRestartInCall(t *testing.T) {
	for i, stack := range []Stack{JsSIP, SIPJS} {
		t.Run(string(stack), func(t *testing.T) {
			t.Parallel()
			lab := newAudioLab(t, stack, legs[i])
			call, plain := callPlain(t, lab)
			phone := &Phone{Page: call.Page, User: "alice", name: "alice-0"}
			mark, here, there := phone.Mark(), call.Page.Events.Mark(), plain.phone.RTP.Heard.Mark()
			lab.Via.Kill(t)
			phone.WaitAfter(t, mark, "disconnected")
			// What is another tone now is no echo of before.
			plain.phone.RTP.SetTone(bobTone)
			call.WaitHeard(t, here, bobTone)
			lab.Via.Restart(t)
			phone.WaitAfter(t, mark, "registered")
			plain.phone.RTP.SetTone(plainTone)
			call.WaitHeard(t, here, plainTone)
			for _, heard := range plain.phone.RTP.Heard.All()[there:] {
				if !sounds(heard, aliceTone) {
					t.Errorf("the plain phone has heard %s meanwhile", toneName(heard))
				}
			}
			if i == 0 {
				call.Bye(t)
				plain.WaitRequest(t, "BYE")
			} else {
				plain.Bye(t)
			}
			call.Wait(t, "ended")
			lab.WaitNoSession(t)
		})
	}
}

// TestEngineKilled: a call whose engine dies is silent, and still ends properly;
// new calls go to the other engine, and to the first one once it is back.
func TestEngineKilled(t *testing.T) {
	for i, stack := range []Stack{JsSIP, SIPJS} {
		t.Run(string(stack), func(t *testing.T) {
			t.Parallel()
			engines := []*MediaEngine{startMediaEngine(t), startMediaEngine(t)}
			lab := newAudioLabWith(t, stack, legs[i], engines)
			phone, callee := lab.Talker(stack, "alice", aliceTone), lab.PlainPhone(plainTone)

			call := phone.Call(t, callee.URI())
			plain := callee.WaitCall(t, 1)
			plain.Answer(t)
			call.Wait(t, "confirmed")
			waitTalk(t, call, plain)
			dying, living := engines[0], engines[1]
			if dying.Sessions(t) == "" {
				dying, living = living, dying
			}
			here := call.Page.Events.Mark()
			dying.Kill(t)
			call.WaitHeard(t, here, 0)
			call.Bye(t)
			plain.WaitRequest(t, "BYE")
			call.Wait(t, "ended")

			here, there := phone.Page.Events.Mark(), callee.RTP.Heard.Mark()
			second := phone.Call(t, callee.URI())
			plain = callee.WaitCall(t, 2)
			plain.Answer(t)
			second.Wait(t, "confirmed")
			second.Listen(t)
			second.WaitHeard(t, here, plainTone)
			callee.RTP.WaitHeard(t, there, aliceTone)
			if living.Sessions(t) == "" {
				t.Error("the other engine has no call")
			}
			second.Bye(t)
			plain.WaitRequest(t, "BYE")
			living.WaitEmpty(t)

			dying.Start(t)
			lab.WaitNoSession(t)
		})
	}
}

// TestNoEngine: with no engine there, calls are refused at once, and other
// requests are not. An engine that is back takes calls.
func TestNoEngine(t *testing.T) {
	for i, stack := range []Stack{JsSIP, SIPJS} {
		t.Run(string(stack), func(t *testing.T) {
			t.Parallel()
			lab := newAudioLab(t, stack, legs[2+i])
			lab.Engines[0].Kill(t)
			phone, callee := lab.Talker(stack, "alice", aliceTone), lab.PlainPhone(plainTone)
			call := phone.Call(t, callee.URI())
			if failed := call.Wait(t, "failed"); failed.Status != 503 {
				t.Errorf("without an engine: %d %s, want 503", failed.Status, failed.Cause)
			}
			refusal := phone.Page.ReceivedFrame(t, "503", func(m Message) bool { return m.Response(503, "INVITE") })
			if refusal.Header("Retry-After") == "" {
				t.Error("the 503 has no Retry-After")
			}
			// The PBX makes a 500 of a 503: RFC 3261 16.7, step 6.
			callee.Call(t, "alice").waitResponse(t, "INVITE", 500)
			refusal = lab.PBX.WaitReceived(t, "503", func(m Message) bool { return m.Response(503, "INVITE") }).Message
			if refusal.Header("Retry-After") == "" {
				t.Error("the 503 to the PBX has no Retry-After")
			}

			lab.Engines[0].Start(t)
			lab.Via.WaitLog(t, "rtpengine up")
			call = phone.Call(t, callee.URI())
			plain := callee.WaitCall(t, 1)
			plain.Answer(t)
			call.Wait(t, "confirmed")
			waitTalk(t, call, plain)
			plain.Bye(t)
			call.Wait(t, "ended")
			lab.WaitNoSession(t)
		})
	}
}

// TestEngineKilledInSetup: a call whose engine dies between the offer and the
// answer fails at both ends, and does not hang.
func TestEngineKilledInSetup(t *testing.T) {
	for i, stack := range []Stack{JsSIP, SIPJS} {
		t.Run(string(stack), func(t *testing.T) {
			t.Parallel()
			lab := newAudioLab(t, stack, legs[4+i])
			phone, callee := lab.Talker(stack, "alice", aliceTone), lab.PlainPhone(plainTone)
			call := phone.Call(t, callee.URI())
			plain := callee.WaitCall(t, 1)
			lab.Engines[0].Kill(t)
			plain.Answer(t)
			plain.WaitRequest(t, "BYE")
			phone.Page.Events.WaitFor(t, "the call to end", func(e Event) bool {
				return e.Call == call.id && (e.Name == "failed" || e.Name == "ended")
			})

			lab.Engines[0].Start(t)
			lab.Via.WaitLog(t, "rtpengine up")
			call = phone.Call(t, callee.URI())
			plain = callee.WaitCall(t, 2)
			plain.Answer(t)
			call.Wait(t, "confirmed")
			waitTalk(t, call, plain)
			plain.Bye(t)
			call.Wait(t, "ended")
			lab.WaitNoSession(t)
		})
	}
}
