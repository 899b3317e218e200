package gateway

import (
	"net"
	"strings"
	"testing"
	"time"
	"unicode"

	"viaduct/rewrite"
)

// foreignKey is the key of some other gateway.
func foreignKey(t testing.TB) *rewrite.Key {
	t.Helper()
	keys, err := rewrite.ParseKeyring([]byte(rewrite.NewKeyLine()), nil)
	if err != nil {
		t.Fatal(err)
	}
	return keys.First()
}

func foreignToken(t testing.TB, uri string) string {
	t.Helper()
	token, _, err := foreignKey(t).AppendToken(nil, 1, []byte(uri))
	if err != nil {
		t.Fatal(err)
	}
	return string(token)
}

// flip changes the first character of a token or seal.
func flip(text string) string {
	if text[0] == 'a' {
		return "b" + text[1:]
	}
	return "a" + text[1:]
}

// upperOne puts its first letter into upper case.
func upperOne(text string) string {
	i := strings.IndexFunc(text, unicode.IsLetter)
	return text[:i] + strings.ToUpper(text[i:i+1]) + text[i+1:]
}

// TestForgedTokens: whoever tries tokens learns nothing from the answers, which
// are the same to the last byte.
func TestForgedTokens(t *testing.T) {
	l := newLab(t)
	alice := l.phone("alice")
	token := l.registered(alice)
	user := tokenOf(token)
	req := l.pbx.request("INVITE", token).set("To", "<sip:someone@pbx.example>")
	want := sip("")
	for name, forged := range map[string]string{
		"made up":             strings.Repeat("a", len(user)),
		"of another key":      foreignToken(t, alice.contact()),
		"truncated":           user[:len(user)-1],
		"cut to nothing much": user[:8],
		"one more character":  user + "a",
		"one changed":         flip(user),
		"upper case":          strings.ToUpper(user),
		"one in upper case":   upperOne(user),
		"escaped":             "%" + "61" + user[1:],
		"with a password":     user + ":secret",
		"too long":            strings.Repeat("a", 500),
		"a plain user":        "alice",
		"no user":             "",
	} {
		l.run(name, func() {
			before := l.dropped()
			l.pbx.send(replace(req, user+"@", forged+"@"))
			got := l.pbx.read()
			expectAnswer(l.t, req.receivedFrom(l.pbx.conn.LocalAddr()), got, 403)
			if want == "" {
				want = got
			}
			if got != want {
				t.Errorf("answered\n%s, another forgery\n%s", got, want)
			}
			l.expectDropped(before, ReasonForgedToken)
			l.expectReached(alice, token)
			l.t.Logf("attack: a token %s | answered 403, the same to the last byte for all | viaduct_dropped_total{reason=\"%s\"} 1", name, ReasonForgedToken)
		})
	}
}

// TestRefusedDatagrams: what a datagram from the PBX may not be.
func TestRefusedDatagrams(t *testing.T) {
	l := newLab(t)
	alice := l.phone("alice")
	token := l.registered(alice)
	for _, test := range []struct {
		name   string
		make   func(ok sip) sip // of a MESSAGE that would be relayed
		status int
		reason Reason
	}{
		{"no SIP at all", func(sip) sip { return "\x16\x03\x01\x02\x00\x01" }, 0, Reason(rewrite.NotSIP)},
		{"LF-only", func(m sip) sip { return replaceAll(m, "\r\n", "\n") }, 0, Reason(rewrite.BareLineEnd)},
		{"LF alone ends one line", func(m sip) sip { return m.add("X: a\nEvil: b") }, 400, Reason(rewrite.BareLineEnd)},
		{"a tab in the start line", func(m sip) sip { return replace(m, "MESSAGE ", "MESSAGE\t") }, 400, Reason(rewrite.BadStartLine)},
		{"no Via", func(m sip) sip { return m.without("Via") }, 0, Reason(rewrite.MissingVia)},
		{"no CSeq", func(m sip) sip { return m.without("CSeq") }, 0, Reason(rewrite.MissingHeader)},
		{"two Max-Forwards", func(m sip) sip { return m.add("Max-Forwards: 70") }, 400, Reason(rewrite.DuplicateHeader)},
		{"Content-Length longer than the body", length("6"), 400, Reason(rewrite.BodyTooShort)},
		{"Content-Length not a number", length("five"), 400, Reason(rewrite.BadContentLength)},
		{"Content-Length negative", length("-5"), 400, Reason(rewrite.BadContentLength)},
		{"Content-Length twice", func(m sip) sip { return m.add("Content-Length: 5") }, 400, Reason(rewrite.DuplicateHeader)},
		{"Content-Length twice, once compact", func(m sip) sip { return m.add("l: 5") }, 400, Reason(rewrite.DuplicateHeader)},
		{"Content-Length compact and too long", func(m sip) sip { return m.without("Content-Length").add("l: 6") }, 400, Reason(rewrite.BodyTooShort)},
		{"an ACK with a lying Content-Length", func(m sip) sip { return m.as("ACK").set("Content-Length", "9") }, 0, Reason(rewrite.BodyTooShort)},
		{"an ACK for a token that is none", func(m sip) sip { return replace(m.as("ACK"), "sip:", "sip:x") }, 0, ReasonForgedToken},
		{"a Request-URI that is no SIP URI", func(m sip) sip { return replace(m, m.uri(), "tel:+12125551212") }, 403, ReasonForgedToken},
		{"a response to nothing", func(m sip) sip { return m.reply("200 OK") }, 0, ReasonForgedSeal},
		{"a response with a lying Content-Length", func(m sip) sip { return m.reply("200 OK").set("Content-Length", "9") }, 0, Reason(rewrite.BodyTooShort)},
	} {
		l.run(test.name, func() {
			req := test.make(l.pbx.request("MESSAGE", token).withBody("hello"))
			before := l.dropped()
			l.pbx.send(req)
			if test.status != 0 {
				expectAnswer(l.t, req.receivedFrom(l.pbx.conn.LocalAddr()), l.pbx.read(), test.status)
			}
			l.expectReached(alice, token)
			l.expectDropped(before, test.reason)
			l.expectAlive(alice)
		})
	}
}

// TestDatagramLength: RFC 3261 18.3 has what is behind the body discarded.
func TestDatagramLength(t *testing.T) {
	l := newLab(t)
	alice := l.phone("alice")
	token := l.registered(alice)
	for name, test := range map[string]struct {
		make func(ok sip) sip
		body string
	}{
		"right":           {func(m sip) sip { return m }, "hello"},
		"absent":          {func(m sip) sip { return m.without("Content-Length") }, "hello"},
		"shorter":         {length("4"), "hell"},
		"zero":            {length("0"), ""},
		"compact":         {func(m sip) sip { return m.without("Content-Length").add("l: 4") }, "hell"},
		"a message after": {func(m sip) sip { return m + m }, "hello"},
	} {
		l.run(name, func() {
			if got := l.down(alice, test.make(l.pbx.request("MESSAGE", token).withBody("hello"))).body(); got != test.body {
				l.t.Errorf("body %q, want %q", got, test.body)
			}
			l.expectReached(alice, token)
		})
	}
}

// TestRefusedResponsesOfPBX: a browser sees no response but to what it asked.
func TestRefusedResponsesOfPBX(t *testing.T) {
	l := newLab(t)
	alice := l.phone("alice")
	token := l.registered(alice)
	for _, test := range []struct {
		name   string
		make   func(req sip) sip // of a request that waits for its response
		reason Reason
	}{
		{"no Via", func(req sip) sip { return req.reply("200 OK").without("Via") }, Reason(rewrite.MissingVia)},
		{"a Via that is none", func(req sip) sip { return req.reply("200 OK").set("Via", "SIP/2.0") }, ReasonForgedSeal},
		{"no seal", func(req sip) sip { return replace(req.reply("200 OK"), req.branch(), "z9hG4bKmine") }, ReasonForgedSeal},
		{"no branch", func(req sip) sip { return replace(req.reply("200 OK"), ";branch="+req.branch(), "") }, ReasonForgedSeal},
		{"a seal of another key", func(req sip) sip {
			seal := rewrite.UpSeal{HasFlow: true, Flow: 1, Via: []byte("SIP/2.0/WSS x.invalid;branch=z9hG4bK1")}
			foreign := foreignKey(t).AppendUpSeal(nil, &seal, []byte(req.get("Call-ID")), 104)
			return replace(req.reply("200 OK"), req.branch(), "z9hG4bK"+string(foreign))
		}, ReasonForgedSeal},
		{"a seal cut short", func(req sip) sip {
			return replace(req.reply("200 OK"), req.branch(), req.branch()[:len(req.branch())-1])
		}, ReasonForgedSeal},
		{"a seal in upper case", func(req sip) sip {
			seal := strings.TrimPrefix(req.branch(), branchCookie)
			return replace(req.reply("200 OK"), seal, strings.ToUpper(seal))
		}, ReasonForgedSeal},
		{"the seal of another Call-ID", func(req sip) sip { return req.reply("200 OK").set("Call-ID", "another") }, ReasonForgedSeal},
		{"the seal of another CSeq", func(req sip) sip { return req.reply("200 OK").set("CSeq", "9 MESSAGE") }, ReasonForgedSeal},
		{"two CSeqs", func(req sip) sip { return req.reply("200 OK").add("CSeq: 9 MESSAGE") }, Reason(rewrite.DuplicateHeader)},
	} {
		l.run(test.name, func() {
			req := l.up(alice, alice.request("MESSAGE", "sip:bob@pbx.example"))
			before := l.dropped()
			l.pbx.send(test.make(req))
			l.expectReached(alice, token)
			l.expectDropped(before, test.reason)
			if got := l.down(alice, req.reply("200 OK")); got.start() != "SIP/2.0 200 OK" {
				l.t.Errorf("the right response became %s", got)
			}
		})
	}
}

// TestNotConnected: a token whose client is nowhere is worth a 480.
func TestNotConnected(t *testing.T) {
	l := newLab(t)
	beside, alice := l.phone("bob"), l.phone("alice")
	token := l.registered(alice)
	l.hangUp(alice.browser)
	before := l.dropped()
	l.expectNobody(token)
	l.expectDropped(before, ReasonNoConnection)
	l.pbx.send(l.pbx.request("INVITE", token).as("ACK"))
	l.expectReached(beside, l.registered(beside))
}

// TestBrowserGone: a response for a connection that is gone goes nowhere.
func TestBrowserGone(t *testing.T) {
	l := newLab(t)
	beside, p := l.phone("bob"), l.phone("alice")
	req := l.up(p, p.request("MESSAGE", "sip:bob@pbx.example"))
	l.hangUp(p.browser)
	before := l.dropped()
	l.pbx.send(req.reply("200 OK"))
	l.expectAlive(beside)
	l.expectDropped(before, ReasonBrowserGone)
}

// TestRefusedStreams: a stream whose messages cannot be told apart is closed;
// what is wrong with one message alone is answered.
func TestRefusedStreams(t *testing.T) {
	l := newLab(t)
	alice := l.phone("alice")
	token := l.registered(alice)
	for _, test := range []struct {
		name   string
		make   func(ok sip) sip // of a MESSAGE that would be relayed
		status int              // 0: the connection is closed
		reason Reason
	}{
		{"no SIP at all", func(sip) sip { return "GET / HTTP/1.1\r\n\r\n" }, 0, ReasonGarbledStream},
		{"TLS where there is none", func(sip) sip { return "\x16\x03\x01\x02\x00\x01" }, 0, ReasonGarbledStream},
		{"Content-Length absent", func(m sip) sip { return m.without("Content-Length") }, 0, ReasonGarbledStream},
		{"Content-Length not a number", length("five"), 0, ReasonGarbledStream},
		{"Content-Length negative", length("-5"), 0, ReasonGarbledStream},
		{"Content-Length past all messages", length("999999"), 0, ReasonGarbledStream},
		{"two different Content-Lengths", func(m sip) sip { return m.add("Content-Length: 4") }, 0, ReasonGarbledStream},
		{"two different Content-Lengths, one compact", func(m sip) sip { return m.add("l: 4") }, 0, ReasonGarbledStream},
		{"two equal Content-Lengths", func(m sip) sip { return m.add("l: 5") }, 400, Reason(rewrite.DuplicateHeader)},
		{"a token that is none", func(m sip) sip { return replace(m, "sip:", "sip:x") }, 403, ReasonForgedToken},
		{"two From", func(m sip) sip { return m.add("From: <sip:b@b>;tag=1") }, 400, Reason(rewrite.DuplicateHeader)},
	} {
		l.run(test.name, func() {
			s := l.dialTCP("127.0.0.1:0")
			req := test.make(l.pbx.request("MESSAGE", token).withBody("hello"))
			before, refused := l.dropped(), l.log.count("refused")
			s.send(req)
			if test.status != 0 {
				expectAnswer(l.t, req.receivedFrom(s.conn.LocalAddr()), s.read(), test.status)
				s.expectReached(l, alice, token)
			} else {
				s.expectClosed()
			}
			l.log.await("refused", refused+1)
			l.expectDropped(before, test.reason)
			l.expectReached(alice, token)
		})
	}
}

// TestStreamLength: on a stream the length alone tells where the next message
// begins.
func TestStreamLength(t *testing.T) {
	l := newLab(t)
	alice := l.phone("alice")
	token := l.registered(alice)
	msg := l.pbx.request("MESSAGE", token).withBody("hello")

	l.run("shorter than the body", func() {
		s, before, refused := l.dialTCP("127.0.0.1:0"), l.dropped(), l.log.count("refused")
		s.send(msg.set("Content-Length", "4") + "<\r\n")
		if got := alice.read().body(); got != "hell" {
			l.t.Errorf("body %q", got)
		}
		s.expectClosed()
		l.log.await("refused", refused+1)
		l.expectDropped(before, ReasonGarbledStream)
	})
	l.run("longer than what comes", func() {
		s, before, refused := l.dialTCP("127.0.0.1:0"), l.dropped(), l.log.count("refused")
		s.send(msg.set("Content-Length", "6"))
		if err := s.conn.(*net.TCPConn).CloseWrite(); err != nil {
			l.t.Fatal(err)
		}
		s.expectClosed()
		l.log.await("refused", refused+1)
		l.expectDropped(before, ReasonGarbledStream)
	})
	l.run("compact, and a message after", func() {
		s := l.dialTCP("127.0.0.1:0")
		s.send(msg.without("Content-Length").add("l: 5") + l.pbx.request("INFO", token))
		if got := alice.read().body(); got != "hello" {
			l.t.Errorf("body %q", got)
		}
		if got := alice.read().method(); got != "INFO" {
			l.t.Errorf("then %s", got)
		}
		s.expectReached(l, alice, token)
	})
	l.expectReached(alice, token)
}

// expectReached shows that requests of this connection reach that browser, and
// its answers come back.
func (s *stream) expectReached(l *lab, p *phone, token string) {
	s.t.Helper()
	s.send(l.pbx.request("OPTIONS", token))
	p.send(p.read().reply("200 OK"))
	if got := s.read(); got.start() != "SIP/2.0 200 OK" {
		s.t.Errorf("the PBX gets\n%s", got)
	}
}

// TestAckOfOwnAnswer: what the gateway answers itself ends with it, on both
// sides: the ACK is neither relayed nor counted.
func TestAckOfOwnAnswer(t *testing.T) {
	var at clock
	l := preparedLab(t)
	l.tune = func(g *Gateway) { g.started, g.clients.now = time.Time{}, at.now }
	l.start()
	alice := l.phone("alice")
	invite := alice.invite("sip:bob@pbx.example").add("Route: <sip:192.0.2.9;lr>")
	alice.send(invite)
	refused := alice.read()
	expectAnswer(t, invite, refused, 403)
	before := l.dropped()
	alice.send(invite.as("ACK").set("To", refused.get("To")))
	l.expectAlive(alice)

	token := l.registered(alice)
	l.hangUp(alice.browser)
	at.seconds.Store(60) // nobody expects her back
	bob := l.phone("bob")
	tokenOfBob := l.registered(bob)
	invite = l.pbx.request("INVITE", token)
	l.pbx.send(invite)
	absent := l.pbx.read()
	if !strings.HasPrefix(absent.start(), "SIP/2.0 480 ") {
		t.Fatalf("answered %q", absent.start())
	}
	before[ReasonNoConnection]++
	l.pbx.send(invite.as("ACK").set("To", absent.get("To")))
	l.expectReached(bob, tokenOfBob)
	if after := l.dropped(); after != before {
		t.Errorf("counted %v, want %v", after, before)
	}
}
