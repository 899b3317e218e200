package rtpengine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// TestKilled: what is asked of an engine that dies ends at once with an error
// that says so, new calls go to the other one, and it has its own again when it
// is back.
func TestKilled(t *testing.T) {
	a, b := newDaemon(t), newDaemon(t)
	l := newLab(t, Config{Engines: []string{a.addr, b.addr}})
	callID := l.callOf(l.engines[0])
	e := l.ForNewCall(callID)
	offer := Command{
		Kind: KindOffer, CallID: callID, FromTag: []byte("alice"), SDP: chromium(t), Profile: TowardsPBX(KindOffer),
	}
	l.must(e, offer)

	a.freeze() // it has the question when it dies
	open := l.begin(e, offer)
	a.kill()
	if o := l.end(open); !errors.Is(o.err, ErrUnreachable) || !errors.Is(o.err, syscall.ECONNREFUSED) || o.took > timeout {
		t.Errorf("after %v: %v", o.took, o.err)
	}
	if l.ForDialog(callID) != e {
		t.Error("its calls are not its own any more")
	}
	other := l.ForNewCall(callID)
	if other != l.engines[1] {
		t.Fatalf("new calls go to %v", other)
	}
	l.must(other, offer)
	if o := l.ask(e, Command{Kind: KindDelete, CallID: callID, FromTag: []byte("alice")}); !errors.Is(o.err, ErrUnreachable) {
		t.Errorf("delete of a dead engine: %v", o.err)
	}

	a.start()
	l.state(e, true)
	if l.ForNewCall(callID) != e {
		t.Error("new calls do not come back")
	}
	l.must(e, offer)
	if down, up := l.log.FilterMessage("rtpengine down").Len(), l.log.FilterMessage("rtpengine up").Len(); down != 1 || up != 1 {
		t.Errorf("%d times down, %d times up", down, up)
	}
}

// TestStopped: an engine that falls silent, as a frozen machine does, is down
// when the first command has waited in vain. It is back with its first answer,
// and has executed what it was asked in between once.
func TestStopped(t *testing.T) {
	d := newDaemon(t)
	l := newLab(t, Config{Engines: []string{d.addr}})
	e := l.engines[0]
	l.must(e, Command{Kind: kindPing})
	d.freeze()
	o := l.ask(e, Command{Kind: KindOffer, CallID: []byte("call"), FromTag: []byte("alice"), SDP: chromium(t)})
	if !errors.Is(o.err, ErrTimeout) || o.took < timeout || o.took > timeout+time.Second {
		t.Errorf("after %v: %v", o.took, o.err)
	}
	l.state(e, false)
	if l.ForNewCall([]byte("call")) != nil || l.ForDialog([]byte("call")) != e {
		t.Error("a call begins there")
	}
	d.signal(syscall.SIGCONT)
	l.state(e, true)
	d.kill() // its log is whole
	if n := d.said("Received command 'offer'"); n != 1 {
		t.Errorf("%d times executed", n)
	}
}

// TestSilent: pings alone find out that an engine is silent.
func TestSilent(t *testing.T) {
	l := newLab(t, Config{Engines: []string{listen(t).LocalAddr().String()}})
	if !l.engines[0].healthy() {
		t.Error("down before it was asked")
	}
	l.state(l.engines[0], false)
	if s := l.Stats()[0]; s.Up || s.Timeouts == 0 {
		t.Errorf("%+v", s)
	}
}

// TestNameMoves: an engine that is silent is found where its name leads now, and
// at the next address that it has.
func TestNameMoves(t *testing.T) {
	d := newDaemon(t)
	_, port, _ := net.SplitHostPort(d.addr)
	names := newNames(t, "127.0.0.2", "127.0.0.1")
	l := newLab(t, Config{Engines: []string{"engine.test:" + port}, Resolver: names.resolver()})
	e := l.engines[0]
	at := func(addr string) func() bool { return func() bool { return e.at().String() == addr } }
	eventually(t, "it is at its second address", at("127.0.0.1"))
	l.must(e, Command{Kind: kindPing})
	d.kill()
	names.lead("127.0.0.3")
	eventually(t, "it is where its name leads now", at("127.0.0.3"))

	nowhere := newLab(t, Config{Engines: []string{"nowhere.invalid:2223"}, Resolver: newNames(t).resolver()})
	o := nowhere.ask(nowhere.engines[0], Command{Kind: KindQuery, CallID: []byte("call")})
	if !errors.Is(o.err, ErrUnreachable) || o.took > timeout {
		t.Errorf("after %v: %v", o.took, o.err)
	}
}

// callOf returns a Call-ID that belongs to an engine.
func (l *lab) callOf(e *Engine) []byte {
	for i := 0; ; i++ {
		if callID := fmt.Appendf(nil, "call%d", i); l.ForDialog(callID) == e {
			return callID
		}
	}
}

// names is a DNS server that has the same addresses for every name.
type names struct {
	conn  net.PacketConn
	addrs atomic.Pointer[[]string]
}

func newNames(t *testing.T, addrs ...string) *names {
	t.Helper()
	n := &names{conn: listen(t)}
	n.lead(addrs...)
	server := &dns.Server{PacketConn: n.conn, Handler: n}
	served := make(chan error, 1)
	go func() { served <- server.ActivateAndServe() }()
	t.Cleanup(func() {
		_ = n.conn.Close()
		<-served
	})
	return n
}

func (n *names) lead(addrs ...string) { n.addrs.Store(&addrs) }

// ServeDNS answers one question.
func (n *names) ServeDNS(w dns.ResponseWriter, question *dns.Msg) {
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

func (n *names) resolver() *net.Resolver {
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "udp4", n.conn.LocalAddr().String())
	}}
}
