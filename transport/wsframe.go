package transport

import (
	"encoding/binary"
	"errors"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

const (
	// maxFrames is the largest number of frames of one message: without it
	// empty fragments never add up to one that is too large.
	maxFrames = 1024

	// maxAnswers is how many pings and keepalives are answered between two
	// pings of our own.
	maxAnswers = 512
)

// RFC 5626 4.4.1, which RFC 7118 6 takes over: the keepalive is a double CRLF,
// its answer a single one. A lone CRLF is answered too: clients send it.
const (
	keepalive       = "\r\n\r\n"
	keepaliveAnswer = "\r\n"
)

// assembly is what is known of the incoming bytes between two reads: part of a
// frame header, the frame whose payload is under way, the message so far.
type assembly struct {
	header [ws.MaxHeaderSize]byte // of which have bytes arrived
	have   int

	framed bool // frame is under way
	frame  ws.Header
	taken  int64 // payload bytes of frame that arrived

	fragmented bool // a message is under way and goes on in further frames
	text       bool // its type
	frames     int  // of it
	size       int  // bytes of it in partial

	// partial holds the unmasked message so far and behind it those of a
	// control frame, if that comes in pieces too; nil most of the time.
	partial *[]byte

	lost bool // the peer violated the protocol: there are no frames any more
}

// drop lets go of what is partial.
func (a *assembly) drop(buffers *wsBuffers) {
	if a == nil {
		return
	}
	if a.partial != nil {
		buffers.put(a.partial)
		a.partial = nil
	}
	a.size = 0
}

// resting reports whether nothing of a message, nor of a frame, is there yet.
func (a *assembly) resting() bool {
	return a.have == 0 && !a.framed && !a.fragmented && a.partial == nil && !a.lost
}

// complete reports whether the frame's payload is all there.
func (a *assembly) complete() bool { return a.taken == a.frame.Length }

// consume takes bytes as they arrived, however the network split them, and
// acts on every message and control frame that they complete. It unmasks in
// place; a message that is whole in p is passed on without being copied. The
// error is errFinished.
//
// A connection that is closing is still read, but only for the answer to its
// close frame: what else the browser sent before it read that is dropped.
func (c *WSConn) consume(p []byte) error {
	if c.in == nil {
		c.in = c.server.buffers.assembly()
	}
	err := c.consumeAll(p)
	if c.in.resting() {
		c.server.buffers.putAssembly(c.in)
		c.in = nil
	}
	return err
}

func (c *WSConn) consumeAll(p []byte) error {
	a := c.in
	for len(p) > 0 && !a.lost {
		if !a.framed {
			if p = a.takeHeader(p); !a.framed {
				return nil
			}
			if err := c.checkFrame(); err != nil {
				c.violated(err)
				return nil
			}
		}
		n := int(min(a.frame.Length-a.taken, int64(len(p))))
		ws.Cipher(p[:n], a.frame.Mask, int(a.taken%4))
		a.taken += int64(n)
		a.framed = !a.complete()
		if err := c.takePayload(p[:n]); err != nil {
			return err
		}
		p = p[n:]
	}
	return nil
}

// takeHeader takes a frame header off p; a.framed tells whether it is whole.
func (a *assembly) takeHeader(p []byte) (rest []byte) {
	n := copy(a.header[a.have:], p)
	frame, size := parseHeader(a.header[:a.have+n])
	if size == 0 {
		a.have += n
		return nil
	}
	rest = p[size-a.have:]
	a.frame, a.framed, a.taken, a.have = frame, true, 0, 0
	return rest
}

// parseHeader returns the frame header that p begins with and its size, which
// is 0 if p ends before the header does. ws.ReadHeader waits for a reader.
func parseHeader(p []byte) (h ws.Header, size int) {
	if len(p) < 2 {
		return h, 0
	}
	size = 2
	length := p[1] & 0x7f
	switch length {
	case 126:
		size += 2
	case 127:
		size += 8
	}
	masked := p[1]&0x80 != 0
	if masked {
		size += 4
	}
	if len(p) < size {
		return h, 0
	}
	h = ws.Header{
		Fin:    p[0]&0x80 != 0,
		Rsv:    p[0] & 0x70 >> 4,
		OpCode: ws.OpCode(p[0] & 0x0f),
		Masked: masked,
	}
	switch length {
	case 126:
		h.Length = int64(binary.BigEndian.Uint16(p[2:]))
	case 127:
		h.Length = int64(binary.BigEndian.Uint64(p[2:]))
	default:
		h.Length = int64(length)
	}
	if masked {
		copy(h.Mask[:], p[size-4:size])
	}
	return h, size
}

// checkFrame judges the frame that begins and counts it to its message.
func (c *WSConn) checkFrame() error {
	a := c.in
	state := ws.StateServerSide
	if a.fragmented {
		state = state.Set(ws.StateFragmented)
	}
	if err := ws.CheckHeader(a.frame, state); err != nil {
		return err
	}
	if a.frame.Length < 0 {
		return ws.ErrHeaderLengthMSB
	}
	switch {
	case a.frame.OpCode.IsControl():
		return nil
	case a.frame.OpCode != ws.OpContinuation:
		a.text = a.frame.OpCode == ws.OpText
		a.frames = 0
	}
	a.fragmented = !a.frame.Fin
	if a.frames++; a.frames > maxFrames {
		c.shut(CauseFragments, ws.StatusMessageTooBig, "message of too many frames")
	}
	return nil
}

// violated gives up reading frames after a violation of the protocol.
func (c *WSConn) violated(err error) {
	c.in.lost = true
	c.in.drop(c.server.buffers)
	c.shut(CauseProtocol, ws.StatusProtocolError, err.Error())
}

// takePayload takes the next bytes of the frame's payload, unmasked.
func (c *WSConn) takePayload(p []byte) error {
	switch {
	case c.in.frame.OpCode.IsControl():
		return c.takeControl(p)
	case c.closing():
		c.in.drop(c.server.buffers)
		return nil
	default:
		c.takeData(p)
		return nil
	}
}

// takeData takes bytes of a message.
func (c *WSConn) takeData(p []byte) {
	a := c.in
	room := c.server.cfg.MaxMessage - a.size
	last := a.frame.Fin && a.complete()
	if last && a.partial == nil && len(p) <= room {
		c.deliver(p)
		return
	}
	a.partial = c.server.buffers.extend(a.partial, p[:min(len(p), room)])
	if a.partial != nil {
		a.size = len(*a.partial)
	}
	switch {
	case len(p) > room:
		c.server.cfg.Oversized(c, *a.partial)
		c.shut(CauseOversized, ws.StatusMessageTooBig, "message too large")
		a.drop(c.server.buffers)
	case last:
		c.deliver(*a.partial)
		a.drop(c.server.buffers)
	}
}

// deliver passes on a whole message.
func (c *WSConn) deliver(msg []byte) {
	switch {
	// RFC 6455 8.1: "When an endpoint is to interpret a byte stream as UTF-8 but
	// finds that the byte stream is not, in fact, a valid UTF-8 stream, that
	// endpoint MUST _Fail the WebSocket Connection_."
	case c.in.text && !utf8.Valid(msg):
		c.shut(CauseNotUTF8, ws.StatusInvalidFramePayloadData, "text that is not UTF-8")
	case string(msg) == keepalive, string(msg) == keepaliveAnswer:
		c.answer(ws.OpText, []byte(keepaliveAnswer))
	default:
		c.messages.Add(1)
		c.server.cfg.Message(c, msg)
	}
}

// takeControl takes bytes of a control frame, and acts on it once it is whole.
func (c *WSConn) takeControl(p []byte) error {
	a := c.in
	if int64(len(p)) < a.frame.Length {
		a.partial = c.server.buffers.extend(a.partial, p)
		if !a.complete() {
			return nil
		}
		p = (*a.partial)[a.size:]
	}
	err := c.control(p)
	switch {
	case a.size > 0:
		*a.partial = (*a.partial)[:a.size]
	default:
		a.drop(c.server.buffers)
	}
	return err
}

// control acts on a whole control frame.
func (c *WSConn) control(payload []byte) error {
	switch c.in.frame.OpCode {
	case ws.OpPing:
		c.answer(ws.OpPong, payload)
	case ws.OpClose:
		return c.closed(payload)
	}
	return nil
}

// answer sends what a ping or keepalive asks for, within reason.
func (c *WSConn) answer(op ws.OpCode, payload []byte) {
	if c.answered.Add(1) > maxAnswers {
		c.shut(CauseFlood, ws.StatusPolicyViolation, "too many pings")
		return
	}
	_ = c.send(op, payload)
}

var errBadClose = errors.New("malformed close frame")

// closed acts on a close frame: it answers with the same code, unless it is
// the answer itself.
func (c *WSConn) closed(payload []byte) error {
	if !c.closing() && !validClose(payload) {
		c.violated(errBadClose)
		return nil
	}
	if len(payload) > 2 {
		payload = payload[:2]
	}
	c.shutWith(CausePeer, payload)
	return errFinished
}

// validClose judges the payload of a close frame by RFC 6455 7.4 and what is
// registered since.
func validClose(payload []byte) bool {
	switch len(payload) {
	case 0:
		return true
	case 1:
		return false
	}
	code := binary.BigEndian.Uint16(payload)
	switch {
	case code >= 1000 && code <= 1003, code >= 1007 && code <= 1014, code >= 3000 && code <= 4999:
		return utf8.Valid(payload[2:])
	default:
		return false
	}
}

// appendFrame appends a whole frame as servers send them, unmasked.
func appendFrame(dst []byte, op ws.OpCode, payload []byte) []byte {
	dst = append(dst, 0x80|byte(op))
	switch n := len(payload); {
	case n < 126:
		dst = append(dst, byte(n))
	case n <= 0xffff:
		dst = binary.BigEndian.AppendUint16(append(dst, 126), uint16(n))
	default:
		dst = binary.BigEndian.AppendUint64(append(dst, 127), uint64(n))
	}
	return append(dst, payload...)
}
