package gateway

import (
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// expectDown waits until the gateway knows that an engine is not there.
func (l *mediaLab) expectDown(downs int) {
	l.t.Helper()
	l.log.await("rtpengine down", downs)
}

// inviteUp is a browser's INVITE with an offer.
func inviteUp(p *phone) sip {
	return p.invite("sip:bob@pbx.example").withSDP(webRTC("actpass", "0"))
}

// refusedUp sends a request that the gateway is to answer.
func (l *mediaLab) refusedUp(p *phone, req sip, status int) sip {
	l.t.Helper()
	p.send(req)
	res := p.read()
	expectAnswer(l.t, req, res, status)
	return res
}

func (l *mediaLab) refusedDown(req sip, status int) sip {
	l.t.Helper()
	l.pbx.send(req)
	res := l.pbx.read()
	expectAnswer(l.t, req.receivedFrom(l.pbx.conn.LocalAddr()), res, status)
	l.pbx.send(req.as("ACK").set("To", res.get("To")).without("Content-Type").withBody(""))
	return res
}

// TestEngineNotThere: what begins or changes a call is answered 503 at once,
// either way, and all else passes.
func TestEngineNotThere(t *testing.T) {
	l := newMediaLab(t, 1)
	p := l.phone("alice")
	token := l.registered(p)
	c, _ := l.invited(p, token)
	l.engines[0].kill()
	l.expectDown(1)

	begun := time.Now()
	for _, res := range []sip{
		l.refusedUp(p, inviteUp(p), 503),
		l.refusedUp(p, p.invite("sip:bob@pbx.example"), 503), // its answer would have the offer
		l.refusedUp(p, c.ofBrowser("INVITE").withSDP(webRTC("actpass", "0")), 503),
		l.refusedUp(p, c.ofBrowser("UPDATE").withSDP(webRTC("actpass", "0")), 503),
		l.refusedDown(l.pbx.request("INVITE", token).withSDP(plainRTP(40000)), 503),
		l.refusedDown(c.ofPBX("INVITE").withSDP(plainRTP(40000)), 503),
	} {
		if res.get("Retry-After") == "" {
			t.Errorf("no Retry-After in\n%s", res)
		}
	}
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("503 took %v", took)
	}
	req := c.ofBrowser("UPDATE")
	l.down(p, l.up(p, req).reply("200 OK"))
	l.down(p, l.up(p, c.ofBrowser("BYE")).reply("200 OK"))
	l.expectAlive(p)

	l.engines[0].start()
	l.log.await("rtpengine up", 1)
	again, _ := l.rang(p, token)
	again.hangUp()
}

// TestEngineOptional: calls pass as they are, and their answers too, though the
// engine is back by then.
func TestEngineOptional(t *testing.T) {
	l := newMediaLab(t, 1, func(c *Config) { c.RTPEngineOptional = true })
	p := l.phone("alice")
	token := l.registered(p)
	l.engines[0].kill()
	l.expectDown(1)

	up, late := inviteUp(p), p.invite("sip:bob@pbx.example")
	gotUp, gotLate := l.up(p, up), l.up(p, late)
	l.expectUntouched(gotUp, up)
	down := l.pbx.request("INVITE", token).withSDP(plainRTP(40000))
	gotDown := l.down(p, down)
	l.expectUntouched(gotDown, down)

	l.engines[0].start()
	l.log.await("rtpengine up", 1)
	for _, got := range []sip{gotUp, gotLate} {
		ok := got.reply("200 OK").withSDP(plainRTP(40000))
		l.expectUntouched(l.down(p, ok), ok)
	}
	ok := gotDown.reply("200 OK").withSDP(webRTC("active", "0"))
	l.expectUntouched(l.up(p, ok), ok)
	l.expectCalls(0)
}

// TestEngineRefuses: a body that is none.
func TestEngineRefuses(t *testing.T) {
	l := newMediaLab(t, 1, func(c *Config) { c.RTPEngineOptional = true })
	p := l.phone("alice")
	token := l.registered(p)
	before := l.dropped()
	l.refusedUp(p, p.invite("sip:bob@pbx.example").withSDP("nonsense\r\n"), 488)
	l.expectDropped(before, ReasonMediaRefused)
	l.refusedDown(l.pbx.request("INVITE", token).withSDP("nonsense\r\n"), 488)

	// An answer that cannot be made for the other side goes on as it is.
	invite := inviteUp(p)
	bad := l.up(p, invite).reply("200 OK").withSDP("nonsense\r\n")
	l.expectUntouched(l.down(p, bad), bad)
	c := l.dial(p, token, invite, bad)
	l.up(p, c.ackOf(invite))
	c.hangUp()
}

// TestEngineHangs: who waits for an engine that says nothing does so in order,
// holds up nobody else, and no BYE.
func TestEngineHangs(t *testing.T) {
	l := newMediaLab(t, 1)
	alice, bob := l.phone("alice"), l.phone("bob")
	token := l.registered(alice)
	l.registered(bob)
	one, _ := l.invited(alice, token)
	two, _ := l.invited(alice, token)
	l.engines[0].freeze()

	begun := time.Now()
	hold := one.ofBrowser("INVITE").withSDP(webRTC("actpass", "0", "a=sendonly"))
	alice.send(hold)
	message := alice.request("MESSAGE", "sip:bob@pbx.example")
	alice.send(message)
	eventually(t, "both wait", func() bool {
		return slices.ContainsFunc(l.gw.flows.list(), func(f *flow) bool { return f.waiting.some.Load() == 2 })
	})
	l.pbx.send(l.pbx.request("OPTIONS", token))
	l.expectAlive(bob) // the browser of nobody else waits

	// The BYE of another call passes what waits, that of its own not for long.
	got := l.up(alice, two.ofBrowser("BYE"))
	if took := time.Since(begun); took > byePatience {
		t.Errorf("BYE of another call after %v", took)
	}
	bye := one.ofBrowser("BYE")
	alice.send(bye)
	expectAnswer(t, hold, alice.read(), 503)
	if next := l.pbx.read(); next.method() != "MESSAGE" {
		t.Errorf("%s, want MESSAGE", next.start())
	}
	if next := alice.read(); next.method() != "OPTIONS" {
		t.Errorf("%s, want OPTIONS", next.start())
	}
	if next := l.pbx.read(); next.method() != "BYE" || next.get("Call-ID") != one.id {
		t.Errorf("%s, want BYE", next.start())
	}
	if took := time.Since(begun); took > 4*byePatience {
		t.Errorf("BYE after %v", took)
	}
	l.engines[0].thaw()
	l.down(alice, got.reply("200 OK"))
	l.expectCalls(0)
}

// TestEngineDiesDuringSetUp: the offer was made, the answer cannot be: it goes on
// as it is, in the time that an engine has, and the BYE that follows too.
func TestEngineDiesDuringSetUp(t *testing.T) {
	l := newMediaLab(t, 1)
	p := l.phone("alice")
	token := l.registered(p)
	invite := inviteUp(p)
	got := l.expectPlain(l.up(p, invite))
	l.engines[0].kill()
	ok := got.reply("200 OK").withSDP(plainRTP(40000))
	l.expectUntouched(l.down(p, ok), ok)
	c := l.dial(p, token, invite, ok)
	l.up(p, c.ackOf(invite))
	l.down(p, l.up(p, c.ofBrowser("BYE")).reply("200 OK"))
	l.expectAlive(p)
}

// TestSecondEngine: one that is silent is replaced at once; what it has not said
// is in the seal, so that the answer finds the other one, after a restart too.
// Both forget the call.
func TestSecondEngine(t *testing.T) {
	l := newMediaLab(t, 2, withKeyFile(t))
	p := l.phone("alice")
	l.registered(p)
	l.engines[0].freeze()
	for range 4 { // the order is another for each Call-ID
		invite := inviteUp(p)
		got := l.expectPlain(l.up(p, invite))
		l.expectWebRTC(l.down(p, got.reply("183 Session Progress").withSDP(plainRTP(40000))))
		if l.engines[1].calls() != 1 {
			t.Error("the second engine does not have the call")
		}
		l.down(p, got.reply("486 Busy Here"))
		l.up(p, invite.as("ACK").set("To", got.reply("486").get("To")).without("Content-Type").withBody(""))
		eventually(t, "the second engine has no call", func() bool { return l.engines[1].calls() == 0 })
	}

	invite := inviteUp(p)
	got := l.expectPlain(l.up(p, invite))
	l.engines[0].thaw()
	l.restart()
	p = p.again(l.lab)
	token := l.registered(p)
	ok := l.expectWebRTC(l.down(p, got.reply("200 OK").withSDP(plainRTP(40000))))
	c := l.dial(p, token, invite, ok)
	l.up(p, c.ackOf(invite))

	// A change moves the media to the engine that is the first choice again.
	hold := c.ofBrowser("INVITE").withSDP(webRTC("actpass", "0", "a=sendonly"))
	got = l.expectPlain(l.up(p, hold))
	l.expectWebRTC(l.down(p, got.reply("200 OK").withSDP(plainRTP(40000, "a=recvonly"))))
	l.up(p, c.ackOf(hold))
	got = l.up(p, c.ofBrowser("BYE"))
	l.expectCalls(0)
	l.down(p, got.reply("200 OK"))
}

// TestMediaOverRestart: everything that has to be known is in the messages.
func TestMediaOverRestart(t *testing.T) {
	l := newMediaLab(t, 1, withKeyFile(t))
	p := l.phone("alice")
	token := l.registered(p)
	again := func() {
		l.restart()
		p = p.again(l.lab)
		l.registered(p)
	}

	// Between an INVITE and its answer, in either direction, and without an offer.
	invite := inviteUp(p)
	got := l.up(p, invite)
	again()
	ok := l.expectWebRTC(l.down(p, got.reply("200 OK").withSDP(plainRTP(40000))))
	c := l.dial(p, token, invite, ok)
	l.up(p, c.ackOf(invite))
	again()
	c.p = p
	c.changes([2]string{ok.port(), got.port()})
	c.hangUp()

	invite = p.invite("sip:bob@pbx.example")
	got = l.up(p, invite)
	again()
	ok = l.expectWebRTC(l.down(p, got.reply("200 OK").withSDP(plainRTP(40000))))
	c = l.dial(p, token, invite, ok)
	again()
	c.p = p
	l.expectPlain(l.up(p, c.ackOf(invite).withSDP(webRTC("active", ok.mid()))))
	c.hungUp()

	invite = l.pbx.request("INVITE", token).withSDP(plainRTP(40000))
	got = l.down(p, invite)
	again()
	ok = l.expectPlain(l.up(p, got.reply("200 OK", "Contact: <"+p.contact()+">").withSDP(webRTC("active", got.mid()))))
	c = l.taken(p, token, ok)
	again()
	c.p = p
	l.down(p, c.ackOfPBX(invite))
	c.hungUp()

	// A CANCEL has the branch of its INVITE still, and the 487 ends the media.
	invite = inviteUp(p)
	got = l.up(p, invite)
	again()
	if cancel := l.up(p, invite.as("CANCEL").without("Content-Type").withBody("")); cancel.branch() != got.branch() {
		t.Errorf("the CANCEL has\n%s\nand its INVITE\n%s", cancel.get("Via"), got.get("Via"))
	}
	l.expectCalls(1)
	l.down(p, got.reply("487 Request Terminated"))
	l.expectCalls(0)
}

// TestBrowserGoneWhileItsMediaWaits: what was asked is not left at the engine,
// and the message waits for the browser.
func TestBrowserGoneWhileItsMediaWaits(t *testing.T) {
	l := newMediaLab(t, 1, withKeyFile(t))
	p := l.phone("alice")
	token := l.registered(p)
	l.engines[0].freeze()
	l.pbx.send(l.pbx.request("INVITE", token).withSDP(plainRTP(40000)))
	eventually(t, "the INVITE waits", func() bool { return l.flow().waiting.busy() })
	l.hangUp(p.browser)
	l.engines[0].thaw()
	l.expectCalls(0)
	eventually(t, "it waits for the browser", func() bool { return l.gw.held.len() == 1 })
	p = p.again(l.lab)
	req := p.register()
	p.send(req)
	for {
		got := l.pbx.read()
		if got.method() == "REGISTER" {
			l.pbx.send(got.reply("200 OK", "Contact: "+got.get("Contact"), "Expires: 600"))
			break
		}
	}
	p.read()
	got := l.expectWebRTC(p.read())
	p.send(got.reply("486 Busy Here"))
	l.expectCalls(0)
}

// TestBrowserGoneWhileRinging: the CANCEL that nobody is there for ends the media.
func TestBrowserGoneWhileRinging(t *testing.T) {
	l := newMediaLab(t, 1)
	var later atomic.Int64
	l.tune = func(gw *Gateway) {
		gw.started = gw.started.Add(-time.Hour) // it is known where everybody is
		gw.clients.now = func() time.Time { return time.Now().Add(time.Duration(later.Load())) }
	}
	l.restart()
	p := l.phone("alice")
	invite := l.pbx.request("INVITE", l.registered(p)).withSDP(plainRTP(40000))
	l.answered(p, l.down(p, invite), "180 Ringing")
	l.hangUp(p.browser)
	l.expectCalls(1)
	later.Store(int64(comeback))
	cancel := invite.as("CANCEL").without("Content-Type").withBody("")
	l.pbx.send(cancel)
	expectAnswer(t, cancel.receivedFrom(l.pbx.conn.LocalAddr()), l.pbx.read(), 480)
	l.expectCalls(0)
}

// flow is that of the only browser.
func (l *mediaLab) flow() *flow { return l.onlyConn().Tag.(*flow) }

// TestTooManyWait: past the bound a request is answered 503.
func TestTooManyWait(t *testing.T) {
	l := newMediaLab(t, 1)
	p := l.phone("alice")
	l.registered(p)
	l.engines[0].freeze()
	invite := inviteUp(p)
	p.send(invite)
	for range maxWaiting - 1 {
		p.send(p.request("MESSAGE", "sip:bob@pbx.example"))
	}
	before := l.dropped()
	res := l.refusedUp(p, p.request("MESSAGE", "sip:bob@pbx.example"), 503)
	if res.get("Retry-After") == "" {
		t.Errorf("no Retry-After in\n%s", res)
	}
	l.expectDropped(before, ReasonMediaOverflow)
	expectAnswer(t, invite, p.read(), 503)
	l.engines[0].thaw()
	eventually(t, "nothing waits", func() bool { return !l.flow().waiting.busy() })
	l.expectCalls(0)
}

// TestMediaMetrics: what the engine was asked, and what became of it.
func TestMediaMetrics(t *testing.T) {
	l := newMediaLab(t, 1)
	p := l.phone("alice")
	c, _ := l.invited(p, l.registered(p))
	c.hangUp()
	values, _ := l.gathered(l.gw.registry())
	engine := fmt.Sprintf("{engine=%q}", l.engines[0].addr)
	for name, want := range map[string]float64{
		`viaduct_bodies_total{outcome="bridged"}`: 2, `viaduct_bodies_total{outcome="refused"}`: 0,
		"viaduct_rtpengine_up" + engine: 1, "viaduct_rtpengine_timeouts_total" + engine: 0,
	} {
		if got, ok := values[name]; !ok || got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	if values["viaduct_rtpengine_asked_total"+engine] < 4 || strings.Contains(fmt.Sprint(l.log.All()), "media not") {
		t.Errorf("asked %v", values["viaduct_rtpengine_asked_total"+engine])
	}
}
