package gateway

import (
	"fmt"
	"io"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"viaduct/rewrite"
)

// TestTimeToMove: who is moved when, as the health of two upstreams changes.
func TestTimeToMove(t *testing.T) {
	const interval = 10 * time.Second
	epoch := time.Now()
	at := func(seconds int) time.Time { return epoch.Add(time.Duration(seconds) * time.Second) }
	type change struct {
		upstream int
		to       condition
		at       int
	}
	for _, test := range []struct {
		name    string
		changes []change
		on      int // where the browser is registered
		since   int // when it connected
		busy    bool
		now     int
		want    time.Duration // -1: it stays
	}{
		{"nothing has happened", nil, 0, 1, false, 100, -1},
		{"registered elsewhere all the time", nil, 1, 1, false, 100, -1},
		{"the first is suspected", []change{{0, suspected, 50}}, 0, 1, false, 51, -1},
		{"the first is dead", []change{{0, suspected, 50}, {0, dead, 51}}, 0, 1, false, 53, 7 * time.Second},
		{"and the browser has a call", []change{{0, dead, 50}}, 0, 1, true, 53, 7 * time.Second},
		{"and time is over", []change{{0, dead, 50}}, 0, 1, false, 62, -2 * time.Second},
		{"and the browser came later", []change{{0, dead, 50}}, 0, 51, false, 53, -1},
		{"and the browser is elsewhere", []change{{0, dead, 50}}, 1, 1, false, 53, -1},
		{"both are dead", []change{{0, dead, 50}, {1, dead, 51}}, 0, 1, false, 53, -1},
		{"both were dead and the second has returned", []change{{0, dead, 50}, {1, dead, 51}, {1, alive, 80}}, 0, 1, false, 82, 8 * time.Second},
		{"the first has returned to its own", []change{{0, dead, 50}, {0, alive, 55}}, 0, 1, false, 56, -1},
		{"the first has just returned", []change{{0, dead, 50}, {0, alive, 100}}, 1, 60, false, 109, -1},
		{"the first has returned to stay", []change{{0, dead, 50}, {0, alive, 100}}, 1, 60, false, 120, 50 * time.Second},
		{"and the browser has a call", []change{{0, dead, 50}, {0, alive, 100}}, 1, 60, true, 120, forever},
		{"and the browser came later", []change{{0, dead, 50}, {0, alive, 100}}, 1, 111, false, 120, -1},
		{"and died again", []change{{0, dead, 50}, {0, alive, 100}, {0, dead, 115}}, 1, 60, false, 120, -1},
		{"the second is dead", []change{{1, dead, 50}}, 0, 1, false, 53, -1},
	} {
		t.Run(test.name, func(t *testing.T) {
			g, err := New(Config{Upstreams: upstreams(t, "sip:10.0.0.1", "sip:10.0.0.2"), HealthInterval: interval})
			if err != nil {
				t.Fatal(err)
			}
			for _, up := range g.upstreams {
				up.route.Store(&route{legs: [numProtos]*leg{{upstream: up}}})
			}
			for _, c := range test.changes {
				if up := g.upstreams[c.upstream]; c.to == alive {
					up.rise(at(c.at))
				} else {
					up.fall(c.to, at(c.at))
				}
			}
			id := rewrite.ClientID(1)
			aor := []byte("alice@pbx.example")
			f := &flow{since: instantOf(at(test.since)), seen: []contact{{
				client: id, registered: true, text: aor, ends: [3]uint32{0, uint32(len(aor)), uint32(len(aor))},
			}}}
			if test.busy {
				f.activity.dialog(1)
			}
			left, moves := g.timeToMove(placement{f, id, g.upstreams[test.on]}, at(test.now))
			if !moves {
				left = -1
			}
			if left != test.want {
				t.Errorf("%v left, want %v", left, test.want)
			}
		})
	}
}

// TestBrowsersOfTheDead: browsers that are registered with a server that died
// are told to connect again, spread over a health interval; the others are left alone.
func TestBrowsersOfTheDead(t *testing.T) {
	t.Parallel()
	l, servers := serversOf(t, 2, time.Second, func(c *Config) { c.Policy = PolicyHash })
	var there, here []*phone
	for i := range 40 {
		p := l.phone(fmt.Sprint("user", i))
		p.registerAnywhere()
		if l.gw.byPolicy([]byte(p.user+"@pbx.example")) == l.gw.upstreams[0] {
			there = append(there, p)
		} else {
			here = append(here, p)
		}
	}
	died := time.Now()
	servers[0].mute.Store(silent)
	moments := closings(there, died)
	within(t, died, 2*time.Second+slack)
	expectSpread(t, moments, time.Second)
	for _, p := range slices.Concat(here, []*phone{there[0].again(l)}) {
		servers[1].expect(p.registerAnywhere())
	}
	if n := l.gw.stats.moved.Load(); n != uint64(len(there)) {
		t.Errorf("%d moved, want %d", n, len(there))
	}
}

// TestBrowsersGoBack: once a server has returned, and has stayed, its browsers
// go back to it, and no faster than they must.
func TestBrowsersGoBack(t *testing.T) {
	t.Parallel()
	l, servers := serversOf(t, 2, time.Second)
	servers[0].mute.Store(silent)
	l.log.await("upstream down", 1)
	phones := make([]*phone, 12)
	for i := range phones {
		phones[i] = l.phone(fmt.Sprint("user", i))
		servers[1].expect(phones[i].registerAnywhere())
	}
	servers[0].mute.Store(answersAll)
	l.log.await("upstream up", 1)
	back := time.Now()
	moments := closings(phones, back)
	if first := moments[0]; first < time.Second/2 { // the log is read late
		t.Errorf("the first goes back after %v", first)
	}
	within(t, back, 7*time.Second+slack)
	expectSpread(t, moments, 6*time.Second)
	p := phones[0].again(l)
	servers[0].expect(p.registerAnywhere())
}

// closings waits until every phone is told to connect again, and returns when
// each was, counted from a moment, in order.
func closings(phones []*phone, from time.Time) []time.Duration {
	moments := make([]time.Duration, len(phones))
	var waiting sync.WaitGroup
	for i, p := range phones {
		waiting.Go(func() {
			p.expectRestart()
			moments[i] = time.Since(from)
		})
	}
	waiting.Wait()
	slices.Sort(moments)
	return moments
}

// expectRestart reads nothing but pings and the close frame that says so, and
// answers that; the package's own reader does not know its code.
func (b *browser) expectRestart() {
	_ = b.conn.SetReadDeadline(time.Now().Add(2 * patience))
	header, err := ws.ReadHeader(b.conn)
	for err == nil && header.OpCode == ws.OpPing {
		header, err = ws.ReadHeader(b.conn) // it has no payload
	}
	payload := make([]byte, header.Length)
	if err == nil {
		_, err = io.ReadFull(b.conn, payload)
	}
	if code, _ := ws.ParseCloseFrameData(payload); err != nil || code != statusServiceRestart {
		b.t.Errorf("read %+v, %v, want close %d", header, err, statusServiceRestart)
		return
	}
	_ = ws.WriteFrame(b.conn, ws.MaskFrame(ws.NewCloseFrame(payload)))
}

// expectSpread checks that what happened in a span of time did not happen at once.
func expectSpread(t *testing.T, moments []time.Duration, over time.Duration) {
	t.Helper()
	if wide := moments[len(moments)-1] - moments[0]; wide < over/3 {
		t.Errorf("within %v of %v: %v", wide, over, moments)
	}
	for i, from := range moments {
		together := 0
		for _, m := range moments[i:] {
			if m < from+over/10 {
				together++
			}
		}
		if together > len(moments)*2/3 {
			t.Errorf("%d of %d in a tenth of the time: %v", together, len(moments), moments)
		}
	}
}
