package e2e

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"
)

// What deploy/troubleshooting.md says, where no other test has it.

// TestWrongOrigin: a page that is not admitted sees its connection end with
// 1006, and viaduct says which flag admits it.
func TestWrongOrigin(t *testing.T) {
	t.Parallel()
	pbx := startKamailio(t, loopback)
	via := launchViaduct(t, loopback, "--upstream="+pbx.Upstream("udp"))
	page := openPage(t, JsSIP, PageOptions{Site: strings.Replace(browser.Origin(), "127.0.0.1", "localhost", 1)})
	page.do(t, "newUA", "alice", map[string]any{
		"ws": via.WebSocket, "uri": "sip:alice@" + domain, "user": "alice", "password": passwordOf("alice"),
	})
	if lost := page.Events.WaitFor(t, "the end of the connection", func(e Event) bool { return e.Name == "disconnected" }); lost.Status != 1006 {
		t.Errorf("the page sees %d, want 1006", lost.Status)
	}
	via.process.Output.WaitFor(t, "the refusal in the log", func(line string) bool {
		return strings.Contains(line, "--allow-origin=http://localhost:")
	})
}

// TestWrongAdvertise: with an address that the PBX cannot reach, what it sends by
// the connection that it has arrives, and what it sends to the Contact does not:
// no ACK comes, and after 32 s the call is over. The wait is for
// VIADUCT_E2E_FULL.
func TestWrongAdvertise(t *testing.T) {
	t.Parallel()
	pbx := startScriptedPBX(t)
	via := launchViaduct(t, loopback, "--upstream="+pbx.Upstream(), "--advertise=192.0.2.1:5070")
	page := openPage(t, JsSIP, PageOptions{})
	phone := page.newPhone(t, via.WebSocket, "alice", PhoneOptions{})
	phone.Register(t)
	register := pbx.WaitReceived(t, "REGISTER", func(m Message) bool { return m.Request("REGISTER") })
	contact := uriOf(register.Header("Contact"))

	const body = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\n"
	register.Conn.Send(t, fmt.Sprintf("INVITE %s SIP/2.0\r\nVia: SIP/2.0/TCP %s;branch=z9hG4bKwrong;rport\r\nMax-Forwards: 70\r\n"+
		"From: <sip:bob@%s>;tag=1\r\nTo: <sip:alice@%[3]s>\r\nCall-ID: wrong-advertise\r\nCSeq: 1 INVITE\r\nContact: <sip:bob@%[2]s;transport=tcp>\r\n"+
		"Content-Type: application/sdp\r\nContent-Length: %[4]d\r\n\r\n%[5]s", contact, pbx.TCP, domain, len(body), body))
	call := phone.WaitCall(t, 1)
	call.Answer(t)
	answered := time.Now()
	ok := pbx.WaitReceived(t, "200", func(m Message) bool { return m.Response(200, "INVITE") })
	if target := uriOf(ok.Header("Contact")); !strings.Contains(target, "@192.0.2.1:5070") {
		t.Errorf("the ACK is to go to %s", target)
	}
	if os.Getenv("VIADUCT_E2E_FULL") != "1" {
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	over, err := page.Events.next(ctx, 0, func(e Event) bool {
		return e.Call == call.id && (e.Name == "ended" || e.Name == "failed")
	})
	if lasted := time.Since(answered).Round(time.Second); err != nil || lasted < 31*time.Second || lasted > 36*time.Second {
		t.Errorf("the call was over after %v (%+v, %v), want 32 s", lasted, over, err)
	}
}

// TestWrongMediaAddress: the interface of rtpengine is where both sides send
// their audio, whether they can reach it or not.
func TestWrongMediaAddress(t *testing.T) {
	t.Parallel()
	engine := startMediaEngineOn(t, "127.0.0.1!192.0.2.1")
	lab := newAudioLabWith(t, JsSIP, legs[3], []*MediaEngine{engine})
	callee := lab.PlainPhone(plainTone)
	call := lab.Talker(JsSIP, "alice", aliceTone).Call(t, callee.URI())
	plain := callee.WaitCall(t, 1)
	plain.Answer(t)
	call.Wait(t, "confirmed")
	plain.WaitRequest(t, "ACK")
	if address := addressLine.FindStringSubmatch(plain.invite.Body); address[1] != "192.0.2.1" {
		t.Errorf("the phone is told of %s", address[1])
	}
	ok := call.Page.ReceivedFrame(t, "200", func(m Message) bool { return m.Response(200, "INVITE") })
	if address := addressLine.FindStringSubmatch(ok.Body); address[1] != "192.0.2.1" {
		t.Errorf("the browser is told of %s", address[1])
	}
	call.Bye(t)
	plain.WaitRequest(t, "BYE")
	lab.WaitNoSession(t)
}
