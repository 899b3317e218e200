//go:build linux

package socket

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"
)

// HeaderMax is the longest header that AppendHeader makes.
const HeaderMax = 8

// AppendHeader adds the header of an unfragmented frame. A zero mask is none:
// that of a server.
func AppendHeader(dst []byte, op ws.OpCode, length int, mask [4]byte) []byte {
	var masked byte
	if mask != [4]byte{} {
		masked = 0x80
	}
	dst = append(dst, 0x80|byte(op))
	if length < 126 {
		dst = append(dst, masked|byte(length))
	} else {
		dst = append(dst, masked|126)
		dst = binary.BigEndian.AppendUint16(dst, uint16(length))
	}
	if masked != 0 {
		dst = append(dst, mask[:]...)
	}
	return dst
}

// A Frame is where one is in the bytes that were read.
type Frame struct {
	Op      ws.OpCode
	Mask    [4]byte
	Payload []byte
	Length  int // of header and payload
}

// ErrFrame is a frame that no end of this tool sends or expects: fragmented,
// or longer than a SIP message may be.
var ErrFrame = errors.New("a frame that was not expected")

// ReadFrame finds the frame that data begins with; its Length is 0 while data
// has only part of it.
func ReadFrame(data []byte) (Frame, error) {
	var f Frame
	if len(data) < 2 {
		return f, nil
	}
	if data[0]&0xf0 != 0x80 || data[1]&0x7f == 127 {
		return f, fmt.Errorf("%w: %x", ErrFrame, data[:2])
	}
	f.Op = ws.OpCode(data[0] & 0x0f)
	header, length := 2, int(data[1]&0x7f)
	if length == 126 {
		if len(data) < 4 {
			return f, nil
		}
		header, length = 4, int(binary.BigEndian.Uint16(data[2:]))
	}
	if data[1]&0x80 != 0 {
		if len(data) < header+4 {
			return f, nil
		}
		f.Mask = [4]byte(data[header:])
		header += 4
	}
	if len(data) < header+length {
		return f, nil
	}
	f.Payload = data[header : header+length]
	f.Length = header + length
	return f, nil
}

// Unmask takes the mask off in place.
func (f *Frame) Unmask() {
	if f.Mask != [4]byte{} {
		ws.Cipher(f.Payload, f.Mask, 0)
	}
}

// Upgrade is the handshake of a browser at the WebSocket's server addr.
func Upgrade(addr netip.AddrPort, path string) []byte {
	return fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Origin: http://%s\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"+
		"Sec-WebSocket-Protocol: sip\r\n\r\n", path, addr, addr)
}

// Accept answers the key of a handshake.
func Accept(key []byte) []byte {
	sum := sha1.Sum(append(bytes.Clone(key), "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"...))
	return base64.StdEncoding.AppendEncode(nil, sum[:])
}

// upgradeAccept answers the key of Upgrade, which is that of RFC 6455 1.3.
const upgradeAccept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="

// handshakePatience is how long a server may take to answer a handshake: all
// connections of a load may be in its backlog.
const handshakePatience = 30 * time.Second

// Handshake sends the handshake of a browser over a connection and reads the
// answer, nothing more.
func Handshake(fd int, addr netip.AddrPort, path string) error {
	if err := WriteAll(fd, Upgrade(addr, path), handshakePatience); err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	answer := make([]byte, 0, 1024)
	for !bytes.HasSuffix(answer, []byte("\r\n\r\n")) {
		if len(answer) == cap(answer) {
			return errors.New("handshake: the answer does not end")
		}
		if err := Readable(fd, handshakePatience); err != nil {
			return fmt.Errorf("handshake: %w", err)
		}
		n, err := unix.Read(fd, answer[len(answer):cap(answer)])
		if err != nil {
			return fmt.Errorf("handshake: %w", err)
		}
		if n == 0 {
			return errors.New("handshake: closed")
		}
		answer = answer[:len(answer)+n]
	}
	return CheckUpgraded(answer)
}

// CheckUpgraded judges the answer to Upgrade.
func CheckUpgraded(answer []byte) error {
	line, _, _ := bytes.Cut(answer, []byte("\r\n"))
	if !bytes.HasPrefix(line, []byte("HTTP/1.1 101 ")) || !bytes.Contains(answer, []byte(upgradeAccept)) {
		return fmt.Errorf("handshake: %q", line)
	}
	return nil
}
