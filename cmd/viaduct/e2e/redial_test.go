package e2e

import (
	"crypto/rand"
	"fmt"
	"strings"
	"testing"
)

// TestCANCELOnRedialledConnection: the PBX's TCP connection ends between its
// INVITE and its CANCEL, which comes by another. The browser's stack takes the
// CANCEL for that of the call that rings, and its 487 reaches the PBX.
func TestCANCELOnRedialledConnection(t *testing.T) {
	for _, test := range []struct {
		name   string
		stack  Stack
		invite func(*testing.T, *ScriptedPBX, *Viaduct, ScriptedMessage) *PBXConn
	}{
		{"dialled by the PBX", JsSIP, dialled},
		{"dialled by the PBX", SIPJS, dialled},
		{"dialled by viaduct", JsSIP, registeredBy},
		{"dialled by viaduct", SIPJS, registeredBy},
	} {
		t.Run(test.name+"/"+string(test.stack), func(t *testing.T) {
			t.Parallel()
			pbx := startScriptedPBX(t)
			via := launchViaduct(t, loopback, "--upstream="+pbx.Upstream())
			page := openPage(t, test.stack, PageOptions{})
			phone := page.newPhone(t, via.WebSocket, "alice", PhoneOptions{})
			phone.Register(t)
			register := pbx.WaitReceived(t, "REGISTER", func(m Message) bool { return m.Request("REGISTER") })

			invite := pbxInvite{target: uriOf(register.Header("Contact")), sentBy: pbx.TCP.String(), id: rand.Text()}
			first := test.invite(t, pbx, via, register)
			first.Send(t, invite.text())
			call := phone.WaitCall(t, 1)
			ringing := pbx.WaitReceived(t, "180", inCall(invite.id, 180, "INVITE"))
			if ringing.Conn != first {
				t.Error("the 180 came by another connection than its INVITE")
			}
			first.Close()

			second := pbx.Dial(t, via.SIP)
			second.Send(t, invite.hop("CANCEL", "<"+invite.target+">"))
			call.Wait(t, "failed")
			if ok := pbx.WaitReceived(t, "200 to the CANCEL", inCall(invite.id, 200, "CANCEL")); ok.Conn != second {
				t.Error("the 200 came by another connection than its CANCEL")
			}
			refusal := pbx.WaitReceived(t, "487", inCall(invite.id, 487, "INVITE"))
			second.Send(t, invite.hop("ACK", refusal.Header("To")))
			page.ReceivedFrame(t, "ACK of the 487", func(m Message) bool { return m.Request("ACK") })
			wantOneTransaction(t, page)
			checkBrowserSide(t, page)
		})
	}
}

func dialled(t *testing.T, pbx *ScriptedPBX, via *Viaduct, _ ScriptedMessage) *PBXConn {
	return pbx.Dial(t, via.SIP)
}

func registeredBy(_ *testing.T, _ *ScriptedPBX, _ *Viaduct, register ScriptedMessage) *PBXConn {
	return register.Conn
}

// wantOneTransaction wants INVITE, CANCEL and ACK to have come to the browser
// with one branch.
func wantOneTransaction(t *testing.T, page *Page) {
	t.Helper()
	branches := map[string]bool{}
	for _, frame := range page.Frames.All() {
		if !frame.Sent && frame.IsRequest() {
			branches[branchOf(frame.Message)] = true
		}
	}
	if len(branches) != 1 {
		t.Errorf("INVITE, CANCEL and ACK have the branches %v, want one", branches)
	}
}

// A pbxInvite is an INVITE that a scripted PBX sends to a browser.
type pbxInvite struct {
	target, sentBy, id string
}

func (i pbxInvite) text() string {
	body := strings.ReplaceAll(sippSDP+"\n", "\n", "\r\n")
	return i.head("INVITE", "<"+i.target+">") + fmt.Sprintf(
		"Contact: <sip:pbx@%s;transport=tcp>\r\nContent-Type: application/sdp\r\nContent-Length: %d\r\n\r\n%s", i.sentBy, len(body), body)
}

// hop is a message of the INVITE's own transaction, CANCEL or ACK.
func (i pbxInvite) hop(method, to string) string {
	return i.head(method, to) + "Content-Length: 0\r\n\r\n"
}

func (i pbxInvite) head(method, to string) string {
	return fmt.Sprintf("%s %s SIP/2.0\r\nVia: SIP/2.0/TCP %s;rport;branch=z9hG4bK%s\r\nMax-Forwards: 70\r\n"+
		"From: <sip:pbx@%s>;tag=pbx\r\nTo: %s\r\nCall-ID: %[4]s\r\nCSeq: 1 %[1]s\r\n",
		method, i.target, i.sentBy, i.id, domain, to)
}
