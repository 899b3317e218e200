package gateway

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

// tortureLab relays hard messages one at a time.
type tortureLab struct {
	*lab
	far   peer
	phone *phone
	token string // the phone's, as the PBX knows it
}

// peer is the SIP server's end of a leg: its datagrams, or a connection.
type peer interface {
	read() sip
	send(msg sip)
}

// TestTorture sends every message of RFC 4475 and RFC 5118 up by WebSocket, and
// down by UDP and TCP, to what is not about the Request-URI with that of a client,
// and to responses with the Vias that they have to bring back. What is relayed
// changes in the named headers alone, and its answer finds back.
func TestTorture(t *testing.T) {
	l := &tortureLab{lab: newLab(t, stateless, undisturbed, unhurried)}
	l.far, l.phone = l.pbx, l.lab.phone("alice")
	l.token = l.registered(l.phone)
	listed := differences(t)
	for _, m := range tortures(t) {
		for _, way := range []string{"ws", "udp", "tcp"} {
			l.run(m.name+"/"+way, func() {
				got := map[string]func(torture) string{"ws": l.up, "udp": l.byUDP, "tcp": l.byTCP}[way](m)
				if got != m.ways[way] {
					l.t.Errorf("%s, want %s", got, m.ways[way])
				}
				key := m.name + " " + way
				if differs(m, way, got) != (listed[key] != "") {
					l.t.Errorf("%s, the RFC says %s; listed among the differences: %q", got, m.rfc, listed[key])
				}
				delete(listed, key)
				l.t.Logf("attack: %s | %s | %s", "torture "+m.name+" by "+way, got, counterOf(got))
			})
		}
	}
	for key := range listed {
		t.Errorf("%s is listed among the differences and was not tried", key)
	}
}

// differs tells whether an outcome is other than what the RFC asks for: a request
// is refused by an answer, or by the end of a stream that cannot be framed. What
// is for no browser is refused downwards, whatever it is.
func differs(m torture, way, outcome string) bool {
	relayed, silent := strings.HasPrefix(outcome, "relayed"), strings.HasPrefix(outcome, "dropped ")
	switch m.rfc {
	case "relay":
		return !relayed && (way == "ws" || !m.ownURI)
	case "refuse":
		return relayed || silent && !m.isResponse()
	}
	return false
}

// counterOf is the counter that tells of an outcome.
func counterOf(outcome string) string {
	if outcome == "relayed" {
		return "viaduct_messages_total"
	}
	return fmt.Sprintf("viaduct_dropped_total{reason=%q}", outcome[strings.LastIndexByte(outcome, ' ')+1:])
}

func (m *torture) isResponse() bool { return strings.HasPrefix(m.msg.start(), "SIP/2.0 ") }

// up sends a message from the browser.
func (l *tortureLab) up(m torture) string {
	l.t.Helper()
	msg := m.msg
	if m.isResponse() {
		msg = l.ofAsked(msg)
	}
	outcome, got := l.sentUp(msg)
	if strings.HasPrefix(outcome, "relayed") {
		l.expectUp(msg, got)
	}
	return outcome
}

// sentUp tells what becomes of a message of the browser, and what the PBX gets.
func (l *tortureLab) sentUp(msg sip) (outcome string, got sip) {
	l.t.Helper()
	before := l.dropped()
	l.sendUp(msg)
	fence := l.phone.request("OPTIONS", "sip:fence@pbx.example")
	l.phone.send(fence)
	relayed, end := l.pbxUntil(fence)
	l.far.send(end.reply("200 OK"))
	outcome = l.outcome(before, relayed, l.browserUntil(fence))
	if len(relayed) > 0 {
		got = relayed[0]
	}
	return outcome, got
}

// sendUp sends a message in a binary frame, for it need not be UTF-8.
func (l *tortureLab) sendUp(msg sip) {
	l.t.Helper()
	if err := wsutil.WriteClientBinary(l.phone.conn, []byte(msg)); err != nil {
		l.t.Fatal(err)
	}
}

// ofAsked puts on a response the Vias of a request that the browser was sent.
func (l *tortureLab) ofAsked(msg sip) sip {
	l.t.Helper()
	asked := l.pbx.request("OPTIONS", l.token).set("Call-ID", one(msg.values("call-id"))).set("CSeq", cseqOf(msg))
	asked = replace(asked, "OPTIONS", methodIn(cseqOf(asked)))
	l.pbx.send(asked)
	got := l.browserUntil(asked)
	return l.onTop(msg, got[len(got)-1])
}

// onTop puts the Vias of a request on a response.
func (l *tortureLab) onTop(msg, request sip) sip {
	start, rest, _ := strings.Cut(string(msg), "\r\n")
	for _, via := range request.values("via") {
		start += "\r\nVia: " + via
	}
	return sip(start + "\r\n" + rest)
}

// cseqOf is a CSeq that can be asked with: the response's, if it has a number.
func cseqOf(msg sip) string {
	cseq := one(msg.values("cseq"))
	if n, err := strconv.ParseUint(strings.Fields(cseq)[0], 10, 31); err == nil && n > 0 {
		return cseq
	}
	return "1 " + methodIn(cseq)
}

func methodIn(cseq string) string { return strings.Fields(cseq)[1] }

func one(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

// byUDP sends a message as a datagram of the PBX.
func (l *tortureLab) byUDP(m torture) string {
	l.t.Helper()
	msg := l.addressed(m)
	before := l.dropped()
	l.pbx.send(msg)
	fence := l.pbx.request("OPTIONS", l.token)
	l.pbx.send(fence)
	relayed := l.browserUntil(fence)
	l.phone.send(relayed[len(relayed)-1].reply("200 OK"))
	answers, _ := l.pbxUntil(fence)
	outcome := l.outcome(before, relayed[:len(relayed)-1], answers)
	if strings.HasPrefix(outcome, "relayed") {
		answer := l.expectDown(msg, relayed[0])
		if answer != "" {
			l.sendUp(answer)
			l.expectBack(msg, l.pbx.read())
		}
	}
	return outcome
}

// byTCP sends a message on a connection of the PBX. One that waits for bytes that
// never come is closed when the PBX has no more to say.
func (l *tortureLab) byTCP(m torture) string {
	l.t.Helper()
	msg := l.addressed(m)
	s := l.dialTCP("127.0.0.1:0")
	before, refused := l.dropped(), l.log.count("refused")
	if strings.HasPrefix(m.ways["tcp"], "closed ") {
		s.send(msg)
		s.closeWrite()
		s.expectClosed()
		l.log.await("refused", refused+1)
		return "closed " + l.counted(before)
	}
	fence := l.pbx.request("OPTIONS", l.token)
	s.send(msg + fence)
	relayed := l.browserUntil(fence)
	l.phone.send(relayed[len(relayed)-1].reply("200 OK"))
	var answers []sip
	for got := s.read(); got.get("Call-ID") != fence.get("Call-ID"); got = s.read() {
		answers = append(answers, got)
	}
	outcome := l.outcome(before, relayed[:len(relayed)-1], answers)
	if strings.HasPrefix(outcome, "relayed") {
		answer := l.expectDown(msg, relayed[0])
		if answer != "" {
			l.sendUp(answer)
			l.expectBack(msg, s.read())
		}
	}
	return outcome
}

func (s *stream) closeWrite() {
	s.t.Helper()
	if err := s.conn.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
		s.t.Fatal(err)
	}
}

// addressed is a message as the PBX sends it to the browser.
func (l *tortureLab) addressed(m torture) sip {
	l.t.Helper()
	switch {
	case m.isResponse():
		asked := l.phone.request("OPTIONS", "sip:bob@pbx.example").
			set("Call-ID", one(m.msg.values("call-id"))).set("CSeq", cseqOf(m.msg))
		asked = replace(asked, "OPTIONS", methodIn(cseqOf(asked)))
		l.phone.send(asked)
		_, sent := l.pbxUntil(asked)
		return l.onTop(m.msg, sent)
	case m.ownURI:
		return m.msg
	}
	return replace(m.msg, m.msg.uri(), l.token)
}

// pbxUntil returns what the PBX gets before a message of that call, and that.
func (l *tortureLab) pbxUntil(last sip) (before []sip, end sip) {
	l.t.Helper()
	for {
		got := l.far.read()
		if got.get("Call-ID") == last.get("Call-ID") {
			return before, got
		}
		before = append(before, got)
	}
}

// browserUntil returns what the browser gets, up to a message of that call.
func (l *tortureLab) browserUntil(last sip) (all []sip) {
	l.t.Helper()
	for {
		_ = l.phone.conn.SetReadDeadline(time.Now().Add(patience))
		got, op, err := wsutil.ReadServerData(l.phone.conn)
		if err != nil || op != ws.OpText && op != ws.OpBinary {
			l.t.Fatalf("browser reads %q: %v", got, err)
		}
		all = append(all, sip(got))
		if sip(got).get("Call-ID") == last.get("Call-ID") {
			return all
		}
	}
}

// outcome tells what became of a message: relayed, answered or dropped, and why.
func (l *tortureLab) outcome(before [numReasons]uint64, relayed, answers []sip) string {
	l.t.Helper()
	answers = slices.DeleteFunc(answers, func(m sip) bool { return !strings.HasPrefix(string(m), "SIP/2.0 ") || m.isFence() })
	why := l.counted(before)
	switch {
	case len(relayed) == 1 && len(answers) == 0 && why == "":
		return "relayed"
	case len(relayed) == 1 && len(answers) == 1 && why != "":
		return "relayed, then " + answers[0].start()[len("SIP/2.0 "):][:3] + " " + why
	case len(relayed) == 0 && len(answers) == 1 && why != "":
		return answers[0].start()[len("SIP/2.0 "):][:3] + " " + why
	case len(relayed) == 0 && len(answers) == 0 && why != "":
		return "dropped " + why
	}
	return fmt.Sprintf("relayed %q, answered %q, counted %q", relayed, answers, why)
}

// isFence tells the answer to the request that ends a try.
func (m sip) isFence() bool { return strings.Contains(m.get("To"), "fence@") }

// counted is the reasons that were counted since, each once.
func (l *lab) counted(before [numReasons]uint64) string {
	var why []string
	for r, n := range l.dropped() {
		for range n - before[r] {
			why = append(why, Reason(r).String())
		}
	}
	return strings.Join(why, ", ")
}

// untrustedNames are the fields that a browser may not say.
var untrustedNames = []string{
	"record-route", "path", "p-asserted-identity", "p-preferred-identity", "p-served-user", "remote-party-id",
}

// expectUp compares what the PBX got with what the browser sent: only named
// fields differ. The PBX answers a request, and its answer arrives with the
// browser's own Vias.
func (l *tortureLab) expectUp(sent, got sip) {
	l.t.Helper()
	named := append([]string{"via", "max-forwards", "contact", "route"}, untrustedNames...)
	if len(sent.values("content-length")) == 0 {
		named = append(named, "content-length")
	}
	if sent.method() == "REGISTER" {
		named = append(named, "supported")
	}
	l.expectSame(sent, got, named)
	if sent.start() != got.start() {
		l.t.Errorf("start line %q, want %q", got.start(), sent.start())
	}
	vias, gotVias := sent.values("via"), got.values("via")
	if strings.HasPrefix(sent.start(), "SIP/2.0 ") {
		if !slices.Equal(gotVias, vias[1:]) {
			l.t.Errorf("Vias %q, want %q", gotVias, vias[1:])
		}
		return
	}
	if !strings.HasPrefix(one(gotVias), "SIP/2.0/UDP "+l.bound.SIP.String()+";rport;branch=z9hG4bK") || !slices.Equal(gotVias[1:], vias[1:]) {
		l.t.Errorf("Vias %q of %q", gotVias, vias)
	}
	hops, _ := strconv.Atoi(one(sent.values("max-forwards")))
	want := fmt.Sprint(hops - 1)
	if hops == 0 {
		want = "70"
	}
	if one(got.values("max-forwards")) != want {
		l.t.Errorf("Max-Forwards %q, want %s", got.values("max-forwards"), want)
	}
	contacts := got.values("contact")
	if len(contacts) != len(sent.values("contact")) {
		l.t.Errorf("Contacts %q of %q", contacts, sent.values("contact"))
	}
	for _, c := range contacts {
		if between(c, "<sip:", ">") == "" || !strings.HasSuffix(between(c, "<", ">"), "@"+l.bound.SIP.String()) {
			l.t.Errorf("Contact %q is no token", c)
		}
	}
	for _, name := range untrustedNames {
		if v := got.values(name); len(v) > 0 {
			l.t.Errorf("%s %q of a browser", name, v)
		}
	}
	if sent.method() == "ACK" {
		return
	}
	l.pbx.send(got.echo("200 OK"))
	back := l.browserUntil(got)
	if vias := back[len(back)-1].others("from", "to", "call-id", "cseq", "content-length"); !slices.Equal(vias, sent.linesOf("via")) {
		l.t.Errorf("the answer has Vias %q, want %q", vias, sent.linesOf("via"))
	}
}

// linesOf are the raw lines of a field.
func (m sip) linesOf(name string) (raw []string) {
	_, lines, _ := m.folded()
	for _, line := range lines {
		if line.name == name {
			raw = append(raw, line.raw)
		}
	}
	return raw
}

// expectDown compares what the browser got with what the PBX sent, and returns
// the answer of the browser to a request.
func (l *tortureLab) expectDown(sent, got sip) (answer sip) {
	l.t.Helper()
	l.expectSame(sent, got, []string{"via"})
	vias, gotVias := sent.values("via"), got.values("via")
	if strings.HasPrefix(sent.start(), "SIP/2.0 ") {
		if sent.start() != got.start() || !strings.HasPrefix(one(gotVias), "SIP/2.0/WSS "+l.phone.viaHost) || !slices.Equal(gotVias[1:], vias[1:]) {
			l.t.Errorf("%q of %q", gotVias, vias)
		}
		return ""
	}
	if want := replace(sip(sent.start()), l.token, l.phone.contact()); sip(got.start()) != want {
		l.t.Errorf("start line %q, want %q", got.start(), want)
	}
	if len(gotVias) != len(vias)+1 || !strings.HasPrefix(gotVias[0], "SIP/2.0/WSS ") ||
		!strings.HasPrefix(gotVias[1], vias[0]) || !slices.Equal(gotVias[2:], vias[1:]) {
		l.t.Errorf("Vias %q of %q", gotVias, vias)
	}
	if sent.method() == "ACK" {
		return ""
	}
	return got.echo("200 OK")
}

// expectBack compares the Vias of an answer with those of its request.
func (l *tortureLab) expectBack(sent, got sip) {
	l.t.Helper()
	vias, gotVias := sent.values("via"), got.values("via")
	if len(vias) != len(gotVias) || !strings.HasPrefix(gotVias[0], vias[0]) || !slices.Equal(gotVias[1:], vias[1:]) {
		l.t.Errorf("the answer has Vias %q, want %q", gotVias, vias)
	}
}

// expectSame checks that all but the named fields came as they were sent.
func (l *tortureLab) expectSame(sent, got sip, named []string) {
	l.t.Helper()
	if want, have := sent.others(named...), got.others(named...); !slices.Equal(want, have) {
		l.t.Errorf("header lines\n%q, want\n%q", have, want)
	}
	if _, _, body := got.folded(); body != sent.counted() {
		l.t.Errorf("body %q, want %q", body, sent.counted())
	}
}
