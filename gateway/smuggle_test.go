package gateway

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/ghettovoice/gosip/log"
	gosip "github.com/ghettovoice/gosip/sip"
	"github.com/ghettovoice/gosip/sip/parser"
)

// evil is what no message may bring to the SIP server's eyes where it counts.
const evil = "sip:boss@192.0.2.66"

// second is a message that hides in another.
const second = "BYE " + evil + " SIP/2.0\r\nVia: SIP/2.0/TCP x;branch=z9hG4bK2\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>;tag=2\r\n" +
	"Call-ID: smuggled\r\nCSeq: 1 BYE\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n"

// smuggled are messages that two readers could read differently, each with what
// becomes of it. The message that they are made of is relayed, and its body is
// "hello".
var smuggled = []struct {
	name string
	make func(m sip) sip
	want string
}{
	{"nothing odd", func(m sip) sip { return m }, "relayed"},

	{"two messages in a frame", func(m sip) sip { return m + second }, "400 body_too_long"},
	{"a message behind Content-Length 0", func(m sip) sip { return m.withBody("") + second }, "400 body_too_long"},
	{"a message as the body that is counted", func(m sip) sip { return m.withBody(second) }, "relayed"},
	{"a message as the body that is not counted", func(m sip) sip { return m.withBody(second).without("Content-Length") }, "relayed"},
	{"a message behind an empty line of LF", func(m sip) sip { return replace(m, "\r\n\r\nhello", "\n\n"+second) }, "400 bare_line_end"},
	{"a message behind an empty line of CRLF LF", func(m sip) sip { return replace(m, "\r\n\r\nhello", "\r\n\n"+second) }, "400 bare_line_end"},
	{"a message behind an empty line of CR CR", func(m sip) sip { return replace(m, "\r\n\r\nhello", "\r\r"+second) }, "400 bare_line_end"},
	{"an empty line in front", func(m sip) sip { return "\r\n" + m }, "dropped not_sip"},
	{"a byte order mark in front", func(m sip) sip { return "\ufeff" + m }, "dropped not_sip"},
	{"a response in front", func(m sip) sip { return m.reply("200 OK") + m }, "dropped body_too_long"},
	{"chunks", func(m sip) sip { return m.add("Transfer-Encoding: chunked").withBody("0\r\n\r\n" + second) }, "relayed"},

	{"Content-Length +5", length("+5"), "400 bad_content_length"},
	{"Content-Length -0", func(m sip) sip { return length("-0")(m.withBody("")) }, "400 bad_content_length"},
	{"Content-Length 05", length("05"), "relayed"},
	{"Content-Length 5,5", length("5,5"), "400 bad_content_length"},
	{"Content-Length 5 5", length("5 5"), "400 bad_content_length"},
	{"Content-Length 5.0", length("5.0"), "400 bad_content_length"},
	{"Content-Length 5;x", length("5;x"), "400 bad_content_length"},
	{"Content-Length 5e0", length("5e0"), "400 bad_content_length"},
	{"Content-Length 0x5", length("0x5"), "400 bad_content_length"},
	{"Content-Length (5)", length("(5)"), "400 bad_content_length"},
	{"Content-Length 5 with a comment", length("5 (five)"), "400 bad_content_length"},
	{"Content-Length \"5\"", length(`"5"`), "400 bad_content_length"},
	{"Content-Length past 32 bits", length("4294967301"), "400 bad_content_length"},
	{"Content-Length past 64 bits", length("18446744073709551621"), "400 bad_content_length"},
	{"Content-Length in Arabic", length("٥"), "400 bad_content_length"},
	{"Content-Length behind a vertical tab", length("\v5"), "400 bad_content_length"},
	{"Content-Length before a form feed", length("5\f"), "400 bad_content_length"},
	{"Content-Length behind a no-break space", length("\u00a05"), "400 bad_content_length"},
	{"Content-Length that is empty", length(""), "400 bad_content_length"},
	{"Content-Length folded", length("\r\n\t5"), "400 bad_content_length"},
	{"Content-Length folded and wrong", length("\r\n 0"), "400 bad_content_length"},
	{"Content-Length twice", raw("Content-Length: 5"), "400 duplicate_header"},
	{"Content-Length twice, once compact", raw("l: 5"), "400 duplicate_header"},
	{"Content-Length twice, once with a space", raw("CONTENT-LENGTH : 0"), "400 duplicate_header"},
	{"Content-Length twice, once with a tab", raw("L\t:0"), "400 duplicate_header"},
	{"Content-Length with a line end in its name", raw("Content\r\n -Length: 0"), "400 bad_header_line"},
	{"Content-Length with a NUL in its name", raw("Content-Length\x00: 0"), "400 bad_header_line"},
	{"Content-Length with a CR behind its name", raw("Content-Length\r: 0"), "400 bad_header_line"},
	{"Content-Length with a no-break space behind its name", raw("Content-Length\u00a0: 0"), "400 bad_header_line"},
	{"Content-Length with a vertical tab behind its name", raw("Content-Length\v: 0"), "400 bad_header_line"},
	{"Content-Length with a soft hyphen", raw("Content\u00adLength: 0"), "400 bad_header_line"},
	{"Content-Length with an underscore", raw("Content_Length: 0"), "relayed"},
	{"Content-Length behind a bare LF", raw("X: a\nContent-Length: 0"), "400 bare_line_end"},
	{"Content-Length behind a bare CR", raw("X: a\rContent-Length: 0"), "400 bare_line_end"},
	{"Content-Length behind LF CR", raw("X: a\n\rContent-Length: 0"), "400 bad_header_line"},
	{"Content-Length behind a line separator", raw("X: a\u2028Content-Length: 0"), "relayed"},
	{"Content-Length behind a next line", raw("X: a\u0085Content-Length: 0"), "relayed"},
	{"Content-Length on a folded line", raw("X: a\r\n Content-Length: 0"), "400 bad_content_length"},
	{"Content-Length behind a fold of nothing", raw("X: a\r\n \r\n\tContent-Length: 0"), "400 bad_content_length"},
	{"Content-Length in a quoted string", raw("X: \"\r\n Content-Length: 0\""), "400 bad_content_length"},
	{"a message behind a length on a folded line", func(m sip) sip {
		return replace(m.withBody(second), "User-Agent: ", "User-Agent:\r\n l : 0\r\n ")
	}, "400 bad_content_length"},
	{"a message that is not counted, behind a length on a folded line", func(m sip) sip {
		return replace(m.withBody(second).without("Content-Length"), "User-Agent: ", "User-Agent: x\r\n \t content-LENGTH:0\r\n ")
	}, "400 bad_content_length"},
	{"Content-Length on the first line, folded", func(m sip) sip { return replace(m, "SIP/2.0\r\n", "SIP/2.0\r\n Content-Length: 0\r\n") }, "400 bad_header_line"},
	{"a line of white space before the end of the headers", func(m sip) sip { return replace(m, "\r\n\r\nhello", "\r\n \r\n\r\nhello") }, "relayed"},

	{"a line without a name", raw(": x"), "400 bad_header_line"},
	{"a line without a colon", raw("Content-Length"), "400 bad_header_line"},
	{"a name with a space", raw("P-Asserted Identity: <" + evil + ">"), "400 bad_header_line"},
	{"a name with a comment", raw("Route(x): <" + evil + ">"), "400 bad_header_line"},
	{"a name in quotes", raw(`"Route": <` + evil + ">"), "400 bad_header_line"},

	{"CSeq twice", raw("CSeq: 9 BYE"), "400 duplicate_header"},
	{"CSeq twice, in other case", raw("cSEQ : 9 BYE"), "400 duplicate_header"},
	{"CSeq of two", func(m sip) sip { return m.set("CSeq", "9 MESSAGE, 10 BYE") }, "dropped bad_cseq"},
	{"CSeq with a sign", func(m sip) sip { return m.set("CSeq", "+9 MESSAGE") }, "dropped bad_cseq"},
	{"CSeq in hexadecimal", func(m sip) sip { return m.set("CSeq", "0x9 MESSAGE") }, "dropped bad_cseq"},
	{"CSeq past 32 bits", func(m sip) sip { return m.set("CSeq", "4294967305 MESSAGE") }, "400 bad_cseq"},
	{"CSeq of a method in other case", func(m sip) sip { return m.set("CSeq", "9 message") }, "400 bad_cseq"},
	{"Call-ID with a space", func(m sip) sip { return m.set("Call-ID", m.get("Call-ID")+" smuggled") }, "400 bad_call_id"},
	{"Call-ID with a tab", func(m sip) sip { return m.set("Call-ID", m.get("Call-ID")+"\tx") }, "400 bad_call_id"},
	{"Call-ID of two lines", func(m sip) sip { return m.set("Call-ID", m.get("Call-ID")+"\r\n smuggled") }, "400 bad_call_id"},
	{"Call-ID twice", raw("Call-ID: smuggled"), "400 duplicate_header"},
	{"Call-ID twice, once compact", raw("I : smuggled"), "400 duplicate_header"},
	{"From twice", raw("From: <" + evil + ">;tag=1"), "400 duplicate_header"},
	{"From twice, once compact and folded", raw("f:\r\n <" + evil + ">;tag=1"), "400 duplicate_header"},
	{"From of two", func(m sip) sip { return m.set("From", m.get("From")+", <"+evil+">;tag=1") }, "400 bad_address"},
	{"From with a tab in its URI", func(m sip) sip { return m.set("From", "<sip:a\tb@c>;tag=1") }, "400 bad_address"},
	{"From with two tags", func(m sip) sip { return m.set("From", "<sip:a@b>;tag=1;tag=2") }, "400 bad_address"},
	{"From with a tag in quotes", func(m sip) sip { return m.set("From", `<sip:a@b>;tag="1"`) }, "400 bad_address"},
	{"From with a vertical tab behind its tag", func(m sip) sip { return m.set("From", "<sip:a@b>;tag=1\v") }, "400 bad_address"},
	{"To with two tags", func(m sip) sip { return m.set("To", "<sip:a@b>;tag=1;TAG=2") }, "400 bad_address"},
	{"a second Via with two branches", func(m sip) sip { return m.add("Via: SIP/2.0/UDP x;branch=a;branch=b") }, "400 bad_via"},
	{"a second Via with a header in its branch", func(m sip) sip { return m.add("v: SIP/2.0/UDP x;branch=a\r\n Route: <" + evil + ">") }, "400 bad_via"},
	{"From of two URIs", func(m sip) sip { return m.set("From", "sip:a@b <"+evil+">;tag=1") }, "400 bad_address"},
	{"From with a quote in its quote", func(m sip) sip { return m.set("From", `"a \" <`+evil+`>;" <sip:a@b>;tag=1`) }, "relayed"},
	{"From with a quote that has no end", func(m sip) sip { return m.set("From", `"a <sip:a@b>;tag=1`) }, "400 bad_address"},
	{"To twice, once compact", raw("T: <" + evil + ">"), "400 duplicate_header"},
	{"To of two", func(m sip) sip { return m.set("To", "<sip:a@b>,<"+evil+">") }, "400 bad_address"},
	{"Max-Forwards twice", raw("max-forwards : 1"), "400 duplicate_header"},

	{"two targets", func(m sip) sip { return replace(m, " SIP/2.0", " "+evil+" SIP/2.0") }, "400 bad_start_line"},
	{"two versions", func(m sip) sip { return replace(m, " SIP/2.0", " SIP/2.0 SIP/2.0") }, "400 bad_start_line"},
	{"a target with headers", func(m sip) sip { return replace(m, " SIP/2.0", "?Route=%3C"+evil+"%3E SIP/2.0") }, "400 bad_start_line"},
	{"a target with two @", func(m sip) sip { return replace(m, " SIP/2.0", "@192.0.2.66 SIP/2.0") }, "400 bad_start_line"},
	{"a target with a no-break space", func(m sip) sip { return replace(m, " SIP/2.0", "\u00a0x SIP/2.0") }, "relayed"},

	{"Via folded", func(m sip) sip { return m.set("Via", strings.ReplaceAll(m.get("Via"), "/", "\r\n / ")) }, "relayed"},
	{"Via with a header folded in", func(m sip) sip { return m.set("Via", m.get("Via")+"\r\n Route: <"+evil+">") }, "relayed"},
	{"Via with two branches", func(m sip) sip { return m.set("Via", m.get("Via")+";branch=z9hG4bKx") }, "400 bad_via"},
	{"Via with a comma in quotes", func(m sip) sip { return m.set("Via", m.get("Via")+`;x=", SIP/2.0/UDP 192.0.2.66"`) }, "relayed"},
	{"Via that is empty", func(m sip) sip { return m.set("Via", ", "+m.get("Via")) }, "400 bad_via"},

	{"a Route to a third party", raw("Route: <" + evil + ";lr>"), "403 foreign_route"},
	{"a Route with a tag that is none", func(m sip) sip { return m.set("To", m.get("To")+";tag=").add("Route: <" + evil + ";lr>") }, "403 foreign_route"},
	{"a Route with a tag in quotes", func(m sip) sip { return m.set("To", `";tag=x" `+m.get("To")).add("Route: <" + evil + ";lr>") }, "403 foreign_route"},
	{"a Route with a tag of the URI", func(m sip) sip { return m.set("To", "<sip:a@b;tag=x>").add("Route: <" + evil + ";lr>") }, "403 foreign_route"},
	{"a Route behind an empty one", raw("route :,, <" + evil + ";lr>"), "403 foreign_route"},
}

func raw(line string) func(sip) sip { return func(m sip) sip { return m.add(line) } }

// newSmuggleLab is in front of a SIP server on TCP, where a message is as long as
// it says: what is read as a second one would be one.
func newSmuggleLab(t *testing.T, options ...func(*Config)) *tortureLab {
	t.Helper()
	tcp := newTCPLab(t, append(options, undisturbed, unhurried)...)
	l := &tortureLab{lab: tcp.lab}
	l.phone = l.lab.phone("alice")
	l.token, l.far = one2(tcp.registered(l.phone))
	return l
}

func one2(token string, pbx *stream) (string, peer) { return token, pbx }

// TestSmuggling: what two readers could read differently does not arrive, and what
// arrives is one message that gosip reads as it was written.
func TestSmuggling(t *testing.T) {
	l := newSmuggleLab(t)
	for _, test := range smuggled {
		l.run(test.name, func() {
			msg := test.make(l.phone.request("MESSAGE", "sip:bob@pbx.example").withBody("hello"))
			outcome, got := l.sentUp(msg)
			if outcome != test.want {
				l.t.Errorf("%s, want %s", outcome, test.want)
			}
			if outcome == "relayed" {
				l.expectReadAlike(got)
			}
			l.t.Logf("attack: %s | %s | %s", test.name, outcome, counterOf(outcome))
		})
	}
}

// expectReadAlike checks that gosip reads a message as it is read here.
func (l *lab) expectReadAlike(msg sip) {
	l.t.Helper()
	parsed, err := parser.ParseMessage([]byte(msg), log.NewDefaultLogrusLogger().WithPrefix("test"))
	if err != nil {
		l.t.Fatalf("gosip: %v\n%s", err, msg)
	}
	callID, _ := parsed.CallID()
	cseq, _ := parsed.CSeq()
	via, _ := parsed.Via()
	branch, _ := via[0].Params.Get("branch")
	length, _ := parsed.ContentLength()
	_, _, body := msg.folded()
	got := fmt.Sprint(callID.Value(), cseq.Value(), branch, length.Value(), parsed.Body())
	want := fmt.Sprint(one(msg.values("call-id")), strings.Join(strings.Fields(one(msg.values("cseq"))), " "), msg.branch(), len(body), body)
	if got != want {
		l.t.Errorf("gosip reads %q, want %q", got, want)
	}
	if _, request := parsed.(gosip.Request); request == strings.HasPrefix(msg.start(), "SIP/2.0 ") {
		l.t.Errorf("gosip reads another kind of message in %q", msg.start())
	}
}

// spellings write a header in every way that is a spelling of it.
func spellings(name, value string) (lines []string) {
	for _, n := range []string{name, strings.ToUpper(name), strings.ToLower(name), name + " ", name + "\t", strings.ToLower(name) + " \t "} {
		for _, v := range []string{value, " " + value, "\t" + value, "\r\n " + value, " \r\n\t" + value + "\r\n ", " " + strings.ReplaceAll(value, "<", "\r\n\t<")} {
			lines = append(lines, n+":"+v)
		}
	}
	return lines
}

// steering are the fields by which a browser would say who it is, what is charged
// to whom, or which way messages go.
var steering = []string{
	"Record-Route", "Path", "P-Asserted-Identity", "P-Preferred-Identity", "P-Served-User", "Remote-Party-ID",
	"P-Charge-Info", "P-Charging-Vector", "P-Charging-Function-Addresses",
	"X-Account", "Referred-By", // by --strip-header
}

// TestSteering: none of them arrives from a browser, however it is spelt, in a
// request or a response.
func TestSteering(t *testing.T) {
	l := newSmuggleLab(t, func(c *Config) { c.StripHeaders = []string{"X-Account", "Referred-By"} })
	for _, name := range steering {
		l.run(name, func() {
			lines := spellings(name, "\"<x>\" <"+evil+">;x=\",\"")
			if name == "Referred-By" {
				lines = append(lines, spellings("b", "<"+evil+">")...)
			}
			for _, line := range lines {
				outcome, got := l.sentUp(l.phone.request("MESSAGE", "sip:bob@pbx.example").add(line, line).withBody("hello"))
				if outcome != "relayed" || strings.Contains(string(got), "boss@") {
					l.t.Errorf("%q: %s\n%s", line, outcome, got)
				}
				if name == "Path" {
					continue // it means nothing in a response but a registrar's
				}
				outcome, got = l.sentUp(l.asked("INVITE").reply("200 OK", line, "X: y", line))
				if outcome != "relayed" || strings.Contains(string(got), "boss@") || got.get("X") != "y" {
					l.t.Errorf("response with %q: %s\n%s", line, outcome, got)
				}
			}
			l.t.Logf("attack: %s from a browser, %d spellings | left out | viaduct_messages_total", name, len(lines))
		})
	}
}

// asked is a request as the browser gets it.
func (l *tortureLab) asked(method string, lines ...string) sip {
	l.t.Helper()
	req := l.pbx.request(method, l.token).add(lines...)
	l.far.send(req)
	got := l.browserUntil(req)
	return got[len(got)-1]
}

// TestRouteSet: a response has the Record-Route of its request, or none.
func TestRouteSet(t *testing.T) {
	l := newSmuggleLab(t)
	const proxies = `<sip:p2.example;lr;ftag=1>, "A, B" <sip:p1.example;lr>`
	for _, test := range []struct {
		name, sent string
		answered   []string
		want       []string
	}{
		{"as it came", proxies, []string{"Record-Route: " + proxies}, []string{"Record-Route: " + proxies}},
		{"a line each", proxies, []string{"Record-Route: <sip:p2.example;lr;ftag=1>", `record-route : "A, B" <sip:p1.example;lr>`},
			[]string{"Record-Route: <sip:p2.example;lr;ftag=1>", `record-route : "A, B" <sip:p1.example;lr>`}},
		{"none", proxies, nil, nil},
		{"one more", proxies, []string{"Record-Route: " + proxies, "Record-Route: <" + evil + ";lr>"}, nil},
		{"one more in front", proxies, []string{"Record-Route: <" + evil + ";lr>, " + proxies}, nil},
		{"one less", proxies, []string{"Record-Route: <sip:p2.example;lr;ftag=1>"}, nil},
		{"another parameter", proxies, []string{"Record-Route: " + strings.Replace(proxies, ";lr", ";lr;maddr=192.0.2.66", 1)}, nil},
		{"another order", proxies, []string{`Record-Route: "A, B" <sip:p1.example;lr>, <sip:p2.example;lr;ftag=1>`}, nil},
		{"one where there was none", "", []string{"Record-Route: <" + evil + ";lr>"}, nil},
	} {
		l.run(test.name, func() {
			var lines []string
			if test.sent != "" {
				lines = []string{"Record-Route: " + test.sent}
			}
			outcome, got := l.sentUp(l.asked("INVITE", lines...).reply("200 OK", test.answered...))
			var have []string
			for _, line := range got.linesOf("record-route") {
				have = append(have, strings.TrimSuffix(line, "\r\n"))
			}
			if outcome != "relayed" || !slices.Equal(have, test.want) {
				l.t.Errorf("%s with %q, want %q", outcome, have, test.want)
			}
			l.t.Logf("attack: Record-Route in a response, %s | %d of %d lines arrive | viaduct_messages_total", test.name, len(have), len(test.answered))
		})
	}
}

// TestClientIP: the header of --client-ip-header tells the browser's address and
// nothing that a browser says.
func TestClientIP(t *testing.T) {
	l := newSmuggleLab(t, func(c *Config) { c.ClientIPHeader = "X-Real-IP" })
	host, _, _ := net.SplitHostPort(l.phone.conn.LocalAddr().String())
	lines := spellings("X-Real-IP", "192.0.2.66")
	for _, line := range lines {
		outcome, got := l.sentUp(l.phone.request("MESSAGE", "sip:bob@pbx.example").add(line).add(line))
		if outcome != "relayed" || !slices.Equal(got.values("x-real-ip"), []string{host}) {
			t.Errorf("%q: %s with %q", line, outcome, got.values("x-real-ip"))
		}
		outcome, got = l.sentUp(l.asked("INFO").reply("200 OK", line))
		if outcome != "relayed" || strings.Contains(string(got), "192.0.2.66") {
			t.Errorf("response with %q: %s\n%s", line, outcome, got)
		}
	}
	for _, line := range []string{"X-Real IP: 192.0.2.66", "X-Real-IP\u00a0: 192.0.2.66", "X-Real-IP\v: 192.0.2.66", "X: y\nX-Real-IP: 192.0.2.66"} {
		if outcome, got := l.sentUp(l.phone.request("MESSAGE", "sip:bob@pbx.example").add(line)); got != "" {
			t.Errorf("%q: %s", line, outcome)
		}
	}
	t.Logf("attack: --client-ip-header forged, %d spellings | the true address alone arrives | viaduct_messages_total", len(lines))
}

// TestThirdParty: a Contact is the browser's own token, whatever it names.
func TestThirdParty(t *testing.T) {
	l := newSmuggleLab(t)
	for _, contact := range []string{
		"<" + evil + ">", evil, "\"boss\" <" + evil + ":5060;transport=udp>", "<sips:boss@192.0.2.66>", "<tel:+12125551212>",
		"<http://192.0.2.66/>", "<sip:boss@192.0.2.66>, <sip:alice@a.invalid>", "<SIP:boss@192.0.2.66>;q=1", "<sip:192.0.2.66>",
		"<sip:boss@192.0.2.66;maddr=192.0.2.66>",
	} {
		for _, name := range []string{"Contact", "m", "CONTACT ", "m\t"} {
			line := name + ": " + contact
			for _, method := range []string{"INVITE", "REGISTER", "SUBSCRIBE"} {
				outcome, got := l.sentUp(l.phone.request(method, "sip:bob@pbx.example").add(line))
				l.expectTokens(line, outcome, got)
			}
			for _, status := range []string{"180 Ringing", "200 OK"} {
				outcome, got := l.sentUp(l.asked("INVITE").reply(status, line))
				l.expectTokens(line, outcome, got)
			}
		}
		t.Logf("attack: Contact %s | arrives as the browser's token | viaduct_messages_total", contact)
	}
}

func (l *tortureLab) expectTokens(line, outcome string, got sip) {
	l.t.Helper()
	contacts := got.values("contact")
	if outcome != "relayed" || len(contacts) == 0 {
		l.t.Errorf("%q: %s with Contacts %q", line, outcome, contacts)
	}
	for _, c := range contacts {
		uri := between(c, "<", ">")
		if strings.Contains(uri, "192.0.2.66") || !strings.HasSuffix(uri, "@"+l.bound.SIP.String()+";transport=tcp") {
			l.t.Errorf("%q arrives as Contact %q", line, c)
		}
	}
}
