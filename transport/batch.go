package transport

import "slices"

// maxStreamBatch bounds the bytes that wait for one write to a stream.
const maxStreamBatch = 32 << 10

// Batch sends what one goroutine has for the SIP side while it works off
// what it was woken for, by few system calls: datagrams together, and messages for
// one connection in one write. Nothing leaves later than at Flush. It is not safe
// for concurrent use.
type Batch struct {
	sip   *SIP
	trays []*tray // one for each UDP socket that was used lately

	// What goes to one stream.
	target Target
	stream *Stream
	text   []byte
	ends   []int // of each message in text
}

// NewBatch returns an empty batch.
func (s *SIP) NewBatch() *Batch { return &Batch{sip: s} }

// Send is SIP.Send, except that a message which cannot be written in the end is
// reported to SIPConfig.Unreachable or Undeliverable.
func (b *Batch) Send(to Target, msg []byte) error {
	if to.Proto != ProtoUDP {
		return b.sendStream(to, msg)
	}
	u := b.sip.socket(to.Addr)
	if u == nil {
		return errFamily
	}
	return b.tray(u).add(to.Addr, to.Local, msg)
}

// maxTrays is when those of closed sockets are looked for.
const maxTrays = 8

func (b *Batch) tray(u *udpSocket) *tray {
	for _, t := range b.trays {
		if t.socket == u {
			return t
		}
	}
	if len(b.trays) >= maxTrays {
		b.Flush()
		b.trays = slices.DeleteFunc(b.trays, func(t *tray) bool { return t.socket.isClosed() })
	}
	t := newTray(b.sip, u)
	b.trays = append(b.trays, t)
	return t
}

func (b *Batch) sendStream(to Target, msg []byte) error {
	st, err := b.sip.route(to, msg)
	if st == nil {
		return err
	}
	if st != b.stream || len(b.text)+len(msg) > maxStreamBatch {
		b.flushStream()
	}
	if st.trial.on.Load() {
		return st.Send(msg)
	}
	b.stream, b.target = st, to
	b.text = append(b.text, msg...)
	b.ends = append(b.ends, len(b.text))
	return nil
}

// Flush sends what has been collected.
func (b *Batch) Flush() {
	for _, t := range b.trays {
		t.flush()
	}
	b.flushStream()
}

func (b *Batch) flushStream() {
	if len(b.ends) == 0 {
		return
	}
	if err := b.stream.Send(b.text); err != nil {
		begin := 0
		for _, end := range b.ends {
			b.sip.cfg.Undeliverable(b.target, b.text[begin:end], err)
			begin = end
		}
	}
	b.stream, b.text, b.ends = nil, b.text[:0], b.ends[:0]
}
