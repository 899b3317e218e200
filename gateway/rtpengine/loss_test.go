package rtpengine

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
)

// lossy relays between a client and an engine, and loses some of it.
type lossy struct {
	front *net.UDPConn
	to    string
	rate  float64

	mu       sync.Mutex
	backs    map[string]net.Conn // by the client's address
	commands map[string]string   // by cookie
	sent     map[string]int      // by direction and command
	lost     int
}

func newLossy(t *testing.T, to string, rate float64) *lossy {
	t.Helper()
	r := &lossy{
		front: listen(t), to: to, rate: rate, backs: make(map[string]net.Conn),
		commands: make(map[string]string), sent: make(map[string]int),
	}
	var running sync.WaitGroup
	running.Go(func() { r.forward(&running) })
	t.Cleanup(func() {
		_ = r.front.Close()
		r.mu.Lock()
		for _, back := range r.backs {
			_ = back.Close()
		}
		r.mu.Unlock()
		running.Wait()
	})
	return r
}

func (r *lossy) addr() string { return r.front.LocalAddr().String() }

// loses decides by the command and how often it came, or was answered, before:
// the same copies are lost in every run.
func (r *lossy) loses(datagram []byte, answer bool) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	cookie, text, _ := strings.Cut(string(datagram), " ")
	if !answer {
		r.commands[cookie] = text
	}
	key := fmt.Sprint(answer, r.commands[cookie])
	r.sent[key]++
	const seed = 3
	random := rand.New(rand.NewPCG(seed, weight(key, fmt.Append(nil, r.sent[key]))))
	if random.Float64() >= r.rate {
		return false
	}
	r.lost++
	return true
}

func (r *lossy) forward(running *sync.WaitGroup) {
	buf := make([]byte, maxDatagram)
	for {
		n, client, err := r.front.ReadFromUDP(buf)
		if err != nil {
			return
		}
		back, err := r.back(client, running)
		if err == nil && !r.loses(buf[:n], false) {
			_, _ = back.Write(buf[:n])
		}
	}
}

// back returns the socket that stands for a client.
func (r *lossy) back(client *net.UDPAddr, running *sync.WaitGroup) (net.Conn, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if back := r.backs[client.String()]; back != nil {
		return back, nil
	}
	back, err := net.Dial("udp", r.to)
	if err != nil {
		return nil, err
	}
	r.backs[client.String()] = back
	running.Go(func() {
		buf := make([]byte, maxDatagram)
		for {
			n, err := back.Read(buf)
			if err != nil {
				return
			}
			if !r.loses(buf[:n], true) {
				_, _ = r.front.WriteTo(buf[:n], client)
			}
		}
	})
	return back, nil
}

// TestLoss: with 30 % of the datagrams lost each way every command is answered,
// and none is executed twice.
func TestLoss(t *testing.T) {
	const calls = 40
	d := newDaemon(t)
	r := newLossy(t, d.addr, 0.3)
	l := newLab(t, Config{Engines: []string{r.addr()}})
	e := l.ForNewCall(nil)

	sdp := chromium(t)
	l.all(e, calls, Command{Kind: KindOffer, SDP: sdp, Profile: TowardsPBX(KindOffer)})
	l.all(e, calls, Command{
		Kind: KindAnswer, ToTag: []byte("bob"), SDP: plain(126), Profile: TowardsBrowser(KindAnswer),
	})
	l.all(e, calls, Command{Kind: KindDelete, ToTag: []byte("bob")})

	d.kill() // its log is whole
	for _, kind := range []Kind{KindOffer, KindAnswer, KindDelete} {
		if n := d.said(fmt.Sprintf("Received command '%v'", kind)); n != calls {
			t.Errorf("%d times executed: %v", n, kind)
		}
	}
	if d.said("Deleting entire call") != calls || d.said("Call-ID to delete not found") > 0 {
		t.Error("not every call was deleted once")
	}
	if r.lost == 0 || d.said("as a duplicate") == 0 || l.Stats()[0].Resent == 0 {
		t.Error("nothing was lost")
	}
	t.Logf("%d datagrams lost, %+v", r.lost, l.Stats())
}

// all asks the same of as many calls at once, and wants every one answered.
func (l *lab) all(e *Engine, calls int, cmd Command) {
	l.Helper()
	var open []<-chan outcome
	for i := range calls {
		cmd.CallID, cmd.FromTag = fmt.Appendf(nil, "call%d", i), []byte("alice")
		open = append(open, l.begin(e, cmd))
	}
	for _, done := range open {
		if o := l.end(done); o.err != nil || o.Warning != "" {
			l.Errorf("%v: %v %s", cmd.Kind, o.err, o.Warning)
		}
	}
}
