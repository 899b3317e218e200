package pbx

import (
	"strings"
	"testing"
	"time"

	"github.com/pion/ice/v4"
	"github.com/pion/rtp"
	"github.com/pion/webrtc/v4"
)

// A browser is the WebRTC side of a phone.
type browser struct {
	t     *testing.T
	pc    *webrtc.PeerConnection
	track *webrtc.TrackLocalStaticRTP
	heard chan []byte // payloads of the RTP that came in
}

func newBrowser(t *testing.T) *browser {
	t.Helper()
	settings := webrtc.SettingEngine{}
	settings.SetIncludeLoopbackCandidate(true)
	settings.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	settings.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	pc, err := webrtc.NewAPI(webrtc.WithSettingEngine(settings)).NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { pc.GracefulClose() })
	track, err := webrtc.NewTrackLocalStaticRTP(opus, "audio", "microphone")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pc.AddTrack(track); err != nil {
		t.Fatal(err)
	}
	b := &browser{t, pc, track, make(chan []byte, 1024)}
	pc.OnTrack(func(from *webrtc.TrackRemote, _ *webrtc.RTPReceiver) {
		for {
			packet, _, err := from.ReadRTP()
			if err != nil {
				return
			}
			select {
			case b.heard <- packet.Payload:
			default:
			}
		}
	})
	return b
}

// offer returns an offer whose audio has direction, or is as it was if that is
// empty.
func (b *browser) offer(direction string) string {
	b.t.Helper()
	offer, err := b.pc.CreateOffer(nil)
	if err != nil {
		b.t.Fatal(err)
	}
	sdp := b.describe(offer)
	if direction != "" {
		sdp = strings.Replace(sdp, "a=sendrecv", "a="+direction, 1)
	}
	return sdp
}

func (b *browser) describe(ours webrtc.SessionDescription) string {
	b.t.Helper()
	gathered := webrtc.GatheringCompletePromise(b.pc)
	if err := b.pc.SetLocalDescription(ours); err != nil {
		b.t.Fatal(err)
	}
	<-gathered
	return b.pc.LocalDescription().SDP
}

// answer returns the answer to an offer of the PBX.
func (b *browser) answer(offer string) string {
	b.t.Helper()
	b.understand(webrtc.SDPTypeOffer, offer)
	answer, err := b.pc.CreateAnswer(nil)
	if err != nil {
		b.t.Fatal(err)
	}
	return b.describe(answer)
}

func (b *browser) understand(kind webrtc.SDPType, sdp string) {
	b.t.Helper()
	if err := b.pc.SetRemoteDescription(webrtc.SessionDescription{Type: kind, SDP: sdp}); err != nil {
		b.t.Fatalf("%v:\n%s", err, sdp)
	}
}

// hearsItself speaks until it hears what it said.
func (b *browser) hearsItself(said string) {
	b.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for n := uint16(0); ; {
		select {
		case <-tick.C:
			n++
			b.track.WriteRTP(&rtp.Packet{
				Header:  rtp.Header{Version: 2, SequenceNumber: n, Timestamp: uint32(n) * 960},
				Payload: []byte(said),
			})
		case heard := <-b.heard:
			if string(heard) == said {
				return
			}
		case <-timeout.C:
			b.t.Fatal("no echo")
		}
	}
}

// answered returns a call that an extension has answered.
func answered(alice *phone, b *browser, extension string) *leg {
	alice.t.Helper()
	call := alice.dial(extension, b.offer(""))
	ok := alice.expect("200 INVITE")
	b.understand(webrtc.SDPTypeAnswer, ok.Body())
	call.established(ok)
	call.ack("")
	return call
}

func TestEcho(t *testing.T) {
	for _, name := range []string{"echo", "600"} {
		t.Run(name, func(t *testing.T) {
			p := startPBX(t, quick)
			alice, b := newPhone(t, p, "alice"), newBrowser(t)
			call := answered(alice, b, name)
			b.hearsItself("hello")

			call.send("INFO", "Signal=5\r\n", "Content-Type: application/dtmf-relay")
			alice.expect("200 INFO")
			call.send("UPDATE", "") // as JsSIP refreshes a session
			alice.expect("200 UPDATE")

			call.send("BYE", "")
			alice.expect("200 BYE")
		})
	}
}

func TestHoldEcho(t *testing.T) {
	for _, method := range []string{"INVITE", "UPDATE"} {
		t.Run(method, func(t *testing.T) {
			p := startPBX(t, quick)
			alice, b := newPhone(t, p, "alice"), newBrowser(t)
			call := answered(alice, b, "echo")
			b.hearsItself("before")
			for offered, expected := range map[string]string{"sendonly": "recvonly", "inactive": "inactive"} {
				for _, step := range [][2]string{{offered, expected}, {"sendrecv", "sendrecv"}} {
					call.send(method, b.offer(step[0]))
					ok := alice.expect("200 " + method)
					if !strings.Contains(ok.Body(), "a="+step[1]+"\r\n") {
						t.Errorf("%s was not answered with %s:\n%s", step[0], step[1], ok.Body())
					}
					b.understand(webrtc.SDPTypeAnswer, ok.Body())
					if method == "INVITE" {
						call.ack("")
					}
				}
			}
			b.hearsItself("after")
			call.send("BYE", "")
			alice.expect("200 BYE")
		})
	}
}

func TestOfferThatIsNone(t *testing.T) {
	p := startPBX(t, quick)
	alice := newPhone(t, p, "alice")
	call := alice.dial("echo", "v=0\r\nnonsense")
	call.refuse(alice.expect("488 INVITE"))
}

func TestByePBX(t *testing.T) {
	p := startPBX(t, quick)
	alice := newPhone(t, p, "alice")
	answered(alice, newBrowser(t), "bye")
	alice.answer(alice.expect("BYE"), 200, "OK", "")
}

// A page that was closed sends no BYE; the PBX notices.
func TestMediaIsGone(t *testing.T) {
	p := startPBX(t, quick)
	alice, b := newPhone(t, p, "alice"), newBrowser(t)
	answered(alice, b, "echo")
	b.hearsItself("hello")
	b.pc.GracefulClose()
	alice.answer(alice.expect("BYE"), 200, "OK", "")
}

func TestBusy(t *testing.T) {
	p := startPBX(t, quick)
	alice := newPhone(t, p, "alice")
	for _, name := range []string{"busy", "602"} {
		call := alice.dial(name, offer)
		call.refuse(alice.expect("486 INVITE"))
	}
}

func TestRingUntilCancelled(t *testing.T) {
	p := startPBX(t, quick)
	alice := newPhone(t, p, "alice")
	call := alice.dial("ring", offer)
	alice.expect("180 INVITE")
	call.write("CANCEL", "")
	alice.expect("200 CANCEL")
	call.refuse(alice.expect("487 INVITE"))
}

func TestCallBack(t *testing.T) {
	p := startPBX(t, quick)
	alice, b := registered(t, p, "alice"), newBrowser(t)
	call := alice.dial("callback", offer)
	call.refuse(alice.expect("603 INVITE"))

	invite := alice.expect("INVITE")
	alice.answer(invite, 180, "Ringing", "")
	alice.answer(invite, 200, "OK", b.answer(invite.Body()))
	alice.expect("ACK")
	b.hearsItself("hello")
	back := alice.legOf(invite)
	back.send("BYE", "")
	alice.expect("200 BYE")
}

func TestCallBackRefused(t *testing.T) {
	p := startPBX(t, quick)
	alice := registered(t, p, "alice")
	call := alice.dial("604", offer)
	call.refuse(alice.expect("603 INVITE"))
	alice.answer(alice.expect("INVITE"), 486, "Busy Here", "")
	alice.expect("ACK")
}

func TestCallBackToNobody(t *testing.T) {
	p := startPBX(t, quick)
	alice := newPhone(t, p, "alice")
	call := alice.dial("604", offer)
	call.refuse(alice.expect("603 INVITE"))
}

// The PBX closes whatever goes on.
func TestCloseInTheMiddle(t *testing.T) {
	p := startPBX(t, quick)
	alice, bob, b := registered(t, p, "alice"), registered(t, p, "bob"), newBrowser(t)
	talking(t, alice, bob)
	answered(alice, b, "echo")
	b.hearsItself("hello")
	alice.dial("ring", offer)
	alice.expect("180 INVITE")
	alice.dial("bob", offer)
	bob.expect("INVITE")
	p.Close()
}
