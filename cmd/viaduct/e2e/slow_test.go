package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

// TestSlowBrowsers: browsers that stop to read are closed with 1008 when too much
// waits for them, and their neighbours feel nothing. The PBX sends everything by
// one connection, so that viaduct could not get by a browser that it waits for.
func TestSlowBrowsers(t *testing.T) {
	const (
		slow = 50
		each = 100 // round trips of a neighbour
	)
	c := newCrowd(t, 20)
	for n := range slow {
		who := crowdIdentity("r", n)
		dialWebClient(t, c.via.WebSocket, newWebClientPage()).Register(t, who)
		c.fed = append(c.fed, c.pbx.tokenOf(t, who))
	}
	reading := c.roundTrips(each, nil)
	before := c.via.Metrics(t)

	c.fed = nil
	var stuck []*deafClient
	for n := range slow {
		who := crowdIdentity("s", n)
		stuck = append(stuck, dialDeafClient(t, c.via.WebSocket, who))
		c.fed = append(c.fed, c.pbx.tokenOf(t, who))
	}
	notReading := c.roundTrips(each, nil)

	full, told := make(chan struct{}), 0
	go func() {
		defer close(full)
		told = c.closeAll(stuck)
	}()
	closing := c.roundTrips(0, full)
	c.wantGone("backlog", stuck)
	c.wantNothingLeft(before, slow)
	if told == 0 {
		t.Error("nobody was told by a 1008 why the connection ended")
	}
	t.Logf("%d browsers' OPTIONS beside %d others that read: %v", len(c.neighbours), slow, reading)
	t.Logf("… that do not read: %v", notReading)
	t.Logf("… that are closed for it, %d by 1008 and the rest by a reset: %v", told, closing)
	// The 99th percentile is that of a machine which tests on all its cores.
	if slowest := max(notReading.median, closing.median); slowest > time.Second/2 {
		t.Errorf("half of the round trips take more than %v", slowest)
	}
}

// crowd is a test's browsers that work beside others.
type crowd struct {
	t          *testing.T
	pbx        *ScriptedPBX
	via        *Viaduct
	neighbours []*WebClient
	witness    sipPeer // the first of neighbours

	fed []sipPeer // who gets a MESSAGE for each round trip, in turn
	ate atomic.Int64
}

// newCrowd registers that many neighbours with a viaduct in a namespace: the
// buffers of its link are those of a network, while loopback's take megabytes.
func newCrowd(t *testing.T, neighbours int) *crowd {
	t.Helper()
	host := newNamespace(t)
	c := &crowd{t: t, pbx: startScriptedPBXAt(t, host.Harness)}
	c.via = launchViaduct(t, host, "--upstream="+c.pbx.Upstream(), "--ping-interval=10m", "--log-level=info")
	c.via.WaitLog(t, "upstream answered")
	for n := range neighbours {
		client := dialWebClient(t, c.via.WebSocket, newWebClientPage())
		client.Register(t, crowdIdentity("n", n))
		c.neighbours = append(c.neighbours, client)
	}
	c.witness = c.pbx.tokenOf(t, crowdIdentity("n", 0))
	return c
}

// closeAll has each of the clients closed for not reading, and returns how many
// of them were told so.
func (c *crowd) closeAll(clients []*deafClient) (told int) {
	c.t.Helper()
	for n, client := range clients {
		c.overfeed(c.fed[n])
		if client.closedWith(c.t, ws.StatusPolicyViolation) {
			told++
		}
	}
	return told
}

// wantGone waits until viaduct has logged for each of the clients that it is
// gone, and why.
func (c *crowd) wantGone(cause string, clients []*deafClient) {
	c.t.Helper()
	for _, client := range clients {
		c.via.process.Output.WaitFor(c.t, fmt.Sprintf("viaduct to log %q of %s", cause, client.local), func(line string) bool {
			entry, ok := parseLog(line)
			return ok && entry.Message == "browser gone" && entry.Fields["cause"] == cause && entry.Fields["remote"] == client.local.String()
		})
	}
}

// wantNothingLeft wants that many browsers to be counted as closed for what waited
// for them, and nothing to be left of them.
func (c *crowd) wantNothingLeft(before map[string]float64, slow int) {
	c.t.Helper()
	const closed, open, routines = `viaduct_connections_closed_total{cause="backlog"}`, "viaduct_connections", "go_goroutines"
	look := time.NewTicker(100 * time.Millisecond)
	defer look.Stop()
	for deadline := time.Now().Add(patience); ; <-look.C {
		now := c.via.Metrics(c.t)
		if now[closed] == before[closed]+float64(slow) && now[open] == before[open] && now[routines] <= before[routines] {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("after %d slow browsers: %v closed, %v open of %v, %v goroutines of %v",
				slow, now[closed], now[open], before[open], now[routines], before[routines])
		}
	}
}

// sipPeer is a browser as the PBX knows it: the URI of its token, and the
// connection that viaduct's REGISTER came by.
type sipPeer struct {
	uri  string
	conn *PBXConn
}

// latencies are the times that round trips took.
type latencies struct{ median, p99, worst time.Duration }

func (l latencies) String() string {
	return fmt.Sprintf("p50 %v, p99 %v, worst %v", l.median, l.p99, l.worst)
}

// roundTrips has every neighbour ask the PBX for n OPTIONS one after the other,
// for each of which somebody is fed, and for more until done is closed.
func (c *crowd) roundTrips(n int, done <-chan struct{}) latencies {
	c.t.Helper()
	var mu sync.Mutex
	var all []time.Duration
	var asking sync.WaitGroup
	for i, client := range c.neighbours {
		asking.Go(func() {
			for k := 0; k < n || !isClosed(done); k++ {
				request := newRequest("OPTIONS", "sip:"+domain, crowdIdentity("n", i))
				begun := time.Now()
				response := client.Do(c.t, request)
				took := time.Since(begun)
				if response.Status() != 200 {
					c.t.Errorf("an OPTIONS is answered %s", response)
				}
				mu.Lock()
				all = append(all, took)
				mu.Unlock()
				if k < n {
					c.feed(c.fed[int(c.ate.Add(1))%len(c.fed)])
				}
			}
		})
	}
	asking.Wait()
	slices.Sort(all)
	return latencies{all[len(all)/2], all[len(all)*99/100], all[len(all)-1]}
}

// isClosed reports whether a channel is closed; a nil one counts as such.
func isClosed(done <-chan struct{}) bool {
	if done == nil {
		return true
	}
	select {
	case <-done:
		return true
	default:
		return false
	}
}

// morsel is so small that those who do not read hold on while their neighbours are
// measured: 40 of it fill the link's buffers, but not what may wait in viaduct.
var morsel = strings.Repeat("a message that somebody should read\r\n", 160)

// feed has the PBX send one MESSAGE.
func (c *crowd) feed(to sipPeer) {
	c.t.Helper()
	c.message(to, morsel)
}

// overfeed has the PBX send more than may wait for a browser, and returns when
// viaduct has seen to all of it.
func (c *crowd) overfeed(to sipPeer) {
	c.t.Helper()
	const enough = 512 << 10
	for sent := 0; sent < enough; sent += len(morsel) {
		c.message(to, morsel)
	}
	mark := c.message(c.witness, "")
	c.neighbours[0].ReceivedFrame(c.t, "MESSAGE to the witness", func(m Message) bool {
		return m.Request("MESSAGE") && m.Header("Call-ID") == mark
	})
}

func (c *crowd) message(to sipPeer, body string) (callID string) {
	c.t.Helper()
	r := newRequest("MESSAGE", to.uri, Identity{AoR: "sip:pbx@" + domain, ViaHost: c.pbx.TCP.String()})
	r.Body = body
	to.conn.Send(c.t, strings.Replace(r.Text(), "SIP/2.0/WS", "SIP/2.0/TCP", 1))
	return r.CallID
}

// crowdIdentity is a client without an account, which the ScriptedPBX does not ask for.
func crowdIdentity(kind string, n int) Identity {
	name := fmt.Sprintf("%s%03d", kind, n)
	return Identity{
		AoR: "sip:" + name + "@" + domain, ViaHost: name + ".invalid", Contact: "sip:" + name + "@" + name + ".invalid;transport=ws",
	}
}

// tokenOf finds the client that registered last as who.
func (p *ScriptedPBX) tokenOf(t testing.TB, who Identity) sipPeer {
	t.Helper()
	m := p.WaitReceived(t, "REGISTER of "+who.AoR, func(m Message) bool {
		return m.Request("REGISTER") && uriOf(m.Header("To")) == who.AoR
	})
	return sipPeer{uriOf(m.Header("Contact")), m.Conn}
}

// A deafClient is a registered browser that stopped to read.
type deafClient struct {
	tcp   *net.TCPConn
	local netip.AddrPort
}

// dialDeafClient connects with a small receive buffer, registers, and reads no
// further than to the answer.
func dialDeafClient(t *testing.T, url string, who Identity) *deafClient {
	t.Helper()
	small := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) (err error) {
		controlled := raw.Control(func(fd uintptr) {
			err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096)
		})
		return errors.Join(controlled, err)
	}}
	dialer := ws.Dialer{Protocols: []string{"sip"}, Timeout: patience, NetDial: func(ctx context.Context, network, addr string) (net.Conn, error) {
		return small.DialContext(ctx, network, addr)
	}}
	conn, early, _, err := dialer.Dial(t.Context(), url)
	if err != nil || early != nil {
		t.Fatalf("%s: %v, early %v", url, err, early != nil)
	}
	t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	if err := wsutil.WriteClientText(conn, []byte(newRequest("REGISTER", "sip:"+domain, who).Text())); err != nil {
		t.Fatal(err)
	}
	if answer, err := wsutil.ReadServerText(conn); err != nil || newMessage(string(answer)).Status() != 200 {
		t.Fatalf("REGISTER of %s: %q, %v", who.AoR, answer, err)
	}
	return &deafClient{conn.(*net.TCPConn), conn.LocalAddr().(*net.TCPAddr).AddrPort()}
}

// closedWith reads all that was sent, and reports whether then came the close frame
// with that code. Whoever does not read that within a second is reset.
func (c *deafClient) closedWith(t *testing.T, code ws.StatusCode) bool {
	t.Helper()
	_ = c.tcp.SetReadBuffer(1 << 20)
	_ = c.tcp.SetDeadline(time.Now().Add(patience))
	for {
		_, err := wsutil.ReadServerText(c.tcp)
		if err == nil {
			continue
		}
		var closed wsutil.ClosedError
		switch {
		case errors.As(err, &closed) && closed.Code == code:
			return true
		case !errors.Is(err, syscall.ECONNRESET):
			t.Errorf("a browser that does not read is ended by %v, want close %d, or a reset", err, code)
		}
		return false
	}
}
