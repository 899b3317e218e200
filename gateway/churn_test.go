package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"weak"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"go.uber.org/zap"

	"viaduct/gateway/transaction"
	"viaduct/transport"
)

// TestChurn: ten thousand browsers come, register, call, and vanish without a
// word. Afterwards the gateway remembers not one of them: a single entry that
// stays, in whatever table, fails the test.
func TestChurn(t *testing.T) {
	const (
		browsers = 10_000
		maxHeap  = 16 << 20 // maps keep their size
	)
	c := newChurn(t)
	c.play(0, len(visits)) // what is made once for all is made
	routines, heap := runtime.NumGoroutine(), heapInUse()
	c.play(len(visits), len(visits)+browsers)
	t.Logf("remembered: %+v, %d goroutines, %d kB", c.remains(), runtime.NumGoroutine()-routines, (heapInUse()-heap)>>10)

	c.forget()
	for deadline := time.Now().Add(patience); runtime.NumGoroutine() > routines; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d goroutines, were %d:\n%s", runtime.NumGoroutine(), routines, stacks())
		}
	}
	grown := heapInUse() - heap
	t.Logf("forgotten: %+v, %d kB", c.remains(), grown>>10)
	if grown > maxHeap {
		t.Errorf("the heap has grown by %d kB", grown>>10)
	}
}

// churn is a gateway through which many browsers pass.
type churn struct {
	*lab
	clock  clock // of the registrations
	server *busyPBX

	mu    sync.Mutex
	flows []weak.Pointer[flow]
	conns []weak.Pointer[transport.WSConn]
}

func newChurn(t *testing.T) *churn {
	t.Helper()
	c := &churn{lab: preparedLab(t)}
	c.cfg.Log = zap.NewNop() // a journal remembers everything
	c.cfg.PingInterval = 2 * time.Second
	c.cfg.MaxConnectionsPerIP = 20_000
	c.cfg.MaxConnections = 20_000 // no less than all of them are remembered
	c.tune = func(g *Gateway) { g.clients.now = c.clock.now }
	c.start()
	_ = c.pbx.conn.SetReadBuffer(4 << 20)
	c.server = &busyPBX{pbx: c.pbx}
	c.server.forget()
	go c.server.serve()
	return c
}

// play has the browsers of those numbers visit, some at once, and returns when
// all are gone.
func (c *churn) play(first, end int) {
	c.t.Helper()
	const atOnce = 1000
	defer c.hurry()()
	var playing sync.WaitGroup
	var next atomic.Int64
	for range min(atOnce, end-first) {
		playing.Go(func() {
			for n := first + int(next.Add(1)) - 1; n < end; n = first + int(next.Add(1)) - 1 {
				c.visit(n)
			}
		})
	}
	playing.Wait()
	c.await("no connection, and all answered", 4*patience, func(r remains) bool { return r.Flows == 0 && c.server.idle() })
}

// hurry lets the time pass for what waits for browsers that do not come back,
// until it is told to stop: there would be more of that than is held.
func (c *churn) hurry() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var hurrying sync.WaitGroup
	hurrying.Go(func() {
		look := time.NewTicker(timerT1)
		defer look.Stop()
		for ctx.Err() == nil {
			c.gw.tendHeld(time.Now().Add(time.Hour))
			select {
			case <-ctx.Done():
			case <-look.C:
			}
		}
	})
	return func() {
		cancel()
		hurrying.Wait()
	}
}

// remains is how much of everything the gateway remembers.
type remains struct {
	Flows, Clients, Origins, Gone int
	Invites                       int
	Held, HeldBytes               int
	Messages, Bytes, Tombstones   int // of transactions
	Probes                        int
	FlowsAlive, ConnsAlive        int // that the garbage collector finds in use, whoever refers to them
}

func (c *churn) remains() (r remains) {
	runtime.GC()
	g := c.gw
	r.Flows = len(g.flows.list())
	g.clients.mu.Lock()
	r.Clients, r.Origins, r.Gone = len(g.clients.byID), len(g.clients.byOrigin), g.clients.gone
	g.clients.mu.Unlock()
	g.invites.mu.Lock()
	r.Invites = len(g.invites.young) + len(g.invites.old)
	g.invites.mu.Unlock()
	g.held.mu.Lock()
	r.Held, r.HeldBytes = len(g.held.all), g.held.bytes
	g.held.mu.Unlock()
	s := g.transactions.Stats()
	r.Messages, r.Bytes, r.Tombstones = s.Messages, s.Bytes, s.Tombstones
	g.probes.mu.Lock()
	r.Probes = len(g.probes.waiting)
	g.probes.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.flows {
		if c.flows[i].Value() != nil {
			r.FlowsAlive++
		}
		if c.conns[i].Value() != nil {
			r.ConnsAlive++
		}
	}
	return r
}

// forget lets the time pass after which everything may be forgotten, and waits
// until it is.
func (c *churn) forget() {
	c.t.Helper()
	c.clock.seconds.Add(24 * 3600)
	c.gw.clients.sweep()
	c.gw.invites.turn()
	c.gw.invites.turn()
	c.server.forget()
	defer c.hurry()()
	c.await("nothing", transaction.Lifetime+2*patience, func(r remains) bool { return r == remains{} })
}

// await waits until what remains is right.
func (c *churn) await(what string, within time.Duration, right func(remains) bool) {
	c.t.Helper()
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	for deadline := time.Now().Add(within); ; <-look.C {
		r := c.remains()
		if right(r) {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("what remains is %+v, want %s", r, what)
		}
	}
}

// heapInUse is the memory of what is reachable, in bytes.
func heapInUse() int {
	runtime.GC()
	runtime.GC() // what a sync.Pool has survives one
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

func stacks() string {
	all := make([]byte, 1<<20)
	return string(all[:runtime.Stack(all, true)])
}

// visits are what the browsers do, each a fraction of them.
var visits = []func(*churn, *phone){
	(*churn).registers, (*churn).calls, (*churn).rings, (*churn).isCalled, (*churn).isOffered, (*churn).misses, (*churn).moves,
	(*churn).passes,
}

func (c *churn) visit(n int) {
	user := fmt.Sprintf("u%05d", n)
	p := &phone{user: user, viaHost: user + ".invalid", contactUser: user}
	c.connect(p)
	visits[n%len(visits)](c, p)
}

// registers registers and vanishes.
func (c *churn) registers(p *phone) {
	c.register(p)
	c.vanish(p)
}

// calls vanishes in a call.
func (c *churn) calls(p *phone) {
	c.register(p)
	c.call(p)
	c.vanish(p)
}

// rings vanishes while somebody's phone rings, who then refuses.
func (c *churn) rings(p *phone) {
	c.register(p)
	invite := p.invite("sip:rings@pbx.example")
	c.ask(p, invite, "180")
	c.vanish(p)
	c.server.refuse(invite.get("Call-ID"))
}

// isCalled vanishes in a call that the PBX made.
func (c *churn) isCalled(p *phone) {
	c.register(p)
	c.server.ask(c.server.request("INVITE", p).add("Contact: <sip:bob@" + c.server.addr() + ">"))
	c.send(p, c.read(p).reply("200 OK", "Contact: <"+p.contact()+">"))
	if ack := c.read(p); ack.method() != "ACK" {
		c.t.Errorf("the browser gets %s instead of the ACK", ack.start())
	}
	c.vanish(p)
}

// isOffered vanishes when it is called, and the PBX gives up.
func (c *churn) isOffered(p *phone) {
	c.register(p)
	invite := c.server.request("INVITE", p).add("Contact: <sip:bob@" + c.server.addr() + ">")
	c.server.ask(invite)
	c.read(p)
	c.vanish(p)
	c.server.ask(invite.as("CANCEL"))
}

// misses vanishes in a call, and the PBX hangs up.
func (c *churn) misses(p *phone) {
	c.register(p)
	invite := c.call(p)
	c.vanish(p)
	c.server.ask(c.server.request("BYE", p).set("Call-ID", invite.get("Call-ID")).set("To", invite.get("From")))
}

// moves comes back while the gateway takes it to be there still, and takes leave.
func (c *churn) moves(p *phone) {
	c.register(p)
	before := p.browser
	c.connect(p)
	c.register(p)
	_ = ws.WriteFrame(p.conn, ws.MaskFrame(ws.NewCloseFrame(ws.NewCloseFrameBody(ws.StatusNormalClosure, ""))))
	c.vanish(p)
	p.browser = before
	c.vanish(p)
}

// passes calls without having registered, and loses its connection.
func (c *churn) passes(p *phone) {
	c.call(p)
	c.watch(p)
	_ = p.conn.(*net.TCPConn).SetLinger(0)
	_ = p.conn.Close()
}

// connect gives a phone a connection, which it has to close.
func (c *churn) connect(p *phone) {
	dialer := ws.Dialer{Protocols: []string{"sip"}, Timeout: patience}
	conn, _, _, err := dialer.Dial(context.Background(), c.bound.WebSocket[0])
	if err != nil {
		c.t.Fatal(err)
	}
	p.browser = &browser{t: c.t, conn: conn}
}

func (c *churn) register(p *phone) {
	c.ask(p, p.register(), "200")
	c.watch(p)
}

// call makes a call, and returns its INVITE.
func (c *churn) call(p *phone) (invite sip) {
	invite = p.invite("sip:answers@pbx.example")
	c.ask(p, invite, "200")
	c.send(p, invite.as("ACK"))
	return invite
}

// ask sends a request and reads until that response to it.
func (c *churn) ask(p *phone, req sip, status string) {
	c.send(p, req)
	for {
		got := c.read(p)
		if transactionOf(got) == transactionOf(req) && strings.HasPrefix(got.start(), "SIP/2.0 "+status) {
			return
		}
	}
}

// vanish falls silent: no ping is answered. It returns when the gateway has
// ended the connection for that, of which the browser's end knows nothing before.
func (c *churn) vanish(p *phone) {
	_ = p.conn.SetReadDeadline(time.Now().Add(4 * patience))
	_, err := io.Copy(io.Discard, p.conn)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		c.t.Errorf("%s is silent, and the gateway does not find out", p.user)
	}
	_ = p.conn.Close()
}

// watch notes a phone's flow, to see later whether anything refers to it still.
func (c *churn) watch(p *phone) {
	local := p.conn.LocalAddr().String()
	c.gw.flows.mu.RLock()
	defer c.gw.flows.mu.RUnlock()
	for _, f := range c.gw.flows.byID {
		if f.conn.RemoteAddr().String() == local {
			c.mu.Lock()
			c.flows, c.conns = append(c.flows, weak.Make(f)), append(c.conns, weak.Make(f.conn))
			c.mu.Unlock()
			return
		}
	}
	c.t.Errorf("the gateway does not know the connection of %s", p.user)
}

// send and read are those of phone with the patience that a thousand at once want.
func (c *churn) send(p *phone, msg sip) {
	_ = p.conn.SetDeadline(time.Now().Add(4 * patience))
	if err := wsutil.WriteClientText(p.conn, []byte(msg)); err != nil {
		c.t.Fatalf("%s writes: %v", p.user, err)
	}
}

func (c *churn) read(p *phone) sip {
	_ = p.conn.SetDeadline(time.Now().Add(4 * patience)) // pings are answered, too
	msg, err := wsutil.ReadServerText(p.conn)
	if err != nil {
		c.t.Fatalf("%s reads: %v", p.user, err)
	}
	return sip(msg)
}
