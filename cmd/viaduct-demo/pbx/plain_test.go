package pbx

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/pion/rtp"
)

const plainOffer = "v=0\r\no=alice 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\n" +
	"m=audio 9 RTP/AVP 111 0 101\r\na=rtpmap:111 opus/48000/2\r\na=rtpmap:101 telephone-event/8000\r\n"

// A plainPhone is the media of a phone without WebRTC.
type plainPhone struct {
	*testing.T
	conn *net.UDPConn
	to   *net.UDPAddr // where the PBX wants it
}

// newPlainPhone takes where to send from the PBX's answer.
func newPlainPhone(t *testing.T, answer string) *plainPhone {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	to := &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}
	_, media, _ := strings.Cut(answer, "\r\nm=")
	if _, err := fmt.Sscanf(media, "audio %d RTP/AVP 0 101\r\n", &to.Port); err != nil {
		t.Fatalf("%v:\n%s", err, answer)
	}
	return &plainPhone{t, conn, to}
}

func (ph *plainPhone) say(said string) {
	ph.Helper()
	packet := rtp.Packet{Header: rtp.Header{Version: 2, SequenceNumber: 7, SSRC: 42}, Payload: []byte(said)}
	data, err := packet.Marshal()
	if err == nil {
		_, err = ph.conn.WriteToUDP(data, ph.to)
	}
	if err != nil {
		ph.Fatal(err)
	}
}

// hears fails unless the next packet that arrives says said.
func (ph *plainPhone) hears(said string) {
	ph.Helper()
	buf := make([]byte, 1500)
	ph.conn.SetReadDeadline(time.Now().Add(patience))
	n, err := ph.conn.Read(buf)
	if err != nil {
		ph.Fatal(err)
	}
	var packet rtp.Packet
	if err := packet.Unmarshal(buf[:n]); err != nil {
		ph.Fatal(err)
	}
	if string(packet.Payload) != said || packet.SequenceNumber != 7 || packet.SSRC == 42 {
		ph.Errorf("%q came back as %s with %q", said, packet, packet.Payload)
	}
}

// waitClosed waits until the PBX's socket is closed, which is after the 200 to BYE.
func (ph *plainPhone) waitClosed() {
	ph.Helper()
	for deadline := time.Now().Add(patience); ; {
		again, err := net.ListenUDP("udp4", ph.to)
		if err == nil {
			again.Close()
			return
		}
		if time.Now().After(deadline) {
			ph.Fatalf("the socket is still open after BYE: %v", err)
		}
		<-time.After(time.Millisecond)
	}
}

func TestPlainEcho(t *testing.T) {
	p := startPBX(t, quick)
	alice := newPhone(t, p, "alice")
	call := alice.dial("echo", plainOffer+"m=video 9 RTP/AVP 96\r\n")
	ok := alice.expect("200 INVITE")
	call.established(ok)
	call.ack("")
	if !strings.HasSuffix(ok.Body(), "m=video 0 RTP/AVP 96\r\n") {
		t.Errorf("the video is not refused:\n%s", ok.Body())
	}
	ph := newPlainPhone(t, ok.Body())
	ph.say("hello")
	ph.hears("hello")

	for offered, expected := range map[string]string{"sendonly": "recvonly", "recvonly": "sendonly", "inactive": "inactive"} {
		call.send("UPDATE", plainOffer+"a="+offered+"\r\n")
		if ok := alice.expect("200 UPDATE"); !strings.Contains(ok.Body(), "a="+expected+"\r\n") {
			t.Errorf("%s was not answered with %s:\n%s", offered, expected, ok.Body())
		}
	}
	call.send("UPDATE", plainOffer)
	alice.expect("200 UPDATE")
	ph.say("again")
	ph.hears("again")

	call.send("BYE", "")
	alice.expect("200 BYE")
	ph.waitClosed()
}

func TestPlainOfferWithoutPCMU(t *testing.T) {
	p := startPBX(t, quick)
	alice := newPhone(t, p, "alice")
	call := alice.dial("echo", strings.Replace(plainOffer, "RTP/AVP 111 0 101", "RTP/AVP 111 101", 1))
	call.refuse(alice.expect("488 INVITE"))
}

func TestPlainCallBack(t *testing.T) {
	p := startPBX(t, quick)
	alice := registered(t, p, "alice")
	call := alice.dial("callback", plainOffer)
	call.refuse(alice.expect("603 INVITE"))

	invite := alice.expect("INVITE")
	alice.answer(invite, 200, "OK", plainOffer)
	alice.expect("ACK")
	ph := newPlainPhone(t, invite.Body())
	ph.say("hello")
	ph.hears("hello")
	back := alice.legOf(invite)
	back.send("BYE", "")
	alice.expect("200 BYE")
	ph.waitClosed()
}
