package transport

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"testing"
	"unicode/utf8"

	"github.com/gobwas/ws"
)

// FuzzConsume checks that what comes of a stream of bytes does not depend on
// how the network splits it, and that a message is what an unhurried reader of
// the same stream makes of it.
func FuzzConsume(f *testing.F) {
	for i, stream := range wsStreams() {
		f.Add(stream.sent, uint16(i*i))
	}
	for i, message := range tortures(f) {
		f.Add(append(frame(ws.OpText, false, message[:20]), frame(ws.OpContinuation, true, message[20:])...), uint16(i))
	}
	near, far := tcpPair(f)
	go io.Copy(io.Discard, far)

	f.Fuzz(func(t *testing.T, stream []byte, splits uint16) {
		whole := consumed(near, stream, func(left int) int { return left })
		single := consumed(near, stream, func(int) int { return 1 })
		seed := uint32(splits) + 1
		random := consumed(near, stream, func(left int) int {
			seed = seed*1664525 + 1013904223
			return min(left, 1+int(seed>>24))
		})
		if !slices.Equal(whole, single) || !slices.Equal(whole, random) {
			t.Errorf("whole   %q\nbytes   %q\nrandom  %q", whole, single, random)
		}
		if want := reference(stream); !slices.Equal(whole, want) {
			t.Errorf("consume   %q\nreference %q", whole, want)
		}
	})
}

// consumed pushes stream through a connection on near, in pieces of the sizes
// that split decides on, and returns what came of it.
func consumed(near *net.TCPConn, stream []byte, split func(left int) int) (events []string) {
	s, err := NewWSServer(WSConfig{
		MaxMessage: streamMax,
		MaxBacklog: 1 << 30,
		Message:    func(_ *WSConn, msg []byte) { events = append(events, "message "+string(msg)) },
		Oversized:  func(_ *WSConn, head []byte) { events = append(events, "oversized "+string(head)) },
	})
	if err != nil {
		panic(err)
	}
	defer s.pollers.close()
	c, err := s.newConn(&wsSocket{TCPConn: duplicate(near), server: s}, "")
	if err != nil {
		panic(err)
	}
	defer c.sock.reset()
	stream = bytes.Clone(stream) // unmasked in place
	for len(stream) > 0 && err == nil {
		n := split(len(stream))
		err = c.consume(stream[:n])
		stream = stream[n:]
	}
	c.in.drop(s.buffers)
	return append(events, fmt.Sprint("closed ", CloseCause(c.cause.Load())))
}

// duplicate returns a connection of its own on the socket of another.
func duplicate(conn *net.TCPConn) *net.TCPConn {
	file, err := conn.File()
	if err != nil {
		panic(err)
	}
	defer file.Close()
	copied, err := net.FileConn(file)
	if err != nil {
		panic(err)
	}
	return copied.(*net.TCPConn)
}

// reference does what consume does with the whole stream at hand.
func reference(stream []byte) (events []string) {
	r := bytes.NewReader(stream)
	var message []byte
	var begun, text bool
	var frames, answers int
	end := func(why CloseCause) []string { return append(events, fmt.Sprint("closed ", why)) }
	for {
		h, err := ws.ReadHeader(r)
		state := ws.StateServerSide
		if begun {
			state = state.Set(ws.StateFragmented)
		}
		switch {
		case errors.Is(err, ws.ErrHeaderLengthMSB):
			return end(CauseProtocol)
		case err != nil:
			return end(open)
		case ws.CheckHeader(h, state) != nil:
			return end(CauseProtocol)
		}
		payload, _ := io.ReadAll(io.LimitReader(r, h.Length))
		for i := range payload {
			payload[i] ^= h.Mask[i%4]
		}
		whole := int64(len(payload)) == h.Length
		if h.OpCode.IsControl() {
			switch {
			case !whole:
				return end(open)
			case h.OpCode == ws.OpClose && validClose(payload):
				return end(CausePeer)
			case h.OpCode == ws.OpClose:
				return end(CauseProtocol)
			case h.OpCode == ws.OpPing:
				if answers++; answers > maxAnswers {
					return end(CauseFlood)
				}
			}
			continue
		}
		if h.OpCode != ws.OpContinuation {
			frames, message, text = 0, nil, h.OpCode == ws.OpText
		}
		begun = !h.Fin
		if frames++; frames > maxFrames {
			return end(CauseFragments)
		}
		message = append(message, payload...)
		switch {
		case len(message) > streamMax:
			events = append(events, "oversized "+string(message[:streamMax]))
			return end(CauseOversized)
		case !whole:
			return end(open)
		case begun:
		case text && !utf8.Valid(message):
			return end(CauseNotUTF8)
		case string(message) == "\r\n\r\n", string(message) == "\r\n":
			if answers++; answers > maxAnswers {
				return end(CauseFlood)
			}
		default:
			events = append(events, "message "+string(message))
		}
	}
}
