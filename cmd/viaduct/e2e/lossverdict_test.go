package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// failed records what failed, with what passed the relay.
func (r *lossRun) failed(what string, passed []Datagram, err error) {
	text := fmt.Sprintf("%s: %v", what, err)
	for _, d := range passed {
		text += "\n" + d.String()
	}
	explanation := explain(passed)
	if explanation == "" {
		text += "\nUNEXPLAINED"
	}
	r.failures = append(r.failures, text+"\n"+explanation)
}

// wantFailures wants what is lost without resending to have cost something.
func (r *lossRun) wantFailures() {
	if r.registered == lossyPhones || r.succeeded == lossyPhones {
		r.t.Errorf("without resending %d registrations and %d calls of %d have succeeded: nothing was lost",
			r.registered, r.succeeded, lossyPhones)
	}
}

// judge wants that share to have succeeded, each failure explained by what was
// lost, and the browsers undisturbed.
func (r *lossRun) judge(share float64) {
	least := int(share * lossyPhones)
	if float64(least) < share*lossyPhones {
		least++
	}
	if r.registered < least || r.succeeded < least {
		r.t.Errorf("%d registrations and %d calls of %d have succeeded, want %d", r.registered, r.succeeded, lossyPhones, least)
	}
	for _, failure := range r.failures {
		if strings.Contains(failure, "UNEXPLAINED") {
			r.t.Errorf("failed though not every copy was lost: %s", failure)
		} else {
			r.t.Log(failure)
		}
	}
	for _, phone := range r.fleet.Phones {
		for _, complaint := range append(judgeReceived(phone), judgeExecuted(phone)...) {
			r.t.Errorf("%s: %s", phone.User, complaint)
		}
	}
	for id, ringing := range r.ringing() {
		if complaint := ringing.judge(); complaint != "" {
			r.t.Errorf("call %s: %s", id, complaint)
		}
	}
}

// registrationOf is what passed of a phone's REGISTERs.
func (r *lossRun) registrationOf(phone *FleetPhone) []Datagram {
	var passed []Datagram
	for _, d := range r.impairer.All() {
		if d.Method() == "REGISTER" && strings.Contains(d.Header("To"), "sip:"+phone.User+"@") {
			passed = append(passed, d)
		}
	}
	return passed
}

// judgeReceived names what reached a phone twice. Its connection is never
// replaced, so nothing has to.
func judgeReceived(phone *FleetPhone) (complaints []string) {
	received := map[string]int{}
	for _, text := range phone.Received.All() {
		received[messageKey(newMessage(text))]++
	}
	for message, times := range received {
		if times > 1 {
			complaints = append(complaints, fmt.Sprintf("received %d times: %s", times, message))
		}
	}
	return complaints
}

// judgeExecuted names the requests that a phone has acted upon twice.
func judgeExecuted(phone *FleetPhone) (complaints []string) {
	executed := map[string]int{}
	for _, e := range phone.Events.All() {
		if e.Name == "executed" {
			executed[fmt.Sprintf("%s [CSeq %d, Call-ID %s]", e.Method, e.CSeq, e.Call)]++
		}
	}
	for request, times := range executed {
		if times > 1 {
			complaints = append(complaints, fmt.Sprintf("executed %d times: %s", times, request))
		}
	}
	return complaints
}

// messageKey tells messages apart of which a phone needs each once.
func messageKey(m Message) string {
	what := m.Method()
	if !m.IsRequest() {
		what = fmt.Sprintf("%d to %s, To %s", m.Status(), branchOf(m), m.Header("To"))
	}
	return fmt.Sprintf("%s [CSeq %s, Call-ID %s, From %s]", what, m.Header("CSeq"), m.Header("Call-ID"), m.Header("From"))
}

func cseqNumber(m Message) string {
	number, _, _ := strings.Cut(m.Header("CSeq"), " ")
	return number
}

// A ringing is the 180s of one call, at the relay.
type ringing struct {
	direction     Direction
	sent, arrived int
}

// ringing is the 180s of every call that rang.
func (r *lossRun) ringing() map[string]*ringing {
	calls := map[string]*ringing{}
	for _, d := range r.impairer.All() {
		if !d.Response(180, "INVITE") {
			continue
		}
		id := d.Header("Call-ID")
		if calls[id] == nil {
			calls[id] = &ringing{direction: d.Direction}
		}
		calls[id].sent++
		if !d.Lost {
			calls[id].arrived++
		}
	}
	return calls
}

// leastRinging is how often viaduct sends a 180 without being asked again: at
// once, at T1 and at 3·T1.
const leastRinging = 3

func (r *ringing) judge() string {
	switch {
	case r.arrived > 0, r.direction == Down: // the PBX says it once
		return ""
	case r.sent < leastRinging:
		return fmt.Sprintf("the 180 was sent %d times and arrived never", r.sent)
	}
	return ""
}

// A transaction is what passed of one, at the relay.
type transaction struct {
	name                            string
	requests, answers, finals, acks passage
}

type passage struct{ sent, arrived int }

func (p *passage) add(d Datagram) {
	p.sent++
	if !d.Lost {
		p.arrived++
	}
}

// Sent as often as RFC 3261's timers have it in 64·T1, less one at the end of it
// that the peer's timer may forgo.
const (
	sendsOfInvite    = 7
	sendsOfNonInvite = 10
)

// explain names the transaction of which every request or every final response
// was lost; empty when there is none.
func explain(passed []Datagram) string {
	var order []*transaction
	byKey := map[string]*transaction{}
	for _, d := range passed {
		asked := d.Direction
		if !d.IsRequest() {
			asked = 1 - d.Direction
		}
		// An ACK belongs to its INVITE.
		key := strings.Replace(d.Header("CSeq"), "ACK", "INVITE", 1) + " " + asked.String()
		if byKey[key] == nil {
			byKey[key] = &transaction{name: key}
			order = append(order, byKey[key])
		}
		byKey[key].add(d)
	}
	for _, tx := range order {
		if text := tx.explain(); text != "" {
			return text
		}
	}
	return ""
}

func (tx *transaction) add(d Datagram) {
	switch {
	case d.Request("ACK"):
		tx.acks.add(d)
		return
	case d.IsRequest():
		tx.requests.add(d)
		return
	case d.Status() >= 200:
		tx.finals.add(d)
	}
	tx.answers.add(d)
}

func (tx *transaction) explain() string {
	sends := sendsOfNonInvite
	if strings.HasSuffix(tx.name, "INVITE "+Up.String()) || strings.HasSuffix(tx.name, "INVITE "+Down.String()) {
		sends = sendsOfInvite
	}
	switch {
	case tx.requests.sent >= sends && tx.requests.arrived == 0:
		return fmt.Sprintf("%s: each of %d requests was lost", tx.name, tx.requests.sent)
	case tx.requests.sent >= sends && tx.answers.arrived == 0 && tx.answers.sent >= tx.requests.arrived:
		return fmt.Sprintf("%s: of %d requests %d arrived, and each of %d answers was lost",
			tx.name, tx.requests.sent, tx.requests.arrived, tx.answers.sent)
	case tx.finals.sent >= sendsOfNonInvite && tx.finals.arrived == 0:
		return fmt.Sprintf("%s: each of %d final responses was lost", tx.name, tx.finals.sent)
	case tx.finals.sent >= sendsOfNonInvite && tx.acks.sent > 0 && tx.acks.arrived == 0:
		return fmt.Sprintf("%s: of %d final responses %d arrived, and each of %d ACKs was lost",
			tx.name, tx.finals.sent, tx.finals.arrived, tx.acks.sent)
	}
	return ""
}

// TestLossJudges gives the judges of TestLoss what they must convict and what
// they must not.
func TestLossJudges(t *testing.T) {
	passed := func(direction Direction, start, cseq string, lost bool, times int) (all []Datagram) {
		for range times {
			all = append(all, Datagram{
				Message:   newMessage(start + "\r\nCSeq: " + cseq + "\r\nCall-ID: 1\r\n\r\n"),
				Direction: direction, Lost: lost,
			})
		}
		return all
	}
	for _, test := range []struct {
		name      string
		passed    []Datagram
		explained bool
	}{
		{"nothing", nil, false},
		{"every BYE lost", passed(Up, "BYE sip:x SIP/2.0", "1 BYE", true, 11), true},
		{"BYE given up early", passed(Up, "BYE sip:x SIP/2.0", "1 BYE", true, 5), false},
		{"BYE never answered", passed(Up, "BYE sip:x SIP/2.0", "1 BYE", false, 11), false},
		{"every INVITE lost", passed(Down, "INVITE sip:x SIP/2.0", "1 INVITE", true, 7), true},
		{"an answer arrived", append(passed(Up, "BYE sip:x SIP/2.0", "1 BYE", false, 10),
			passed(Down, "SIP/2.0 200 OK", "1 BYE", false, 1)...), false},
		{"every ACK lost", append(passed(Down, "SIP/2.0 200 OK", "1 INVITE", false, 11),
			passed(Up, "ACK sip:x SIP/2.0", "1 ACK", true, 11)...), true},
		{"no ACK sent", passed(Down, "SIP/2.0 200 OK", "1 INVITE", false, 11), false},
	} {
		if explanation := explain(test.passed); (explanation != "") != test.explained {
			t.Errorf("%s: explained by %q", test.name, explanation)
		}
	}

	phone := &FleetPhone{Events: NewStream[FleetEvent](), Received: NewStream[string]()}
	for range 2 {
		phone.Received.Add(request("Via: SIP/2.0/WSS gw;branch=z9hG4bK1"))
		phone.Events.Add(FleetEvent{Name: "executed", Method: "BYE", CSeq: 2, Call: "1"})
	}
	if len(judgeReceived(phone)) != 1 || len(judgeExecuted(phone)) != 1 {
		t.Errorf("what came twice: %q, %q", judgeReceived(phone), judgeExecuted(phone))
	}
	if (&ringing{direction: Up, sent: 1}).judge() == "" {
		t.Error("a 180 that was sent once and lost is not missed")
	}
}
