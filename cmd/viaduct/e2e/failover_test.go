package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestFailoverAtOnce: where the network tells that a PBX is gone, one request is
// answered 503 at most, and the next goes to the other.
func TestFailoverAtOnce(t *testing.T) {
	for _, leg := range []Leg{{"udp", "ws"}, {"tcp", "wss"}} {
		t.Run(leg.String(), func(t *testing.T) {
			t.Parallel()
			p := newPair(t, leg)
			client := p.newWebClient()
			p.wantAt(t, client.wantAnswer(t, 200), 0)
			p.pbx[0].Kill(t)
			died := time.Now()
			ask := newRequest("OPTIONS", "sip:"+domain, stranger)
			answer := client.Do(t, ask)
			if answer.Status() == 503 {
				ask = newRequest("OPTIONS", "sip:"+domain, stranger)
				answer = client.Do(t, ask)
			}
			if answer.Status() != 200 {
				t.Fatalf("the second request after the PBX has died: %s", answer)
			}
			p.wantAt(t, answer, 1)
			wantWithin(t, "new work fails over", died, 0)
		})
	}
}

// TestFailover: the first of two PBXs dies. Its browsers are sent away, spread
// over a health interval, register with the other and are called there. When it
// is back they return, spread over six; one that has a call returns after that.
// What belongs to a dialog goes to the PBX that it names, dead or alive.
func TestFailover(t *testing.T) {
	t.Parallel()
	p := newPair(t, Leg{"udp", "ws"}, "--upstream-policy=failover")
	p.connect(t, 12)
	p.register(t)
	for _, user := range p.users() {
		p.wantRegistered(t, 0, 0, user)
	}
	hangsUp := p.callee(t, 0, "recv-invite", "send-200", "recv-ack", "recv-bye")
	outgoing := p.pages[0].Call(t, hangsUp.URI())
	outgoing.Wait(t, "confirmed")
	hangsUp.WaitStep(t, "recv-ack")
	trunk, toTrunk := p.newWebClient(), p.callee(t, 0, "recv-invite", "send-200", "recv-ack", "recv-bye")
	dialog := trunk.dial(t, toTrunk.URI())
	toTrunk.WaitStep(t, "recv-ack")

	away := p.follow(t)
	p.pbx[0].Kill(t)
	died := time.Now()
	if answer := trunk.Do(t, dialog.next("INFO")); answer.Status() != 503 {
		t.Errorf("INFO to a dead PBX: %s, want 503", answer)
	}
	moves := away(p.users())
	wantSpread(t, moves, died, 0, probing+probing)
	p.callAll(t, 1, p.users())
	t.Logf("all have been called %s after the PBX died", time.Since(died))
	for _, user := range p.users() {
		p.wantRegistered(t, 1, 0, user)
	}

	keeps := p.caller(t, 1, p.pages[1].User, "send-invite", "recv-200", "send-ack", "recv-bye")
	kept := p.pages[1].WaitCall(t, 2)
	kept.Answer(t)
	kept.Wait(t, "confirmed")
	back := p.follow(t)
	p.pbx[0].Restart(t)
	p.via.WaitLog(t, "upstream up")
	up := time.Now()
	outgoing.Bye(t)
	hangsUp.Wait(t)
	if answer := trunk.Do(t, dialog.next("BYE")); answer.Status() != 200 {
		t.Errorf("BYE to the PBX that has returned: %s", answer)
	}
	toTrunk.Wait(t)
	moves = back(slices.DeleteFunc(p.users(), func(user string) bool { return user == p.pages[1].User })) // bob has a call
	wantSpread(t, moves, up, probing, 7*probing)
	<-time.After(time.Until(up.Add(9 * probing))) // the call lasts longer than all that
	kept.Bye(t)
	hungUp := time.Now()
	keeps.Wait(t)
	wantSpread(t, back([]string{p.pages[1].User}), hungUp, 0, probing)
	for _, m := range p.pbx[1].Messages.All() {
		if m.Header("Call-ID") == dialog.CallID {
			t.Errorf("a request in a dialog with the other PBX: %s", m)
		}
	}
	p.callAll(t, 0, p.users())
}

// TestFailoverByHash: of two PBXs that share the users the second falls silent.
// Its browsers move to the other one, whose own stay; and they return.
func TestFailoverByHash(t *testing.T) {
	t.Parallel()
	p := newPair(t, Leg{"tcp", "ws"}, "--upstream-policy=hash")
	p.connect(t, 24)
	p.register(t)
	var stay, move []string
	for _, user := range p.users() {
		if p.isRegistered(1, user) {
			move = append(move, user)
		} else {
			stay = append(stay, user)
		}
	}
	if len(stay) < 3 || len(move) < 3 {
		t.Fatalf("the PBXs have %v and %v", stay, move)
	}
	away := p.follow(t)
	p.host.Drop(t, p.pbx[1].UDP.Port())
	silent := time.Now()
	p.via.WaitLog(t, "upstream down")
	wantWithin(t, "the silence is noticed", silent, probing)
	client := p.newWebClient()
	for range 10 {
		client.wantAnswer(t, 200)
	}
	wantSpread(t, away(move), silent, 0, 2*probing)
	p.callAll(t, 0, p.users())
	t.Logf("all have been called %s after the PBX fell silent", time.Since(silent))

	back := p.follow(t)
	p.host.Restore(t)
	p.via.WaitLog(t, "upstream up")
	up := time.Now()
	wantSpread(t, back(move), up, probing, 7*probing)
	p.callAll(t, 1, move)
	p.callAll(t, 0, stay)
	for _, user := range stay {
		if n := p.count(user, "disconnected"); n > 0 {
			t.Errorf("%s, whose PBX lived, was disconnected %d times", user, n)
		}
	}
}

// A pair is two PBXs, viaduct in front of both, and phones: the accounts alice
// and bob are pages of JsSIP and SIP.js, the others a fleet.
type pair struct {
	*Lab
	host  Host
	pbx   [2]*Kamailio
	via   *Viaduct
	pages []*Phone
	fleet *Fleet
}

func newPair(t *testing.T, leg Leg, flags ...string) *pair {
	t.Helper()
	host := newNamespace(t)
	p := &pair{host: host, pbx: [2]*Kamailio{startKamailio(t, host), startKamailio(t, host)}}
	flags = append(append(leg.certificates(t, host), probingFlag), flags...)
	for _, pbx := range p.pbx {
		flags = append(flags, "--upstream="+pbx.Upstream(leg.Proto))
	}
	p.via = launchViaduct(t, host, flags...)
	p.via.process.Output.WaitCount(t, 2, "upstreams that answer", func(line string) bool {
		entry, ok := parseLog(line)
		return ok && entry.Message == "upstream answered"
	})
	p.Lab = &Lab{Leg: leg, Host: host, PBX: p.pbx[0], Via: p.via, t: t}
	t.Cleanup(p.finish)
	return p
}

// finish judges the traffic as Lab.finish does.
func (p *pair) finish() {
	var messages []PBXMessage
	for _, pbx := range p.pbx {
		checkPBXSide(p.t, pbx, p.via, p.behind)
		messages = append(messages, pbx.Messages.All()...)
	}
	for _, page := range p.Lab.pages {
		checkBrowserSide(p.t, page)
		for _, complaint := range judgeRelay(page.Frames.All(), messages) {
			p.t.Errorf("%s: %s", page.name, complaint)
		}
	}
	if p.t.Failed() {
		for _, message := range messages {
			p.t.Log(message)
		}
	}
}

// reconnecting is how long a phone of a pair takes at most from the loss of its
// connection to the next.
const reconnecting = 2 * time.Second

// connect starts the two pages and so many phones of a fleet.
func (p *pair) connect(t *testing.T, n int) {
	t.Helper()
	p.fleet = startFleet(t, p.via, n, FleetOptions{Reconnect: time.Second})
	p.pages = []*Phone{
		p.PhoneIn(p.PageWith(JsSIP, PageOptions{}), "alice", PhoneOptions{}),
		p.PhoneIn(p.PageWith(SIPJS, PageOptions{}), "bob", PhoneOptions{}),
	}
}

func (p *pair) register(t *testing.T) {
	t.Helper()
	for _, phone := range p.fleet.Phones {
		if err := phone.register(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	for _, phone := range p.pages {
		phone.Register(t)
	}
}

func (p *pair) users() (users []string) {
	for _, phone := range p.fleet.Phones {
		users = append(users, phone.User)
	}
	for _, phone := range p.pages {
		users = append(users, phone.User)
	}
	return users
}

// callee and caller are sipps behind one of the PBXs.
func (p *pair) callee(t *testing.T, pbx int, ladder ...string) *Sipp {
	t.Helper()
	return p.sipp(t, pbx, ladder)
}

func (p *pair) caller(t *testing.T, pbx int, user string, ladder ...string) *Sipp {
	t.Helper()
	return p.sipp(t, pbx, ladder, To(user))
}

func (p *pair) sipp(t *testing.T, pbx int, ladder []string, options ...SippOption) *Sipp {
	t.Helper()
	sipp := startSipp(t, p.host, p.pbx[pbx], ladder, options...)
	p.behind = append(p.behind, sipp.addr)
	return sipp
}

// wantAt wants the request that was answered so to have gone to that PBX.
func (p *pair) wantAt(t *testing.T, answer Message, pbx int) {
	t.Helper()
	p.pbx[pbx].WaitReceived(t, "request", func(m Message) bool { return m.IsRequest() && m.Header("Call-ID") == answer.Header("Call-ID") })
}

// registers matches the 200 to a REGISTER of the user.
func registers(user string) func(PBXMessage) bool {
	return func(m PBXMessage) bool {
		return m.Sent && m.Response(200, "REGISTER") && uriOf(m.Header("To")) == fmt.Sprintf("sip:%s@%s", user, domain)
	}
}

// wantRegistered waits until the user has registered with a PBX.
func (p *pair) wantRegistered(t *testing.T, pbx, mark int, user string) {
	t.Helper()
	p.pbx[pbx].Messages.WaitAfter(t, mark, user+" to register", registers(user))
}

func (p *pair) isRegistered(pbx int, user string) bool {
	return slices.ContainsFunc(p.pbx[pbx].Messages.All(), registers(user))
}

// count returns how often a user's phone has reported an event.
func (p *pair) count(user, event string) (n int) {
	for _, phone := range p.fleet.Phones {
		for _, e := range phone.Events.All() {
			if phone.User == user && e.Name == event {
				n++
			}
		}
	}
	for _, phone := range p.pages {
		for _, e := range phone.Page.Events.All() {
			if phone.User == user && e.Name == event {
				n++
			}
		}
	}
	return n
}

// A movement is a phone's way from one PBX to another.
type movement struct {
	user string
	gone time.Time // disconnected
	back time.Time // registered again
}

// follow watches all phones from now on. The function that it returns waits for
// the movements of these users, which take less than a minute.
func (p *pair) follow(t *testing.T) func(users []string) []movement {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	var mu sync.Mutex
	moves := map[string]movement{}
	watches := map[string]*sync.WaitGroup{}
	watch := func(user string, next func(ctx context.Context, event string) error) {
		watches[user] = new(sync.WaitGroup)
		watches[user].Go(func() {
			m := movement{user: user}
			if next(ctx, "disconnected") != nil {
				return
			}
			m.gone = time.Now()
			if next(ctx, "registered") != nil {
				return
			}
			m.back = time.Now()
			mu.Lock()
			defer mu.Unlock()
			moves[user] = m
		})
	}
	for _, phone := range p.fleet.Phones {
		mark := phone.Events.Mark()
		watch(phone.User, func(ctx context.Context, event string) error {
			_, err := phone.await(ctx, mark, event)
			return err
		})
	}
	for _, phone := range p.pages {
		mark := phone.Mark()
		watch(phone.User, func(ctx context.Context, event string) error {
			e, err := phone.Page.Events.next(ctx, mark, func(e Event) bool { return e.UA == phone.name && e.Name == event })
			// JsSIP reports the code as a number, SIP.js within its error.
			if event == "disconnected" && err == nil && e.Status != 1012 && !strings.Contains(e.Cause, "1012") {
				t.Errorf("%s is closed with %d %s, want 1012", phone.User, e.Status, e.Cause)
			}
			return err
		})
	}
	return func(users []string) (all []movement) {
		t.Helper()
		for _, user := range users {
			watches[user].Wait()
			mu.Lock()
			m, ok := moves[user]
			mu.Unlock()
			if !ok {
				t.Fatalf("%s does not move", user)
			}
			all = append(all, m)
		}
		return all
	}
}

// wantSpread wants phones to have been sent away between two times after an
// event, not all together, and to have come back at once.
func wantSpread(t *testing.T, moves []movement, event time.Time, from, until time.Duration) {
	t.Helper()
	slices.SortFunc(moves, func(a, b movement) int { return a.gone.Compare(b.gone) })
	first, last := moves[0].gone.Sub(event), moves[len(moves)-1].gone.Sub(event)
	t.Logf("%d phones were sent away between %s and %s", len(moves), first.Round(time.Millisecond), last.Round(time.Millisecond))
	if first < from-lateness/2 || last > until+lateness {
		t.Errorf("phones were sent away from %s to %s, want from %s to %s", first, last, from, until)
	}
	if len(moves) >= 10 && last-first < (until-from)/6 {
		t.Errorf("%d phones were sent away within %s", len(moves), last-first)
	}
	for _, m := range moves {
		if took := m.back.Sub(m.gone); took > reconnecting+2*lateness {
			t.Errorf("%s took %s to come back", m.user, took)
		}
	}
}

// callAll calls the users by a PBX. They answer and hang up.
func (p *pair) callAll(t *testing.T, pbx int, users []string) {
	t.Helper()
	var answering sync.WaitGroup
	for _, phone := range p.fleet.Phones {
		if !slices.Contains(users, phone.User) {
			continue
		}
		mark := phone.Events.Mark()
		answering.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			incoming, err := phone.await(ctx, mark, "incoming")
			if err == nil {
				phone.do("answer", incoming.Call)
				_, err = phone.await(ctx, mark, "acknowledged")
			}
			if err != nil {
				t.Errorf("a call of %s: %v", phone.User, err)
				return
			}
			phone.do("bye", incoming.Call)
		})
	}
	var pages []*Phone
	var calls []int
	for _, phone := range p.pages {
		if slices.Contains(users, phone.User) {
			pages, calls = append(pages, phone), append(calls, p.count(phone.User, "incoming")+1)
		}
	}
	sipp := p.sipp(t, pbx, []string{"send-invite", "recv-200", "send-ack", "recv-bye"}, ToEach(users, 50))
	for i, phone := range pages {
		call := phone.WaitCall(t, calls[i])
		call.Answer(t)
		call.Wait(t, "confirmed")
		call.Bye(t)
	}
	answering.Wait()
	sipp.Wait(t)
}

// A webDialog is a call of a web client's.
type webDialog struct {
	*WebRequest // its INVITE
	answer      Message
}

// dial calls somebody, without an account.
func (c *WebClient) dial(t *testing.T, target string) *webDialog {
	t.Helper()
	who := stranger
	who.Contact = "sip:stranger@" + who.ViaHost + ";transport=ws"
	d := &webDialog{WebRequest: newRequest("INVITE", target, who)}
	c.Send(t, d.Text())
	d.answer = c.ReceivedFrame(t, "200 to the INVITE", inCall(d.CallID, 200, "INVITE"))
	c.Send(t, d.AckAnswer(d.answer))
	return d
}

// next is a further request in the dialog.
func (d *webDialog) next(method string) *WebRequest {
	d.CSeq++
	request := *d.WebRequest
	request.Method, request.URI, request.To, request.Body = method, uriOf(d.answer.Header("Contact")), d.answer.Header("To"), ""
	request.Branch = fmt.Sprintf("z9hG4bK%s%d", d.CallID[:7], d.CSeq)
	request.Headers = nil
	for _, route := range slices.Backward(d.answer.Values("Record-Route")) {
		request.Headers = append(request.Headers, "Route: "+route)
	}
	return &request
}
