package e2e

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
)

// lossyPhones is how many phones register and have a call each.
const lossyPhones = 500

// cycleTime is within what a call must be over: 64·T1 for its longest
// transaction and as much for all others.
const cycleTime = 70 * time.Second

// A lossRun is 500 registrations and 500 calls over a leg that loses datagrams.
type lossRun struct {
	t        *testing.T
	loss     float64
	aided    bool // viaduct resends
	impairer *Impairer
	pbx      *Kamailio
	via      *Viaduct
	host     Host
	fleet    *Fleet

	registered, succeeded int
	failures              []string
}

// TestLoss: phones register and call while datagrams are lost, doubled and
// overtake each other on the way between viaduct and the PBX. The same without
// resending shows that they are.
func TestLoss(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		loss  float64
		aided bool
		share float64 // of the registrations and of the calls that must succeed
	}{
		{"10", 0.10, true, 1},
		{"20", 0.20, true, 0.995},
		{"30", 0.30, true, 0.995},
		{"20 without resending", 0.20, false, 0},
	}
	rows := make([]string, len(tests))
	var all sync.WaitGroup
	for i, test := range tests {
		// They wait more than they work: all at once, however many tests run in parallel.
		all.Go(func() {
			t.Run(test.name, func(t *testing.T) {
				run := newLossRun(t, test.loss, test.aided)
				run.register()
				run.call()
				rows[i] = run.row()
				if test.aided {
					run.judge(test.share)
				} else {
					run.wantFailures()
				}
			})
		})
	}
	all.Wait()
	t.Log(lossTable(rows))
}

func newLossRun(t *testing.T, loss float64, aided bool) *lossRun {
	t.Helper()
	run := &lossRun{t: t, loss: loss, aided: aided, host: newNamespace(t)}
	run.pbx = startKamailio(t, run.host)
	run.impairer = startImpairer(t, run.host, run.pbx.UDP)
	launch := launchViaduct
	if !aided {
		launch = launchUnaided
	}
	run.via = launch(t, run.host,
		"--upstream=sip:"+run.impairer.TowardsViaduct.String(),
		"--advertise="+run.impairer.TowardsPBX.String())
	run.fleet = startFleet(t, run.via, lossyPhones, FleetOptions{Reconnect: time.Second, Ring: 2 * time.Second})
	t.Logf("%s=%d", seedVariable, run.impairer.Seed)
	return run
}

// impair makes the leg as bad as the run wants it.
func (r *lossRun) impair() {
	r.impairer.Set(Impairment{Loss: r.loss, Duplicate: 0.05, Delay: 0.1, MaxDelay: 100 * time.Millisecond})
}

// register registers every phone once under loss. Who failed registers again
// without, so that there are as many calls.
func (r *lossRun) register() {
	r.impair()
	missing := r.registerEach(r.fleet.Phones)
	r.registered = len(r.fleet.Phones) - len(missing)
	for phone, err := range missing {
		r.failed("registration", r.registrationOf(phone), err)
	}
	r.impairer.Set(Impairment{})
	var again []*FleetPhone
	for phone := range missing {
		again = append(again, phone)
	}
	for phone, err := range r.registerEach(again) {
		r.t.Fatalf("%s does not register without loss: %v", phone.User, err)
	}
}

// registerEach registers the phones, 100 a second, and returns those that failed.
func (r *lossRun) registerEach(phones []*FleetPhone) map[*FleetPhone]error {
	var mu sync.Mutex
	failed := map[*FleetPhone]error{}
	paced(phones, 100, func(phone *FleetPhone) {
		ctx, cancel := context.WithTimeout(r.t.Context(), cycleTime)
		defer cancel()
		if err := phone.register(ctx); err != nil {
			mu.Lock()
			defer mu.Unlock()
			failed[phone] = err
		}
	})
	return failed
}

// paced does do for each phone, so many of them begun a second, and returns when
// all are done.
func paced(phones []*FleetPhone, perSecond int, do func(*FleetPhone)) {
	var all sync.WaitGroup
	beat := time.NewTicker(time.Second / time.Duration(perSecond))
	defer beat.Stop()
	for _, phone := range phones {
		<-beat.C
		all.Go(func() { do(phone) })
	}
	all.Wait()
}

// call plays a Cycle with each phone under loss.
func (r *lossRun) call() {
	r.impair()
	var mu sync.Mutex
	var all sync.WaitGroup
	for kind, phones := range r.deal() {
		sipp := r.sipp(kind, phones)
		all.Go(func() {
			paced(phones, cyclesPerSecond*kind.Share/10, func(phone *FleetPhone) {
				c := &cycling{kind: kind, run: r, phone: phone, sipp: sipp}
				ctx, cancel := context.WithTimeout(r.t.Context(), cycleTime)
				defer cancel()
				err := c.play(ctx)
				mu.Lock()
				defer mu.Unlock()
				if err == nil {
					r.succeeded++
					return
				}
				r.failed(kind.Name, r.impairer.Call(c.id).All(), err)
			})
		})
	}
	all.Wait()
}

// cyclesPerSecond is how many calls begin in a second.
const cyclesPerSecond = 20

// deal gives each Cycle its share of the phones.
func (r *lossRun) deal() map[*Cycle][]*FleetPhone {
	var order []*Cycle
	for _, kind := range cycles {
		for range kind.Share {
			order = append(order, kind)
		}
	}
	dealt := map[*Cycle][]*FleetPhone{}
	for i, phone := range r.fleet.Phones {
		kind := order[i%len(order)]
		dealt[kind] = append(dealt[kind], phone)
	}
	return dealt
}

// sipp starts the other end of a Cycle's calls.
func (r *lossRun) sipp(kind *Cycle, phones []*FleetPhone) *Sipp {
	r.t.Helper()
	if !kind.Down {
		return startSipp(r.t, r.host, r.pbx, kind.Ladder, Calls(len(phones)), Tolerant())
	}
	var users []string
	for _, phone := range phones {
		users = append(users, phone.User)
	}
	return startSipp(r.t, r.host, r.pbx, kind.Ladder, ToEach(users, cyclesPerSecond*kind.Share/10), Tolerant())
}

func (r *lossRun) row() string {
	var count struct{ all, lost, doubled, delayed, resent int }
	for _, d := range r.impairer.All() {
		count.all++
		switch {
		case d.Lost:
			count.lost++
		case d.Copies > 1:
			count.doubled++
		}
		if d.Delayed {
			count.delayed++
		}
		if d.Repeated && d.Direction == Up {
			count.resent++
		}
	}
	return fmt.Sprintf("| %.0f %% | %s | %d of %d | %d of %d | %d | %d | %d | %d | %d |", 100*r.loss,
		map[bool]string{true: "on", false: "off"}[r.aided], r.registered, lossyPhones, r.succeeded, lossyPhones,
		count.all, count.lost, count.doubled, count.delayed, count.resent)
}

func lossTable(rows []string) string {
	return "\n| loss each way | resending | registrations | calls | datagrams | lost | doubled | delayed | sent again by viaduct |" +
		"\n|--:|:--|--:|--:|--:|--:|--:|--:|--:|\n" + strings.Join(rows, "\n")
}
