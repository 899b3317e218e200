package gateway

import (
	"cmp"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"viaduct/rewrite"
	"viaduct/transport"
)

// authService answers whether a browser may connect, and keeps what it was asked.
type authService struct {
	*httptest.Server
	asked  chan *http.Request
	answer atomic.Pointer[http.HandlerFunc]
}

func newAuthService(t testing.TB) *authService {
	t.Helper()
	a := &authService{asked: make(chan *http.Request, 1000)}
	a.answers(func(http.ResponseWriter) {})
	a.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.asked <- r
		(*a.answer.Load())(w, r)
	}))
	t.Cleanup(a.Close)
	return a
}

// answers sets what is answered from now on.
func (a *authService) answers(answer func(http.ResponseWriter)) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { answer(w) })
	a.answer.Store(&handler)
}

// binds makes it admit everybody, for that address-of-record.
func (a *authService) binds(aor string) {
	a.answers(func(w http.ResponseWriter) { w.Header().Set("X-Aor", aor) })
}

// authLab is a gateway that asks a service, which may change what the Config says.
func authLab(t testing.TB, options ...func(*Config)) (*lab, *authService) {
	t.Helper()
	a := newAuthService(t)
	return newLab(t, append([]func(*Config){func(c *Config) { c.AuthURL = a.URL + "/check?realm=sip" }}, options...)...), a
}

// TestAuthQuestion: the service is asked as nginx and Traefik ask theirs, with
// what the browser sent, but for what is the gateway's to say and what is about
// the connection alone.
func TestAuthQuestion(t *testing.T) {
	l, a := authLab(t, func(c *Config) { c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")} })
	res := l.handshake(http.Header{
		"Cookie": {"session=1; a=b"}, "Authorization": {"Bearer token"}, "Origin": {"http://" + l.webAddr()},
		"User-Agent": {"Firefox"}, "Accept-Encoding": {"br"}, "Accept-Language": {"de"}, "X-Custom": {"1", "2"},
		"Connection": {"keep-alive, Upgrade, X-Hop"}, "X-Hop": {"1"}, "Keep-Alive": {"1"}, "Te": {"trailers"},
		"Proxy-Authorization": {"Basic eDp5"}, "Sec-Websocket-Extensions": {"permessage-deflate"},
		"X-Forwarded-For": {"198.51.100.1, 203.0.113.9"}, "X-Forwarded-Proto": {"https"},
		"X-Forwarded-Host": {"evil.example"}, "X-Forwarded-User": {"root"}, "X-Forwarded-Uri": {"/admin"}, "X-Original-Uri": {"/admin"},
		"X-Original-Url": {"/admin"}, "X_forwarded_for": {"192.0.2.1"}, "X-Real-Ip": {"192.0.2.1"}, "Forwarded": {"for=192.0.2.1"},
	})
	if res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(res.Status)
	}
	got := <-a.asked
	if got.Method != http.MethodGet || got.RequestURI != "/check?realm=sip" || got.Host != a.Listener.Addr().String() || got.ContentLength != 0 {
		t.Errorf("asked %s %s of %s", got.Method, got.RequestURI, got.Host)
	}
	want := http.Header{
		"Cookie": {"session=1; a=b"}, "Authorization": {"Bearer token"}, "Origin": {"http://" + l.webAddr()},
		"User-Agent": {"Firefox"}, "Accept-Encoding": {"br"}, "Accept-Language": {"de"}, "X-Custom": {"1", "2"},
		"X-Original-Method": {"GET"}, "X-Original-Uri": {"/ws"},
		"X-Forwarded-Method": {"GET"}, "X-Forwarded-Uri": {"/ws"}, "X-Forwarded-Host": {l.webAddr()},
		"X-Forwarded-Proto": {"https"}, "X-Forwarded-For": {"203.0.113.9"},
	}
	if fmt.Sprint(got.Header) != fmt.Sprint(want) {
		t.Errorf("asked with\n%v, want\n%v", got.Header, want)
	}
}

// TestAuthAnswers: 2xx admits, what else is said refuses, and a place that was
// kept is given back.
func TestAuthAnswers(t *testing.T) {
	l, a := authLab(t, func(c *Config) { c.MaxConnections = 1 })
	for _, test := range []struct {
		answer int
		status int
		why    transport.Refusal
	}{
		{301, 502, transport.RefusedAuthFailed},
		{304, 502, transport.RefusedAuthFailed},
		{401, 401, transport.RefusedAuth},
		{403, 403, transport.RefusedAuth},
		{404, 404, transport.RefusedAuth},
		{426, 426, transport.RefusedAuth},
		{429, 429, transport.RefusedAuth},
		{500, 502, transport.RefusedAuthFailed},
		{503, 502, transport.RefusedAuthFailed},
		{600, 502, transport.RefusedAuthFailed},
		{200, 101, 0},
	} {
		a.answers(func(w http.ResponseWriter) {
			w.Header()["Www-Authenticate"] = []string{`Basic realm="a"`, `Bearer realm="b"`}
			w.Header().Set("Location", "http://"+l.webAddr()+"/elsewhere")
			w.Header().Set("Set-Cookie", "a=b")
			w.WriteHeader(test.answer)
		})
		before := l.gw.Refused(test.why)
		res := l.handshake(nil)
		if res.StatusCode != test.status {
			t.Errorf("%d: answered %s, want %d", test.answer, res.Status, test.status)
		}
		if test.why != 0 && !res.Close {
			t.Errorf("%d: the connection stays open", test.answer)
		}
		if n := l.gw.Refused(test.why) - before; test.why != 0 && n != 1 {
			t.Errorf("%d: %v counts %d", test.answer, test.why, n)
		}
		passed := len(res.Header["Www-Authenticate"])
		if want := map[bool]int{true: 2}[test.why == transport.RefusedAuth]; passed != want || res.Header.Get("Location")+res.Header.Get("Set-Cookie") != "" {
			t.Errorf("%d: header %v", test.answer, res.Header)
		}
	}
}

// TestAuthConnections: the service is asked over connections that are kept, and
// at most so many at once; who has to wait is not refused.
func TestAuthConnections(t *testing.T) {
	var open, most atomic.Int64
	a := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	a.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			most.Store(max(most.Load(), open.Add(1)))
		case http.StateClosed:
			open.Add(-1)
		}
	}
	a.Start()
	t.Cleanup(a.Close)
	l := newLab(t, func(c *Config) { c.AuthURL = a.URL })
	const browsers = 3 * authAtOnce
	statuses := make(chan int, browsers)
	for range browsers {
		go func() { statuses <- l.handshake(nil).StatusCode }()
	}
	for range browsers {
		if status := <-statuses; status != http.StatusSwitchingProtocols {
			t.Errorf("answered %d", status)
		}
	}
	if n := most.Load(); n > authAtOnce || n == 0 {
		t.Errorf("%d connections to the service, at most %d are allowed", n, authAtOnce)
	}
}

// TestClientAddress: what a trusted proxy says of the client is in the log and
// what the SIP server is told.
func TestClientAddress(t *testing.T) {
	l := newLab(t, func(c *Config) {
		c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}
		c.ClientIPHeader = "X-Client-IP"
	})
	p := l.phoneWith("alice", http.Header{"X-Forwarded-For": {"203.0.113.9"}})
	got := l.up(p, p.register().add("X-Client-IP: 192.0.2.1", "x-client-ip: 192.0.2.2"))
	if all := got.all("X-Client-IP"); len(all) != 1 || all[0] != "203.0.113.9" {
		t.Errorf("the SIP server is told %q", all)
	}
	l.hangUp(p.browser)
	if gone := l.log.FilterMessage("browser gone").All()[0].ContextMap(); gone["remote"] != "203.0.113.9:0" || gone["client"] != "203.0.113.9" {
		t.Errorf("logged as %v", gone)
	}
}

// TestAoRForms: what the header may hold.
func TestAoRForms(t *testing.T) {
	for text, want := range map[string]string{
		"alice@pbx.example":               "alice pbx.example",
		"sip:alice@pbx.example":           "alice pbx.example",
		" <sips:alice@pbx.example:5061> ": "alice pbx.example",
		"sip:alice@[2001:db8::1];x=y":     "alice [2001:db8::1]",
		"sip:a%20b@pbx.example":           "a%20b pbx.example",

		"":                     "",
		"alice":                "",
		"sip:pbx.example":      "",
		"@pbx.example":         "",
		"tel:+4930123":         "",
		"<sip:alice@pbx":       "",
		"sip:a@b, sip:c@d":     "",
		"alice@pbx@evil":       "",
		"a b@pbx":              "",
		"\"A\" <sip:a@b>":      "",
		"https://example/user": "",
	} {
		uri, ok := parseAoR(text)
		got := ""
		if ok {
			got = fmt.Sprintf("%s %s", uri.User, uri.Host)
		}
		if got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// boundRequests are what a browser that is bound to alice may send or not.
var boundRequests = []struct {
	name   string
	make   func(p *phone) sip
	reason Reason // 0: it is relayed
}{
	{"REGISTER", func(p *phone) sip { return p.register() }, 0},
	{"REGISTER, written otherwise", func(p *phone) sip {
		return p.register().set("To", "\"B <sip:bob@pbx.example>\" <SIP:%61lice@PBX.Example:5060;user=phone>").set("From", "sips:alice@pbx.example;tag=1")
	}, 0},
	{"INVITE", func(p *phone) sip { return p.invite("sip:bob@pbx.example") }, 0},
	{"MESSAGE", func(p *phone) sip { return p.request("MESSAGE", "sip:bob@pbx.example") }, 0},
	{"in a dialog, as who was called", func(p *phone) sip { return tagged(p, "BYE").set("From", "<sip:100@192.0.2.1>;tag=1") }, 0},
	{"in a dialog, a hold", func(p *phone) sip { return tagged(p, "INVITE").set("From", "<sip:token@gw.example>;tag=1") }, 0},
	{"in a dialog, an ACK", func(p *phone) sip { return tagged(p, "ACK").set("From", "<sip:100@192.0.2.1>;tag=1") }, 0},

	{"REGISTER of bob", func(p *phone) sip { return p.register().set("To", bob) }, ReasonNotTheUser},
	{"REGISTER by bob for alice", func(p *phone) sip { return p.register().set("From", bob+";tag=1") }, ReasonNotTheUser},
	{"REGISTER of bob in a dialog that was made up", func(p *phone) sip { return p.register().set("To", bob+";tag=1") }, ReasonNotTheUser},
	{"INVITE from bob", from(bob), ReasonNotTheUser},
	{"INVITE from bob, compact", func(p *phone) sip { return p.invite("sip:a@b").without("From").add("f: " + bob + ";tag=1") }, ReasonNotTheUser},
	{"INVITE from nobody", from("<sip:anonymous@anonymous.invalid>"), ReasonNotTheUser},
	{"INVITE from a number", from("<tel:+4930123>"), ReasonNotTheUser},
	{"INVITE from the host alone", from("<sip:pbx.example>"), ReasonNotTheUser},
	{"INVITE from alice elsewhere", from("<sip:alice@evil.example>"), ReasonNotTheUser},
	{"INVITE from Alice", from("<sip:Alice@pbx.example>"), ReasonNotTheUser},
	{"INVITE from alice with a password", from("<sip:alice:x@pbx.example>"), ReasonNotTheUser},
	{"INVITE from what begins as alice", from("<sip:alice2@pbx.example>"), ReasonNotTheUser},
	{"INVITE from alice at what begins as the host", from("<sip:alice@pbx.example.evil.example>"), ReasonNotTheUser},
	{"INVITE from alice with an escaped at sign", from("<sip:bob%40pbx.example@pbx.example>"), ReasonNotTheUser},
	{"INVITE from two users", from("<sip:bob@evil.example;x=alice@pbx.example>"), ReasonNotTheUser},
	{"INVITE from alice in a parameter", from("<sip:bob@pbx.example;from=<sip:alice@pbx.example>>"), Reason(rewrite.BadAddress)},
	{"INVITE from alice, named bob in brackets", from("sip:alice@pbx.example <sip:bob@pbx.example>"), Reason(rewrite.BadAddress)},
	{"INVITE from alice and bob", from("<sip:alice@pbx.example>, <sip:bob@pbx.example>"), Reason(rewrite.BadAddress)},
	{"INVITE from what cannot be read", from("\"<sip:alice@pbx.example>"), Reason(rewrite.BadAddress)},
	{"MESSAGE from bob in a dialog that was made up", func(p *phone) sip { return tagged(p, "MESSAGE").set("From", bob+";tag=1") }, ReasonNotTheUser},
	{"SUBSCRIBE from bob in a dialog that was made up", func(p *phone) sip { return tagged(p, "SUBSCRIBE").set("From", bob+";tag=1") }, ReasonNotTheUser},
	{"PUBLISH from bob in a dialog that was made up", func(p *phone) sip { return tagged(p, "PUBLISH").set("From", bob+";tag=1") }, ReasonNotTheUser},
	{"REFER from bob", func(p *phone) sip { return p.request("REFER", "sip:c@pbx.example").set("From", bob+";tag=1") }, ReasonNotTheUser},
	{"OPTIONS from bob", func(p *phone) sip { return p.request("OPTIONS", "sip:c@pbx.example").set("From", bob+";tag=1") }, ReasonNotTheUser},
}

const bob = "<sip:bob@pbx.example>"

func from(address string) func(*phone) sip {
	return func(p *phone) sip { return p.invite("sip:carol@pbx.example").set("From", address+";tag=1") }
}

func tagged(p *phone, method string) sip {
	return p.request(method, "sip:bob@pbx.example").set("To", "<sip:bob@pbx.example>;tag=b")
}

// TestAttackBoundConnection: a connection that is bound to an address-of-record
// speaks for no other, in whatever way that is written, and calls go on.
func TestAttackBoundConnection(t *testing.T) {
	l, a := authLab(t, func(c *Config) { c.AuthAoRHeader = "x-AOR" })
	a.binds("sip:alice@pbx.example")
	p := l.phone("alice")
	for _, test := range boundRequests {
		l.run(test.name, func() {
			before := l.dropped()
			req := test.make(p)
			if test.reason == 0 {
				l.up(p, req)
				l.expectDropped(before, 0)
				return
			}
			p.send(req)
			status := map[Reason]string{ReasonNotTheUser: "403 Not Your Address"}[test.reason]
			if got := p.read(); got.start() != "SIP/2.0 "+cmp.Or(status, "400 Malformed Address") {
				l.t.Errorf("answered %s", got.start())
			}
			l.expectDropped(before, test.reason)
			l.t.Logf("attack: bound to alice, %s | answered %.3s | viaduct_dropped_total{reason=\"%s\"} 1", test.name, cmp.Or(status, "400"), test.reason)
		})
	}
	l.expectAlive(p)
}

// TestAttackBoundContact: whatever a Contact names, the SIP server gets a token
// that leads to the connection which it came by.
func TestAttackBoundContact(t *testing.T) {
	l, a := authLab(t, func(c *Config) { c.AuthAoRHeader = "X-Aor" })
	a.binds("sip:alice@pbx.example")
	p := l.phone("alice")
	for _, contact := range []string{bob, "<sip:bob@10.0.0.5:5060>", "<sips:bob@pbx.example>;expires=600", "sip:bob@pbx.example"} {
		req := l.up(p, p.registerContact(contact))
		if got := req.contactURI(); !strings.HasSuffix(got, "@"+l.bound.SIP.String()) || strings.Contains(req.get("Contact"), "bob") {
			t.Errorf("Contact %s becomes %s", contact, req.get("Contact"))
		}
		l.down(p, req.reply("200 OK", "Contact: "+req.get("Contact")+";expires=600"))
		reached := l.down(p, l.pbx.request("OPTIONS", req.contactURI()))
		l.answered(p, reached, "200 OK")
		t.Logf("attack: bound to alice, REGISTER with Contact %s | the Contact is a token of the connection itself | viaduct_dropped_total 0", contact)
	}
}

// TestBoundCall: a browser that is bound is called by another name, and what it
// says in that call passes.
func TestBoundCall(t *testing.T) {
	l, a := authLab(t, func(c *Config) { c.AuthAoRHeader = "X-Aor" })
	a.binds("alice@pbx.example")
	p := l.phone("alice")
	token := l.registered(p)
	invite := l.down(p, l.pbx.request("INVITE", token).set("To", "<"+token+">"))
	ok := l.answered(p, invite, "200 OK")
	bye := p.request("BYE", "sip:pbx@"+l.pbx.addr()).set("Call-ID", invite.get("Call-ID")).
		set("From", ok.get("To")).set("To", invite.get("From"))
	if got := l.up(p, bye); got.get("From") != ok.get("To") {
		t.Errorf("From %q", got.get("From"))
	}
}

// TestAttackUnbound: with --auth-aor-header, an answer that binds to
// nothing that can be understood admits nobody.
func TestAttackUnbound(t *testing.T) {
	l, a := authLab(t, func(c *Config) { c.AuthAoRHeader = "X-Aor" })
	for name, values := range map[string][]string{
		"none": nil, "empty": {""}, "two": {"sip:alice@a", "sip:bob@a"}, "a list": {"sip:alice@a, sip:bob@a"}, "no user": {"sip:pbx.example"},
	} {
		a.answers(func(w http.ResponseWriter) { w.Header()["X-Aor"] = values })
		if res := l.handshake(nil); res.StatusCode != http.StatusBadGateway {
			t.Errorf("%s: %s", name, res.Status)
		}
		t.Logf("attack: the service names no address-of-record to bind to: %s | answered 502 | viaduct_handshakes_total{outcome=\"%s\"} 1", name, transport.RefusedAuthFailed)
	}
	if n := l.gw.Refused(transport.RefusedAuthFailed); n != 5 {
		t.Errorf("counted %d", n)
	}
}

// TestAttackAuthService: nobody gets in while the service fails, in whatever way,
// and nothing of it goes further than that.
func TestAttackAuthService(t *testing.T) {
	elsewhere := newAuthService(t) // admits
	stop := make(chan struct{})
	for _, test := range []struct {
		name   string
		answer http.HandlerFunc
		status int
	}{
		{"a redirect to one that admits", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", elsewhere.URL)
			w.WriteHeader(http.StatusFound)
		}, 502},
		{"no answer", func(_ http.ResponseWriter, r *http.Request) { waitFor(stop, r) }, 503},
		{"an answer without end", func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			w.(http.Flusher).Flush()
			waitFor(stop, r)
		}, 403},
		{"a body without end", func(w http.ResponseWriter, _ *http.Request) {
			for chunk := make([]byte, 1<<16); ; {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		}, 101},
		{"a header of 1 MB", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("x", 1<<20)) }, 503},
		{"no HTTP", hijacked("SIP/2.0 200 OK\r\n\r\n"), 503},
		{"a header line without end", hijacked("HTTP/1.1 200 OK\r\nX: y"), 503},
		{"an upgrade", hijacked("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"), 502},
		{"more before the answer than there can be", hijacked(strings.Repeat("HTTP/1.1 103 Early Hints\r\n\r\n", 1000) + "HTTP/1.1 200 OK\r\n\r\n"), 503},
	} {
		t.Run(test.name, func(t *testing.T) {
			a := newAuthService(t)
			a.answer.Store(&test.answer)
			l := preparedLab(t)
			l.cfg.AuthURL = a.URL
			l.tune = func(g *Gateway) { g.auth.timeout = 300 * time.Millisecond }
			l.start()
			began := time.Now()
			res := l.handshake(nil)
			if res.StatusCode != test.status {
				t.Errorf("answered %s, want %d", res.Status, test.status)
			}
			if took := time.Since(began); took > patience {
				t.Errorf("answered after %v", took)
			}
			if len(elsewhere.asked) > 0 {
				t.Error("another one was asked")
			}
			why := transport.RefusedAuthFailed
			if test.status == 403 {
				why = transport.RefusedAuth
			}
			if n := l.gw.Refused(why); test.status != 101 && n != 1 {
				t.Errorf("%v counts %d", why, n)
			}
			t.Logf("attack: the service behind --auth-url gives %s | answered %d | viaduct_handshakes_total{outcome=\"%s\"} %d", test.name, test.status, why, l.gw.Refused(why))
		})
	}
	close(stop)
}

func waitFor(stop <-chan struct{}, r *http.Request) {
	select {
	case <-stop:
	case <-r.Context().Done():
	}
}

// hijacked answers with just these bytes.
func hijacked(answer string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := w.(http.Hijacker).Hijack()
		if err == nil {
			conn.Write([]byte(answer))
			conn.Close()
		}
	}
}

// TestAttackAuthTLS: a service whose certificate is of no authority that is
// known is not believed.
func TestAttackAuthTLS(t *testing.T) {
	admits := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(admits.Close)
	l := newLab(t, func(c *Config) { c.AuthURL = admits.URL })
	if res := l.handshake(nil); res.StatusCode != http.StatusServiceUnavailable {
		t.Error(res.Status)
	}
	l.log.await("handshake not authorized", 1)
	if text := fmt.Sprint(l.log.FilterMessage("handshake not authorized").All()[0].ContextMap()["error"]); !strings.Contains(text, "x509: ") {
		t.Errorf("logged %s", text)
	}
	t.Logf("attack: a service behind --auth-url with a certificate of an unknown authority | not asked, browsers answered 503 | viaduct_handshakes_total{outcome=\"%s\"} %d",
		transport.RefusedAuthFailed, l.gw.Refused(transport.RefusedAuthFailed))
}

// TestAttackAuthFlood: browsers that leave while the service is being asked leave
// nothing behind.
func TestAttackAuthFlood(t *testing.T) {
	const browsers, allowed = 200, 100
	l, a := authLab(t, func(c *Config) { c.MaxConnectionsPerIP = allowed })
	stop := make(chan struct{})
	hang := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { waitFor(stop, r) })
	a.answer.Store(&hang)
	for range browsers {
		conn, err := net.Dial("tcp", l.webAddr())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprintf(conn, "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
			"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: sip\r\n\r\n")
	}
	l.log.await("handshake refused", browsers-allowed) // 429: the others are waited for
	for range authAtOnce {
		<-a.asked
	}
	if n := len(a.asked); n > 0 {
		t.Errorf("%d questions too many at once", n)
	}
	close(stop)
	for range allowed - authAtOnce {
		<-a.asked
	}
	t.Logf("attack: %d handshakes at once while the service behind --auth-url hangs | it was asked %d times at once, %d were answered 429 | viaduct_handshakes_total{outcome=\"%s\"} %d",
		browsers, authAtOnce, browsers-allowed, transport.RefusedAddress, l.gw.Refused(transport.RefusedAddress))
}
