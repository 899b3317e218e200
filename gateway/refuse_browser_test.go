package gateway

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/gobwas/ws"

	"viaduct/rewrite"
	"viaduct/transport"
)

// refusedRequests are requests of a browser that are not relayed, each with the
// answer that the browser gets (0: none) and the counter that tells.
var refusedRequests = []struct {
	name   string
	make   func(ok sip) sip // of a MESSAGE that would be relayed
	status int
	reason Reason
}{
	{"no SIP at all", func(sip) sip { return "GET / HTTP/1.1\r\nHost: x\r\n\r\n" }, 0, Reason(rewrite.NotSIP)},
	{"text without a line end", func(sip) sip { return "hello" }, 0, Reason(rewrite.NotSIP)},
	{"another version", func(m sip) sip { return replace(m, "SIP/2.0\r\nVia", "SIP/3.0\r\nVia") }, 505, Reason(rewrite.BadVersion)},
	{"a tab in the start line", func(m sip) sip { return replace(m, "MESSAGE ", "MESSAGE\t") }, 400, Reason(rewrite.BadStartLine)},
	{"two spaces in the start line", func(m sip) sip { return replace(m, "MESSAGE ", "MESSAGE  ") }, 400, Reason(rewrite.BadStartLine)},
	{"LF alone ends every line", func(m sip) sip { return replaceAll(m, "\r\n", "\n") }, 0, Reason(rewrite.BareLineEnd)},
	{"LF alone ends one line", func(m sip) sip { return m.add("X: a\nEvil: b") }, 400, Reason(rewrite.BareLineEnd)},
	{"CR alone in a line", func(m sip) sip { return m.add("X: a\rEvil: b") }, 400, Reason(rewrite.BareLineEnd)},
	{"NUL in a line", func(m sip) sip { return m.add("X: a\x00b") }, 400, Reason(rewrite.BareLineEnd)},
	{"a line without a colon", func(m sip) sip { return m.add("nonsense") }, 400, Reason(rewrite.BadHeaderLine)},
	{"headers not ended", func(m sip) sip { return m[:strings.Index(string(m), "\r\n\r\n")+2] }, 400, Reason(rewrite.NoHeaderEnd)},
	{"two messages in one frame", func(m sip) sip { return m + m }, 400, Reason(rewrite.BodyTooLong)},

	{"Content-Length shorter than the body", length("4"), 400, Reason(rewrite.BodyTooLong)},
	{"Content-Length 0 with a body", length("0"), 400, Reason(rewrite.BodyTooLong)},
	{"Content-Length longer than the body", length("6"), 400, Reason(rewrite.BodyTooShort)},
	{"Content-Length not a number", length("five"), 400, Reason(rewrite.BadContentLength)},
	{"Content-Length with a sign", length("+5"), 400, Reason(rewrite.BadContentLength)},
	{"Content-Length negative", length("-5"), 400, Reason(rewrite.BadContentLength)},
	{"Content-Length in hexadecimal", length("0x5"), 400, Reason(rewrite.BadContentLength)},
	{"Content-Length empty", length(""), 400, Reason(rewrite.BadContentLength)},
	{"Content-Length past all numbers", length("99999999999999999999"), 400, Reason(rewrite.BadContentLength)},
	{"Content-Length a list", length("5, 5"), 400, Reason(rewrite.BadContentLength)},
	{"Content-Length twice, the same", func(m sip) sip { return m.add("Content-Length: 5") }, 400, Reason(rewrite.DuplicateHeader)},
	{"Content-Length twice, once compact", func(m sip) sip { return m.add("l: 5") }, 400, Reason(rewrite.DuplicateHeader)},
	{"Content-Length compact and wrong", func(m sip) sip { return m.without("Content-Length").add("l: 4") }, 400, Reason(rewrite.BodyTooLong)},
	{"Content-Length folded", length("\r\n 5"), 400, Reason(rewrite.BadContentLength)},

	{"no Via", func(m sip) sip { return m.without("Via") }, 0, Reason(rewrite.MissingVia)},
	{"a Via that is none", func(m sip) sip { return m.set("Via", "nonsense") }, 400, Reason(rewrite.BadVia)},
	{"a Via of 301 characters", func(m sip) sip { return m.set("Via", viaOf(301)) }, 400, ReasonViaTooLong},
	{"65 Vias", func(m sip) sip { return m.add(repeat("Via: SIP/2.0/TCP x;branch=z9hG4bK2", 64)...) }, 400, Reason(rewrite.TooManyVias)},
	{"no To", func(m sip) sip { return m.without("To") }, 0, Reason(rewrite.MissingHeader)},
	{"no Call-ID", func(m sip) sip { return m.without("Call-ID") }, 0, Reason(rewrite.MissingHeader)},
	{"a To that is not closed", func(m sip) sip { return m.set("To", "\"bob <sip:bob@pbx.example>") }, 400, Reason(rewrite.BadAddress)},
	{"two From", func(m sip) sip { return m.add("f: <sip:boss@pbx.example>;tag=1") }, 400, Reason(rewrite.DuplicateHeader)},
	{"two Call-IDs", func(m sip) sip { return m.add("i: other") }, 400, Reason(rewrite.DuplicateHeader)},
	{"two CSeqs", func(m sip) sip { return m.add("CSeq: 9 MESSAGE") }, 400, Reason(rewrite.DuplicateHeader)},
	{"CSeq of another method", func(m sip) sip { return m.set("CSeq", "5 BYE") }, 400, Reason(rewrite.BadCSeq)},
	{"Max-Forwards 0", func(m sip) sip { return m.set("Max-Forwards", "0") }, 483, ReasonMaxForwards},
	{"Max-Forwards not a number", func(m sip) sip { return m.set("Max-Forwards", "many") }, 400, Reason(rewrite.BadMaxForwards)},
	{"Max-Forwards over 255", func(m sip) sip { return m.set("Max-Forwards", "256") }, 400, Reason(rewrite.BadMaxForwards)},
	{"two Max-Forwards", func(m sip) sip { return m.add("Max-Forwards: 70") }, 400, Reason(rewrite.DuplicateHeader)},
	{"an unknown Proxy-Require", func(m sip) sip { return m.add("Proxy-Require: teleport, sec-agree") }, 420, ReasonProxyRequire},
	{"257 header lines", func(m sip) sip {
		lines, _ := m.lines()
		return m.add(repeat("X: y", 257-len(lines))...)
	}, 400, Reason(rewrite.TooManyLines)},

	{"a Route to a stranger", func(m sip) sip { return m.add("Route: <sip:192.0.2.9;lr>") }, 403, ReasonForeignRoute},
	{"a Route to a stranger behind the gateway's own", func(m sip) sip {
		return m.add("Route: <sip:GATEWAY;transport=ws;lr>, <sip:192.0.2.9;lr>")
	}, 403, ReasonForeignRoute},
	{"a Route to a stranger behind the upstream's", func(m sip) sip {
		return m.add("Route: <sip:UPSTREAM;lr>", "Route: <sip:192.0.2.9;lr>")
	}, 403, ReasonForeignRoute},
	{"a CANCEL with a Route to a stranger", func(m sip) sip {
		return m.as("CANCEL").add("Route: <sip:192.0.2.9;lr>")
	}, 403, ReasonForeignRoute},
	{"a Route that is no address", func(m sip) sip { return m.add("Route: <sip:x") }, 400, Reason(rewrite.BadAddress)},
	{"33 Routes", func(m sip) sip { return m.add(repeat("Route: <sip:UPSTREAM;lr>", 33)...) }, 400, Reason(rewrite.TooManyRoutes)},

	{"a Contact that fits in no token", func(m sip) sip {
		return m.add("Contact: <sip:" + strings.Repeat("A9-", 40) + "@x.invalid>")
	}, 400, ReasonContactTooLong},
	{"nine Contacts", func(m sip) sip { return m.add(repeat("Contact: <sip:c@c.invalid>", 9)...) }, 400, Reason(rewrite.TooManyContacts)},
	{"a Contact that is no address", func(m sip) sip { return m.add("Contact: <sip:x") }, 400, Reason(rewrite.BadAddress)},
	{"more than the upstream takes", func(m sip) sip { return m.withBody(strings.Repeat("x", 9000)) }, 513, ReasonUpstreamTooLarge},
	{"an ACK that would be answered", func(m sip) sip { return m.as("ACK").set("Max-Forwards", "0") }, 0, ReasonMaxForwards},
	{"an ACK with a lying Content-Length", func(m sip) sip { return m.as("ACK").set("Content-Length", "9") }, 0, Reason(rewrite.BodyTooShort)},
}

func replace(m sip, old, text string) sip    { return sip(strings.Replace(string(m), old, text, 1)) }
func replaceAll(m sip, old, text string) sip { return sip(strings.ReplaceAll(string(m), old, text)) }
func length(value string) func(sip) sip {
	return func(m sip) sip { return m.set("Content-Length", value) }
}

func TestRefusedRequestsOfBrowsers(t *testing.T) {
	l := newLab(t, func(c *Config) { c.UpstreamMaxMessage = 8000 })
	beside := l.phone("alice")
	token := l.registered(beside)
	p := l.phone("mallory")
	for _, test := range refusedRequests {
		l.run(test.name, func() {
			req := test.make(p.request("MESSAGE", "sip:bob@pbx.example").withBody("hello"))
			req = replaceAll(replaceAll(req, "GATEWAY", l.webAddr()), "UPSTREAM", l.pbx.addr())
			before := l.dropped()
			p.send(req)
			if test.status != 0 {
				got := p.read()
				expectAnswer(l.t, req, got, test.status)
				if want := req.get("Proxy-Require"); got.get("Unsupported") != want {
					l.t.Errorf("Unsupported %q, want %q", got.get("Unsupported"), want)
				}
			}
			l.expectAlive(p)
			l.expectDropped(before, test.reason)
			l.expectAlive(beside)
			l.expectReached(beside, token)
		})
	}
}

// TestOversized: what is too large to be read whole is answered, then closed.
func TestOversized(t *testing.T) {
	l := newLab(t, func(c *Config) { c.MaxMessage = 4000 })
	beside := l.phone("alice")
	token := l.registered(beside)
	for name, test := range map[string]struct {
		make   func(ok sip) sip
		status int
	}{
		"a request":      {func(m sip) sip { return m.withBody(strings.Repeat("x", 4000)) }, 513},
		"an ACK":         {func(m sip) sip { return m.as("ACK").withBody(strings.Repeat("x", 4000)) }, 0},
		"a response":     {func(m sip) sip { return m.reply("200 OK").withBody(strings.Repeat("x", 4000)) }, 0},
		"an endless Via": {func(m sip) sip { return m.set("Via", viaOf(4000)) }, 0},
	} {
		l.run(name, func() {
			p := l.phone("mallory")
			req := test.make(p.request("MESSAGE", "sip:bob@pbx.example"))
			before := l.dropped()
			p.send(req)
			if test.status != 0 {
				expectAnswer(l.t, req, p.read(), test.status)
			}
			p.expectClosed(ws.StatusMessageTooBig)
			l.expectDropped(before, ReasonTooLarge)
			l.expectAlive(beside)
			l.expectReached(beside, token)
		})
	}
}

// TestRefusedResponsesOfBrowsers: a browser's response moves nothing unless it
// is to a request that this browser was sent.
func TestRefusedResponsesOfBrowsers(t *testing.T) {
	l := newLab(t, func(c *Config) { c.UpstreamMaxMessage = 8000 })
	beside, p := l.phone("alice"), l.phone("mallory")
	token := l.registered(beside)
	own := l.registered(p)
	other := func() sip { return l.down(p, l.pbx.request("INFO", own)) }
	for _, test := range []struct {
		name   string
		make   func(req, ok sip) sip
		reason Reason
	}{
		{"no Via at all", func(_, ok sip) sip { return ok.without("Via") }, Reason(rewrite.MissingVia)},
		{"our Via alone", func(req, ok sip) sip {
			return ok.without("Via").add("Via: " + req.get("Via"))
		}, ReasonForgedResponse},
		{"no seal", func(req, ok sip) sip {
			return replace(ok, ";seal="+param(req.get("Via"), "seal"), "")
		}, ReasonForgedResponse},
		{"a seal of garbage", func(req, ok sip) sip {
			return replace(ok, param(req.get("Via"), "seal"), strings.Repeat("a", 60))
		}, ReasonForgedResponse},
		{"a seal with one character changed", func(req, ok sip) sip {
			seal := param(req.get("Via"), "seal")
			return replace(ok, seal, flip(seal))
		}, ReasonForgedResponse},
		{"the seal of another call", func(req, ok sip) sip {
			return replace(ok, param(req.get("Via"), "seal"), param(other().get("Via"), "seal"))
		}, ReasonForgedResponse},
		{"the PBX's Via changed", func(_, ok sip) sip { return replace(ok, "branch=z9hG4bKpbx", "branch=z9hG4bKxxx") }, ReasonForgedResponse},
		{"another Call-ID", func(_, ok sip) sip { return ok.set("Call-ID", "another") }, ReasonForgedResponse},
		{"another CSeq", func(_, ok sip) sip { return ok.set("CSeq", "8 INFO") }, ReasonForgedResponse},
		{"two Content-Lengths", func(_, ok sip) sip { return ok.add("l: 0") }, Reason(rewrite.DuplicateHeader)},
		{"a lying Content-Length", func(_, ok sip) sip { return ok.set("Content-Length", "1") }, Reason(rewrite.BodyTooShort)},
		{"LF-only", func(_, ok sip) sip { return replaceAll(ok, "\r\n", "\n") }, Reason(rewrite.BareLineEnd)},
		{"a status of two digits", func(_, ok sip) sip { return replace(ok, " 200 ", " 20 ") }, Reason(rewrite.BadStartLine)},
		{"more than the upstream takes", func(_, ok sip) sip { return ok.withBody(strings.Repeat("x", 9000)) }, ReasonUpstreamTooLarge},
	} {
		l.run(test.name, func() {
			req := l.down(p, l.pbx.request("INFO", own))
			msg := test.make(req, req.reply("200 OK"))
			before := l.dropped()
			p.send(msg)
			l.expectAlive(p)
			l.expectDropped(before, test.reason)
			l.expectAlive(beside)
			l.expectReached(beside, token)
			l.t.Logf("attack: a response of a browser with %s | not relayed, nobody is told | viaduct_dropped_total{reason=\"%s\"} 1", test.name, test.reason)
		})
	}
}

// TestReplayedSeal: who learned the seal of a request to another client gets
// nothing through with it, and that client still answers.
func TestReplayedSeal(t *testing.T) {
	l := newLab(t)
	alice, mallory := l.phone("alice"), l.phone("mallory")
	token := l.registered(alice)
	l.registered(mallory)
	req := l.down(alice, l.pbx.request("INVITE", token))
	before := l.dropped()
	mallory.send(req.reply("486 Busy Here"))
	l.expectAlive(mallory)
	l.expectDropped(before, ReasonNotTheClient)
	if got := l.answered(alice, req, "200 OK"); got.start() != "SIP/2.0 200 OK" {
		t.Errorf("the PBX gets %s", got.start())
	}
	t.Logf("attack: %s | %s | %s", "the seal of a request, replayed by another client", "not relayed; the client still answers", "viaduct_dropped_total{reason=\"not_the_client\"}")
}

func TestRefusedHandshakes(t *testing.T) {
	l := newLab(t)
	beside := l.phone("alice")
	token := l.registered(beside)
	for _, test := range []struct {
		name   string
		header http.Header
		status int
		why    transport.Refusal
	}{
		{"no subprotocol", http.Header{"Sec-Websocket-Protocol": nil}, 400, transport.RefusedNoSubprotocol},
		{"an unknown subprotocol", http.Header{"Sec-Websocket-Protocol": {"xmpp"}}, 400, transport.RefusedSubprotocol},
		{"a wrong Origin", http.Header{"Origin": {"https://evil.example"}}, 403, transport.RefusedOrigin},
		{"Origin null", http.Header{"Origin": {"null"}}, 403, transport.RefusedOrigin},
		{"two Origins", http.Header{"Origin": {"http://" + l.webAddr(), "https://evil.example"}}, 400, transport.RefusedBadOrigin},
		{"an old version", http.Header{"Sec-Websocket-Version": {"8"}}, 426, transport.RefusedVersion},
		{"no upgrade", http.Header{"Upgrade": nil}, 426, transport.RefusedNotWebSocket},
		{"nothing wrong", http.Header{"Origin": {"http://" + l.webAddr()}}, 101, 0},
	} {
		l.run(test.name, func() {
			before := l.gw.Refused(test.why)
			if got := l.handshake(test.header).StatusCode; got != test.status {
				l.t.Errorf("answered %d, want %d", got, test.status)
			}
			if n := l.gw.Refused(test.why) - before; test.why != 0 && n != 1 {
				l.t.Errorf("%s counts %d more", test.why, n)
			}
			l.expectAlive(beside)
			l.expectReached(beside, token)
		})
	}
	logged := l.log.FilterMessage("handshake refused").All()
	if got := fmt.Sprint(logged); !strings.Contains(got, "--allow-origin=https://evil.example") {
		t.Errorf("the log does not say which flag admits the Origin: %s", got)
	}
}
