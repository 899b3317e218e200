package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
)

// A Breach is one way for a phone to lose its connection to viaduct.
type Breach struct {
	Name string

	// Prepare starts a lab with a registered phone. strike takes its connection
	// away and returns when the phone has come back and registered again.
	Prepare func(t *testing.T, stack Stack, leg Leg) (lab *Lab, phone *Phone, strike func())
}

var breaches = []Breach{
	{"restart", func(t *testing.T, stack Stack, leg Leg) (*Lab, *Phone, func()) {
		lab := newLab(t, stack, leg)
		phone := lab.Registered("alice")
		return lab, phone, func() {
			mark := phone.Mark()
			lab.Via.Kill(t)
			phone.WaitAfter(t, mark, "disconnected")
			lab.Via.Restart(t)
			phone.WaitAfter(t, mark, "registered")
		}
	}},
	{"reset", func(t *testing.T, stack Stack, leg Leg) (*Lab, *Phone, func()) {
		lab := newLab(t, stack, leg)
		wire := startWire(t, lab.Via.Listen())
		phone := lab.PhoneIn(lab.Page(), "alice", PhoneOptions{WebSocket: lab.Via.WebSocketAt(wire.Addr)})
		phone.Register(t)
		return lab, phone, func() {
			mark := phone.Mark()
			wire.Cut()
			phone.WaitAfter(t, mark, "registered")
		}
	}},
	{"half-open", func(t *testing.T, stack Stack, leg Leg) (*Lab, *Phone, func()) {
		lab := newLabOn(t, newNamespace(t), stack, leg)
		phone := lab.Registered("alice")
		return lab, phone, func() {
			if n := lab.Host.HalfOpen(t, lab.Via.Listen().Port()); n != 1 {
				t.Fatalf("%d connections were silenced, want 1", n)
			}
			mark := phone.Mark()
			phone.LoseSocket(t)
			phone.WaitAfter(t, mark, "registered")
		}
	}},
}

// TestConfirmedCalls: calls that are up when the connection goes are hung up
// afterwards, one by the PBX's BYE and one by the browser's.
func TestConfirmedCalls(t *testing.T) {
	for i, breach := range breaches {
		for j, stack := range []Stack{JsSIP, SIPJS} {
			leg := legs[(2*i+j)%len(legs)]
			t.Run(breach.Name+"/"+string(stack)+"/"+leg.String(), func(t *testing.T) {
				t.Parallel()
				lab, phone, strike := breach.Prepare(t, stack, leg)
				callee := lab.Callee("recv-invite", "send-200", "recv-ack", "wait", "send-bye")
				out := phone.Call(t, callee.URI())
				out.Wait(t, "confirmed")
				callee.WaitStep(t, "recv-ack")
				caller := lab.Caller("alice", "send-invite", "recv-200", "send-ack", "recv-bye")
				in := phone.WaitCall(t, 1)
				in.Answer(t)
				in.Wait(t, "confirmed")

				strike()
				callee.Continue(t, callIDTo(t, phone.Page, callee))
				out.Wait(t, "ended")
				callee.Wait(t)
				in.Bye(t)
				in.Wait(t, "ended")
				caller.Wait(t)
			})
		}
	}
}

// TestPendingCalls: calls that ring when the connection goes are given up
// afterwards: one by the browser's CANCEL, one by the callee's 486, one by the
// PBX's CANCEL. SIP.js keeps its transactions over a reconnect, JsSIP fails
// them. Over UDP a PBX repeats a 486 or 487 until its ACK matches.
func TestPendingCalls(t *testing.T) {
	for i, breach := range breaches {
		leg := []Leg{{"udp", "ws"}, {"udp", "wss"}, {"udp", "ws"}}[i]
		t.Run(breach.Name, func(t *testing.T) {
			t.Parallel()
			lab, phone, strike := breach.Prepare(t, SIPJS, leg)
			cancelled := lab.Callee("recv-invite", "send-180", "recv-cancel")
			toCancel := ringOut(t, phone, cancelled)
			busy := lab.Callee("recv-invite", "send-180", "wait", "send-486", "recv-ack")
			toRefuse := ringOut(t, phone, busy)
			caller := lab.Caller("alice", "send-invite", "recv-180", "wait", "send-cancel")
			in := phone.WaitCall(t, 1)
			caller.WaitStep(t, "recv-180")

			strike()
			toCancel.Cancel(t)
			toCancel.Wait(t, "failed")
			cancelled.Wait(t)
			id := callIDTo(t, phone.Page, cancelled)
			phone.Page.ReceivedFrame(t, "200 to the CANCEL", inCall(id, 200, "CANCEL"))
			phone.Page.ReceivedFrame(t, "487", inCall(id, 487, "INVITE"))

			busy.Continue(t, callIDTo(t, phone.Page, busy))
			if failed := toRefuse.Wait(t, "failed"); failed.Status != 486 {
				t.Errorf("SIP.js reports %d %s, want 486", failed.Status, failed.Cause)
			}
			busy.Wait(t)

			caller.Continue(t, callIDFrom(t, lab.PBX, caller))
			in.Wait(t, "failed")
			caller.Wait(t)
			phone.Page.ReceivedFrame(t, "ACK of the browser's 487", func(m Message) bool {
				return m.Request("ACK") && m.Header("Call-ID") == callIDFrom(t, lab.PBX, caller)
			})

			wantAbsorbed(t, lab, id, callIDTo(t, phone.Page, busy))
		})
	}
}

// ringOut calls a sipp and returns when the browser has the 180.
func ringOut(t *testing.T, phone *Phone, callee *Sipp) *Call {
	t.Helper()
	call := phone.Call(t, callee.URI())
	phone.Page.ReceivedFrame(t, "180", inCall(callIDTo(t, phone.Page, callee), 180, "INVITE"))
	return call
}

// callIDTo is the Call-ID of the page's call to a sipp.
func callIDTo(t *testing.T, page *Page, callee *Sipp) string {
	t.Helper()
	return page.SentFrame(t, "INVITE to "+callee.URI(), func(m Message) bool {
		return m.Request("INVITE") && m.RequestURI() == callee.URI()
	}).Header("Call-ID")
}

// callIDFrom is the Call-ID of the call that a sipp makes.
func callIDFrom(t *testing.T, pbx *Kamailio, caller *Sipp) string {
	t.Helper()
	return pbx.Messages.WaitFor(t, "INVITE of sipp at the PBX", func(m PBXMessage) bool {
		return !m.Sent && m.Request("INVITE") && m.From == caller.addr
	}).Header("Call-ID")
}

// inCall matches the response with that status in the call with that Call-ID.
func inCall(callID string, status int, method string) func(Message) bool {
	return func(m Message) bool { return m.Response(status, method) && m.Header("Call-ID") == callID }
}

// branchOf is the branch of the top Via.
func branchOf(m Message) string {
	_, rest, _ := strings.Cut(m.Header("Via"), ";branch=")
	branch, _, _ := strings.Cut(rest, ";")
	return branch
}

// wantAbsorbed wants the ACK of each call's refusal to have met its transaction
// at the PBX, which then stops repeating the refusal to viaduct.
func wantAbsorbed(t *testing.T, lab *Lab, callIDs ...string) {
	t.Helper()
	for _, id := range callIDs {
		refusal := lab.PBX.WaitSent(t, "486 or 487", func(m Message) bool {
			return m.Method() == "INVITE" && m.Status() >= 486 && m.Header("Call-ID") == id
		})
		lab.PBX.WaitReceived(t, "ACK of the "+refusal.Start, func(m Message) bool {
			return m.Request("ACK") && branchOf(m) == branchOf(refusal.Message)
		})
	}
	// The refusals would be repeated between these two by the same timer process.
	clock := startPBXClock(t, lab)
	from := clock.wait(t, 2)
	to := clock.wait(t, 4)
	for _, m := range lab.PBX.Messages.All()[from:to] {
		for _, id := range callIDs {
			if m.Sent && m.Status() >= 300 && m.Header("Call-ID") == id && m.To == lab.Via.SIP {
				t.Errorf("the PBX repeats what was acknowledged: %s", m)
			}
		}
	}
}

// A pbxClock makes the PBX's retransmission timers visible: the PBX repeats a
// MESSAGE to a peer that is not there 0.5, 1.5 and 3.5 s after the first.
type pbxClock struct {
	pbx  *Kamailio
	dead netip.AddrPort
}

func startPBXClock(t *testing.T, lab *Lab) *pbxClock {
	t.Helper()
	dead := lab.Host.freePort(t)
	conn, err := net.Dial("udp", lab.PBX.UDP.String())
	if err != nil {
		t.Fatalf("clock: %v", err)
	}
	defer conn.Close()
	local := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	lab.behind = append(lab.behind, dead, local)
	if _, err := fmt.Fprintf(conn, "MESSAGE sip:9%05d@%s SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bKclock%[1]d\r\nMax-Forwards: 70\r\n"+
		"From: <sip:clock@clock.test>;tag=clock\r\nTo: <sip:9%05[1]d@%[2]s>\r\nCall-ID: clock-%[1]d\r\nCSeq: 1 MESSAGE\r\nContent-Length: 0\r\n\r\n",
		dead.Port(), domain, local); err != nil {
		t.Fatalf("clock: %v", err)
	}
	return &pbxClock{lab.PBX, dead}
}

// wait returns how many messages had passed the PBX when it sent the clock's
// nth copy.
func (c *pbxClock) wait(t *testing.T, n int) (passed int) {
	t.Helper()
	copies := 0
	c.pbx.Messages.WaitFor(t, fmt.Sprintf("copy %d of the clock's MESSAGE", n), func(m PBXMessage) bool {
		passed++
		if m.Sent && m.To == c.dead {
			copies++
		}
		return copies == n
	})
	return passed
}
