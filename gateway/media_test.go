package gateway

import (
	"strings"
	"testing"
)

// invited is a browser's call that was answered: its INVITE had an offer.
func (l *mediaLab) invited(p *phone, token string) (c *call, ports [2]string) {
	l.t.Helper()
	invite := p.invite("sip:bob@pbx.example").withSDP(webRTC("actpass", "0"))
	got := l.expectPlain(l.up(p, invite))
	ok := l.expectWebRTC(l.down(p, got.reply("200 OK", "Contact: <sip:bob@"+l.pbx.addr()+">").withSDP(plainRTP(40000))))
	c = l.dial(p, token, invite, ok)
	l.up(p, c.ackOf(invite))
	return c, [2]string{ok.port(), got.port()}
}

// ackOf makes the browser's ACK of a 2xx.
func (c *call) ackOf(invite sip) sip {
	c.p.sent++
	cseq, _, _ := strings.Cut(invite.get("CSeq"), " ")
	return c.p.request("ACK", "sip:bob@"+c.lab.pbx.addr()).set("From", c.browser).set("To", c.pbx).
		set("Call-ID", c.id).set("CSeq", cseq+" ACK")
}

// ackOfPBX makes the PBX's.
func (c *call) ackOfPBX(invite sip) sip {
	cseq, _, _ := strings.Cut(invite.get("CSeq"), " ")
	return c.lab.pbx.request("ACK", c.token).set("From", c.pbx).set("To", c.browser).set("Call-ID", c.id).set("CSeq", cseq+" ACK")
}

// rang is a call of the PBX that was answered.
func (l *mediaLab) rang(p *phone, token string) (c *call, ports [2]string) {
	l.t.Helper()
	invite := l.pbx.request("INVITE", token).add("Contact: <sip:bob@" + l.pbx.addr() + ">").withSDP(plainRTP(40000))
	got := l.expectWebRTC(l.down(p, invite))
	ok := l.expectPlain(l.up(p, got.reply("200 OK", "Contact: <"+p.contact()+">").withSDP(webRTC("active", got.mid()))))
	c = l.taken(p, token, ok)
	l.down(p, c.ackOfPBX(invite))
	return c, [2]string{got.port(), ok.port()}
}

// hangUp ends a call by the browser.
func (c *call) hangUp() {
	c.t.Helper()
	c.expectCalls(1)
	got := c.up(c.p, c.ofBrowser("BYE"))
	c.expectCalls(0)
	c.down(c.p, got.reply("200 OK"))
}

// hungUp ends it by the PBX.
func (c *call) hungUp() {
	c.t.Helper()
	c.expectCalls(1)
	got := c.down(c.p, c.ofPBX("BYE"))
	c.expectCalls(0)
	c.answered(c.p, got, "200 OK")
}

// TestBrowserCallsPlainPhone: early media, answer, and all that changes a call
// later leave the ports as they are.
func TestBrowserCallsPlainPhone(t *testing.T) {
	l := newMediaLab(t, 1)
	p := l.phone("alice")
	token := l.registered(p)
	invite := p.invite("sip:bob@pbx.example").withSDP(webRTC("actpass", "0"))
	got := l.expectPlain(l.up(p, invite))
	early := l.expectWebRTC(l.down(p, got.reply("183 Session Progress").withSDP(plainRTP(40000))))
	ok := l.expectWebRTC(l.down(p, got.reply("200 OK").withSDP(plainRTP(40000))))
	if early.body() != ok.body() {
		t.Errorf("early\n%s\nand then\n%s", early.body(), ok.body())
	}
	c := l.dial(p, token, invite, ok)
	l.up(p, c.ackOf(invite))
	c.changes([2]string{ok.port(), got.port()})
	c.hangUp()
}

// TestPlainPhoneCallsBrowser is the other way round.
func TestPlainPhoneCallsBrowser(t *testing.T) {
	l := newMediaLab(t, 1)
	p := l.phone("alice")
	c, ports := l.rang(p, l.registered(p))
	c.changes(ports)
	c.hungUp()
}

// changes makes an offer of each kind from either side: hold, resume, without
// offer, UPDATE. Ports are those that browser and PBX see.
func (c *call) changes(ports [2]string) {
	c.t.Helper()
	for _, method := range []string{"INVITE", "UPDATE"} {
		for _, direction := range []string{"sendonly", "sendrecv"} {
			answer := map[string]string{"sendonly": "recvonly", "sendrecv": "sendrecv"}[direction]

			req := c.ofBrowser(method).withSDP(webRTC("actpass", "0", "a="+direction))
			got := c.expectPlain(c.up(c.p, req))
			c.expectBody(got, []string{"a=" + direction}, nil)
			res := c.expectWebRTC(c.down(c.p, got.reply("200 OK").withSDP(plainRTP(40000, "a="+answer))))
			c.expectBody(res, []string{"a=" + answer}, nil)
			c.expectPorts(ports, res, got)
			if method == "INVITE" {
				c.up(c.p, c.ackOf(req))
			}

			req = c.ofPBX(method).withSDP(plainRTP(40000, "a="+direction))
			got = c.expectWebRTC(c.down(c.p, req))
			c.expectBody(got, []string{"a=" + direction}, nil)
			res = c.expectPlain(c.up(c.p, got.reply("200 OK").withSDP(webRTC("active", got.mid(), "a="+answer))))
			c.expectPorts(ports, got, res)
			if method == "INVITE" {
				c.down(c.p, c.ackOfPBX(req))
			}
		}
	}
	// Without an offer.
	req := c.ofBrowser("INVITE")
	res := c.expectWebRTC(c.down(c.p, c.up(c.p, req).reply("200 OK").withSDP(plainRTP(40000))))
	ack := c.expectPlain(c.up(c.p, c.ackOf(req).withSDP(webRTC("active", res.mid()))))
	c.expectPorts(ports, res, ack)

	req = c.ofPBX("INVITE")
	res = c.expectPlain(c.up(c.p, c.down(c.p, req).reply("200 OK").withSDP(webRTC("actpass", "0"))))
	ack = c.expectWebRTC(c.down(c.p, c.ackOfPBX(req).withSDP(plainRTP(40000))))
	c.expectPorts(ports, ack, res)

	// A refused change ends nothing.
	got := c.up(c.p, c.ofBrowser("INVITE").withSDP(webRTC("actpass", "0")))
	c.down(c.p, got.reply("488 Not Acceptable Here"))
	// A session that is refreshed, and a candidate that comes late.
	req = c.ofBrowser("UPDATE")
	c.expectUntouched(c.up(c.p, req), req)
	req = c.ofBrowser("INFO").set("Content-Type", "application/trickle-ice-sdpfrag").withBody("a=mid:0\r\na=candidate:x\r\n")
	c.expectUntouched(c.up(c.p, req), req)
	c.expectCalls(1)
}

func (c *call) expectPorts(want [2]string, browser, pbx sip) {
	c.t.Helper()
	if got := [2]string{browser.port(), pbx.port()}; got != want {
		c.t.Errorf("ports %v, want %v", got, want)
	}
}

// TestLateOffer: the offer is in the 200, the answer in the ACK.
func TestLateOffer(t *testing.T) {
	l := newMediaLab(t, 1)
	p := l.phone("alice")
	token := l.registered(p)

	invite := p.invite("sip:bob@pbx.example")
	ok := l.expectWebRTC(l.down(p, l.up(p, invite).reply("200 OK").withSDP(plainRTP(40000))))
	c := l.dial(p, token, invite, ok)
	ack := l.expectPlain(l.up(p, c.ackOf(invite).withSDP(webRTC("active", ok.mid()))))
	c.changes([2]string{ok.port(), ack.port()})
	c.hungUp()

	invite = l.pbx.request("INVITE", token)
	ok = l.expectPlain(l.up(p, l.down(p, invite).reply("200 OK", "Contact: <"+p.contact()+">").withSDP(webRTC("actpass", "0"))))
	c = l.taken(p, token, ok)
	ack = l.expectWebRTC(l.down(p, c.ackOfPBX(invite).withSDP(plainRTP(40000))))
	c.changes([2]string{ack.port(), ok.port()})
	c.hangUp()
}

// TestForks: every fork's answer has the same ports for the browser.
func TestForks(t *testing.T) {
	l := newMediaLab(t, 1)
	p := l.phone("alice")
	token := l.registered(p)
	invite := p.invite("sip:bob@pbx.example").withSDP(webRTC("actpass", "0"))
	got := l.up(p, invite)
	of := func(tag, status string, port int) sip {
		res := got.reply(status).withSDP(plainRTP(port))
		return res.set("To", strings.Replace(res.get("To"), "tag=callee", "tag="+tag, 1))
	}
	one := l.expectWebRTC(l.down(p, of("one", "183 Session Progress", 40000)))
	two := l.expectWebRTC(l.down(p, of("two", "183 Session Progress", 40002)))
	ok := l.expectWebRTC(l.down(p, of("one", "200 OK", 40000)))
	for _, other := range []sip{two, ok} {
		if one.port() != other.port() || one.line("a=ice-ufrag") != other.line("a=ice-ufrag") {
			t.Errorf("the forks have\n%s\nand\n%s", one.body(), other.body())
		}
	}
	c := l.dial(p, token, invite, ok)
	l.up(p, c.ackOf(invite))
	c.changes([2]string{ok.port(), got.port()})
	c.hangUp()
}

// TestRefusedCalls: the engine forgets a call that failed for good, either way,
// but not one whose INVITE comes again with credentials.
func TestRefusedCalls(t *testing.T) {
	l := newMediaLab(t, 1)
	p := l.phone("alice")
	token := l.registered(p)

	invite := p.invite("sip:bob@pbx.example").withSDP(webRTC("actpass", "0"))
	got := l.up(p, invite)
	port := got.port()
	for _, status := range []string{"401 Unauthorized", "407 Proxy Authentication Required", "422 Session Interval Too Small"} {
		l.down(p, got.reply(status))
		l.up(p, invite.as("ACK").set("To", got.reply(status).get("To")).without("Content-Type").withBody(""))
		l.expectCalls(1)
		again := p.request("INVITE", "sip:bob@pbx.example")
		invite = invite.set("CSeq", again.get("CSeq")).set("Via", again.get("Via"))
		if got = l.up(p, invite); got.port() != port {
			t.Errorf("offered at port %s, and again at %s", port, got.port())
		}
	}
	l.down(p, got.reply("180 Ringing"))
	l.up(p, invite.as("CANCEL").without("Content-Type").withBody(""))
	l.expectCalls(1) // a 200 may cross it
	l.down(p, got.reply("487 Request Terminated"))
	l.expectCalls(0)

	for _, status := range []string{"486 Busy Here", "302 Moved Temporarily", "603 Decline"} {
		got := l.down(p, l.pbx.request("INVITE", token).withSDP(plainRTP(40000)))
		l.expectCalls(1)
		l.answered(p, got, status)
		l.expectCalls(0)
	}
}

// TestUnansweredCall: an INVITE that the PBX never answers is no call in the end.
func TestUnansweredCall(t *testing.T) {
	l := newMediaLab(t, 1)
	p := l.phone("alice")
	l.registered(p)
	got := l.up(p, p.invite("sip:bob@pbx.example").withSDP(webRTC("actpass", "0")))
	l.expectCalls(1)
	l.gw.endUnanswered([]byte(got)) // as after half a minute
	l.expectCalls(0)
}

// TestOtherMedia: video and data that the phone does not take are refused in the
// answer, and the audio is bridged.
func TestOtherMedia(t *testing.T) {
	l := newMediaLab(t, 1)
	p := l.phone("alice")
	token := l.registered(p)
	more := []string{
		"m=video 9 UDP/TLS/RTP/SAVPF 96", "c=IN IP4 0.0.0.0", "a=ice-ufrag:Xp2l", "a=ice-pwd:0123456789abcdefghijklmn",
		webRTCFingerprint, "a=setup:actpass", "a=mid:1", "a=rtcp-mux", "a=rtpmap:96 VP8/90000",
		"m=application 9 UDP/DTLS/SCTP webrtc-datachannel", "c=IN IP4 0.0.0.0", "a=ice-ufrag:Xp2l", "a=ice-pwd:0123456789abcdefghijklmn",
		webRTCFingerprint, "a=setup:actpass", "a=mid:2", "a=sctp-port:5000",
	}
	invite := p.invite("sip:bob@pbx.example").withSDP(webRTC("actpass", "0", more...))
	got := l.expectPlain(l.up(p, invite))
	l.expectBody(got, []string{"m=video ", " RTP/AVP 96", "m=application "}, nil)
	ok := l.expectWebRTC(l.down(p, got.reply("200 OK").withSDP(plainRTP(40000,
		"m=video 0 RTP/AVP 96", "m=application 0 UDP/DTLS/SCTP webrtc-datachannel"))))
	l.expectBody(ok, []string{"m=video 0 ", "m=application 0 "}, nil)
	c := l.dial(p, token, invite, ok)
	l.up(p, c.ackOf(invite))
	c.hangUp()
}

// TestForeignBodies: what is no session description alone stays, and is counted.
func TestForeignBodies(t *testing.T) {
	l := newMediaLab(t, 1)
	p := l.phone("alice")
	l.registered(p)
	invite := p.invite("sip:bob@pbx.example").set("Content-Type", "multipart/mixed;boundary=x").
		withBody("--x\r\nContent-Type: application/sdp\r\n\r\n" + webRTC("actpass", "0") + "--x--\r\n")
	got := l.up(p, invite)
	l.expectUntouched(got, invite)
	ok := got.reply("200 OK").withSDP(plainRTP(40000))
	l.expectUntouched(l.down(p, ok), ok)
	if n := l.gw.media.bodies[bodyForeign].Load(); n != 1 || l.asked() != 0 {
		t.Errorf("%d foreign, %d bridged", n, l.asked())
	}
	l.expectCalls(0)
}

// TestBrowserCallsBrowser: behind a proxy both legs have one Call-ID.
func TestBrowserCallsBrowser(t *testing.T) {
	l := newMediaLab(t, 1)
	alice, bob := l.phone("alice"), l.phone("bob")
	l.registered(alice)
	token := l.registered(bob)

	// The PBX relays, as a proxy does.
	forward := func(m sip) sip {
		_, rest, _ := strings.Cut(string(m), "\r\n")
		return sip(m.method() + " " + token + " SIP/2.0\r\nVia: SIP/2.0/UDP " + l.pbx.addr() + ";branch=z9hG4bKproxy" + m.method() + "\r\n" + rest)
	}
	back := func(m sip) sip {
		lines, rest := m.lines()
		return m.join(lines[1:], rest)
	}
	invite := alice.invite("sip:bob@pbx.example").withSDP(webRTC("actpass", "0"))
	atBob := l.expectWebRTC(l.down(bob, forward(l.expectPlain(l.up(alice, invite)))))
	if atBob.line("a=ice-ufrag") == "a=ice-ufrag:Xp2l" {
		t.Error("bob sees what alice offers")
	}
	l.expectCalls(2)
	ok := l.expectPlain(l.up(bob, atBob.reply("200 OK", "Contact: <"+bob.contact()+">").withSDP(webRTC("active", atBob.mid()))))
	got := l.expectWebRTC(l.down(alice, back(ok)))
	c := l.dial(alice, "", invite, got)
	l.down(bob, forward(l.up(alice, c.ackOf(invite))))

	bye := l.down(bob, forward(l.up(alice, c.ofBrowser("BYE"))))
	l.expectCalls(0)
	l.down(alice, back(l.answered(bob, bye, "200 OK")))
}

// TestReliableProvisional: it is not promised, and refused where it is required.
func TestReliableProvisional(t *testing.T) {
	l := newMediaLab(t, 1)
	p := l.phone("alice")
	token := l.registered(p)
	got := l.up(p, p.invite("sip:bob@pbx.example").add("Supported: 100rel,timer"))
	if s := got.get("Supported"); s != "timer" {
		t.Errorf("up: Supported %q", s)
	}
	got = l.down(p, l.pbx.request("INVITE", token).add("k: timer, 100rel"))
	if s := got.get("k"); s != "timer" {
		t.Errorf("down: k %q", s)
	}
	before := l.dropped()
	req := p.invite("sip:bob@pbx.example").add("Require: 100rel")
	p.send(req)
	res := p.read()
	expectAnswer(t, req, res, 420)
	if u := res.get("Unsupported"); u != "100rel" {
		t.Errorf("Unsupported %q", u)
	}
	l.expectDropped(before, ReasonReliableProvisional)
	req = l.pbx.request("INVITE", token).add("Require: timer", "Require: 100Rel")
	l.pbx.send(req)
	expectAnswer(t, req.receivedFrom(l.pbx.conn.LocalAddr()), l.pbx.read(), 420)
	l.expectAlive(p)
}

// TestRetransmissionsAreNotAsked: neither a PBX's INVITE that comes again nor a
// 200 goes to the engine twice.
func TestRetransmissionsAreNotAsked(t *testing.T) {
	l := newMediaLab(t, 1)
	p := l.phone("alice")
	token := l.registered(p)
	invite := l.pbx.request("INVITE", token).withSDP(plainRTP(40000))
	for range 3 {
		l.pbx.send(invite)
	}
	got := l.expectWebRTC(p.read())
	ok := l.up(p, got.reply("200 OK", "Contact: <"+p.contact()+">").withSDP(webRTC("active", got.mid())))
	for range 3 {
		l.pbx.send(invite) // and gets the 200 again
		if again := l.pbx.read(); again.body() != ok.body() {
			t.Errorf("the 200 was\n%s\nand is\n%s", ok, again)
		}
	}
	c := l.taken(p, token, ok)
	l.down(p, c.ackOfPBX(invite))
	if n := l.asked(); n != 2 {
		t.Errorf("asked %d times", n)
	}
	req := c.ofBrowser("INVITE").withSDP(webRTC("actpass", "0"))
	res := l.up(p, req).reply("200 OK").withSDP(plainRTP(40000))
	for range 3 {
		l.pbx.send(res)
	}
	l.expectWebRTC(p.read())
	l.up(p, c.ackOf(req))
	l.expectAlive(p)
	if n := l.asked(); n != 4 {
		t.Errorf("asked %d times", n)
	}
	c.hangUp()
}
