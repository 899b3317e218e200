package e2e

import (
	"strings"
	"testing"
)

// inviteOut makes a phone call a sipp that plays ladder, and returns when the
// call is confirmed.
func inviteOut(t *testing.T, lab *Lab, ladder ...string) (*Call, *Sipp) {
	t.Helper()
	sipp := lab.Callee(ladder...)
	call := lab.Registered("alice").Call(t, sipp.URI())
	call.Wait(t, "confirmed")
	return call, sipp
}

// inviteIn makes a sipp that plays ladder call a phone, answers there, and
// returns when the call is confirmed.
func inviteIn(t *testing.T, lab *Lab, ladder ...string) (*Call, *Sipp) {
	t.Helper()
	phone := lab.Registered("alice")
	sipp := lab.Caller("alice", ladder...)
	call := phone.WaitCall(t, 1)
	call.Answer(t)
	call.Wait(t, "confirmed")
	return call, sipp
}

var calling = []Scenario{
	{Name: "INVITE out, BYE from the browser", Play: func(t *testing.T, lab *Lab) {
		call, sipp := inviteOut(t, lab, "recv-invite", "send-180", "send-200", "recv-ack", "recv-bye")
		call.Bye(t)
		sipp.Wait(t)
		call.Wait(t, "ended")
	}},
	{Name: "INVITE out, BYE from the PBX", Play: func(t *testing.T, lab *Lab) {
		call, sipp := inviteOut(t, lab, "recv-invite", "send-180", "send-200", "recv-ack", "send-bye")
		call.Wait(t, "ended")
		sipp.Wait(t)
	}},
	{Name: "INVITE in, BYE from the browser", Play: func(t *testing.T, lab *Lab) {
		call, sipp := inviteIn(t, lab, "send-invite", "recv-180", "recv-200", "send-ack", "recv-bye")
		call.Bye(t)
		sipp.Wait(t)
		call.Wait(t, "ended")
	}},
	{Name: "INVITE in, BYE from the PBX", Play: func(t *testing.T, lab *Lab) {
		call, sipp := inviteIn(t, lab, "send-invite", "recv-180", "recv-200", "send-ack", "send-bye")
		call.Wait(t, "ended")
		sipp.Wait(t)
	}},
	{Name: "CANCEL out", Play: func(t *testing.T, lab *Lab) {
		sipp := lab.Callee("recv-invite", "send-180", "recv-cancel")
		phone := lab.Registered("alice")
		call := phone.Call(t, sipp.URI())
		phone.Page.ReceivedFrame(t, "180", func(m Message) bool { return m.Response(180, "INVITE") })
		call.Cancel(t)
		sipp.Wait(t)
		call.Wait(t, "failed")
		phone.Page.ReceivedFrame(t, "487", func(m Message) bool { return m.Response(487, "INVITE") })
	}},
	{Name: "CANCEL in", Play: func(t *testing.T, lab *Lab) {
		phone := lab.Registered("alice")
		sipp := lab.Caller("alice", "send-invite", "recv-180", "send-cancel")
		phone.WaitCall(t, 1).Wait(t, "failed")
		sipp.Wait(t)
	}},
	{Name: "486 out", Play: func(t *testing.T, lab *Lab) {
		sipp := lab.Callee("recv-invite", "send-486", "recv-ack")
		call := lab.Registered("alice").Call(t, sipp.URI())
		if failed := call.Wait(t, "failed"); failed.Status != 486 {
			t.Errorf("the client reports %d %s, want 486", failed.Status, failed.Cause)
		}
		sipp.Wait(t)
	}},
	{Name: "486 in", Play: func(t *testing.T, lab *Lab) {
		phone := lab.Registered("alice")
		sipp := lab.Caller("alice", "send-invite", "recv-486")
		call := phone.WaitCall(t, 1)
		call.Reject(t, 486)
		sipp.Wait(t)
		call.Wait(t, "failed")
		// The ACK of a 486 is hop by hop: this one is the PBX's own.
		phone.Page.ReceivedFrame(t, "ACK of the 486", func(m Message) bool { return m.Request("ACK") })
	}},
	{Name: "re-INVITE out", Play: func(t *testing.T, lab *Lab) {
		call, sipp := inviteOut(t, lab, "recv-invite", "send-200", "recv-ack", "recv-reinvite", "recv-bye")
		call.Reinvite(t)
		call.WaitResponse(t, "INVITE", 200)
		sipp.WaitStep(t, "recv-reinvite")
		call.Bye(t)
		sipp.Wait(t)
	}},
	{Name: "re-INVITE in", Play: func(t *testing.T, lab *Lab) {
		call, sipp := inviteIn(t, lab, "send-invite", "recv-200", "send-ack", "send-reinvite", "send-bye")
		call.WaitRequest(t, "INVITE")
		call.Wait(t, "ended")
		sipp.Wait(t)
	}},
	{Name: "INFO out", Play: func(t *testing.T, lab *Lab) {
		call, sipp := inviteOut(t, lab, "recv-invite", "send-200", "recv-ack", "recv-info", "recv-bye")
		call.Info(t, "info from the browser")
		call.WaitResponse(t, "INFO", 200)
		lab.PBX.WaitReceived(t, "INFO", func(m Message) bool {
			return m.Request("INFO") && m.Body == "info from the browser"
		})
		call.Bye(t)
		sipp.Wait(t)
	}},
	{Name: "INFO in", Play: func(t *testing.T, lab *Lab) {
		call, sipp := inviteIn(t, lab, "send-invite", "recv-200", "send-ack", "send-info", "send-bye")
		if info := call.WaitRequest(t, "INFO"); strings.TrimSpace(info.Body) != "info from the PBX" {
			t.Errorf("the INFO says %q", info.Body)
		}
		sipp.Wait(t)
	}},
	{Name: "UPDATE out", Stacks: []Stack{JsSIP}, Play: func(t *testing.T, lab *Lab) {
		call, sipp := inviteOut(t, lab, "recv-invite", "send-200", "recv-ack", "recv-update", "recv-bye")
		call.Update(t)
		call.WaitResponse(t, "UPDATE", 200)
		call.Bye(t)
		sipp.Wait(t)
	}},
	{Name: "UPDATE in", Stacks: []Stack{JsSIP}, Play: func(t *testing.T, lab *Lab) {
		call, sipp := inviteIn(t, lab, "send-invite", "recv-200", "send-ack", "send-update", "send-bye")
		call.WaitRequest(t, "UPDATE")
		sipp.Wait(t)
	}},
	{Name: "PRACK out", Stacks: []Stack{SIPJS}, Play: func(t *testing.T, lab *Lab) {
		call, sipp := inviteOut(t, lab, "recv-invite", "send-183-reliably", "recv-prack", "send-200", "recv-ack", "recv-bye")
		call.Bye(t)
		sipp.Wait(t)
	}},
	{Name: "PRACK in", Stacks: []Stack{SIPJS}, Play: func(t *testing.T, lab *Lab) {
		phone := lab.PhoneIn(lab.Page(), "alice", PhoneOptions{Silent: true})
		phone.Register(t)
		sipp := lab.Caller("alice", "send-invite", "recv-183-reliably", "recv-200", "send-ack", "send-bye")
		call := phone.WaitCall(t, 1)
		call.ProgressReliably(t)
		call.Answer(t)
		call.Wait(t, "ended")
		sipp.Wait(t)
	}},
	{Name: "REFER out", Play: func(t *testing.T, lab *Lab) {
		call, sipp := inviteOut(t, lab, "recv-invite", "send-200", "recv-ack", "recv-refer", "recv-bye")
		call.Refer(t, "sip:elsewhere@"+domain)
		call.WaitResponse(t, "REFER", 202)
		call.Page.Events.WaitFor(t, "the transfer to succeed", func(e Event) bool {
			return e.Name == "referProgress" && e.Status == 200
		})
		call.Bye(t)
		sipp.Wait(t)
	}},
	{Name: "REFER in", Play: func(t *testing.T, lab *Lab) {
		target := lab.Callee("recv-invite", "send-200", "recv-ack", "recv-bye")
		phone := lab.Registered("alice")
		sipp := lab.Sipp(
			[]string{"send-invite", "recv-200", "send-ack", "send-refer", "recv-notify", "recv-notify", "send-bye"},
			To("alice"), ReferTo(target.User()))
		call := phone.WaitCall(t, 1)
		call.Answer(t)
		call.WaitRequest(t, "REFER")
		outgoing := phone.Page.Events.WaitFor(t, "the call that was referred to", func(e Event) bool { return e.Name == "outgoing" })
		referred := &Call{Page: phone.Page, id: outgoing.Call}
		referred.Wait(t, "accepted")
		call.Wait(t, "ended")
		sipp.Wait(t)
		referred.Bye(t)
		target.Wait(t)
	}},
}

var messaging = []Scenario{
	{Name: "MESSAGE out", Play: func(t *testing.T, lab *Lab) {
		sipp := lab.Callee("recv-message")
		phone := lab.Registered("alice")
		phone.Message(t, sipp.URI(), "grüße from the browser")
		phone.WaitResponse(t, "MESSAGE", 200)
		sipp.Wait(t)
		lab.PBX.WaitReceived(t, "MESSAGE", func(m Message) bool {
			return m.Request("MESSAGE") && m.Body == "grüße from the browser"
		})
	}},
	{Name: "MESSAGE in", Play: func(t *testing.T, lab *Lab) {
		phone := lab.Registered("alice")
		sipp := lab.Caller("alice", "send-message")
		if message := phone.WaitRequest(t, "MESSAGE"); strings.TrimSpace(message.Body) != "hello from the PBX" {
			t.Errorf("the MESSAGE says %q", message.Body)
		}
		sipp.Wait(t)
	}},
	{Name: "OPTIONS out", Play: func(t *testing.T, lab *Lab) {
		sipp := lab.Callee("recv-options")
		phone := lab.Registered("alice")
		phone.Options(t, sipp.URI())
		phone.WaitResponse(t, "OPTIONS", 200)
		sipp.Wait(t)
	}},
	{Name: "OPTIONS in", Play: func(t *testing.T, lab *Lab) {
		phone := lab.Registered("alice")
		lab.Caller("alice", "send-options").Wait(t)
		phone.Page.ReceivedFrame(t, "OPTIONS", func(m Message) bool { return m.Request("OPTIONS") })
	}},
	{Name: "NOTIFY in", Play: func(t *testing.T, lab *Lab) {
		phone := lab.Registered("alice")
		sipp := lab.Caller("alice", "send-notify")
		phone.WaitRequest(t, "NOTIFY")
		sipp.Wait(t)
	}},
	{Name: "SUBSCRIBE, NOTIFY", Play: func(t *testing.T, lab *Lab) {
		sipp := lab.Callee("recv-subscribe", "send-notify-active", "recv-unsubscribe", "send-notify-terminated")
		phone := lab.Registered("alice")
		subscription := phone.Subscribe(t, sipp.URI())
		phone.WaitResponse(t, "SUBSCRIBE", 200)
		if notify := phone.WaitRequest(t, "NOTIFY"); strings.TrimSpace(notify.Body) != "Messages-Waiting: yes" {
			t.Errorf("the NOTIFY says %q", notify.Body)
		}
		phone.Unsubscribe(t, subscription)
		sipp.Wait(t)
	}},
}
