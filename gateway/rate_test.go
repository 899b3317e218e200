package gateway

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

func TestBudget(t *testing.T) {
	b := budget{interval: 20 * time.Millisecond, burst: 200}
	const start = time.Hour
	var s spent
	took := func(now time.Duration, tries int) (n int) {
		for range tries {
			if s.take(b, now) {
				n++
			}
		}
		return n
	}
	for _, step := range []struct {
		name  string
		after time.Duration
		tries int
		want  int
	}{
		{"the burst", 0, 1000, 200},
		{"nothing is left", 0, 10, 0},
		{"a moment too early", 20*time.Millisecond - 1, 10, 0},
		{"one came back", 20 * time.Millisecond, 10, 1},
		{"50 in the next second", time.Second + 20*time.Millisecond, 1000, 50},
		{"all of it after four", 10 * time.Second, 1000, 200},
		{"and no more after an hour", time.Hour, 1000, 200},
	} {
		if got := took(start+step.after, step.tries); got != step.want {
			t.Errorf("%s: %d, want %d", step.name, got, step.want)
		}
	}
}

// TestBudgetOfMany: what is taken at the same time by several is taken once.
func TestBudgetOfMany(t *testing.T) {
	b := budget{interval: time.Second, burst: 1000}
	var s spent
	var n atomic.Int64
	var takers sync.WaitGroup
	for range 8 {
		takers.Go(func() {
			for range 1000 {
				if s.take(b, time.Hour) {
					n.Add(1)
				}
			}
		})
	}
	takers.Wait()
	if n.Load() != 1000 {
		t.Errorf("%d were taken of 1000", n.Load())
	}
}

func TestCharge(t *testing.T) {
	b := budget{interval: 10 * time.Second, burst: 10}
	var s spent
	for want := 1; want <= 20; want++ {
		if got := s.charge(b, time.Hour); got != want {
			t.Errorf("%d count after %d", got, want)
		}
	}
	if got := s.charge(b, time.Hour); got != 20 {
		t.Errorf("%d count, which are never forgiven", got)
	}
	for after, want := range map[time.Duration]int{1: 20, 10 * time.Second: 19, 15 * time.Second: 19, 195 * time.Second: 1, 200 * time.Second: 0, time.Hour: 0} {
		if got := s.count(b, time.Hour+after); got != want {
			t.Errorf("%d count after %v, want %d", got, after, want)
		}
	}
	s.set(b, time.Hour, 3)
	if got := s.count(b, time.Hour); got != 3 {
		t.Errorf("%d count, want 3", got)
	}
}

// slowly lets a connection send few requests, and gives next to none back while a
// test runs.
func slowly(c *Config) { c.Rate, c.Burst = 1, 20 }

// TestOverRate: past --burst initial requests get 503 with Retry-After, and what
// belongs to those before is let through: the CANCEL and the ACK of an INVITE,
// requests in a dialog, and responses.
func TestOverRate(t *testing.T) {
	l := newLab(t, slowly)
	p := l.phone("mallory")
	own := l.registered(p)
	invite := p.invite("sip:bob@pbx.example")
	up := l.up(p, invite)
	const asked = 60
	requests := map[string]sip{}
	for range asked {
		req := p.request("OPTIONS", "sip:bob@pbx.example")
		requests[req.get("Call-ID")] = req
		p.send(req)
	}
	p.send(invite.as("CANCEL"))

	passed, got := 0, l.pbx.read()
	for ; got.method() == "OPTIONS"; got = l.pbx.read() {
		passed++
	}
	if got.method() != "CANCEL" || got.branch() != up.branch() {
		t.Fatalf("the PBX gets\n%s\ninstead of the CANCEL", got)
	}
	if passed == 0 || passed > 25 {
		t.Errorf("%d of %d are let through", passed, asked)
	}
	for range asked - passed {
		answer := p.read()
		expectAnswer(t, requests[answer.get("Call-ID")], answer, 503)
		if answer.get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
	}
	if n := l.gw.Dropped(ReasonOverRate); n != uint64(asked-passed) {
		t.Errorf("%d are counted of %d", n, asked-passed)
	}

	l.down(p, got.reply("200 OK"))
	failed := l.down(p, up.reply("487 Request Terminated"))
	l.up(p, invite.as("ACK").set("To", failed.get("To")))
	bye := l.up(p, p.request("BYE", "sip:bob@"+l.pbx.addr()).set("To", "<sip:bob@pbx.example>;tag=bob"))
	l.down(p, bye.reply("200 OK"))
	l.expectReached(p, own)
	t.Logf("attack: %s | %s | %s", "more requests than --rate", fmt.Sprintf("%d of %d answered 503 with Retry-After; the CANCEL, ACK and BYE of its calls went through", asked-passed, asked),
		`viaduct_dropped_total{reason="over_rate"}`)
}

// TestFarOverRate: who floods with anything is closed, and no neighbour feels it.
func TestFarOverRate(t *testing.T) {
	invited := func(p *phone) sip { return p.invite("sip:bob@pbx.example") }
	for name, make := range map[string]func(*phone) sip{
		"initial requests":     invited,
		"requests in a dialog": func(p *phone) sip { return invited(p).set("To", "<sip:bob@pbx.example>;tag=x") },
		"ACKs":                 func(p *phone) sip { return invited(p).as("ACK") },
		"CANCELs":              func(p *phone) sip { return invited(p).as("CANCEL") },
		"responses":            func(p *phone) sip { return invited(p).reply("200 OK") },
		"garbage":              func(*phone) sip { return "hello" },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, slowly)
			beside := l.phone("alice")
			token := l.registered(beside)
			p := l.phone("mallory")
			const sent = 300
			for range sent {
				_ = wsutil.WriteClientText(p.conn, []byte(make(p))) // it is closed in the end
			}
			answers := p.readUntilClosed(ws.StatusPolicyViolation)
			if answers > 100 {
				t.Errorf("%d were answered", answers)
			}
			l.log.await("browser gone", 1)
			values, _ := l.gathered(l.gw.registry())
			for name, want := range map[string]float64{
				`viaduct_connections_closed_total{cause="rate"}`: 1, `viaduct_dropped_total{reason="far_over_rate"}`: 1,
			} {
				if values[name] != want {
					t.Errorf("%s is %v, want %v", name, values[name], want)
				}
			}
			l.down(beside, l.pbx.request("OPTIONS", token))
			t.Logf("attack: %s | %s | %s", "a flood of "+name, "closed 1008 after at most 100 of them, the neighbour is reached",
				`viaduct_connections_closed_total{cause="rate"}`)
		})
	}
}

// TestNoRate: a negative Rate is none.
func TestNoRate(t *testing.T) {
	l := newLab(t, func(c *Config) { c.Rate, c.Burst = -1, 1 })
	p := l.phone("alice")
	for range 100 {
		l.up(p, p.request("OPTIONS", "sip:bob@pbx.example"))
	}
}
