package transaction

import (
	"math/bits"
	"sync"
	"sync/atomic"
)

// store is the messages that are held. Index 0 is none.
type store struct {
	max, maxBytes int
	count, bytes  int

	all    []held
	unused []uint32
}

// held is one message.
type held struct {
	buf  *[]byte
	to   Peer
	open *atomic.Int32

	dialog bool
}

func newStore(max, maxBytes int) store {
	return store{max: max, maxBytes: maxBytes, all: make([]held, 1)}
}

// put copies a message and returns its index, 0 if there is no room.
func (s *store) put(m *Message) uint32 {
	size := classSize(classOf(len(m.Bytes)))
	if s.count >= s.max || s.bytes+size > s.maxBytes {
		return 0
	}
	if m.Open != nil && m.Open.Add(1) > maxPerFlow {
		m.Open.Add(-1)
		return 0
	}
	s.count++
	s.bytes += size
	h := held{buf: getBuffer(len(m.Bytes)), to: m.To, open: m.Open, dialog: m.Dialog}
	*h.buf = append(*h.buf, m.Bytes...)
	if n := len(s.unused); n > 0 {
		i := s.unused[n-1]
		s.unused = s.unused[:n-1]
		s.all[i] = h
		return i
	}
	s.all = append(s.all, h)
	return uint32(len(s.all) - 1)
}

func (s *store) at(i uint32) *held { return &s.all[i] }

func (s *store) drop(i uint32) {
	h := s.at(i)
	s.count--
	s.bytes -= classSize(classOf(len(*h.buf)))
	if h.open != nil {
		h.open.Add(-1)
	}
	putBuffer(h.buf)
	*h = held{}
	s.unused = append(s.unused, i)
}

// shrink gives the memory of an empty store back.
func (s *store) shrink() { *s = newStore(s.max, s.maxBytes) }

// Buffers come in sizes of powers of two, so that one fits the next message too.
const (
	minClass = 9  // 512 bytes
	maxClass = 17 // what holds 65,535 bytes of a browser and what is added to them
)

var buffers [maxClass + 1]sync.Pool

func classOf(size int) int { return max(minClass, bits.Len(uint(max(size, 1)-1))) }

func classSize(class int) int { return 1 << class }

// getBuffer returns an empty buffer with room for size bytes.
func getBuffer(size int) *[]byte {
	class := classOf(size)
	if class <= maxClass {
		if b, ok := buffers[class].Get().(*[]byte); ok {
			return b
		}
	}
	b := make([]byte, 0, classSize(class))
	return &b
}

func putBuffer(b *[]byte) {
	class := classOf(cap(*b))
	if class > maxClass || cap(*b) != classSize(class) {
		return
	}
	*b = (*b)[:0]
	buffers[class].Put(b)
}

// maxBatch is how many bytes are copied out of the table before they are sent.
const maxBatch = 128 << 10

// batch is what is due at once, copied, for it is sent when the table is not
// locked any more.
type batch struct {
	text       []byte
	msgs       []outgoing
	lost       []byte
	unanswered []outgoing // with their bytes in lost
}

type outgoing struct {
	end  int // of its bytes in text, which begin at the end of the one before
	to   Peer
	flow uint64
}

func (b *batch) full() bool { return len(b.text)+len(b.lost) >= maxBatch }

func (b *batch) add(h *held, flow uint64) {
	b.text = append(b.text, *h.buf...)
	b.msgs = append(b.msgs, outgoing{len(b.text), h.to, flow})
}

func (b *batch) giveUp(h *held) {
	b.lost = append(b.lost, *h.buf...)
	b.unanswered = append(b.unanswered, outgoing{end: len(b.lost), to: h.to})
}

// send empties the batch.
func (b *batch) send(cfg *Config) {
	from := 0
	for _, m := range b.msgs {
		cfg.Send(m.to, m.flow, b.text[from:m.end])
		from = m.end
	}
	from = 0
	for _, m := range b.unanswered {
		cfg.Unanswered(m.to, b.lost[from:m.end])
		from = m.end
	}
	b.text, b.msgs, b.lost, b.unanswered = b.text[:0], b.msgs[:0], b.lost[:0], b.unanswered[:0]
}

// batches are those of repetitions that are answered at once.
var batches = sync.Pool{New: func() any { return new(batch) }}
