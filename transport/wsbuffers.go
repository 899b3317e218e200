package transport

import (
	"sync"

	"github.com/gobwas/ws"
)

// wsReadBuffer is the size of the buffers that connections are read into: one
// TLS record, and most SIP messages whole.
const wsReadBuffer = 16 << 10

// wsBuffers lends memory for as long as a read, a write or a message that
// comes in pieces lasts. There are two sizes, so that what an idle server keeps
// does not depend on what it once relayed.
type wsBuffers struct {
	small, large sync.Pool
	largest      int
	assemblies   sync.Pool
}

// newWSBuffers returns buffers of which the large ones hold a message of
// maxMessage bytes, a control frame that interrupts it, and a frame header.
func newWSBuffers(maxMessage int) *wsBuffers {
	b := &wsBuffers{largest: max(wsReadBuffer, maxMessage+ws.MaxControlFramePayloadSize+ws.MaxHeaderSize)}
	b.small.New = func() any { return newBuffer(wsReadBuffer) }
	b.large.New = func() any { return newBuffer(b.largest) }
	b.assemblies.New = func() any { return new(assembly) }
	return b
}

// assembly returns one that rests, and putAssembly takes it back.
func (b *wsBuffers) assembly() *assembly { return b.assemblies.Get().(*assembly) }

func (b *wsBuffers) putAssembly(a *assembly) {
	*a = assembly{}
	b.assemblies.Put(a)
}

func newBuffer(n int) *[]byte {
	p := make([]byte, 0, n)
	return &p
}

// get returns an empty slice with room for n bytes.
func (b *wsBuffers) get(n int) *[]byte {
	switch {
	case n <= wsReadBuffer:
		return b.small.Get().(*[]byte)
	case n <= b.largest:
		return b.large.Get().(*[]byte)
	default:
		return newBuffer(n)
	}
}

// put takes back a slice that get returned.
func (b *wsBuffers) put(p *[]byte) {
	size := cap(*p)
	*p = (*p)[:0]
	switch size {
	case wsReadBuffer:
		b.small.Put(p)
	case b.largest:
		b.large.Put(p)
	}
}

// extend appends data to p, which may be nil, and returns p or the larger
// slice that took its place.
func (b *wsBuffers) extend(p *[]byte, data []byte) *[]byte {
	if len(data) == 0 {
		return p
	}
	if p == nil {
		p = b.get(len(data))
	}
	if need := len(*p) + len(data); need > cap(*p) {
		larger := b.get(need)
		*larger = append(*larger, *p...)
		b.put(p)
		p = larger
	}
	*p = append(*p, data...)
	return p
}
