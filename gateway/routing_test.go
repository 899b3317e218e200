package gateway

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// labOf is a gateway in front of several PBXs on one host, told apart by port.
func labOf(t *testing.T, count int, options ...func(*Config)) (*lab, []*pbx) {
	t.Helper()
	l := preparedLab(t)
	pbxs := []*pbx{l.pbx}
	for range count - 1 {
		pbxs = append(pbxs, l.newPBX())
	}
	var texts []string
	for _, p := range pbxs {
		texts = append(texts, "sip:"+p.addr())
	}
	l.cfg.Upstreams = upstreams(t, texts...)
	for _, option := range options {
		option(&l.cfg)
	}
	l.start()
	return l, pbxs
}

// expectAt sends a request and checks that this PBX gets it.
func (l *lab) expectAt(at *pbx, p *phone, req sip) sip {
	l.t.Helper()
	l.pbx = at
	return l.up(p, req)
}

func TestRoutes(t *testing.T) {
	l := newLab(t, func(c *Config) {
		c.Advertise = "gw.example:5999"
		c.Upstreams = upstreams(t, c.Upstreams[0].String()+";alias=node..2;alias=[2001:db8::a]")
	})
	own := "<sip:" + l.webAddr() + ";transport=ws;lr>"
	upstream := "<sip:" + l.pbx.addr() + ";lr>"
	p := l.phone("alice")
	for _, test := range []struct {
		name, to     string
		routes, want []string
	}{
		{"none", "", nil, nil},
		{"own", "", []string{own}, nil},
		{"own, with another transport", "", []string{strings.ReplaceAll(own, "=ws", "=wss")}, nil},
		{"own, as advertised", "", []string{"<sip:GW.example:5999;lr>"}, nil},
		{"own, as advertised, without port", "", []string{"<sip:gw.example;lr>"}, nil},
		{"upstream", "", []string{upstream}, []string{upstream}},
		{"upstream without port", "", []string{"<sip:127.0.0.1;lr>"}, []string{"<sip:127.0.0.1;lr>"}},
		{"upstream by its alias", "", []string{"<sip:node..2;lr>"}, []string{"<sip:node..2;lr>"}},
		{"upstream by its other alias", "", []string{"<sip:[2001:DB8::A]:5080;lr>"}, []string{"<sip:[2001:DB8::A]:5080;lr>"}},
		{"own, then upstream", "", []string{own, upstream}, []string{upstream}},
		{"both on one line", "", []string{own + ", " + upstream}, []string{upstream}},
		{"own in a dialog", ";tag=b", []string{own}, nil},
		{"a stranger in a dialog", ";tag=b", []string{upstream + ",<sip:192.0.2.7;lr>"}, []string{upstream + ",<sip:192.0.2.7;lr>"}},
		{"own and strangers in a dialog", ";tag=b", []string{own, "<sip:192.0.2.7;lr>"}, []string{"<sip:192.0.2.7;lr>"}},
	} {
		l.run(test.name, func() {
			req := p.request("INFO", "sip:bob@pbx.example").set("To", "<sip:bob@pbx.example>"+test.to)
			for _, route := range test.routes {
				req = req.add("Route: " + route)
			}
			if got := l.up(p, req).all("Route"); fmt.Sprint(got) != fmt.Sprint(test.want) {
				l.t.Errorf("Route %q, want %q", got, test.want)
			}
		})
	}
}

// TestOwnRoutePort: a browser names the port that wss implies, or leaves it out
// of its Host.
func TestOwnRoutePort(t *testing.T) {
	for host, routes := range map[string]map[string]int{
		"gw.example":      {"gw.example": 1, "gw.example:443": 1, "gw.example:80": 1, "gw.example:5060": 0, "gw.example.org": 0, "gw": 0},
		"gw.example:8443": {"gw.example": 1, "gw.example:8443": 1, "gw.example:443": 0, "gw.example:84": 0},
		"[2001:db8::1]":   {"[2001:db8::1]": 1, "[2001:db8::1]:443": 1, "[2001:db8::2]": 0},
		"pbx.example:81":  {"pbx.example": 0, "pbx.example:81": 1}, // without port it is the server's
	} {
		g, err := New(Config{Upstreams: upstreams(t, "sip:pbx.example:5060")})
		if err != nil {
			t.Fatal(err)
		}
		for route, want := range routes {
			var w work
			if d := w.msg.Scan([]byte(newRequest("OPTIONS", "sip:x@y", "Via: SIP/2.0/WSS x;branch=z9hG4bK1", "From: <sip:a@b>;tag=1",
				"To: <sip:a@b>", "Call-ID: 1", "CSeq: 1 OPTIONS", "Route: <sip:"+route+";lr>"))); d != 0 {
				t.Fatal(d)
			}
			if got := g.ownRoutes(host, &w.msg); got != want {
				t.Errorf("Host %s, Route %s: %d own, want %d", host, route, got, want)
			}
		}
	}
}

func TestFailoverPolicy(t *testing.T) {
	l, pbxs := labOf(t, 3)
	for _, user := range []string{"alice", "bob", "carol"} {
		p := l.phone(user)
		l.expectAt(pbxs[0], p, p.register())
		l.expectAt(pbxs[0], p, p.invite("sip:bob@pbx.example"))
		l.expectAt(pbxs[0], p, p.invite("sip:bob@"+pbxs[2].addr())) // a browser chooses no destination
	}
}

// TestHashPolicy: a user's REGISTER and calls meet the same PBX, whatever From
// they hide behind.
func TestHashPolicy(t *testing.T) {
	l, pbxs := labOf(t, 3, func(c *Config) { c.Policy = PolicyHash })
	met := map[*pbx]bool{}
	for i := range 20 {
		p := l.phone(fmt.Sprint("user", i))
		chosen := l.gw.byPolicy([]byte(p.user + "@pbx.example"))
		l.pbx = pbxs[slices.IndexFunc(pbxs, func(at *pbx) bool { return chosen.String() == "sip:"+at.addr() })]
		met[l.pbx] = true
		l.registered(p)
		invite := l.up(p, p.invite("sip:bob@pbx.example").set("From", "<sip:anonymous@anonymous.invalid>;tag=1"))
		l.down(p, invite.reply("486 Busy Here"))
		l.up(p, p.request("MESSAGE", "sip:bob@pbx.example"))
	}
	if len(met) != len(pbxs) {
		t.Errorf("20 users met %d PBXs of %d", len(met), len(pbxs))
	}
}

// TestHashShares: a further upstream takes its share of the users and moves
// nobody between the others.
func TestHashShares(t *testing.T) {
	const users = 4000
	three := []string{"sip:10.0.0.1:5060", "sip:10.0.0.2:5060", "sip:10.0.0.3:5060"}
	before, after := hashing(t, three...), hashing(t, append(three, "sip:10.0.0.4:5060")...)
	shares := map[string]int{}
	for i := range users {
		aor := fmt.Appendf(nil, "%d@pbx.example", 1000+i)
		from, to := before.byPolicyOfAll(aor).String(), after.byPolicyOfAll(aor).String()
		shares[to]++
		if from != to && to != "sip:10.0.0.4:5060" {
			t.Fatalf("%s moved from %s to %s", aor, from, to)
		}
	}
	for up, share := range shares {
		if share < users/4*8/10 || share > users/4*12/10 {
			t.Errorf("%s has %d of %d users", up, share, users)
		}
	}
	if len(shares) != 4 {
		t.Errorf("shares %v", shares)
	}
}

func hashing(t *testing.T, texts ...string) *Gateway {
	t.Helper()
	g, err := New(Config{Upstreams: upstreams(t, texts...), Policy: PolicyHash})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// TestInDialog: a request in a dialog goes to the upstream that it names, by the
// top Route, else by the Request-URI, else where the policy says.
func TestInDialog(t *testing.T) {
	l, pbxs := labOf(t, 3, func(c *Config) {
		c.Upstreams[1] = upstreams(t, c.Upstreams[1].String()+";alias=127.0.0.9;alias=node..2")[0]
	})
	p := l.phone("alice")
	route := func(at *pbx) string { return "Route: <sip:" + at.addr() + ";lr>" }
	for _, test := range []struct {
		name, uri string
		routes    []string
		want      *pbx
	}{
		{"named by nothing", "sip:bob@pbx.example", nil, pbxs[0]},
		{"by its port alone", "sip:bob@" + pbxs[2].addr(), nil, pbxs[2]},
		{"by its Route", "sip:bob@192.0.2.1", []string{route(pbxs[2])}, pbxs[2]},
		{"by its Route before its Request-URI", "sip:bob@" + pbxs[1].addr(), []string{route(pbxs[2])}, pbxs[2]},
		{"by its first Route", "sip:bob@192.0.2.1", []string{route(pbxs[1]), route(pbxs[2])}, pbxs[1]},
		{"by the Route behind our own", "sip:bob@192.0.2.1", []string{"Route: <sip:" + l.webAddr() + ";lr>", route(pbxs[2])}, pbxs[2]},
		{"by the Request-URI behind a foreign Route", "sip:bob@" + pbxs[2].addr(), []string{"Route: <sip:192.0.2.1;lr>"}, pbxs[2]},
		{"by an alias that is an address", "sip:bob@127.0.0.9:7777", nil, pbxs[1]},
		{"by an alias that is but a name", "sip:bob@NODE..2", nil, pbxs[1]},
		{"by a Route that shows an alias", "sip:bob@192.0.2.1", []string{"Route: <sip:node..2:5070;lr>"}, pbxs[1]},
		{"by a host that several share", "sip:bob@127.0.0.1:1", nil, pbxs[0]},
		{"by no SIP URI", "tel:+12125551212", nil, pbxs[0]},
	} {
		l.run(test.name, func() {
			req := p.request("BYE", test.uri).set("To", "<sip:bob@pbx.example>;tag=b").add(test.routes...)
			l.expectAt(test.want, p, req)
		})
	}
}

// TestRequestsOfSeveral: each upstream gets the answers to what it asked.
func TestRequestsOfSeveral(t *testing.T) {
	l, pbxs := labOf(t, 3)
	p := l.phone("alice")
	token := l.registered(p)
	for _, at := range pbxs {
		l.pbx = at
		l.expectReached(p, token)
	}
}

// TestPeerBeforeUpstream: a peer may ask while no upstream is found in DNS.
// The host is none that is looked up.
func TestPeerBeforeUpstream(t *testing.T) {
	l := preparedLab(t)
	l.cfg.Upstreams = upstreams(t, "sip:no..where:5060")
	l.cfg.AllowPeers = []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32")}
	l.start()
	p := l.phone("alice")
	invite := p.invite("sip:bob@pbx.example")
	p.send(invite)
	res := p.read()
	expectAnswer(t, invite, res, 503)
	if res.get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
	contact, err := newContact(l.gw.keys.Load().First(), []byte(p.viaHost), []byte("alice@pbx.example"), []byte(p.contact()))
	if err != nil {
		t.Fatal(err)
	}
	req := l.pbx.request("OPTIONS", fmt.Sprintf("sip:%s@%s", contact.token(), l.bound.SIP))
	l.pbx.send(req)
	expectAnswer(t, req.receivedFrom(l.pbx.conn.LocalAddr()), l.pbx.read(), 503)
}
