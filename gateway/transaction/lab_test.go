package transaction

import (
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// server is where the SIP server is in tests.
var server = Peer{Addr: netip.MustParseAddrPort("192.0.2.1:5060")}

// lab is a table whose Run goes, in a bubble of fake time.
type lab struct {
	*testing.T
	*Table
	start time.Time
	open  atomic.Int32 // of connection 1

	mu  sync.Mutex
	log []string // what was sent, and when
}

// newLab returns one in the bubble of a test, before its Run goes.
func newLab(t *testing.T) *lab {
	l := &lab{T: t, start: time.Now()}
	l.Table = New(Config{
		Max: 100, MaxBytes: 1 << 20,
		Send: func(to Peer, _ uint64, msg []byte) {
			if to != server {
				t.Errorf("sent to %v", to)
			}
			l.note(string(msg))
		},
		Unanswered: func(to Peer, msg []byte) {
			if to != server || len(msg) == 0 {
				t.Errorf("%q to %v is unanswered", msg, to)
			}
			l.note("unanswered")
		},
	})
	return l
}

// inLab runs a script in fake time and checks that nothing is left at its end,
// when everything has had its time.
func inLab(t *testing.T, script func(l *lab)) {
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t)
		go l.Table.Run(t.Context())
		script(l)
		l.pass(pending + Lifetime)
		l.expectGone()
	})
}

// note logs an event with the seconds since the start.
func (l *lab) note(event string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.log = append(l.log, fmt.Sprintf("%s@%v", event, time.Since(l.start).Seconds()))
}

// pass lets time pass.
func (l *lab) pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// until lets time pass until then, since the start.
func (l *lab) until(at time.Duration) { l.pass(at - time.Since(l.start)) }

// expect checks, at a time since the start, what has been sent and when since it
// was asked the last time: "text@seconds …".
func (l *lab) expect(at time.Duration, want string) {
	l.Helper()
	l.until(at)
	l.mu.Lock()
	defer l.mu.Unlock()
	if got := strings.Join(l.log, " "); got != want {
		l.Errorf("%v: sent %q, want %q", at, got, want)
	}
	l.log = nil
}

// expectGone checks that nothing is left.
func (l *lab) expectGone() {
	l.Helper()
	if n := l.open.Load(); n != 0 {
		l.Errorf("%d are open on the connection", n)
	}
	expectEmpty(l.T, l.Table)
}

// expectEmpty checks that a table holds nothing at all.
func expectEmpty(t *testing.T, table *Table) {
	t.Helper()
	table.mu.Lock()
	defer table.mu.Unlock()
	if table.slab.count != 0 || table.store.count != 0 || table.store.bytes != 0 {
		t.Errorf("%d records, %d messages, %d bytes are left",
			table.slab.count, table.store.count, table.store.bytes)
	}
	for _, heads := range [][]uint32{table.byID.heads, table.wheel.heads[:]} {
		for i, head := range heads {
			if head != 0 {
				t.Errorf("record %d is left at %d of %d", head, i, len(heads))
			}
		}
	}
	for i := range table.store.all {
		if table.store.all[i] != (held{}) {
			t.Errorf("message %d is left", i)
		}
	}
}

// message is one of connection 1.
func (l *lab) message(text string) *Message {
	return &Message{Bytes: []byte(text), To: server, Flow: 1, Open: &l.open}
}

// expectPass checks whether a message is to be passed on.
func (l *lab) expectPass(what string, got, want bool) {
	l.Helper()
	if got != want {
		l.Errorf("%v: %s passes: %v, want %v", time.Since(l.start), what, got, want)
	}
}

func (l *lab) absorbs(what string, passed bool) { l.Helper(); l.expectPass(what, passed, false) }
func (l *lab) passes(what string, passed bool)  { l.Helper(); l.expectPass(what, passed, true) }

// The ids of tests.
const (
	transactionID = 0x1111
	dialogID      = 0x2222
	otherDialogID = 0x3333
)

// answer is a response to a request that is no INVITE, for connection 1.
func (l *lab) answer(status int) bool { return l.answerOn(1, status) }

func (l *lab) answerOn(flow uint64, status int) bool {
	return l.Answered(transactionID, &Response{Status: status, Hash: uint32(status), Flow: flow})
}

// answerInvite is one to an INVITE, with the To tag of dialogID.
func (l *lab) answerInvite(status int) bool { return l.answerInviteOn(1, status) }

func (l *lab) answerInviteOn(flow uint64, status int) bool {
	return l.Answered(transactionID, &Response{
		Invite: true, Status: status, Hash: uint32(status), Dialog: dialogID, Flow: flow,
	})
}
