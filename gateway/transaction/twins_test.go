package transaction

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// twins are a table and its model, which are told the same.
type twins struct {
	*testing.T
	*rand.Rand
	table *Table
	model *model
	sent  []string // by the table
	open  [4]atomic.Int32
	due   batch
	n     int
}

// TestModel checks that a table does what its model does, whichever bound it
// meets, and that nothing is left of it in the end.
func TestModel(t *testing.T) {
	for name, bounds := range map[string]struct{ max, maxBytes int }{
		"messages":   {80, 1 << 20},
		"bytes":      {1000, 80 << 10},
		"connection": {1000, 1 << 20},
	} {
		t.Run(name, func(t *testing.T) {
			seed := uint64(time.Now().UnixNano())
			t.Logf("seed %d", seed)
			synctest.Test(t, func(t *testing.T) {
				tw := newTwins(t, seed, bounds.max, bounds.maxBytes)
				tw.live(35_000)
				tw.end()
			})
		})
	}
}

func newTwins(t *testing.T, seed uint64, max, maxBytes int) *twins {
	tw := &twins{
		T: t, Rand: rand.New(rand.NewPCG(seed, 0)),
		model: &model{max: max, maxBytes: maxBytes, open: map[uint64]int{}},
	}
	tw.table = New(Config{
		Max: max, MaxBytes: maxBytes,
		Send:       func(_ Peer, _ uint64, msg []byte) { tw.sent = append(tw.sent, string(msg)) },
		Unanswered: func(Peer, []byte) { tw.sent = append(tw.sent, "unanswered") },
	})
	return tw
}

func (tw *twins) live(operations int) {
	for tw.n = range operations {
		tw.pass()
		tw.operate()
		if tw.n%8 == 0 {
			tw.compare()
		}
		if tw.Failed() {
			tw.Fatalf("at operation %d", tw.n)
		}
	}
	if s := tw.table.Stats(); s.Stateless < 100 {
		tw.Errorf("the bound was hardly met: %+v", s)
	}
}

// end lets everything have its time.
func (tw *twins) end() {
	<-time.After(pending + Lifetime)
	tw.advance()
	tw.compare()
	expectEmpty(tw.T, tw.table)
}

// pass lets some time pass, and mostly has the timers run, as late as they may be.
func (tw *twins) pass() {
	switch n := tw.IntN(100); {
	case n == 0:
		<-time.After(time.Duration(tw.IntN(400)) * tick)
	case n < 50:
		<-time.After(time.Duration(tw.IntN(12)) * tick)
	}
	if tw.IntN(4) != 0 {
		tw.advance()
	}
}

func (tw *twins) advance() {
	now := time.Now()
	tw.table.advance(now, &tw.due)
	tw.model.advance(now)
}

// id picks one of few, so that most are known.
func (tw *twins) id(space, of uint64) uint64 {
	return (space<<32 + tw.Uint64N(of)) * 0x9E3779B97F4A7C15
}

func (tw *twins) message() *Message {
	flow := 1 + tw.Uint64N(2)*tw.Uint64N(3) // mostly 1
	text := fmt.Sprintf("%d %0*d", tw.n, tw.IntN(1500), 0)
	return &Message{Bytes: []byte(text), To: server, Flow: flow, Open: &tw.open[flow]}
}

func (tw *twins) operate() {
	const up, down, dialogUp, dialogDown = 0, 2, 4, 5 // and one more where it is an INVITE
	invite := tw.IntN(2)
	upID, downID := tw.id(up+uint64(invite), 150), tw.id(down+uint64(invite), 150)
	isInvite, flow, now := invite == 1, tw.Uint64N(4), time.Now()
	status := []int{100, 180, 183, 200, 202, 404, 486, 603}[tw.IntN(8)]
	reliable := status > 100 && status < 200 && tw.IntN(4) == 0
	table, model := tw.table, tw.model
	switch tw.IntN(9) {
	case 0, 1:
		m := tw.message()
		table.Sent(upID, isInvite, m)
		model.Sent(now, upID, isInvite, m)
	case 2, 3:
		a := Response{
			Invite: isInvite, Status: status, Reliable: reliable, Hash: 2*uint32(status) + 1,
			Dialog: tw.id(dialogUp, 100), Flow: flow,
		}
		pass, invited := model.Answered(now, upID, &a)
		tw.same("Answered", table.Answered(upID, &a), pass)
		tw.same("Invited", string(a.Invited), string(invited))
		if len(invited) > 0 {
			m := tw.message()
			table.Substitute(upID, m)
			model.Substitute(upID, m)
		}
	case 4:
		m, id, dialog := tw.message(), tw.id(up+1, 150), tw.id(dialogUp, 100)
		table.Acked(id, dialog, m)
		model.Acked(now, id, dialog, m)
	case 5:
		if tw.IntN(10) == 0 {
			tw.same("Failed", string(table.Failed(upID, nil)), string(model.Failed(upID)))
		}
	case 6:
		tw.same("Arrived", table.Arrived(downID, isInvite, flow), model.Arrived(now, downID, isInvite, flow))
	case 7:
		m, a := tw.message(), Reply{Invite: isInvite, Status: status, Reliable: reliable}
		table.Replied(downID, a, m)
		model.Replied(now, downID, a, m)
	case 8:
		id, dialog := tw.id(down+1, 150), tw.id(dialogDown, 100)
		tw.same("AckArrived", table.AckArrived(id, dialog, flow), model.AckArrived(now, id, dialog, flow))
	}
}

func (tw *twins) same(what string, got, want any) {
	tw.Helper()
	if got != want {
		tw.Errorf("%s: %v, want %v", what, got, want)
	}
}

// compare checks what was sent, what is held and what was counted.
func (tw *twins) compare() {
	tw.Helper()
	slices.Sort(tw.sent) // those of one tick have no order
	slices.Sort(tw.model.sent)
	if !slices.Equal(tw.sent, tw.model.sent) {
		tw.Errorf("sent %q, want %q", tw.sent, tw.model.sent)
	}
	tw.sent, tw.model.sent = nil, nil
	want := tw.model.stats
	want.Messages, want.Bytes = tw.model.held()
	want.Tombstones = len(tw.model.entries) - want.Messages
	tw.same("stats", tw.table.Stats(), want)
	for flow := range tw.open {
		tw.same("open", int(tw.open[flow].Load()), tw.model.open[uint64(flow)])
	}
}
