package transaction

import (
	"testing"
	"time"
)

const (
	ms     = time.Millisecond
	second = time.Second
)

// TestRequestUp: what is no INVITE is "resent at T1 doubling to T2, every T2
// after a 1xx, until a final or 64·T1; then a tombstone for T4".
func TestRequestUp(t *testing.T) {
	for name, script := range map[string]func(l *lab){
		"never answered": func(l *lab) {
			l.expect(40*second, "R@0.5 R@1.5 R@3.5 R@7.5 R@11.5 R@15.5 R@19.5 R@23.5 R@27.5 R@31.5 unanswered@32")
			l.expectGone()
			l.passes("a response after all", l.answer(200))
		},
		"answered": func(l *lab) {
			l.until(2 * second)
			l.passes("first final", l.answer(200))
			l.absorbs("second final", l.answer(200))
			l.absorbs("late 1xx", l.answer(100))
			l.expect(6900*ms, "R@0.5 R@1.5")
			l.absorbs("final within T4", l.answer(200))
			l.until(7050 * ms)
			l.expectGone()
			l.passes("final after T4", l.answer(200))
		},
		"answered at once": func(l *lab) {
			l.passes("final", l.answer(404))
			l.expect(40*second, "")
		},
		"1xx": func(l *lab) {
			l.until(600 * ms)
			l.passes("1xx", l.answer(100))
			l.absorbs("1xx again", l.answer(100))
			l.passes("another 1xx", l.answer(182))
			l.expect(40*second, "R@0.5 R@4.6 R@8.6 R@12.6 R@16.6 R@20.6 R@24.6 R@28.6")
			l.expectGone()
		},
		"1xx in the end": func(l *lab) {
			l.until(31 * second)
			l.answer(100)
			l.expect(32*second, "R@0.5 R@1.5 R@3.5 R@7.5 R@11.5 R@15.5 R@19.5 R@23.5 R@27.5")
			l.expectGone()
		},
		"final after 1xx": func(l *lab) {
			l.answer(100)
			l.until(5 * second)
			l.passes("final", l.answer(200))
			l.expect(40*second, "R@4")
		},
		"final again on another connection": func(l *lab) {
			l.passes("first", l.answerOn(1, 200))
			l.absorbs("with no connection", l.answerOn(0, 200))
			l.passes("on the next connection", l.answerOn(2, 200))
			l.absorbs("and again", l.answerOn(2, 200))
		},
		"final without a connection": func(l *lab) {
			l.passes("first", l.answerOn(0, 200))
			l.absorbs("again", l.answerOn(0, 200))
			l.passes("on a connection", l.answerOn(2, 200))
		},
		"sent by the browser again": func(l *lab) {
			l.until(700 * ms)
			l.Sent(transactionID, false, l.message("again"))
			l.expect(2*second, "R@0.5 R@1.5")
			if s := l.Stats(); s.Messages != 1 || s.Stateless != 0 {
				l.Errorf("%+v", s)
			}
		},
		"failed": func(l *lab) {
			if got := string(l.Failed(transactionID, []byte("> "))); got != "> R" {
				l.Errorf("failed: %q", got)
			}
			l.expectGone()
			if got := l.Failed(transactionID, nil); got != nil {
				l.Errorf("failed again: %q", got)
			}
		},
		"failed once answered": func(l *lab) {
			l.answer(100)
			if got := l.Failed(transactionID, nil); got != nil {
				l.Errorf("failed: %q", got)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inLab(t, func(l *lab) {
				l.Sent(transactionID, false, l.message("R"))
				script(l)
			})
		})
	}
}

// TestInviteUp: it is "resent at T1 doubling until any response or 64·T1".
func TestInviteUp(t *testing.T) {
	for name, script := range map[string]func(l *lab){
		"never answered": func(l *lab) {
			l.expect(40*second, "I@0.5 I@1.5 I@3.5 I@7.5 I@15.5 I@31.5 unanswered@32")
			l.expectGone()
		},
		"1xx": func(l *lab) {
			l.until(1600 * ms)
			l.passes("100", l.answerInvite(100))
			l.absorbs("100 again", l.answerInvite(100))
			l.passes("180", l.answerInvite(180))
			l.absorbs("180 again", l.answerInvite(180))
			l.passes("183", l.answerInvite(183))
			l.absorbs("180 once more", l.answerInvite(180))
			l.passes("180 on another connection", l.answerInviteOn(2, 180))
			l.absorbs("180 there again", l.answerInviteOn(2, 180))
			l.expect(3*time.Minute, "I@0.5 I@1.5")
			l.absorbs("180 that keeps it alive", l.answerInviteOn(2, 180))
			l.until(6 * time.Minute)
			l.absorbs("180 as long as that", l.answerInviteOn(2, 180))
			l.expect(11*time.Minute, "")
			l.expectGone()
		},
		"reliable 1xx": func(l *lab) {
			for range 3 {
				l.passes("reliable 183", l.Answered(transactionID, &Response{
					Invite: true, Status: 183, Reliable: true, Hash: 1, Flow: 1,
				}))
			}
			l.passes("final", l.answerInvite(486))
			l.passes("reliable 183 after that", l.Answered(transactionID, &Response{
				Invite: true, Status: 183, Reliable: true, Hash: 1, Flow: 1,
			}))
		},
		"failed": func(l *lab) {
			if got := string(l.Failed(transactionID, nil)); got != "I" {
				l.Errorf("failed: %q", got)
			}
			l.expectGone()
		},
	} {
		t.Run(name, func(t *testing.T) {
			inLab(t, func(l *lab) {
				l.Sent(transactionID, true, l.message("I"))
				script(l)
			})
		})
	}
}

// TestAcceptedUp: "a repeated 2xx is absorbed and that ACK resent; the first 2xx
// of each To tag is always forwarded".
func TestAcceptedUp(t *testing.T) {
	for name, script := range map[string]func(l *lab){
		"ACK lost": func(l *lab) {
			l.absorbs("2xx before the ACK", l.answerInvite(200))
			l.expect(1100*ms, "")
			l.Acked(0, dialogID, l.message("A"))
			l.absorbs("2xx", l.answerInvite(200))
			l.expect(2*second, "A@1.1")
			l.absorbs("2xx on another connection", l.answerInviteOn(2, 200))
			l.absorbs("2xx without a connection", l.answerInviteOn(0, 200))
			l.expect(32*second, "A@2 A@2")
			l.until(33 * second)
			l.expectGone()
		},
		"each To tag": func(l *lab) {
			l.Acked(0, dialogID, l.message("A"))
			fork := Response{Invite: true, Status: 200, Hash: 9, Dialog: otherDialogID, Flow: 1}
			l.passes("2xx of another To tag", l.Answered(transactionID, &fork))
			l.Acked(0, otherDialogID, l.message("B"))
			l.until(second)
			l.absorbs("2xx of the first", l.answerInvite(200))
			l.absorbs("2xx of the other", l.Answered(transactionID, &fork))
			l.expect(2*second, "A@1 B@1")
		},
		"connection lost before the ACK": func(l *lab) {
			l.absorbs("2xx for nobody", l.answerInviteOn(0, 200))
			l.passes("2xx on the next connection", l.answerInviteOn(2, 200))
			l.absorbs("2xx there again", l.answerInviteOn(2, 200))
		},
		"1xx after it": func(l *lab) { l.absorbs("180", l.answerInvite(180)) },
		"forgotten": func(l *lab) {
			l.until(33 * second)
			l.expectGone()
			l.passes("2xx after 64·T1", l.answerInvite(200))
		},
		"ACK after a restart": func(l *lab) {
			l.Acked(0, otherDialogID, l.message("A"))
			l.absorbs("2xx", l.Answered(7, &Response{Invite: true, Status: 200, Dialog: otherDialogID, Flow: 1}))
			l.expect(second, "A@0")
		},
		"ACK anew": func(l *lab) {
			l.Acked(0, dialogID, l.message("A"))
			l.Acked(0, dialogID, l.message("B"))
			l.answerInvite(200)
			l.expect(second, "B@0")
		},
	} {
		t.Run(name, func(t *testing.T) {
			inLab(t, func(l *lab) {
				l.Sent(transactionID, true, l.message("I"))
				l.passes("first 2xx", l.answerInvite(200))
				script(l)
			})
		})
	}
}

// TestRefusedUp: "that final is absorbed and the ACK resent; if the browser is
// gone, the gateway makes the ACK itself".
func TestRefusedUp(t *testing.T) {
	for name, script := range map[string]func(l *lab){
		"ACK lost": func(l *lab) {
			l.absorbs("final before the ACK", l.answerInvite(486))
			l.until(second)
			l.Acked(transactionID, dialogID, l.message("A"))
			for range 2 {
				l.absorbs("final", l.answerInvite(486))
			}
			l.absorbs("final for nobody", l.answerInviteOn(0, 486))
			l.absorbs("final on another connection", l.answerInviteOn(2, 486))
			l.absorbs("late 1xx", l.answerInvite(180))
			l.expect(31*second, "A@1 A@1 A@1 A@1")
			l.absorbs("final", l.answerInvite(486))
			l.expect(33*second, "A@31")
			l.expectGone()
			l.passes("final after 64·T1", l.answerInvite(486))
		},
		"connection lost": func(l *lab) {
			l.absorbs("final for nobody", l.answerInviteOn(0, 486))
			l.expect(second, "own@0")
			l.passes("final on the next connection", l.answerInviteOn(2, 486))
			l.absorbs("final there again", l.answerInviteOn(2, 486))
			l.expect(2*second, "own@1")
			l.Acked(transactionID, dialogID, l.message("A"))
			l.absorbs("final", l.answerInviteOn(2, 486))
			l.expect(3*second, "A@2")
		},
		"own ACK after the browser's": func(l *lab) {
			l.Acked(transactionID, dialogID, l.message("A"))
			l.Substitute(transactionID, l.message("late"))
			l.answerInvite(486)
			l.expect(second, "A@0")
		},
	} {
		t.Run(name, func(t *testing.T) {
			inLab(t, func(l *lab) {
				l.Sent(transactionID, true, l.message("I"))
				r := Response{Invite: true, Status: 486, Hash: 486, Flow: 1}
				l.passes("first final", l.Answered(transactionID, &r))
				if string(r.Invited) != "I" {
					t.Errorf("the ACK is to be made of %q", r.Invited)
				}
				l.Substitute(transactionID, l.message("own"))
				script(l)
			})
		})
	}
}

// TestRefusedForNobody: there was no connection from the first refusal on.
func TestRefusedForNobody(t *testing.T) {
	inLab(t, func(l *lab) {
		l.Sent(transactionID, true, l.message("I"))
		l.answerInvite(180)
		l.passes("first final", l.answerInviteOn(0, 486))
		l.Substitute(transactionID, l.message("own"))
		l.absorbs("final", l.answerInviteOn(0, 486))
		l.passes("final for who is back", l.answerInviteOn(2, 486))
		l.expect(second, "own@0 own@0")
	})
}
