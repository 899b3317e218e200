package transport

// maxStreamBatch bounds the bytes that wait for one write to a stream.
const maxStreamBatch = 32 << 10

// Batch sends what one goroutine has for the SIP side while it works off
// what it was woken for, by few system calls: datagrams together, and messages for
// one connection in one write. Nothing leaves later than at Flush. It is not safe
// for concurrent use.
type Batch struct {
	sip   *SIP
	trays []*tray // of each UDP socket, in the order of sip.plain.udp

	// What goes to one stream.
	target Target
	stream *Stream
	text   []byte
	ends   []int // of each message in text
}

// NewBatch returns an empty batch.
func (s *SIP) NewBatch() *Batch {
	b := &Batch{sip: s}
	for _, u := range s.plain.udp {
		b.trays = append(b.trays, newTray(u, s.cfg.Unreachable))
	}
	return b
}

// Send is SIP.Send, except that a message which cannot be written in the end is
// reported to SIPConfig.Unreachable or Undeliverable.
func (b *Batch) Send(to Target, msg []byte) error {
	if to.Proto != ProtoUDP {
		return b.sendStream(to, msg)
	}
	for _, t := range b.trays {
		if t.socket.is4 == to.Addr.Addr().Is4() {
			return t.add(to.Addr, to.Local, msg)
		}
	}
	return b.sip.Send(to, msg)
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
