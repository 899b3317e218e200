package transport

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/gobwas/ws"
)

// join is one stream of bytes.
func join(frames ...[]byte) []byte { return bytes.Join(frames, nil) }

// unmasked is a frame as only servers may send it.
func unmasked(op ws.OpCode, payload string) []byte {
	return ws.MustCompileFrame(ws.NewFrame(op, true, []byte(payload)))
}

// first returns frame with its first byte replaced.
func first(b byte, frame []byte) []byte {
	frame[0] = b
	return frame
}

// header is a masked frame header alone, announcing length.
func header(op ws.OpCode, length uint64) []byte {
	h := binary.BigEndian.AppendUint64([]byte{0x80 | byte(op), 0x80 | 127}, length)
	return append(h, 1, 2, 3, 4)
}

// wsStream is what a browser may send after the handshake, and what comes of it.
type wsStream struct {
	name     string
	sent     []byte
	messages []string
	head     string // of an oversized message
	answers  []string
	code     ws.StatusCode // of the close frame
	why      CloseCause
}

const streamMax = 1000 // MaxMessage of the streams below

func wsStreams() []wsStream {
	const (
		cont   = ws.OpContinuation
		normal = "\x03\xe8"
		fine   = ws.StatusNormalClosure
		wrong  = ws.StatusProtocolError
	)
	bye := frame(ws.OpClose, true, normal)
	full := strings.Repeat("f", streamMax)
	many := func(n int) []byte {
		frames := frame(ws.OpText, false, "")
		for range n - 2 {
			frames = append(frames, frame(cont, false, "")...)
		}
		return append(frames, frame(cont, true, "end")...)
	}
	return []wsStream{
		{name: "two messages", sent: join(text("a"), text("b"), bye), messages: []string{"a", "b"}, code: fine, why: CausePeer},
		{name: "binary", sent: join(frame(ws.OpBinary, true, "\xff"), bye), messages: []string{"\xff"}, code: fine, why: CausePeer},
		{name: "empty", sent: join(text(""), bye), messages: []string{""}, code: fine, why: CausePeer},
		{name: "extended length", sent: join(text(full), bye), messages: []string{full}, code: fine, why: CausePeer},
		{name: "fragments", sent: join(frame(ws.OpText, false, "a"), frame(cont, false, ""), frame(cont, false, "b"), frame(cont, true, "c"), text("d"), bye), messages: []string{"abc", "d"}, code: fine, why: CausePeer},
		{name: "control between fragments", sent: join(
			frame(ws.OpText, false, "a"), frame(ws.OpPing, true, "ping one"),
			frame(cont, false, "b"), frame(ws.OpPong, true, "unasked"), frame(ws.OpPing, true, ""),
			frame(cont, true, "c"), bye),
			messages: []string{"abc"}, answers: []string{"a:ping one", "a:"}, code: fine, why: CausePeer},
		{name: "split character", sent: join(frame(ws.OpText, false, "\xc3"), frame(cont, true, "\xa9"), bye), messages: []string{"é"}, code: fine, why: CausePeer},
		{name: "full size in fragments", sent: join(frame(ws.OpText, false, full[1:]), frame(ws.OpPing, true, strings.Repeat("p", 125)), frame(cont, true, "f"), bye), messages: []string{full}, answers: []string{"a:" + strings.Repeat("p", 125)}, code: fine, why: CausePeer},
		{name: "most frames", sent: join(many(maxFrames), text("next"), bye), messages: []string{"end", "next"}, code: fine, why: CausePeer},
		{name: "keepalive", sent: join(text("\r\n\r\n"), text("\r\n"), frame(ws.OpBinary, true, "\r\n\r\n"), text("\r\n\r\n\r\n"), bye), messages: []string{"\r\n\r\n\r\n"}, answers: []string{"1:\r\n", "1:\r\n", "1:\r\n"}, code: fine, why: CausePeer},
		{name: "keepalive in fragments", sent: join(frame(ws.OpText, false, "\r\n"), frame(cont, true, "\r\n"), bye), answers: []string{"1:\r\n"}, code: fine, why: CausePeer},

		{name: "close without code", sent: join(frame(ws.OpClose, true, ""), text("late")), code: 0, why: CausePeer},
		{name: "close with reason", sent: frame(ws.OpClose, true, "\x0f\xa0"+"tab closed"), code: 4000, why: CausePeer},
		{name: "close of one byte", sent: frame(ws.OpClose, true, "\x03"), code: wrong, why: CauseProtocol},
		{name: "close with a reserved code", sent: frame(ws.OpClose, true, "\x03\xed"), code: wrong, why: CauseProtocol},
		{name: "close with an unknown code", sent: frame(ws.OpClose, true, "\x0b\xb7"), code: wrong, why: CauseProtocol},
		{name: "close with a reason not UTF-8", sent: frame(ws.OpClose, true, normal+"\xff"), code: wrong, why: CauseProtocol},
		{name: "close amid fragments", sent: join(frame(ws.OpText, false, "a"), bye), code: fine, why: CausePeer},

		{name: "too large", sent: join(text("a"), text(full+"g"), text("late"), bye), messages: []string{"a"}, head: full, code: ws.StatusMessageTooBig, why: CauseOversized},
		{name: "too large in fragments", sent: join(frame(ws.OpText, false, full[:700]), frame(ws.OpPing, true, "p"), frame(cont, false, full), frame(cont, true, ""), bye), answers: []string{"a:p"}, head: full, code: ws.StatusMessageTooBig, why: CauseOversized},
		{name: "endless", sent: join(header(ws.OpText, 1<<62), make([]byte, 3*streamMax)), head: strings.Repeat("\x01\x02\x03\x04", streamMax/4), code: ws.StatusMessageTooBig, why: CauseOversized},
		{name: "too many frames", sent: join(many(maxFrames+1), text("late"), bye), code: ws.StatusMessageTooBig, why: CauseFragments},
		{name: "not UTF-8", sent: join(text("a\xff"), text("late"), bye), code: ws.StatusInvalidFramePayloadData, why: CauseNotUTF8},
		{name: "not UTF-8 in fragments", sent: join(frame(ws.OpText, false, "\xed\xa0"), frame(cont, true, "\x80"), bye), code: ws.StatusInvalidFramePayloadData, why: CauseNotUTF8},

		{name: "not masked", sent: join(text("a"), unmasked(ws.OpText, "b"), bye), messages: []string{"a"}, code: wrong, why: CauseProtocol},
		{name: "RSV1, compressed", sent: first(0xc1, text("a")), code: wrong, why: CauseProtocol},
		{name: "RSV3", sent: first(0x91, text("a")), code: wrong, why: CauseProtocol},
		{name: "reserved opcode", sent: first(0x83, text("a")), code: wrong, why: CauseProtocol},
		{name: "reserved control opcode", sent: first(0x8b, text("a")), code: wrong, why: CauseProtocol},
		{name: "continuation of nothing", sent: frame(cont, true, "a"), code: wrong, why: CauseProtocol},
		{name: "continuation after the end", sent: join(text("a"), frame(cont, true, "b")), messages: []string{"a"}, code: wrong, why: CauseProtocol},
		{name: "message in a message", sent: join(frame(ws.OpText, false, "a"), text("b")), code: wrong, why: CauseProtocol},
		{name: "ping in fragments", sent: frame(ws.OpPing, false, "a"), code: wrong, why: CauseProtocol},
		{name: "ping too long", sent: frame(ws.OpPing, true, strings.Repeat("p", 126)), code: wrong, why: CauseProtocol},
		{name: "negative length", sent: header(ws.OpText, 1<<63), code: wrong, why: CauseProtocol},
		{name: "not a WebSocket at all", sent: []byte("OPTIONS sip:a SIP/2.0\r\n\r\n"), code: wrong, why: CauseProtocol},

		{name: "flood of pings", sent: join(bytes.Repeat(frame(ws.OpPing, true, ""), maxAnswers+1), bye), answers: slices.Repeat([]string{"a:"}, maxAnswers), code: ws.StatusPolicyViolation, why: CauseFlood},
	}
}

func TestWSStreams(t *testing.T) {
	for _, stream := range wsStreams() {
		for _, chunk := range []int{1 << 30, 1, 7} {
			t.Run(fmt.Sprintf("%s by %d", stream.name, chunk), func(t *testing.T) {
				t.Parallel()
				checkStream(t, stream, chunk)
			})
		}
	}
}

// checkStream sends a stream in pieces and compares what comes of it.
func checkStream(t *testing.T, want wsStream, chunk int) {
	s := startWS(t, WSConfig{MaxMessage: streamMax}, nil)
	p, c := s.dial(t)
	for piece := range slices.Chunk(want.sent, chunk) {
		if _, err := p.Write(piece); err != nil {
			break // closed in the middle
		}
	}
	var answers []string
	for {
		op, payload := p.read()
		if op == ws.OpClose {
			if code, _ := ws.ParseCloseFrameData([]byte(payload)); code != want.code {
				t.Errorf("closed with %d %q, want %d", code, payload, want.code)
			}
			break
		}
		answers = append(answers, fmt.Sprintf("%x:%s", byte(op), payload))
	}
	p.Write(frame(ws.OpClose, true, "")) // the answer, if it is not there yet
	p.Conn.(*net.TCPConn).CloseWrite()
	p.wantsEnd()
	s.ends(t, c, want.why)
	if !slices.Equal(answers, want.answers) {
		t.Errorf("answers %q, want %q", answers, want.answers)
	}
	for _, message := range want.messages {
		if got := next(t, s.messages); got != message {
			t.Errorf("message %.100q, want %.100q", got, message)
		}
	}
	none(t, "a further message", s.messages)
	if want.head != "" {
		if got := next(t, s.oversized); got != want.head {
			t.Errorf("oversized %d bytes %.100q", len(got), got)
		}
	}
	none(t, "oversized", s.oversized)
}

// The callee may write to the message, and answer one that is too large.
func TestWSOversizedAnswered(t *testing.T) {
	s := startWS(t, WSConfig{
		MaxMessage: 20_000,
		Message:    func(c *WSConn, msg []byte) { clear(msg); c.Send(msg) },
		Oversized:  func(c *WSConn, _ []byte) { c.Send([]byte("SIP/2.0 513 Message Too Large\r\n\r\n")) },
	}, nil)
	p, c := s.dial(t)
	p.raw(join(text("abc"), frame(ws.OpText, false, "a"), frame(ws.OpContinuation, true, "b")))
	p.wants(ws.OpText, "\x00\x00\x00")
	p.wants(ws.OpText, "\x00\x00")
	p.raw(text(strings.Repeat("m", 20_001)))
	p.wants(ws.OpText, "SIP/2.0 513 Message Too Large\r\n\r\n")
	p.wantsClose(ws.StatusMessageTooBig)
	p.Close()
	s.ends(t, c, CauseOversized)
}
