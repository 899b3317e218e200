package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"
)

// TestAway: while a browser is away for 2 or 6 s, the PBX sends a re-INVITE in
// one of its calls, a BYE in another, and a new INVITE. All of that arrives when
// the browser is back, once each.
func TestAway(t *testing.T) {
	for i, away := range []time.Duration{2 * time.Second, 6 * time.Second} {
		for j, stack := range []Stack{JsSIP, SIPJS} {
			for _, leg := range []Leg{legs[3*j], legs[1+3*((i+j)%2)]} {
				t.Run(fmt.Sprintf("%s/%s/%s", away, stack, leg), func(t *testing.T) {
					t.Parallel()
					a := newAbsence(t, newLab(t, stack, leg))
					lab, phone := a.lab, a.phone
					asked, inAsked := a.callOut("wait", "send-reinvite", "recv-bye")
					ended, inEnded := a.callOut("wait", "send-bye")

					a.begin()
					asked.Continue(t, inAsked.id)
					ended.Continue(t, inEnded.id)
					caller := lab.Caller("alice", "send-invite", "recv-200", "send-ack", "recv-bye")
					inviting := callIDFrom(t, lab.PBX, caller)
					a.sent("re-INVITE", "INVITE", inAsked.id)
					a.sent("BYE", "BYE", inEnded.id)
					a.sent("INVITE", "INVITE", inviting)
					a.wantTrying(inAsked.id, inviting)
					a.end(away)

					inAsked.WaitRequest(t, "INVITE")
					asked.WaitStep(t, "send-reinvite")
					inEnded.Wait(t, "ended")
					ended.Wait(t)
					incoming := phone.WaitCall(t, 1)
					incoming.Answer(t)
					incoming.Wait(t, "confirmed")
					for _, call := range []*Call{inAsked.Call, incoming} {
						call.Bye(t)
						call.Wait(t, "ended")
					}
					asked.Wait(t)
					caller.Wait(t)
					wantExecutedOnce(t, phone.Page, 3)
				})
			}
		}
	}
}

// TestAnsweredWhileAway: what the PBX answers to a browser that is away reaches
// it when it is back. SIP.js keeps its transactions for that, JsSIP does not.
func TestAnsweredWhileAway(t *testing.T) {
	for i, leg := range []Leg{legs[0], legs[1]} {
		t.Run("accepted/"+leg.String(), func(t *testing.T) {
			t.Parallel()
			a := newAbsence(t, newLab(t, SIPJS, leg))
			callee := a.lab.Callee("recv-invite", "send-180", "wait", "send-200", "recv-ack", "recv-bye")
			call := ringOut(t, a.phone, callee)
			a.wantAnswered(callee, 200)
			call.Wait(t, "confirmed")
			callee.WaitStep(t, "recv-ack")
			call.Bye(t)
			callee.Wait(t)
		})
		t.Run("refused/"+legs[3+i].String(), func(t *testing.T) {
			t.Parallel()
			a := newAbsence(t, newLab(t, SIPJS, legs[3+i]))
			callee := a.lab.Callee("recv-invite", "send-180", "wait", "send-486", "recv-ack")
			call := ringOut(t, a.phone, callee)
			a.wantAnswered(callee, 486)
			if failed := call.Wait(t, "failed"); failed.Status != 486 {
				t.Errorf("SIP.js reports %d %s, want 486", failed.Status, failed.Cause)
			}
			callee.Wait(t)
			if n := a.received(486); n != 1 {
				t.Errorf("the browser has received %d times 486, want 1", n)
			}
		})
	}
}

// TestAwayForTooLong: what the PBX sends to a browser that does not come back is
// answered 480: after 8 s, and after 30 s where it belongs to a call.
func TestAwayForTooLong(t *testing.T) {
	for i, stack := range []Stack{JsSIP, SIPJS} {
		leg := legs[1+2*i]
		t.Run(fmt.Sprintf("%s/%s", stack, leg), func(t *testing.T) {
			t.Parallel()
			a := newAbsence(t, newLab(t, stack, leg))
			asked, inAsked := a.callOut("wait", "send-reinvite-480")
			ended, inEnded := a.callOut("wait", "send-bye-480")

			a.begin()
			asked.Continue(t, inAsked.id)
			ended.Continue(t, inEnded.id)
			caller := a.lab.Caller("alice", "send-invite", "recv-480")
			inviting := callIDFrom(t, a.lab.PBX, caller)
			for _, held := range []struct {
				what, method, id string
				from             time.Time
				until            time.Duration
			}{
				{"INVITE", "INVITE", inviting, a.sent("INVITE", "INVITE", inviting), 8 * time.Second},
				{"re-INVITE", "INVITE", inAsked.id, a.sent("re-INVITE", "INVITE", inAsked.id), 30 * time.Second},
				{"BYE", "BYE", inEnded.id, a.sent("BYE", "BYE", inEnded.id), 30 * time.Second},
			} {
				a.answered("480 to the "+held.what, held.until+patience, inCall(held.id, 480, held.method))
				took := time.Since(held.from)
				t.Logf("the %s is answered after %s", held.what, took)
				if took < held.until-time.Second || took > held.until+time.Second {
					t.Errorf("the %s is answered after %s, want %s", held.what, took, held.until)
				}
			}
			for _, sipp := range []*Sipp{caller, asked, ended} {
				sipp.Wait(t)
			}
			wantExecutedOnce(t, a.phone.Page, 0)
		})
	}
}

// TestVanished: of a browser that is gone the PBX hears at once when it asks
// whether it is there, and a call to it is at the voicemail within 8 s.
func TestVanished(t *testing.T) {
	const within = 8 * time.Second
	for i, stack := range []Stack{SIPJS, JsSIP} {
		leg := legs[3+i]
		t.Run(fmt.Sprintf("%s/%s", stack, leg), func(t *testing.T) {
			t.Parallel()
			mailbox := loopback.freePort(t)
			lab := &Lab{Stack: stack, Leg: leg, t: t, Host: loopback}
			lab.PBX = startKamailioWith(t, loopback, PBXOptions{Voicemail: mailbox})
			lab.Via = startViaduct(t, loopback, leg, lab.PBX)
			t.Cleanup(lab.finish)
			a := newAbsence(t, lab)
			voicemail := lab.Sipp([]string{"recv-invite", "send-200", "recv-ack", "recv-bye"}, At(mailbox))

			a.begin()
			qualify := lab.Caller("alice", "send-options-480")
			asking := lab.PBX.WaitReceived(t, "OPTIONS", func(m Message) bool { return m.Request("OPTIONS") && uriOf(m.Header("To")) == a.phone.URI() })
			asked := a.sent("OPTIONS", "OPTIONS", asking.Header("Call-ID"))
			a.answered("480 to the OPTIONS", patience, inCall(asking.Header("Call-ID"), 480, "OPTIONS"))
			if took := time.Since(asked); took > time.Second {
				t.Errorf("the OPTIONS is answered after %s, want at once", took)
			}
			qualify.Wait(t)

			caller := lab.Caller("alice", "send-invite", "recv-200", "send-ack", "send-bye")
			id := callIDFrom(t, lab.PBX, caller)
			called := a.sent("INVITE", "INVITE", id)
			lab.PBX.Messages.WaitFor(t, "INVITE to the voicemail", func(m PBXMessage) bool {
				return m.Sent && m.To == mailbox && m.Request("INVITE") && m.Header("Call-ID") == id
			})
			took := time.Since(called)
			t.Logf("the voicemail is called after %s", took)
			if took > within+time.Second/2 {
				t.Errorf("the voicemail is called after %s, want %s", took, within)
			}
			caller.Wait(t)
			voicemail.Wait(t)
		})
	}
}

// An Absence is the time in which a registered phone, alice, has no connection
// to viaduct: it has lost it, and others are not established.
type Absence struct {
	lab   *Lab
	phone *Phone

	t     *testing.T
	wire  *Wire // between them
	mark  int   // of the phone's events, when it began
	since time.Time
}

func newAbsence(t *testing.T, lab *Lab) *Absence {
	t.Helper()
	a := &Absence{lab: lab, t: t, wire: startWire(t, lab.Via.Listen())}
	a.phone = lab.PhoneIn(lab.Page(), "alice", PhoneOptions{WebSocket: lab.Via.WebSocketAt(a.wire.Addr)})
	a.phone.Register(t)
	return a
}

// An absentCall is a call of the phone.
type absentCall struct {
	*Call
	id string // Call-ID
}

// callOut calls a sipp that plays these steps once the call is up.
func (a *Absence) callOut(then ...string) (*Sipp, absentCall) {
	a.t.Helper()
	sipp := a.lab.Callee(append([]string{"recv-invite", "send-200", "recv-ack"}, then...)...)
	call := a.phone.Call(a.t, sipp.URI())
	call.Wait(a.t, "confirmed")
	sipp.WaitStep(a.t, "recv-ack")
	return sipp, absentCall{call, callIDTo(a.t, a.phone.Page, sipp)}
}

// begin returns when viaduct knows of it.
func (a *Absence) begin() {
	a.t.Helper()
	a.mark = a.phone.Mark()
	a.wire.Freeze()
	a.wire.Cut()
	a.phone.WaitAfter(a.t, a.mark, "disconnected")
	a.lab.Via.WaitLog(a.t, "browser gone")
	a.since = time.Now()
}

// end waits until the phone has been away for so long, and then until it has
// registered again.
func (a *Absence) end(away time.Duration) {
	a.t.Helper()
	<-time.After(time.Until(a.since.Add(away)))
	a.wire.Thaw()
	a.phone.WaitAfter(a.t, a.mark, "registered")
}

// wantAnswered lets the sipp whom the phone calls go on while the phone is away,
// and has it back.
func (a *Absence) wantAnswered(callee *Sipp, status int) {
	a.t.Helper()
	id := callIDTo(a.t, a.phone.Page, callee)
	a.begin()
	callee.Continue(a.t, id)
	a.lab.PBX.WaitSent(a.t, "answer to viaduct", inCall(id, status, "INVITE"))
	a.end(2 * time.Second)
	a.phone.Page.ReceivedFrame(a.t, "answer", inCall(id, status, "INVITE"))
}

// received counts the responses of that status to INVITEs that the page has received.
func (a *Absence) received(status int) (n int) {
	for _, frame := range a.phone.Page.Frames.All() {
		if !frame.Sent && frame.Response(status, "INVITE") {
			n++
		}
	}
	return n
}

// sent waits until the PBX has sent viaduct a request with that Call-ID, and
// returns when that was.
func (a *Absence) sent(what, method, id string) time.Time {
	a.t.Helper()
	a.lab.PBX.WaitSent(a.t, what, func(m Message) bool { return m.Request(method) && m.Header("Call-ID") == id && a.isDown(m) })
	return time.Now()
}

// isDown tells what goes to the phone from what the phone has sent.
func (a *Absence) isDown(m Message) bool {
	return uriOf(m.Header("From")) != a.phone.URI()
}

// wantTrying wants held INVITEs to have been answered 100, so that the PBX does
// not give them up.
func (a *Absence) wantTrying(ids ...string) {
	a.t.Helper()
	for _, id := range ids {
		a.answered("100 to the INVITE", patience, func(m Message) bool { return a.isDown(m) && inCall(id, 100, "INVITE")(m) })
	}
}

// answered waits for a response of viaduct's for longer than anything else takes.
func (a *Absence) answered(what string, within time.Duration, match func(Message) bool) {
	a.t.Helper()
	ctx, cancel := context.WithTimeout(a.t.Context(), within)
	defer cancel()
	if _, err := a.lab.PBX.Messages.next(ctx, 0, func(m PBXMessage) bool {
		return !m.Sent && m.From == a.lab.Via.SIP && match(m.Message)
	}); err != nil {
		a.t.Fatalf("waiting for %s: %v", what, err)
	}
}

// wantExecutedOnce wants the page to have received n requests, ACKs apart, and
// each of them once.
func wantExecutedOnce(t *testing.T, page *Page, n int) {
	t.Helper()
	received := map[string]int{}
	for _, frame := range page.Frames.All() {
		if !frame.Sent && frame.headers != nil && frame.IsRequest() && !frame.Request("ACK") {
			received[transactionOf(frame.Message)]++
		}
	}
	if len(received) != n {
		t.Errorf("the browser has received %d requests, want %d: %v", len(received), n, received)
	}
	for request, times := range received {
		if times != 1 {
			t.Errorf("the browser has received this %d times: %s", times, request)
		}
	}
}
