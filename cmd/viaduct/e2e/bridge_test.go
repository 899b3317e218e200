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

// TestAudioOfFork: a call that rings at two browsers has a session for each; the
// one that is not taken ends with its 487, the other one is heard.
func TestAudioOfFork(t *testing.T) {
	t.Parallel()
	lab := newAudioLab(t, JsSIP, legs[5])
	taker, other := lab.Talker(JsSIP, "alice", aliceTone), lab.Talker(SIPJS, "alice", bobTone)
	plain := lab.PlainPhone(plainTone).Call(t, "alice")
	call, missed := taker.WaitCall(t, 1), other.WaitCall(t, 1)
	lab.Engines[0].wait(t, "both legs want a session, there is", func(calls string) bool {
		return strings.Count(calls, plain.id) == 2
	})
	call.Answer(t)
	plain.WaitAnswer(t)
	call.Wait(t, "confirmed")
	missed.Wait(t, "failed")
	waitTalk(t, call, plain)
	lab.Engines[0].wait(t, "one leg wants a session, there is", func(calls string) bool {
		return strings.Count(calls, plain.id) == 1
	})
	plain.Bye(t)
	call.Wait(t, "ended")
	lab.WaitNoSession(t)
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

// TestUnbridged: without an engine, and with none there that need not be, bodies
// are left alone: browsers talk to each other.
func TestUnbridged(t *testing.T) {
	for _, test := range []struct {
		name string
		lab  func(t *testing.T) *AudioLab
	}{
		{"no engine", func(t *testing.T) *AudioLab {
			return &AudioLab{Lab: newLab(t, JsSIP, legs[0])}
		}},
		{"optional engine", func(t *testing.T) *AudioLab {
			engine := startMediaEngine(t)
			engine.Kill(t)
			lab := newAudioLabWith(t, JsSIP, legs[2], []*MediaEngine{engine}, "--rtpengine-optional")
			lab.Engines = nil
			return lab
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			lab := test.lab(t)
			alice, bob := lab.Talker(JsSIP, "alice", aliceTone), lab.Talker(SIPJS, "bob", bobTone)
			call := alice.Call(t, bob.URI())
			answered := bob.WaitCall(t, 1)
			answered.Answer(t)
			call.Wait(t, "confirmed")
			call.Listen(t)
			answered.Listen(t)
			call.WaitHeard(t, 0, bobTone)
			answered.WaitHeard(t, 0, aliceTone)
			offered := alice.Page.SentFrame(t, "INVITE", func(m Message) bool { return m.Request("INVITE") })
			arrived := bob.Page.ReceivedFrame(t, "INVITE", func(m Message) bool { return m.Request("INVITE") })
			if arrived.Body != offered.Body {
				t.Errorf("offered\n%s\narrived\n%s", offered.Body, arrived.Body)
			}
			call.Bye(t)
			answered.Wait(t, "ended")
		})
	}
}

// TestPlainPhoneRefuses: what this is all for. Without an engine a plain phone is
// offered what it cannot take.
func TestPlainPhoneRefuses(t *testing.T) {
	t.Parallel()
	lab := &AudioLab{Lab: newLab(t, JsSIP, legs[3])}
	phone, callee := lab.Talker(JsSIP, "alice", aliceTone), lab.PlainPhone(plainTone)
	call := phone.Call(t, callee.URI())
	if failed := call.Wait(t, "failed"); failed.Status != 488 {
		t.Errorf("%d %s, want 488", failed.Status, failed.Cause)
	}
}

// TestDirection: an engine with a network of its own on each side shows the
// browser and the PBX the address that each can reach.
func TestDirection(t *testing.T) {
	t.Parallel()
	engine := startMediaEngineOn(t, "web/127.0.0.1", "pbx/127.0.0.2")
	lab := newAudioLabWith(t, SIPJS, legs[1], []*MediaEngine{engine}, "--rtpengine-direction=web,pbx")
	call, plain := callPlain(t, lab)
	if address := addressLine.FindStringSubmatch(plain.invite.Body); address[1] != "127.0.0.2" {
		t.Errorf("the phone is told of %s", address[1])
	}
	ok := call.Page.ReceivedFrame(t, "200", func(m Message) bool { return m.Response(200, "INVITE") })
	if address := addressLine.FindStringSubmatch(ok.Body); address[1] != "127.0.0.1" {
		t.Errorf("the browser is told of %s", address[1])
	}
	// What the phone offers goes the other way.
	plain.Renegotiate(t, "sendrecv")
	waitOtherTones(t, call, plain, 100)
	offer := call.Page.ReceivedFrame(t, "re-INVITE", func(m Message) bool { return m.Request("INVITE") })
	if address := addressLine.FindStringSubmatch(offer.Body); address[1] != "127.0.0.1" {
		t.Errorf("the browser is offered %s", address[1])
	}
	call.Bye(t)
	plain.WaitRequest(t, "BYE")
	lab.WaitNoSession(t)
}
