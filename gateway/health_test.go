package gateway

import (
	"fmt"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// server is a PBX that answers by itself, as long as it is not silent.
type server struct {
	*pbx
	mute  atomic.Int32 // a muteness
	asked chan sip     // requests of browsers, also when it is silent
}

// What a server does not answer.
const (
	answersAll = iota
	silentToProbes
	silent
)

func (p *pbx) serve() *server {
	s := &server{pbx: p, asked: make(chan sip, 1000)}
	go func() {
		buf := make([]byte, 65536)
		for {
			n, err := p.conn.Read(buf)
			if err != nil {
				return
			}
			s.take(sip(buf[:n]))
		}
	}()
	return s
}

func (s *server) take(msg sip) {
	if strings.HasPrefix(msg.start(), "SIP/2.0") {
		return
	}
	mute := s.mute.Load()
	if !msg.isProbe() {
		select {
		case s.asked <- msg:
		default: // nobody wants to know
		}
	}
	switch {
	case mute == silent, mute == silentToProbes && msg.isProbe(), msg.method() == "ACK":
	case msg.method() == "REGISTER":
		s.answer(msg.reply("200 OK", "Contact: "+msg.get("Contact"), "Expires: 600"))
	case msg.method() == "INVITE":
		s.answer(msg.reply("180 Ringing"))
	default:
		s.answer(msg.reply("200 OK"))
	}
}

func (s *server) answer(msg sip) { _, _ = s.conn.WriteToUDPAddrPort([]byte(msg), s.bound.SIP) }

// expect waits for a request of a browser.
func (s *server) expect(req sip) sip {
	s.t.Helper()
	deadline := time.After(patience)
	for {
		select {
		case got := <-s.asked:
			if got.method() == req.method() && got.get("Call-ID") == req.get("Call-ID") && got.get("CSeq") == req.get("CSeq") {
				return got
			}
		case <-deadline:
			s.t.Fatalf("%s is not asked\n%s", s.addr(), req)
		}
	}
}

// expectNothing checks that no request of a browser has come.
func (s *server) expectNothing() {
	s.t.Helper()
	select {
	case got := <-s.asked:
		s.t.Errorf("%s is asked\n%s", s.addr(), got)
	default:
	}
}

// serversOf is a gateway in front of several servers.
func serversOf(t *testing.T, count int, interval time.Duration, options ...func(*Config)) (*lab, []*server) {
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
	l.cfg.Upstreams, l.cfg.HealthInterval = upstreams(t, texts...), interval
	for _, option := range options {
		option(&l.cfg)
	}
	l.start()
	servers := make([]*server, 0, count)
	for _, p := range pbxs {
		servers = append(servers, p.serve())
	}
	return l, servers
}

// registerAnywhere registers a phone with whichever server it gets to.
func (p *phone) registerAnywhere() (req sip) {
	p.t.Helper()
	req = p.register()
	p.send(req)
	if got := p.read(); got.start() != "SIP/2.0 200 OK" || got.get("CSeq") != req.get("CSeq") {
		p.t.Fatalf("not registered:\n%s", got)
	}
	return req
}

// within checks how long something took.
func within(t testing.TB, from time.Time, limit time.Duration) {
	t.Helper()
	if took := time.Since(from); took > limit {
		t.Errorf("took %v, want at most %v", took, limit)
	}
}

// slack is what a busy machine adds.
const slack = time.Second

// TestFailoverAfterSilence: a server that says nothing any more is noticed in
// one health interval, and one that is back in half.
func TestFailoverAfterSilence(t *testing.T) {
	t.Parallel()
	const interval = 2 * time.Second
	l, servers := serversOf(t, 2, interval)
	p := l.phone("alice")
	ask := func(at *server) {
		t.Helper()
		req := p.request("MESSAGE", "sip:bob@pbx.example")
		p.send(req)
		at.expect(req)
		p.read()
	}
	ask(servers[0])
	since := time.Now()
	servers[0].mute.Store(silent)
	l.log.await("upstream down", 1)
	within(t, since, interval+slack)
	ask(servers[1])
	since = time.Now()
	servers[0].mute.Store(answersAll)
	l.log.await("upstream up", 1)
	within(t, since, interval/2+slack)
	ask(servers[0])
	if rtt := time.Duration(l.gw.upstreams[0].rtt.Load()); rtt <= 0 || rtt > slack {
		t.Errorf("round trip %v", rtt)
	}
}

// TestSuspect: after a transport error an upstream gets no new work until it has
// answered.
func TestSuspect(t *testing.T) {
	greeted := make(chan string, 2)
	l, servers := serversOf(t, 2, time.Hour, func(c *Config) {
		c.Answered = func(upstream, _ string, _ error) { greeted <- upstream }
	})
	<-greeted
	<-greeted
	up := l.gw.upstreams[0]
	aor := []byte("alice@pbx.example")
	servers[0].mute.Store(silent)
	l.gw.suspect(up, syscall.ECONNREFUSED)
	if up.alive() || l.gw.byPolicy(aor) != l.gw.upstreams[1] {
		t.Error("alive after a transport error")
	}
	l.gw.suspect(up, syscall.EHOSTUNREACH) // says nothing new
	servers[0].mute.Store(answersAll)
	l.log.await("upstream up", 1)
	if !up.alive() || l.gw.byPolicy(aor) != up {
		t.Error("not alive after an answer")
	}
	l.gw.suspect(up, fmt.Errorf("the message: %w", syscall.EMSGSIZE))
	if n := l.log.count("upstream down"); n != 1 || !up.alive() {
		t.Errorf("went down %d times, want once", n)
	}
}

// TestFailoverByICMP: a closed port costs one request.
func TestFailoverByICMP(t *testing.T) {
	l, servers := serversOf(t, 2, time.Hour)
	p := l.phone("alice")
	servers[0].expect(p.registerAnywhere())
	_ = servers[0].conn.Close()
	lost := p.request("MESSAGE", "sip:bob@pbx.example")
	p.send(lost)
	expectAnswer(t, lost, p.read(), 503)
	next := p.request("MESSAGE", "sip:bob@pbx.example")
	p.send(next)
	servers[1].expect(next)
}

// TestFailoverOfRefused: what a server on TCP refuses at once goes to the next
// one, and nothing of it is lost.
func TestFailoverOfRefused(t *testing.T) {
	l := preparedLab(t)
	closed := l.listenTCP("127.0.0.1:0")
	_ = closed.Close()
	l.cfg.Upstreams = upstreams(t, "sip:"+closed.Addr().String()+";transport=tcp", "sip:"+l.pbx.addr())
	l.cfg.HealthInterval = time.Hour
	l.start()
	s := l.pbx.serve()
	l.log.await("upstream down", 1)
	l.gw.upstreams[0].rise(time.Now()) // as if the next request were the first
	p := l.phone("alice")
	invite := p.invite("sip:bob@pbx.example")
	p.send(invite)
	sent := s.expect(invite)
	p.send(invite.as("CANCEL"))
	if got := s.expect(invite.as("CANCEL")); got.get("Via") != sent.get("Via") {
		t.Errorf("CANCEL has Via %q, its INVITE %q", got.get("Via"), sent.get("Via"))
	}
	if l.gw.upstreams[0].alive() {
		t.Error("what refuses is alive")
	}
}

// TestFailoverAfterReset: a server on TCP that goes away with its connection
// costs the request that finds out.
func TestFailoverAfterReset(t *testing.T) {
	l := &tcpLab{lab: preparedLab(t)}
	l.server = l.listenTCP("127.0.0.1:0")
	l.cfg.Upstreams = upstreams(t, "sip:"+l.server.Addr().String()+";transport=tcp", "sip:"+l.pbx.addr())
	l.cfg.HealthInterval = time.Hour
	l.start()
	pbx, other := l.accept(l.server), l.pbx.serve()
	pbx.send(pbx.next().reply("200 OK"))
	p := l.phone("alice")
	req := p.register()
	p.send(req)
	pbx.send(pbx.read().reply("200 OK"))
	p.read()
	_ = l.server.Close()
	_ = pbx.conn.(*net.TCPConn).SetLinger(0) // a reset
	l.hangUp(pbx)
	lost := p.request("MESSAGE", "sip:bob@pbx.example")
	p.send(lost)
	expectAnswer(t, lost, p.read(), 503)
	next := p.request("MESSAGE", "sip:bob@pbx.example")
	p.send(next)
	other.expect(next)
}

// TestAllDead: with nobody to ask a browser is told so at once.
func TestAllDead(t *testing.T) {
	l, servers := serversOf(t, 2, time.Second)
	for _, s := range servers {
		s.mute.Store(silent)
	}
	l.log.await("upstream down", 2)
	p := l.phone("alice")
	for _, req := range []sip{p.invite("sip:bob@pbx.example"), p.register()} {
		p.send(req)
		got := p.read()
		expectAnswer(t, req, got, 503)
		if got.get("Retry-After") == "" {
			t.Errorf("no Retry-After in\n%s", got)
		}
	}
	for _, s := range servers {
		s.expectNothing()
	}
	servers[1].mute.Store(answersAll)
	l.log.await("upstream up", 1)
	servers[1].expect(p.registerAnywhere())
}

// TestDialogsOfTheDead: what belongs to a dialog or an INVITE goes where that
// is, whatever is known of its health; health does not change the server of a
// dialog that names none.
func TestDialogsOfTheDead(t *testing.T) {
	l, servers := serversOf(t, 2, time.Second)
	dead, other := servers[0], servers[1]
	p := l.phone("alice")
	invite := p.invite("sip:bob@pbx.example")
	p.send(invite)
	dead.expect(invite)
	p.read()
	dead.mute.Store(silent)
	l.log.await("upstream down", 1)
	inDialog := func(uri string) sip {
		return p.request("INFO", uri).set("To", "<sip:bob@pbx.example>;tag=b")
	}
	for _, req := range []sip{
		invite.as("CANCEL"), invite.as("ACK").set("To", invite.get("To")+";tag=b"),
		inDialog("sip:bob@" + dead.addr()), inDialog("sip:bob@pbx.example"),
		inDialog("sip:bob@192.0.2.1").add("Route: <sip:" + dead.addr() + ";lr>"),
	} {
		p.send(req)
		dead.expect(req)
	}
	for _, req := range []sip{p.invite("sip:bob@pbx.example"), p.request("MESSAGE", "sip:bob@"+dead.addr())} {
		p.send(req)
		other.expect(req)
	}
}

// TestHeard: a server that is too busy to answer OPTIONS lives as long as it
// answers anything else.
func TestHeard(t *testing.T) {
	t.Parallel()
	l, servers := serversOf(t, 1, time.Second)
	p := l.phone("alice")
	p.registerAnywhere()
	servers[0].mute.Store(silentToProbes)
	for since := time.Now(); time.Since(since) < 2*time.Second; {
		p.registerAnywhere()
	}
	if l.log.count("upstream down") > 0 {
		t.Error("down while it answers")
	}
	l.log.await("upstream down", 1)
}

// TestHashWithoutOne: the users of a server that died are spread over the
// others, all others stay.
func TestHashWithoutOne(t *testing.T) {
	g := hashing(t, "sip:10.0.0.1:5060", "sip:10.0.0.2:5060", "sip:10.0.0.3:5060")
	for _, up := range g.upstreams {
		up.route.Store(&route{legs: [numProtos]*leg{{upstream: up}}})
	}
	gone := g.upstreams[1]
	gone.fall(dead, time.Now())
	moved := map[*upstream]int{}
	for i := range 3000 {
		aor := fmt.Appendf(nil, "%d@pbx.example", i)
		was, is := g.byPolicyOfAll(aor), g.byPolicy(aor)
		switch {
		case is == gone || is == nil:
			t.Fatalf("%s is with %v", aor, is)
		case was == gone:
			moved[is]++
		case is != was:
			t.Fatalf("%s moved from %s to %s", aor, was, is)
		}
	}
	if len(moved) != 2 || min(moved[g.upstreams[0]], moved[g.upstreams[2]]) < 400 {
		t.Errorf("spread as %v", moved)
	}
}

// TestServeLeavesNothing: what asks upstreams ends with Serve.
func TestServeLeavesNothing(t *testing.T) {
	l, servers := serversOf(t, 3, time.Second)
	servers[1].mute.Store(silent)
	l.log.await("upstream down", 1)
	l.stop()
	buf := make([]byte, 1<<20)
	stacks := strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n")
	if i := slices.IndexFunc(stacks, func(s string) bool { return strings.Contains(s, "gateway.(*Gateway)") }); i >= 0 {
		t.Errorf("still there:\n%s", stacks[i])
	}
}

// TestIgnoresOptions: the silence of a server that answers everything but OPTIONS
// says nothing, also while nobody asks it for anything else.
func TestIgnoresOptions(t *testing.T) {
	t.Parallel()
	l := preparedLab(t)
	l.cfg.HealthInterval = time.Second
	s := l.pbx.serve()
	s.mute.Store(silentToProbes)
	l.start()
	p := l.phone("alice")
	for up := l.gw.upstreams[0]; !up.ignoresOptions(); {
		p.registerAnywhere()
	}
	<-time.After(3 * l.gw.healthPeriod())
	p.registerAnywhere()
	if l.log.count("upstream down") > 0 {
		t.Error("down, for it ignores OPTIONS")
	}
}
