package transaction

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// sink is a table's configuration that sends nowhere.
func sink(max, maxBytes int) Config {
	return Config{Max: max, MaxBytes: maxBytes, Send: func(Peer, uint64, []byte) {}, Unanswered: func(Peer, []byte) {}}
}

// TestRunSleeps: an empty table costs nothing, and wakes up whenever something
// comes, at whatever time.
func TestRunSleeps(t *testing.T) {
	inLab(t, func(l *lab) {
		for _, at := range []time.Duration{0, 3*time.Minute + 7*ms, 70 * time.Hour, 71 * time.Hour} {
			l.until(at)
			l.Sent(transactionID, false, l.message("R"))
			l.pass(700 * ms)
			l.answer(200)
			l.pass(T4 + tick)
			l.expectGone()
			if len(l.log) != 1 {
				l.Errorf("%v: sent %q", at, l.log)
			}
			l.log = nil
		}
	})
}

// TestRunEnds: whether there is anything to do or not.
func TestRunEnds(t *testing.T) {
	for name, busy := range map[string]bool{"empty": false, "busy": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				table := New(sink(10, 1<<20))
				ctx, cancel := context.WithCancel(t.Context())
				ended := make(chan struct{})
				go func() {
					table.Run(ctx)
					close(ended)
				}()
				if busy {
					table.Sent(1, false, &Message{Bytes: []byte("R"), To: server})
				}
				<-time.After(second)
				cancel()
				<-ended
			})
		})
	}
}

// TestLate: a process that stood still sends each message once, not for each
// time that it missed, and goes on from there.
func TestLate(t *testing.T) {
	for pause, want := range map[time.Duration]string{
		6 * second:   "R@6.025 R@7.025 R@9.025 R@13.025 R@17.025 R@21.025 R@25.025 R@29.025 unanswered@32",
		33 * second:  "unanswered@33.025",
		60 * second:  "unanswered@60.025",
		300 * second: "unanswered@300.025",
	} {
		t.Run(pause.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLab(t)
				l.Sent(transactionID, false, l.message("R"))
				l.until(pause)
				go l.Table.Run(t.Context())
				l.expect(pause+40*second, want)
				l.expectGone()
			})
		})
	}
}

// TestHeardLate: what comes when a transaction should have ended makes it no longer.
func TestHeardLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		l.Sent(transactionID, false, l.message("R"))
		l.until(33 * second)
		l.passes("1xx", l.answer(100))
		go l.Table.Run(t.Context())
		l.expect(34*second, "")
		l.expectGone()
	})
}

// TestBatchesAreBounded: what is due at once is copied in portions.
func TestBatchesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sent := 0
		cfg := sink(1000, 64<<20)
		cfg.Send = func(Peer, uint64, []byte) { sent++ }
		table := New(cfg)
		m := Message{Bytes: make([]byte, 3000), To: server}
		for id := range uint64(1000) {
			table.Sent(id, true, &m)
		}
		<-time.After(T1)
		var due batch
		table.advance(time.Now(), &due)
		if sent != 1000 || cap(due.text) > 2*maxBatch {
			t.Errorf("%d were sent, from %d bytes", sent, cap(due.text))
		}
	})
}

// TestTicksWrap: the count of ticks starts anew after three years.
func TestTicksWrap(t *testing.T) {
	for _, before := range []time.Duration{0, tick, 20 * tick, 100 * tick, 1280 * tick} {
		t.Run(before.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLab(t)
				l.wheel.start = l.wheel.start.Add(before - tick<<32)
				go l.Table.Run(t.Context())
				l.Sent(transactionID, true, l.message("I"))
				l.Arrived(transactionID+1, true, 1)
				l.expect(40*second, "I@0.5 I@1.5 I@3.5 I@7.5 I@15.5 I@31.5 unanswered@32")
				l.absorbs("INVITE", l.Arrived(transactionID+1, true, 1))
				l.until(pending + second)
				l.expectGone()
			})
		})
	}
}

// TestSendCallsBack: what sends may use the table, for it is not locked.
func TestSendCallsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		m := Message{Bytes: []byte("A"), To: server}
		depth := 0
		l.cfg.Send = func(_ Peer, _ uint64, msg []byte) {
			l.note(string(msg))
			if depth++; depth < 3 {
				l.answerInvite(200)
			}
			l.Sent(7, false, &m)
			l.Failed(7, nil)
			l.Stats()
		}
		l.cfg.Unanswered = func(Peer, []byte) { l.Sent(8, false, &m) }
		l.Acked(0, dialogID, &m)
		go l.Table.Run(t.Context())
		l.absorbs("2xx", l.answerInvite(200))
		l.Arrived(9, true, 1)
		l.Replied(9, Reply{Invite: true, Status: 486}, &m)
		l.expect(second, "A@0 A@0 A@0 A@0.5")
		l.Sent(transactionID, false, l.message("R"))
		l.until(34 * second)
		if s := l.Stats(); s.Messages != 1 {
			t.Errorf("nothing was sent when one was unanswered: %+v", s)
		}
	})
}

// bound is a table with room for a few messages only.
func bound(t *testing.T, max, maxBytes int, script func(l *lab)) {
	inLab(t, func(l *lab) {
		l.store.max, l.store.maxBytes = max, maxBytes
		script(l)
	})
}

// TestBounds: past each bound a message is relayed without state and counted, and
// what comes again is passed on again.
func TestBounds(t *testing.T) {
	other := &Message{Bytes: []byte("other"), To: server, Flow: 2}
	for name, test := range map[string]struct {
		max, maxBytes int
		fill          func(l *lab)
	}{
		"messages": {3, 1 << 20, func(l *lab) {
			for id := range uint64(3) {
				l.Sent(100+id, false, other)
			}
		}},
		"bytes": {100, 4 << 10, func(l *lab) {
			l.Sent(100, false, &Message{Bytes: make([]byte, 3<<10), To: server})
		}},
		"connection": {100, 1 << 20, func(l *lab) {
			for id := range uint64(maxPerFlow) {
				l.Sent(100+id, false, l.message("R"))
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			bound(t, test.max, test.maxBytes, func(l *lab) {
				test.fill(l)
				l.expectNoRoom(5)
				if name != "connection" { // where what the SIP server asked for is not counted
					l.expectAnswerNotHeld()
				}
				for id := range uint64(maxPerFlow) {
					l.Failed(100+id, nil)
				}
				l.Sent(transactionID, false, l.message("R"))
				l.answer(200)
				l.absorbs("final now that there is room", l.answer(200))
			})
		})
	}
}

// expectNoRoom checks that all is relayed without state, counted so often.
func (l *lab) expectNoRoom(stateless uint64) {
	l.Helper()
	before := l.Stats()
	l.Sent(transactionID, false, l.message("R"))
	for range 3 {
		l.passes("response to a request", l.answer(200))
	}
	l.Sent(transactionID, true, l.message("I"))
	for range 3 {
		l.passes("refusal", l.answerInvite(486))
		l.Substitute(transactionID, l.message("own"))
	}
	for range 2 {
		l.passes("2xx", l.answerInvite(200))
		l.Acked(0, dialogID, l.message("A"))
	}
	l.reply(true, 486, "486")
	after := l.Stats()
	if got := after.Stateless - before.Stateless; got != stateless {
		l.Errorf("%d were counted as relayed without state, want %d", got, stateless)
	}
	after.Stateless = before.Stateless
	if after != before {
		l.Errorf("was %+v, is %+v", before, after)
	}
}

// expectAnswerNotHeld checks that a request whose answer finds no room passes again.
func (l *lab) expectAnswerNotHeld() {
	l.Helper()
	for _, what := range []string{"request", "request whose response is not held", "request as before"} {
		l.passes(what, l.arrive(false, 1))
		l.reply(false, 200, "200")
	}
}

// TestNoRoomForLaterMessages: what a transaction is to hold next may not fit.
func TestNoRoomForLaterMessages(t *testing.T) {
	big := Message{Bytes: make([]byte, 3000), To: server}
	for name, script := range map[string]func(l *lab){
		"ACK of a refusal": func(l *lab) {
			l.Sent(transactionID, true, l.message("I"))
			l.answerInvite(486)
			l.Acked(transactionID, dialogID, &big)
			l.passes("refusal", l.answerInvite(486))
		},
		"own ACK": func(l *lab) {
			l.Sent(transactionID, true, l.message("I"))
			l.answerInvite(486)
			l.Substitute(transactionID, &big)
			l.absorbs("refusal before the browser's ACK", l.answerInvite(486))
			l.passes("refusal for the next connection", l.answerInviteOn(2, 486))
		},
		"ACK of a 2xx": func(l *lab) {
			l.answerInvite(200)
			l.Acked(0, dialogID, &big)
			l.passes("2xx", l.answerInvite(200))
		},
		"another ACK": func(l *lab) {
			l.answerInvite(200)
			l.Acked(0, dialogID, l.message("A"))
			l.Acked(0, dialogID, &big)
			l.passes("2xx", l.answerInvite(200))
		},
		"final response": func(l *lab) {
			l.arrive(true, 1)
			l.reply(true, 180, "180")
			l.Replied(transactionID, Reply{Invite: true, Status: 200}, &big)
			l.passes("INVITE", l.arrive(true, 1))
		},
	} {
		t.Run(name, func(t *testing.T) {
			bound(t, 10, 1<<10, func(l *lab) {
				script(l)
				if s := l.Stats(); s.Stateless != 1 || s.Messages != 0 {
					l.Errorf("%+v", s)
				}
			})
		})
	}
}

// TestTombstonesAreBounded: past a million of them, nothing is remembered, and
// nothing is absorbed.
func TestTombstonesAreBounded(t *testing.T) {
	inLab(t, func(l *lab) {
		for id := range uint64(maxTombstones) {
			l.Arrived(1<<32+id, false, 1)
		}
		if s := l.Stats(); s.Tombstones != maxTombstones || s.Stateless != 0 {
			t.Fatalf("%+v", s)
		}
		for range 3 {
			l.passes("request", l.arrive(false, 1))
			l.passes("2xx", l.answerInvite(200))
			l.passes("ACK", l.ackAccepted(1))
		}
		l.Sent(transactionID, true, l.message("I"))
		l.passes("refusal", l.answerInvite(486))
		l.passes("refusal", l.answerInvite(486))
		if s := l.Stats(); s.Tombstones != maxTombstones || s.Stateless != 10 {
			t.Errorf("%+v", s)
		}
		l.absorbs("request that is known", l.Arrived(1<<32, false, 1))
		l.until(33 * second)
		l.expectGone()
		if len(l.slab.chunks) != 0 || len(l.byID.heads) != 0 {
			t.Error("their memory is kept")
		}
	})
}

// TestConcurrentUse is for the race detector.
func TestConcurrentUse(t *testing.T) {
	var sent atomic.Int64
	cfg := sink(100, 1<<20)
	cfg.Send = func(Peer, uint64, []byte) { sent.Add(1) }
	synctest.Test(t, func(t *testing.T) {
		table := New(cfg)
		go table.Run(t.Context())
		var open atomic.Int32
		for worker := range uint64(8) {
			go func() {
				for n := range uint64(200) {
					use(table, worker%4<<8+n%50, &open)
					<-time.After(time.Duration(n%7) * 30 * ms)
				}
			}()
		}
		<-time.After(pending + Lifetime + 200*7*30*ms)
		synctest.Wait()
		expectEmpty(t, table)
		if open.Load() != 0 || sent.Load() == 0 {
			t.Errorf("%d are open, %d were sent again", open.Load(), sent.Load())
		}
	})
}

// use calls every method of a table.
func use(table *Table, id uint64, open *atomic.Int32) {
	m := Message{Bytes: make([]byte, 100+id), To: server, Flow: id % 3, Open: open}
	invite := id%2 == 0
	a := Response{Invite: invite, Status: 100 * int(1+id%5), Hash: uint32(id), Dialog: 1<<40 + id, Flow: id % 3}
	table.Sent(id, invite, &m)
	if table.Answered(id, &a) && len(a.Invited) > 0 {
		table.Substitute(id, &m)
	}
	table.Answered(id, &a)
	table.Acked(id, 1<<40+id, &m)
	table.Answered(id, &a)
	table.Failed(id, nil)
	table.Arrived(1<<41+id, invite, id%3)
	table.Replied(1<<41+id, Reply{Invite: invite, Status: 100 * int(1+id%5)}, &m)
	table.Arrived(1<<41+id, invite, id%3)
	table.AckArrived(1<<41+id, 1<<42+id, id%3)
	table.Stats()
}
