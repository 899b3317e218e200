package gateway

import (
	"runtime"
	"strings"
	"testing"
	"time"

	"viaduct/rewrite"
)

// away is a lab whose gateway started long ago, with a registered client that
// has just lost its connection.
type away struct {
	*lab
	clock clock // of what is remembered of clients
	alice *phone
	token string
}

func newAway(t *testing.T) *away {
	t.Helper()
	l := &away{lab: preparedLab(t)}
	l.clock.seconds.Store(1000)
	l.tune = func(g *Gateway) {
		g.started = time.Now().Add(-afterStart)
		g.clients.now = l.clock.now
	}
	l.start()
	l.alice = l.phone("alice")
	l.token = l.lab.registered(l.alice)
	l.hangUp(l.alice.browser)
	return l
}

// back has the client register on a new connection.
func (l *away) back() {
	l.t.Helper()
	l.alice = l.alice.again(l.lab)
	l.lab.registered(l.alice)
}

// inDialog puts a request into a dialog.
func inDialog(m sip) sip { return m.set("To", m.get("To")+";tag=alice") }

// hold sends requests that are held.
func (l *away) hold(all ...sip) {
	l.t.Helper()
	for _, m := range all {
		l.pbx.send(m)
	}
	l.expectHeld(len(all))
}

// expectHeld waits until so many messages are held.
func (l *lab) expectHeld(n int) {
	l.t.Helper()
	for deadline := time.Now().Add(patience); l.gw.held.len() != n; runtime.Gosched() {
		if time.Now().After(deadline) {
			l.t.Fatalf("%d messages are held, want %d", l.gw.held.len(), n)
		}
	}
}

// expectRefused checks that the next that the PBX gets is that answer to its request.
func (l *lab) expectRefused(req sip, status int) (answer sip) {
	l.t.Helper()
	answer = l.pbx.read()
	expectAnswer(l.t, req.receivedFrom(l.pbx.conn.LocalAddr()), answer, status)
	return answer
}

// expectOutcomes waits until nothing is held, and checks what became of what was held.
func (l *lab) expectOutcomes(delivered, expired, refused uint64) {
	l.t.Helper()
	l.expectHeld(0)
	got := [numHeldOutcomes]uint64{}
	for o := range got {
		got[o] = l.gw.stats.heldTotal[o].Load()
	}
	if want := [numHeldOutcomes]uint64{delivered, expired, refused}; got != want {
		l.t.Errorf("delivered, expired and refused were %d, want %d", got, want)
	}
	l.gw.held.mu.Lock()
	defer l.gw.held.mu.Unlock()
	if l.gw.held.bytes != 0 {
		l.t.Errorf("%d bytes are held still", l.gw.held.bytes)
	}
}

// TestHeldUntilBack: what the PBX sends while a client reconnects is delivered
// in order, once each, after the answer to its REGISTER, whatever was sent again.
func TestHeldUntilBack(t *testing.T) {
	l := newAway(t)
	reqs := []sip{
		inDialog(l.pbx.request("INVITE", l.token)), l.pbx.request("MESSAGE", l.token),
		l.pbx.request("NOTIFY", l.token), inDialog(l.pbx.request("ACK", l.token)), inDialog(l.pbx.request("BYE", l.token)),
	}
	l.hold(reqs...)
	l.hold(reqs...)
	l.back()
	for _, req := range reqs {
		if got := l.alice.read(); got.get("CSeq") != req.get("CSeq") || got.uri() != l.alice.contact() {
			t.Errorf("the browser gets\n%s\ninstead of\n%s", got, req)
		}
	}
	for _, req := range reqs {
		l.pbx.send(req)
	}
	l.expectAlive(l.alice)
	l.expectOutcomes(5, 0, 0)
}

// TestHeldAfterStart: after a start any client may be on its way back.
func TestHeldAfterStart(t *testing.T) {
	l := newLab(t, withKeyFile(t))
	alice := l.phone("alice")
	token := l.registered(alice)
	l.restart()
	bye := inDialog(l.pbx.request("BYE", token))
	l.pbx.send(bye)
	l.expectHeld(1)
	alice = alice.again(l)
	l.registered(alice)
	if got := alice.read(); got.method() != "BYE" {
		t.Errorf("the browser gets\n%s", got)
	}
	l.expectOutcomes(1, 0, 0)
}

// TestNotHeld: who asks whether a browser is there is told so; so is who asks
// for one that is not expected back, and again if that is lost.
func TestNotHeld(t *testing.T) {
	l := newAway(t)
	l.expectNobody(l.token)
	l.clock.seconds.Add(int64(comeback.Seconds()))
	for _, req := range []sip{
		l.pbx.request("OPTIONS", l.token), l.pbx.request("INVITE", l.token), l.pbx.request("MESSAGE", l.token),
		inDialog(l.pbx.request("BYE", l.token)),
	} {
		l.pbx.send(req)
		answer := l.expectRefused(req, 480)
		l.pbx.send(req)
		l.pbx.expectAgain(answer)
	}
	l.pbx.send(inDialog(l.pbx.request("ACK", l.token)))
	forged := l.pbx.request("INVITE", strings.Replace(l.token, "sip:", "sip:a", 1))
	l.pbx.send(forged)
	l.expectRefused(forged, 403)
	l.expectOutcomes(0, 0, 0)
}

// TestForgedIsNotHeld: what names nobody waits for nobody, after a start either.
func TestForgedIsNotHeld(t *testing.T) {
	l := newLab(t)
	token := l.registered(l.phone("alice"))
	forged := l.pbx.request("INVITE", strings.Replace(token, "sip:", "sip:a", 1))
	l.pbx.send(forged)
	l.expectRefused(forged, 403)
	l.expectOutcomes(0, 0, 0)
}

// TestHeldTooLong: a request is given up after its time, counted and answered
// once, and an INVITE's 480 is sent again until its ACK.
func TestHeldTooLong(t *testing.T) {
	for name, tagged := range map[string]bool{"outside a dialog": false, "in a dialog": true} {
		t.Run(name, func(t *testing.T) {
			for _, method := range []string{"INVITE", "MESSAGE", "ACK"} {
				l := newAway(t)
				req, wait := l.pbx.request(method, l.token), holdInitial
				if tagged {
					req, wait = inDialog(req), holdDialog
				}
				begun := time.Now()
				l.hold(req)
				l.gw.tendHeld(begun.Add(wait - time.Millisecond))
				if method == "INVITE" {
					l.expectTrying(req)
				}
				l.expectHeld(1)
				for range 2 {
					l.gw.tendHeld(time.Now().Add(wait))
				}
				if method != "ACK" {
					l.expectGivenUp(req)
				}
				l.expectAlive(l.phone("bob"))
				l.expectOutcomes(0, 1, 0)
			}
		})
	}
}

func (l *away) expectTrying(invite sip) {
	l.t.Helper()
	trying := l.pbx.read()
	if want := invite.receivedFrom(l.pbx.conn.LocalAddr()).reply("100 Trying"); trying != want {
		l.t.Errorf("the PBX gets\n%s\nwant\n%s", trying, want)
	}
}

func (l *away) expectGivenUp(req sip) {
	l.t.Helper()
	answer := l.expectRefused(req, 480)
	if req.method() == "INVITE" {
		l.pbx.expectAgain(answer)
		l.pbx.send(req.as("ACK").set("To", answer.get("To")))
		l.pbx.send(req) // it is over
		return
	}
	l.pbx.send(req)
	l.pbx.expectAgain(answer)
}

// TestTrying: an INVITE that is held for long is answered 100, and so is its
// copy; nothing else is.
func TestTrying(t *testing.T) {
	l := newAway(t)
	begun := time.Now()
	invite, bye := l.pbx.request("INVITE", l.token), inDialog(l.pbx.request("BYE", l.token))
	l.hold(bye, invite)
	l.expectTrying(invite)
	if took := time.Since(begun); took < holdQuietly {
		t.Errorf("it took %v only", took)
	}
	l.gw.tendHeld(time.Now().Add(time.Second))
	l.pbx.send(bye)
	l.pbx.send(invite)
	l.expectTrying(invite)
	l.expectAlive(l.phone("bob"))

	l.back()
	for _, req := range []sip{bye, invite} {
		got := l.alice.read()
		if got.get("Call-ID") != req.get("Call-ID") {
			t.Errorf("the browser gets\n%s", got)
		}
		l.answered(l.alice, got, "486 Busy Here")
	}
	l.expectOutcomes(2, 0, 0)
}

// TestCancelHeld: an INVITE whose caller has hung up is delivered to nobody.
func TestCancelHeld(t *testing.T) {
	l := newAway(t)
	invite, message := l.pbx.request("INVITE", l.token), l.pbx.request("MESSAGE", l.token)
	l.hold(invite, message)
	cancel := invite.as("CANCEL")
	l.pbx.send(cancel)
	ok := l.expectRefused(cancel, 200)
	terminated := l.expectRefused(invite, 487)
	if ok.get("To") != terminated.get("To") {
		t.Errorf("To %q of the 200, %q of the 487", ok.get("To"), terminated.get("To"))
	}
	l.pbx.send(cancel)
	l.pbx.expectAgain(ok)
	l.pbx.expectAgain(terminated)
	l.pbx.send(invite)
	l.pbx.expectAgain(terminated)
	l.pbx.send(invite.as("ACK").set("To", terminated.get("To")))
	l.pbx.send(invite)
	l.back()
	if got := l.alice.read(); got.get("CSeq") != message.get("CSeq") {
		t.Errorf("the browser gets\n%s", got)
	}
	l.expectAlive(l.alice)
	l.expectOutcomes(1, 0, 0)
}

// TestHeldByTCP: what comes by TCP is held, and answered, no differently; but
// nothing is sent again.
func TestHeldByTCP(t *testing.T) {
	l := newTCPLab(t)
	alice := l.phone("alice")
	token, pbx := l.registered(alice)
	l.lab.hangUp(alice.browser)
	cancelled, late, bye := l.request("INVITE", token), l.request("INVITE", token), inDialog(l.request("BYE", token))
	for _, req := range []sip{cancelled, late, bye} {
		pbx.send(req)
	}
	l.expectHeld(3)
	pbx.send(cancelled.as("CANCEL"))
	for _, want := range []string{"SIP/2.0 200 OK", "SIP/2.0 487 Request Terminated"} {
		if got := pbx.read(); got.start() != want {
			t.Errorf("the PBX gets %s, want %s", got.start(), want)
		}
	}
	if got := pbx.read(); got.start() != "SIP/2.0 100 Trying" || got.get("Call-ID") != late.get("Call-ID") {
		t.Errorf("the PBX gets %s", got)
	}
	l.gw.tendHeld(time.Now().Add(holdInitial))
	if got := pbx.read(); got.start() != "SIP/2.0 480 Not Connected" || got.get("Call-ID") != late.get("Call-ID") {
		t.Errorf("the PBX gets %s", got)
	}
	alice = alice.again(l.lab)
	alice.send(alice.register())
	req := pbx.read()
	pbx.send(req.reply("200 OK", "Contact: "+req.get("Contact")))
	for _, want := range []sip{req, bye} {
		got := alice.read()
		if got.get("Call-ID") != want.get("Call-ID") {
			t.Errorf("the browser gets\n%s", got)
		}
	}
	l.expectOutcomes(1, 1, 0)
}

// TestHeldBounds: a client has its share.
func TestHeldBounds(t *testing.T) {
	l := newAway(t)
	var reqs []sip
	for range maxHeldClient {
		reqs = append(reqs, l.pbx.request("MESSAGE", l.token))
	}
	l.hold(reqs...)
	over := l.pbx.request("INVITE", l.token)
	l.pbx.send(over)
	answer := l.expectRefused(over, 480)
	l.pbx.send(over)
	l.pbx.expectAgain(answer)
	l.pbx.send(over.as("ACK").set("To", answer.get("To")))
	l.back()
	for _, req := range reqs {
		if got := l.alice.read(); got.get("Call-ID") != req.get("Call-ID") {
			t.Errorf("the browser gets\n%s\ninstead of\n%s", got, req)
		}
	}
	l.expectAlive(l.alice)
	l.expectOutcomes(maxHeldClient, 0, 1)
}

// TestHeldStoreIsBounded: so have all together.
func TestHeldStoreIsBounded(t *testing.T) {
	const big = 64 << 10
	for name, test := range map[string]struct{ size, room int }{
		"messages": {100, maxHeld}, "bytes": {big, maxHeldBytes / big},
	} {
		s := newHeldStore()
		held := func(client int) *heldMessage {
			return &heldMessage{token: rewrite.Token{ID: rewrite.ClientID(client)}, text: make([]byte, test.size)}
		}
		for n := range test.room {
			if !s.add(held(n)) {
				t.Fatalf("%s: no room for the %dth", name, n+1)
			}
		}
		if s.add(held(test.room)) {
			t.Errorf("%s: room for one more", name)
		}
		s.remove(s.first(func(*heldMessage) bool { return true }))
		if !s.add(held(test.room)) || s.len() != test.room || s.bytes != test.room*test.size {
			t.Errorf("%s: %d of %d bytes are held", name, s.len(), s.bytes)
		}
	}
}

// TestVanished: a browser that is gone without a word is found by the call that
// it does not answer, and the caller goes to voicemail as soon as if it had been
// known before.
func TestVanished(t *testing.T) {
	t.Parallel()
	l := newLab(t, undisturbed)
	alice := l.phone("alice")
	invite := l.pbx.request("INVITE", l.registered(alice))
	begun := time.Now()
	l.pbx.send(invite) // alice reads nothing any more, and so answers no ping
	for _, wait := range []time.Duration{timerT1, 2 * timerT1, 4 * timerT1, 8 * timerT1} {
		again := time.NewTimer(wait) // timer A of the PBX: RFC 3261 17.1.1.2
		<-again.C
		l.pbx.send(invite)
	}
	got := l.pbx.read()
	for strings.HasPrefix(got.start(), "SIP/2.0 100 ") {
		got = l.pbx.read()
	}
	if !strings.HasPrefix(got.start(), "SIP/2.0 480 ") {
		t.Fatalf("answered %q", got.start())
	}
	if took := time.Since(begun); took > 9*time.Second {
		t.Errorf("answered after %v", took)
	}
}
