package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// TestOwnAddr: an advertised address is the source of packets if it is this
// machine's own, and only then.
func TestOwnAddr(t *testing.T) {
	for text, own := range map[string]bool{
		"127.0.0.1": true, "127.0.0.1:5070": true,
		"192.0.2.1": false, "192.0.2.1:5070": false, "gw.example": false, "": false,
	} {
		addr, ok := ownAddr(text)
		if ok != own || own && addr.String() != "127.0.0.1" {
			t.Errorf("%q: %v, %v", text, addr, ok)
		}
	}
}

// names is a DNS server.
type names struct {
	addrs atomic.Pointer[[]string] // of every name
}

// newNames makes the gateway of a lab resolve every name by it.
func (l *lab) newNames(addrs ...string) *names {
	l.t.Helper()
	n := &names{}
	n.addrs.Store(&addrs)
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		l.t.Fatal(err)
	}
	server := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(n.answer)}
	served := make(chan error, 1)
	go func() { served <- server.ActivateAndServe() }()
	l.t.Cleanup(func() {
		_ = conn.Close()
		<-served
	})
	l.tune = func(g *Gateway) {
		g.resolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "udp4", conn.LocalAddr().String())
		}}
	}
	return n
}

func (n *names) answer(w dns.ResponseWriter, question *dns.Msg) {
	reply := new(dns.Msg).SetReply(question)
	q := question.Question[0]
	for _, addr := range *n.addrs.Load() {
		if q.Qtype == dns.TypeA {
			reply.Answer = append(reply.Answer, &dns.A{
				Hdr: dns.RR_Header{Name: q.Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1}, A: net.ParseIP(addr),
			})
		}
	}
	_ = w.WriteMsg(reply)
}

// TestNameMoves: an upstream that is dead is found where its name leads now, or
// at the next address that it has, and what it sends from there is taken.
func TestNameMoves(t *testing.T) {
	for name, addrs := range map[string][2][]string{
		"another address": {{"127.0.0.1"}, {"127.0.0.2"}},
		"several":         {{"127.0.0.1", "127.0.0.2", "127.0.0.3"}, {"127.0.0.1", "127.0.0.2", "127.0.0.3"}},
	} {
		t.Run(name, func(t *testing.T) {
			l := preparedLab(t)
			dns := l.newNames(addrs[0]...)
			port := l.pbx.conn.LocalAddr().(*net.UDPAddr).Port
			l.cfg.Upstreams = upstreams(t, fmt.Sprintf("sip:pbx.example:%d", port))
			l.cfg.HealthInterval = time.Second
			l.start()
			here, there := l.pbx.serve(), l.newPBXAt(fmt.Sprintf("127.0.0.2:%d", port)).serve()
			p := l.phone("alice")
			here.expect(p.registerAnywhere())
			since := time.Now()
			dns.addrs.Store(&addrs[1])
			here.mute.Store(silent)
			l.log.await("upstream up", 1)
			within(t, since, 2*time.Second+slack)
			there.expect(p.registerAnywhere())
			here.mute.Store(answersAll)
			there.mute.Store(silent)
			if name == "several" { // and round again
				l.log.await("upstream up", 2)
				p.registerAnywhere()
			}
		})
	}
}

// TestLocate: an upstream stays where it is as long as its name leads there,
// unless it is to be elsewhere: then it goes the round.
func TestLocate(t *testing.T) {
	l := preparedLab(t)
	dns := l.newNames("127.0.0.1", "127.0.0.2", "127.0.0.3")
	l.cfg.HealthInterval = time.Hour
	_, port, _ := net.SplitHostPort(l.pbx.addr())
	l.cfg.Upstreams = upstreams(t, "sip:pbx.example:"+port)
	l.start()
	up := l.gw.upstreams[0]
	for _, step := range []struct {
		addrs     []string
		elsewhere bool
		want      string
	}{
		{nil, false, "127.0.0.1"},
		{nil, true, "127.0.0.2"},
		{nil, false, "127.0.0.2"},
		{nil, true, "127.0.0.3"},
		{nil, true, "127.0.0.1"},
		{[]string{"127.0.0.7"}, true, "127.0.0.7"},
		{[]string{"127.0.0.7"}, true, "127.0.0.7"},
		{[]string{"127.0.0.8"}, false, "127.0.0.8"},
	} {
		if step.addrs != nil {
			dns.addrs.Store(&step.addrs)
		}
		before := up.main()
		moved, err := l.gw.locate(t.Context(), up, step.elsewhere)
		if at := up.main().target.Addr.Addr().String(); err != nil || at != step.want || moved != (before != up.main()) {
			t.Errorf("%+v: at %s, moved %v, %v", step, at, moved, err)
		}
	}
}

// TestAliasesWithoutDNS: what is known of aliases stays while they cannot be
// looked up, and does not grow.
func TestAliasesWithoutDNS(t *testing.T) {
	l := preparedLab(t)
	undisturbed(&l.cfg)
	l.cfg.Upstreams = upstreams(t, "sip:"+l.pbx.addr()+";alias=a.example;alias=b.example")
	l.tune = func(g *Gateway) {
		g.resolver = &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
			return nil, errors.New("no name server")
		}}
	}
	l.start()
	for range 16 {
		if _, err := l.gw.locate(t.Context(), l.gw.upstreams[0], true); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(l.gw.upstreams[0].route.Load().addrs); n != 1 {
		t.Errorf("%d addresses, want 1", n)
	}
}
