package e2e

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"
)

// The audio of plain phones is PCMU: 8000 samples a second, a packet every 20 ms.
const (
	sampleRate   = 8000
	packetLength = 20 * time.Millisecond
	packetSize   = sampleRate / 50
	// earLength is how much audio is listened to at once, and lasting how many such
	// pieces must sound the same to be reported.
	earLength = sampleRate / 10
	lasting   = 3
)

// An RTPEnd is one end of plain RTP: it sends a tone, and tells which tone it
// hears.
type RTPEnd struct {
	Addr netip.AddrPort

	// Heard has the frequency in Hz of what comes, 0 for silence, each time when
	// that has lasted for a moment and is another than before.
	Heard *Stream[int]

	// Digits has the digits dialled by RFC 4733 events, in order.
	Digits *Stream[string]

	// SSRCs has the SSRC of what comes, each time when it is another than before.
	SSRCs *Stream[uint32]

	conn    *net.UDPConn
	running sync.WaitGroup
	ended   chan struct{}

	mu      sync.Mutex
	tone    int            // Hz of what is sent
	peer    netip.AddrPort // to whom is sent; not valid while nobody is to hear anything
	digits  byte           // payload type of events, 0 for none
	ssrc    uint32
	samples []float64 // heard since the ear listened last
	event   uint32    // the time stamp of the event that came last
}

// newRTPEnd opens an end that lives as long as the test, and sends nothing yet.
func newRTPEnd(t testing.TB, host Host, tone int) *RTPEnd {
	t.Helper()
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(host.IP, 0)))
	if err != nil {
		t.Fatalf("RTP: %v", err)
	}
	r := &RTPEnd{
		Addr: addrOf(conn), Heard: NewStream[int](), Digits: NewStream[string](), SSRCs: NewStream[uint32](),
		tone: tone, conn: conn, ended: make(chan struct{}), ssrc: rand.Uint32(),
	}
	r.running.Go(r.send)
	r.running.Go(r.receive)
	r.running.Go(r.listen)
	t.Cleanup(func() {
		close(r.ended)
		_ = conn.Close()
		r.running.Wait()
		if t.Failed() {
			t.Logf("RTP at %s heard %v Hz, the digits %q, of the SSRCs %x", r.Addr, r.Heard.All(), r.Digits.All(), r.SSRCs.All())
		}
	})
	return r
}

// SendTo sends the tone to peer from now on, nothing while that is not valid.
func (r *RTPEnd) SendTo(peer netip.AddrPort) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.peer = peer
}

// ExpectDigits says which payload type events have.
func (r *RTPEnd) ExpectDigits(payloadType byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.digits = payloadType
}

// SSRC is that of what is sent.
func (r *RTPEnd) SSRC() uint32 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ssrc
}

// SetSSRC sends with another SSRC from now on.
func (r *RTPEnd) SetSSRC(ssrc uint32) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ssrc = ssrc
}

// WaitHeard waits until a tone of that frequency is heard after mark, 0 for silence.
func (r *RTPEnd) WaitHeard(t testing.TB, mark, frequency int) {
	t.Helper()
	waitHeard(t, r.Heard, mark, "the plain phone", frequency, func(heard int) int { return heard })
}

// waitHeard waits for an entry that is about that frequency.
func waitHeard[T any](t testing.TB, ear *Stream[T], mark int, who string, frequency int, of func(T) int) {
	t.Helper()
	ear.WaitAfter(t, mark, who+" to hear "+toneName(frequency), func(entry T) bool { return sounds(of(entry), frequency) })
}

// sounds reports whether a frequency in Hz is heard as another.
func sounds(heard, frequency int) bool {
	if heard == 0 || frequency == 0 {
		return heard == frequency
	}
	return heard-frequency <= 30 && frequency-heard <= 30
}

func toneName(frequency int) string {
	if frequency == 0 {
		return "silence"
	}
	return fmt.Sprintf("%d Hz", frequency)
}

// SetTone sends another tone from now on.
func (r *RTPEnd) SetTone(frequency int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.tone = frequency
}

func (r *RTPEnd) send() {
	ticker := time.NewTicker(packetLength)
	defer ticker.Stop()
	packet := make([]byte, 12+packetSize)
	packet[0] = 0x80
	for number := 0; ; number++ {
		select {
		case <-r.ended:
			return
		case <-ticker.C:
		}
		r.mu.Lock()
		peer, ssrc, tone := r.peer, r.ssrc, r.tone
		r.mu.Unlock()
		binary.BigEndian.PutUint16(packet[2:], uint16(number))
		binary.BigEndian.PutUint32(packet[4:], uint32(number*packetSize))
		binary.BigEndian.PutUint32(packet[8:], ssrc)
		for i := range packetSize {
			at := float64(number*packetSize+i) / sampleRate
			packet[12+i] = toULaw(0.4 * math.Sin(2*math.Pi*float64(tone)*at))
		}
		if peer.IsValid() {
			_, _ = r.conn.WriteToUDPAddrPort(packet, peer)
		}
	}
}

func (r *RTPEnd) receive() {
	buffer := make([]byte, 1<<11)
	var ssrc uint32
	for {
		n, err := r.conn.Read(buffer)
		if err != nil {
			return
		}
		if n < 12 || buffer[0]>>6 != 2 {
			continue
		}
		if now := binary.BigEndian.Uint32(buffer[8:]); now != ssrc {
			ssrc = now
			r.SSRCs.Add(now)
		}
		r.take(buffer[1]&0x7F, binary.BigEndian.Uint32(buffer[4:]), buffer[12:n])
	}
}

func (r *RTPEnd) take(payloadType byte, timestamp uint32, payload []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case payloadType == 0:
		for _, sample := range payload {
			r.samples = append(r.samples, fromULaw(sample))
		}
	case payloadType == r.digits && len(payload) == 4 && timestamp != r.event:
		r.event = timestamp // one event is many packets: RFC 4733 2.5.1.2
		r.Digits.Add("0123456789*#ABCD"[payload[0]&15:][:1])
	}
}

// listen judges what has come every tenth of a second.
func (r *RTPEnd) listen() {
	ticker := time.NewTicker(time.Second * earLength / sampleRate)
	defer ticker.Stop()
	told, before, times := -1, -1, 0
	for {
		select {
		case <-r.ended:
			return
		case <-ticker.C:
		}
		r.mu.Lock()
		now := loudest(r.samples)
		r.samples = r.samples[:0]
		r.mu.Unlock()
		if !sounds(now, before) {
			times = 0
		}
		before = now
		if times++; times >= lasting && !sounds(now, told) {
			told = now
			r.Heard.Add(now)
		}
	}
}

// loudest is the frequency in Hz, in steps of 20, that has the most power in a
// piece of audio; 0 where none has much or the most of the piece is missing.
func loudest(samples []float64) int {
	if len(samples) < earLength/2 {
		return 0
	}
	best, most := 0, 0.01
	for frequency := 100; frequency < sampleRate/2; frequency += 20 {
		if power := goertzel(samples, frequency); power > most {
			best, most = frequency, power
		}
	}
	return best
}

// goertzel is the power of one frequency, 1 for a tone of full scale.
func goertzel(samples []float64, frequency int) float64 {
	turn := 2 * math.Cos(2*math.Pi*float64(frequency)/sampleRate)
	var last, previous float64
	for _, sample := range samples {
		last, previous = sample+turn*last-previous, last
	}
	half := float64(len(samples)) / 2
	return (last*last + previous*previous - turn*last*previous) / (half * half)
}

// toULaw is G.711's law for a sample between -1 and 1.
func toULaw(sample float64) byte {
	magnitude := min(int(math.Abs(sample)*32635), 32635) + 132
	exponent := 7
	for mask := 0x4000; magnitude&mask == 0 && exponent > 0; mask >>= 1 {
		exponent--
	}
	code := byte(exponent<<4 | magnitude>>(exponent+3)&15)
	if sample < 0 {
		code |= 0x80
	}
	return ^code
}

func fromULaw(code byte) float64 {
	code = ^code
	magnitude := (int(code&15)<<3+132)<<(code>>4&7) - 132
	if code&0x80 != 0 {
		magnitude = -magnitude
	}
	return float64(magnitude) / 32768
}

// TestEar: the judge of audio hears a tone as what it is, and no tone where there
// is none.
func TestEar(t *testing.T) {
	for _, frequency := range []int{0, 440, 600, 1000, 3000} {
		samples := make([]float64, earLength)
		for i := range samples {
			at := float64(i) / sampleRate
			samples[i] = fromULaw(toULaw(0.4 * math.Sin(2*math.Pi*float64(frequency)*at)))
		}
		if heard := loudest(samples); !sounds(heard, frequency) {
			t.Errorf("%d Hz are heard as %d", frequency, heard)
		}
	}
}
