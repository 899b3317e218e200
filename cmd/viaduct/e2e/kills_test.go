package e2e

import (
	"context"
	"slices"
	"testing"
	"time"
)

// A minute of being killed.
const (
	killEvery = 4 * time.Second
	kills     = 15
)

// TestKilledForAMinute: viaduct is killed and started again every 4 s for a
// minute, under 200 phones of which each has a call: with sipp by its own doing,
// with sipp by the PBX's, or with another phone. In every gap the PBX sends
// requests. No call is lost, everybody is registered again, and what was sent in
// a gap has arrived once.
func TestKilledForAMinute(t *testing.T) {
	t.Parallel()
	s := newSurvival(t)
	s.callOut(s.fleet.Phones[:60])
	s.callIn(s.fleet.Phones[60:120])
	s.callEachOther(s.fleet.Phones[120:])

	beat := time.NewTicker(killEvery)
	defer beat.Stop()
	for gap := range kills {
		<-beat.C
		marks := s.marks()
		s.via.Kill(t)
		asked, visitors := s.disturb(gap)
		s.via.Restart(t)
		// What is answered when viaduct is killed again would be repeated, and refused.
		for _, call := range asked {
			call.wantAnswered(t, 1)
		}
		for _, sipp := range visitors {
			sipp.Wait(t)
		}
		if gap == kills-1 {
			s.wantRegistered(marks)
		}
	}
	s.wantAlive()
	for _, phone := range s.fleet.Phones {
		for _, complaint := range judgeExecuted(phone) {
			t.Errorf("%s: %s", phone.User, complaint)
		}
	}
}

// A survival is the phones and calls that outlive viaduct.
type survival struct {
	t     *testing.T
	host  Host
	pbx   *Kamailio
	via   *Viaduct
	fleet *Fleet

	out, in []*sippCall
	pairs   []pairCall
}

// A sippCall is a phone's call with sipp, a pairCall that of two phones.
type (
	sippCall struct {
		phone *FleetPhone
		sipp  *Sipp
		id    string // Call-ID
		asked bool   // by sipp's INFO
	}
	pairCall struct {
		caller, callee *FleetPhone
		id             string
	}
)

// wantAnswered wants the phone to have answered so many of sipp's requests.
func (c *sippCall) wantAnswered(t testing.TB, n int) {
	t.Helper()
	c.sipp.Steps.WaitCount(t, n, "call "+c.id, func(step string) bool { return step == "call "+c.id })
}

func newSurvival(t *testing.T) *survival {
	t.Helper()
	s := &survival{t: t, host: newNamespace(t)}
	s.pbx = startKamailio(t, s.host)
	s.via = startViaduct(t, s.host, Leg{"udp", "ws"}, s.pbx)
	s.fleet = startFleet(t, s.via, 200, FleetOptions{Reconnect: time.Second})
	for _, phone := range s.fleet.Phones {
		s.must(phone.register(t.Context()))
	}
	return s
}

func (s *survival) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// want waits for an event of the call at the phone.
func (s *survival) want(phone *FleetPhone, call, name string) {
	s.t.Helper()
	phone.Events.WaitFor(s.t, phone.User+": "+name, func(e FleetEvent) bool { return e.Call == call && e.Name == name })
}

// ask has the phone send a request in the call, which must be answered 200.
func (s *survival) ask(phone *FleetPhone, op, call, method string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), patience)
	defer cancel()
	mark := phone.Events.Mark()
	phone.do(op, call)
	status, err := phone.awaitResponse(ctx, mark, call, method)
	s.must(err)
	if status != 200 {
		s.t.Errorf("%s: %s in call %s is answered %d", phone.User, method, call, status)
	}
}

// incoming is the Call-ID of the next call after mark.
func (s *survival) incoming(phone *FleetPhone, mark int) string {
	s.t.Helper()
	return phone.Events.WaitAfter(s.t, mark, "a call of "+phone.User, func(e FleetEvent) bool { return e.Name == "incoming" }).Call
}

// survivor is what sipp plays when a call is up: its INFO, the phone's re-INVITE,
// its own, and the phone's BYE.
var survivor = []string{"wait", "send-info", "name-call", "recv-hold", "wait", "send-hold", "name-call", "recv-bye"}

func (s *survival) callOut(phones []*FleetPhone) {
	s.t.Helper()
	sipp := startSipp(s.t, s.host, s.pbx, append([]string{"recv-invite", "send-180", "send-200", "recv-ack"}, survivor...),
		Calls(len(phones)), Tolerant())
	for _, phone := range phones {
		id, err := phone.call(s.t.Context(), sipp.URI())
		s.must(err)
		s.want(phone, id, "established")
		s.out = append(s.out, &sippCall{phone: phone, sipp: sipp, id: id})
	}
}

func (s *survival) callIn(phones []*FleetPhone) {
	s.t.Helper()
	var users []string
	for _, phone := range phones {
		users = append(users, phone.User)
	}
	sipp := startSipp(s.t, s.host, s.pbx, append([]string{"send-invite", "recv-200", "send-ack"}, survivor...),
		ToEach(users, 50), Tolerant())
	for _, phone := range phones {
		id := s.incoming(phone, 0)
		phone.do("answer", id)
		s.want(phone, id, "acknowledged")
		s.in = append(s.in, &sippCall{phone: phone, sipp: sipp, id: id})
	}
}

func (s *survival) callEachOther(phones []*FleetPhone) {
	s.t.Helper()
	for i := 0; i < len(phones); i += 2 {
		pair := pairCall{caller: phones[i], callee: phones[i+1]}
		var err error
		pair.id, err = pair.caller.call(s.t.Context(), "sip:"+pair.callee.User+"@"+domain)
		s.must(err)
		s.incoming(pair.callee, 0)
		pair.callee.do("answer", pair.id)
		s.want(pair.callee, pair.id, "acknowledged")
		s.pairs = append(s.pairs, pair)
	}
}

func (s *survival) marks() (marks []int) {
	for _, phone := range s.fleet.Phones {
		marks = append(marks, phone.Events.Mark())
	}
	return marks
}

// disturb has the PBX send INFOs in two calls, and a MESSAGE and an INVITE to two
// phones, and returns when it has sent each for the first time.
func (s *survival) disturb(gap int) (asked []*sippCall, visitors []*Sipp) {
	s.t.Helper()
	mark := s.pbx.Messages.Mark()
	sent := func(what string, match func(Message) bool) {
		s.pbx.Messages.WaitAfter(s.t, mark, what+" to viaduct", func(m PBXMessage) bool {
			return m.Sent && m.To == s.via.SIP && match(m.Message)
		})
	}
	asked = []*sippCall{s.out[gap], s.in[gap]}
	for _, call := range asked {
		call.asked = true
		call.sipp.Continue(s.t, call.id)
		sent("INFO", func(m Message) bool { return m.Request("INFO") && m.Header("Call-ID") == call.id })
	}
	pair := s.pairs[gap]
	message := startSipp(s.t, s.host, s.pbx, []string{"send-message"}, To(pair.caller.User), Tolerant())
	sent("MESSAGE", func(m Message) bool { return m.Request("MESSAGE") })
	s.answerNext(pair.callee)
	invite := startSipp(s.t, s.host, s.pbx, []string{"send-invite", "recv-200", "send-ack", "send-bye"}, To(pair.callee.User), Tolerant())
	sent("INVITE", func(m Message) bool { return m.Request("INVITE") })
	return asked, []*Sipp{message, invite}
}

// answerNext has the phone answer its next call when it comes.
func (s *survival) answerNext(phone *FleetPhone) {
	mark := phone.Events.Mark()
	go func() {
		event, err := phone.await(s.t.Context(), mark, "incoming")
		if err == nil {
			phone.do("answer", event.Call)
		}
	}()
}

// wantRegistered wants each phone to have registered since.
func (s *survival) wantRegistered(marks []int) {
	s.t.Helper()
	for i, phone := range s.fleet.Phones {
		phone.Events.WaitAfter(s.t, marks[i], phone.User+" to register again", func(e FleetEvent) bool { return e.Name == "registered" })
	}
}

// wantAlive has both ends of every call send a request, and hangs up.
func (s *survival) wantAlive() {
	s.t.Helper()
	for _, call := range slices.Concat(s.out, s.in) {
		if !call.asked {
			call.sipp.Continue(s.t, call.id)
		}
		call.wantAnswered(s.t, 1)
		mark := s.pbx.Messages.Mark()
		s.ask(call.phone, "hold", call.id, "INVITE")
		s.pbx.Messages.WaitAfter(s.t, mark, "ACK of the hold", func(m PBXMessage) bool {
			return m.Sent && m.Request("ACK") && m.Header("Call-ID") == call.id
		})
		call.sipp.Continue(s.t, call.id)
		call.wantAnswered(s.t, 2)
		s.ask(call.phone, "bye", call.id, "BYE")
	}
	for _, pair := range s.pairs {
		mark := pair.callee.Received.Mark()
		s.ask(pair.caller, "hold", pair.id, "INVITE")
		pair.callee.Received.WaitAfter(s.t, mark, "ACK of the hold", func(text string) bool {
			m := newMessage(text)
			return m.Request("ACK") && m.Header("Call-ID") == pair.id
		})
		s.ask(pair.callee, "hold", pair.id, "INVITE")
		s.ask(pair.callee, "bye", pair.id, "BYE")
		s.want(pair.caller, pair.id, "ended")
	}
	for _, sipp := range []*Sipp{s.out[0].sipp, s.in[0].sipp} {
		sipp.Wait(s.t)
	}
}
