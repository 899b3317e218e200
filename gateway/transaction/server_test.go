package transaction

import (
	"testing"
	"time"
)

// reply tells of a response of connection 1.
func (l *lab) reply(invite bool, status int, text string) {
	l.Replied(transactionID, Reply{Invite: invite, Status: status}, l.message(text))
}

// arrive is the request of transactionID for a connection.
func (l *lab) arrive(invite bool, flow uint64) bool { return l.Arrived(transactionID, invite, flow) }

// TestRequestDown: "last response replayed, else dropped; but only while the
// connection it was written to is the client's current one or a final was seen".
func TestRequestDown(t *testing.T) {
	for name, script := range map[string]func(l *lab){
		"unanswered": func(l *lab) {
			for _, at := range []time.Duration{500 * ms, 1500 * ms, 3500 * ms, 31500 * ms} {
				l.until(at)
				l.absorbs("copy", l.arrive(false, 1))
			}
			l.expect(33*second, "")
			l.expectGone()
			l.passes("as a new one", l.arrive(false, 1))
		},
		"answered": func(l *lab) {
			l.until(500 * ms)
			l.reply(false, 200, "200")
			l.absorbs("copy", l.arrive(false, 1))
			l.absorbs("copy for another connection", l.arrive(false, 2))
			l.absorbs("copy for nobody", l.arrive(false, 0))
			l.expect(32*second, "200@0.5 200@0.5 200@0.5")
			l.absorbs("copy after 31.5 s", l.arrive(false, 1))
			l.expect(33*second, "200@32")
			l.expectGone()
		},
		"answered provisionally": func(l *lab) {
			l.reply(false, 100, "100")
			l.expect(second, "")
			l.absorbs("copy", l.arrive(false, 1))
			l.passes("copy for another connection", l.arrive(false, 2))
			l.reply(false, 200, "200")
			l.absorbs("copy", l.arrive(false, 2))
			l.expect(3*second, "100@1 200@1")
		},
		"answered again": func(l *lab) {
			l.reply(false, 200, "200")
			l.reply(false, 500, "500")
			l.reply(false, 100, "100")
			l.arrive(false, 1)
			l.expect(second, "200@0")
		},
		"connection lost": func(l *lab) {
			l.passes("copy for who is away", l.arrive(false, 0))
			l.absorbs("copy while that waits", l.arrive(false, 0))
			l.passes("copy for who is back", l.arrive(false, 3))
			l.absorbs("copy", l.arrive(false, 3))
		},
		"connection replaced": func(l *lab) {
			l.passes("copy for the next connection", l.arrive(false, 2))
			l.absorbs("copy", l.arrive(false, 2))
		},
		"another transaction": func(l *lab) {
			l.passes("its request", l.Arrived(transactionID+1, false, 1))
		},
	} {
		t.Run(name, func(t *testing.T) {
			inLab(t, func(l *lab) {
				l.passes("request", l.arrive(false, 1))
				script(l)
			})
		})
	}
}

// TestInviteDown: "1xx > 100: replayed when the PBX repeats its INVITE, and
// resent at T1 and 3·T1 until a final"; "3xx–6xx: resent (Timer G) until the
// PBX's ACK or Timer H; the first ACK is forwarded, later ones absorbed".
func TestInviteDown(t *testing.T) {
	for name, script := range map[string]func(l *lab){
		"unanswered": func(l *lab) {
			l.absorbs("copy", l.arrive(true, 1))
			l.passes("copy for the next connection", l.arrive(true, 2))
			l.until(3 * time.Minute)
			l.absorbs("copy", l.arrive(true, 2))
		},
		"100": func(l *lab) {
			l.reply(true, 100, "100")
			l.until(500 * ms)
			l.absorbs("copy", l.arrive(true, 1))
			l.expect(10*second, "100@0.5")
		},
		"180": func(l *lab) {
			l.reply(true, 180, "180")
			l.until(700 * ms)
			l.absorbs("copy", l.arrive(true, 1))
			l.expect(3*time.Minute, "180@0.5 180@0.7 180@1.5")
			l.reply(true, 180, "180")
			l.until(6 * time.Minute)
			l.absorbs("copy", l.arrive(true, 1))
			l.expect(8*time.Minute, "180@180.5 180@181.5 180@360")
			l.expectGone()
		},
		"180 and 183": func(l *lab) {
			l.reply(true, 180, "180")
			l.until(700 * ms)
			l.reply(true, 183, "183")
			l.expect(10*second, "180@0.5 183@1.2 183@2.2")
		},
		"180 and 200": func(l *lab) {
			l.reply(true, 180, "180")
			l.until(700 * ms)
			l.reply(true, 200, "200")
			l.until(second)
			l.absorbs("copy", l.arrive(true, 1))
			l.absorbs("copy for another connection", l.arrive(true, 2))
			l.reply(true, 180, "180")
			l.absorbs("copy", l.arrive(true, 1))
			l.expect(30*second, "180@0.5 200@1 200@1 200@1")
			l.until(33 * second)
			l.expectGone()
		},
		"reliable 183": func(l *lab) {
			l.Replied(transactionID, Reply{Invite: true, Status: 183, Reliable: true}, l.message("183"))
			l.absorbs("copy", l.arrive(true, 1))
			l.expect(10*second, "")
		},
		"reliable 183 after 180": func(l *lab) {
			l.reply(true, 180, "180")
			l.Replied(transactionID, Reply{Invite: true, Status: 183, Reliable: true}, l.message("183"))
			l.expect(10*second, "180@0.5 180@1.5")
		},
		"486 without an ACK": func(l *lab) {
			l.reply(true, 180, "180")
			l.reply(true, 486, "486")
			l.until(600 * ms)
			l.absorbs("copy", l.arrive(true, 1))
			l.expect(40*second, "486@0.5 486@0.6 486@1.5 486@3.5 486@7.5 486@11.5 486@15.5 486@19.5 486@23.5 486@27.5 486@31.5")
			l.expectGone()
		},
		"486 and ACK": func(l *lab) {
			l.reply(true, 486, "486")
			l.until(2 * second)
			l.passes("ACK", l.ackRefusal(1))
			l.absorbs("ACK again", l.ackRefusal(1))
			l.absorbs("ACK for another connection", l.ackRefusal(2))
			l.absorbs("copy of the INVITE", l.arrive(true, 1))
			l.reply(true, 486, "486")
			l.expect(33*second, "486@0.5 486@1.5")
			l.absorbs("ACK as long as there may be one", l.ackRefusal(1))
			l.until(35 * second)
			l.expectGone()
		},
		"486 that is repeated": func(l *lab) {
			l.reply(true, 486, "486")
			l.until(20 * second)
			l.reply(true, 487, "487")
			l.expect(40*second, "486@0.5 486@1.5 486@3.5 486@7.5 486@11.5 486@15.5 486@19.5 486@23.5 486@27.5 486@31.5")
			l.expectGone()
		},
		"200 and ACK": func(l *lab) {
			l.reply(true, 200, "200")
			l.passes("ACK", l.ackAccepted(1))
			l.absorbs("ACK again", l.ackAccepted(1))
			l.passes("ACK for the next connection", l.ackAccepted(2))
			l.absorbs("ACK there again", l.ackAccepted(2))
			l.passes("ACK of another 2xx", l.AckArrived(7, otherDialogID, 1))
		},
		"200 that the browser repeats": func(l *lab) {
			for range 3 {
				l.pass(second)
				l.reply(true, 200, "200")
			}
			l.absorbs("copy", l.arrive(true, 1))
			l.expect(10*second, "200@3")
		},
		"ACK before its response": func(l *lab) {
			l.passes("ACK", l.AckArrived(transactionID, dialogID, 1))
			l.reply(true, 486, "486")
			l.passes("ACK of the refusal", l.ackRefusal(1))
			l.expect(10*second, "")
		},
	} {
		t.Run(name, func(t *testing.T) {
			inLab(t, func(l *lab) {
				l.passes("INVITE", l.arrive(true, 1))
				script(l)
			})
		})
	}
}

// TestAckOfNobody: of an INVITE that was refused while it waited for its browser,
// the browser gets no ACK.
func TestAckOfNobody(t *testing.T) {
	inLab(t, func(l *lab) {
		l.passes("INVITE", l.arrive(true, 0))
		l.reply(true, 480, "480")
		l.expect(second, "480@0.5")
		l.absorbs("ACK", l.ackRefusal(1))
		l.absorbs("ACK again", l.ackRefusal(1))
		l.expect(10*second, "")
	})
}

// ackRefusal is the ACK of a refusal, which has its INVITE's branch.
func (l *lab) ackRefusal(flow uint64) bool { return l.AckArrived(transactionID, dialogID, flow) }

// ackAccepted is that of a 2xx, with a branch of its own.
func (l *lab) ackAccepted(flow uint64) bool { return l.AckArrived(99, dialogID, flow) }

// TestRepliesAfterRestart: what was relayed before a restart is answered after it.
func TestRepliesAfterRestart(t *testing.T) {
	for name, script := range map[string]func(l *lab){
		"request": func(l *lab) {
			l.reply(false, 200, "200")
			l.absorbs("copy", l.arrive(false, 1))
			l.expect(second, "200@0")
		},
		"INVITE": func(l *lab) {
			l.reply(true, 486, "486")
			l.expect(second, "486@0.5")
			l.passes("ACK", l.ackRefusal(1))
			l.absorbs("ACK again", l.ackRefusal(1))
		},
		"ringing": func(l *lab) {
			l.reply(true, 180, "180")
			l.until(500 * ms)
			l.absorbs("copy", l.arrive(true, 1))
			l.expect(3*second, "180@0.5 180@0.5 180@1.5")
		},
		"ACK": func(l *lab) { l.passes("ACK", l.ackAccepted(1)) },
		"responses": func(l *lab) {
			l.passes("1xx", l.answer(100))
			l.passes("final", l.answer(200))
			l.passes("1xx to an INVITE", l.answerInvite(180))
			l.passes("refusal", l.answerInvite(486))
			l.passes("refusal again", l.answerInvite(486))
		},
	} {
		t.Run(name, func(t *testing.T) { inLab(t, script) })
	}
}
