package e2e

import (
	"crypto/sha256"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// seedVariable has impairing relays decide by another seed than defaultSeed: a
// number, or "random".
const seedVariable = "VIADUCT_E2E_SEED"

// defaultSeed is one of those with which TestLoss keeps away from its bounds. At
// 30 % every copy of something is lost in about one call of 500, so that one seed
// in ten or so has more than the two failures that the test allows.
const defaultSeed = 2

// Impairment is what happens to datagrams on the way, each with its probability.
type Impairment struct {
	Loss      float64
	Duplicate float64
	Delay     float64 // by up to MaxDelay, so that later datagrams overtake
	MaxDelay  time.Duration
}

// Direction is the way of a datagram through an impairing relay.
type Direction int

// The ways between viaduct and the PBX.
const (
	Up Direction = iota
	Down
)

func (d Direction) String() string { return [...]string{"up", "down"}[d] }

// A Datagram is one that came to an impairing relay, and what became of it.
type Datagram struct {
	Message
	Direction Direction
	At        time.Duration // since the relay was started
	Lost      bool
	Copies    int // sent on; 0 when lost
	Delayed   bool
	Repeated  bool // the same bytes came the same way before
}

func (d Datagram) String() string {
	fate := fmt.Sprintf("delivered %d×", d.Copies)
	if d.Lost {
		fate = "LOST"
	}
	return fmt.Sprintf("%8.3fs %-4s %-12s %s [%s]", d.At.Seconds(), d.Direction, fate, d.Start, d.Header("CSeq"))
}

// An Impairer is the only way between viaduct and the PBX: a UDP relay that
// loses, repeats and delays datagrams as its seed has it, and records what it
// did to each. What becomes of the nth copy of a phone's message is a function
// of the seed, so that runs with the same seed come to much the same.
//
//	viaduct ── TowardsViaduct  TowardsPBX ── PBX
type Impairer struct {
	// TowardsViaduct is the PBX as viaduct sees it, TowardsPBX is viaduct as the
	// PBX sees it.
	TowardsViaduct, TowardsPBX netip.AddrPort
	Seed                       uint64

	started time.Time
	sockets [2]*net.UDPConn // by the direction of what they receive

	mu      sync.Mutex
	setting Impairment
	same    map[string]int    // how often decide was asked the same
	peers   [2]netip.AddrPort // whom what goes that way is sent to
	seen    map[[sha256.Size]byte]bool
	log     []Datagram
	calls   map[string]*Stream[Datagram]
}

// startImpairer starts a relay between viaduct and pbx, which are on host. It
// lets everything pass until it is told otherwise.
func startImpairer(t testing.TB, host Host, pbx netip.AddrPort) *Impairer {
	t.Helper()
	seed := seedOf(t)
	i := &Impairer{
		Seed:    seed,
		started: time.Now(),
		same:    map[string]int{},
		peers:   [2]netip.AddrPort{Up: pbx},
		seen:    map[[sha256.Size]byte]bool{},
		calls:   map[string]*Stream[Datagram]{},
	}
	for direction := range i.sockets {
		conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(host.Harness, 0)))
		if err != nil {
			t.Fatalf("impairing relay: %v", err)
		}
		// What is lost here is lost by decision.
		if err := conn.SetReadBuffer(8 << 20); err != nil {
			t.Fatalf("impairing relay: %v", err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		i.sockets[direction] = conn
	}
	i.TowardsViaduct, i.TowardsPBX = addrOf(i.sockets[Up]), addrOf(i.sockets[Down])
	for _, direction := range []Direction{Up, Down} {
		go i.relay(direction)
	}
	return i
}

func addrOf(conn *net.UDPConn) netip.AddrPort {
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

func seedOf(t testing.TB) uint64 {
	t.Helper()
	text := os.Getenv(seedVariable)
	switch text {
	case "":
		return defaultSeed
	case "random":
		return rand.Uint64()
	}
	seed, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", seedVariable, err)
	}
	return seed
}

// Set impairs the datagrams from now on, both ways.
func (i *Impairer) Set(setting Impairment) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.setting = setting
}

func (i *Impairer) relay(direction Direction) {
	buffer := make([]byte, 1<<16)
	for {
		n, from, err := i.sockets[direction].ReadFromUDPAddrPort(buffer)
		if err != nil {
			return
		}
		if direction == Up {
			i.setPeer(Down, from)
		}
		i.pass(direction, append([]byte(nil), buffer[:n]...))
	}
}

func (i *Impairer) setPeer(direction Direction, addr netip.AddrPort) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.peers[direction] = addr
}

// pass decides about one datagram, records it and sends its copies.
func (i *Impairer) pass(direction Direction, payload []byte) {
	message := newMessage(string(payload))
	i.mu.Lock()
	to := i.peers[direction]
	delays := i.decide(direction, message)
	passed := i.record(direction, message, delays)
	i.mu.Unlock()
	if len(delays) == 0 {
		passed()
	}
	for number, delay := range delays {
		send := func() {
			// A datagram goes out where those of the other direction come in.
			_, _ = i.sockets[1-direction].WriteToUDPAddrPort(payload, to)
			if number == 0 {
				passed()
			}
		}
		if delay == 0 {
			send()
		} else {
			time.AfterFunc(delay, send)
		}
	}
}

// accountOf finds the phone that a message is of or for.
var accountOf = regexp.MustCompile(`sip:(u\d+)@`)

// decide returns the delay of each copy of a datagram. The caller holds mu.
func (i *Impairer) decide(direction Direction, m Message) []time.Duration {
	start, _, _ := strings.Cut(strings.TrimPrefix(m.Start, "SIP/2.0 "), " ") // method or status
	which := fmt.Sprint(direction, start, m.Header("CSeq"), accountOf.FindString(m.Header("From")+m.Header("To")))
	hash := fnv.New64a()
	fmt.Fprint(hash, which, i.same[which])
	i.same[which]++

	fate := rand.New(rand.NewPCG(i.Seed, hash.Sum64()))
	lost, twice := fate.Float64(), fate.Float64()
	delays := []time.Duration{i.delay(fate), i.delay(fate)}
	switch {
	case lost < i.setting.Loss:
		return nil
	case twice < i.setting.Duplicate:
		return delays
	}
	return delays[:1]
}

func (i *Impairer) delay(fate *rand.Rand) time.Duration {
	late, by := fate.Float64(), fate.Float64()
	if late >= i.setting.Delay {
		return 0
	}
	return time.Duration(by * float64(i.setting.MaxDelay))
}

// record keeps what becomes of a datagram. What it returns is to be called when
// that has happened. The caller holds mu.
func (i *Impairer) record(direction Direction, m Message, delays []time.Duration) (passed func()) {
	if strings.TrimSpace(m.Raw) == "" {
		return func() {} // a CRLF keep-alive
	}
	sum := sha256.Sum256([]byte(direction.String() + m.Raw))
	d := Datagram{
		Message:   m,
		Direction: direction,
		At:        time.Since(i.started),
		Lost:      len(delays) == 0,
		Copies:    len(delays),
		Repeated:  i.seen[sum],
	}
	for _, delay := range delays {
		d.Delayed = d.Delayed || delay > 0
	}
	i.seen[sum] = true
	i.log = append(i.log, d)
	call := i.call(d.Header("Call-ID"))
	return func() { call.Add(d) }
}

// call is the record of one Call-ID. The caller holds mu.
func (i *Impairer) call(id string) *Stream[Datagram] {
	if i.calls[id] == nil {
		i.calls[id] = NewStream[Datagram]()
	}
	return i.calls[id]
}

// Call is what passed with that Call-ID, and what will: each datagram when its
// first copy has been sent on or it has been lost.
func (i *Impairer) Call(id string) *Stream[Datagram] {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.call(id)
}

// All is what passed so far.
func (i *Impairer) All() []Datagram {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.log[:len(i.log):len(i.log)]
}

// TestImpairer: what the relay says it did is what the two ends see, and the
// same seed does the same.
func TestImpairer(t *testing.T) {
	t.Setenv(seedVariable, "42")
	var first string
	for range 2 {
		fates := impaired(t, 1000)
		if first == "" {
			first = fates
		}
		if fates != first {
			t.Error("one seed has decided in two ways")
		}
	}
}

// impaired sends n datagrams through a relay, judges its record by what arrives
// and returns the fates.
func impaired(t *testing.T, n int) (fates string) {
	t.Helper()
	pbx, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(loopback.IP, 0)))
	if err != nil {
		t.Fatal(err)
	}
	defer pbx.Close()
	impairer := startImpairer(t, loopback, addrOf(pbx))
	impairer.Set(Impairment{Loss: 0.2, Duplicate: 0.1})
	via, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(impairer.TowardsViaduct))
	if err != nil {
		t.Fatal(err)
	}
	defer via.Close()

	buffer := make([]byte, 1<<16)
	_ = pbx.SetReadDeadline(time.Now().Add(patience))
	for number := range n {
		if _, err := fmt.Fprintf(via, "OPTIONS sip:pbx SIP/2.0\r\nCall-ID: %d\r\nCSeq: 1 OPTIONS\r\n\r\n", number); err != nil {
			t.Fatal(err)
		}
		record := impairer.Call(strconv.Itoa(number)).WaitFor(t, "the relay's record", func(Datagram) bool { return true })
		for range record.Copies {
			length, err := pbx.Read(buffer)
			if err != nil {
				t.Fatalf("datagram %d was recorded as %s: %v", number, record, err)
			}
			if got := newMessage(string(buffer[:length])).Header("Call-ID"); got != strconv.Itoa(number) {
				t.Fatalf("datagram %s arrived, recorded was %s", got, record)
			}
		}
		fates += strconv.Itoa(record.Copies)
	}
	if lost := strings.Count(fates, "0"); lost < n/10 || lost > n*3/10 {
		t.Errorf("%d of %d datagrams were lost", lost, n)
	}
	if twice := strings.Count(fates, "2"); twice < n/25 || twice > n/6 {
		t.Errorf("%d of %d datagrams were sent twice", twice, n)
	}
	return fates
}
