package hep

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"time"
)

// Packet is a copy of one SIP message as it was on a wire.
type Packet struct {
	Time     time.Time
	From, To netip.AddrPort
	// UDP says that it was a datagram. What came by TCP, TLS or a WebSocket is TCP to
	// HEP, which has no names for the two.
	UDP bool
	// Correlation is the same in all messages that belong together.
	Correlation []byte
	Payload     []byte
}

// agent is who sends the copies.
type agent struct {
	id   uint32
	name string
}

// The chunks of HEP version 3 that are used; all are of vendor 0, the generic one.
const (
	chunkFamily      = 0x0001 // 2: IPv4, 10: IPv6
	chunkProtocol    = 0x0002 // of IP
	chunkIPv4Source  = 0x0003
	chunkIPv4Target  = 0x0004
	chunkIPv6Source  = 0x0005
	chunkIPv6Target  = 0x0006
	chunkSourcePort  = 0x0007
	chunkTargetPort  = 0x0008
	chunkSeconds     = 0x0009
	chunkMicros      = 0x000a
	chunkType        = 0x000b // 1: SIP
	chunkAgent       = 0x000c
	chunkPayload     = 0x000f
	chunkCorrelation = 0x0011
	chunkName        = 0x0013
)

const (
	familyIPv4, familyIPv6 = 2, 10
	protocolTCP            = 6
	protocolUDP            = 17
	typeSIP                = 1
)

// maxPacket is what a datagram holds.
const maxPacket = 65507

// errTooLarge: the message does not fit into a datagram with what HEP adds.
var errTooLarge = errors.New("hep: the message is too large for a datagram")

// appendPacket appends a packet with that payload. No Go library for HEP is kept
// that can be imported (heplify's encoder is part of a command); this is all of it
// that is needed.
func (a *agent) appendPacket(dst []byte, p *Packet, payload []byte) ([]byte, error) {
	start := len(dst)
	dst = append(dst, "HEP3\x00\x00"...)
	from, to := p.From.Addr(), p.To.Addr()
	if from.Is4() && to.Is4() {
		source, target := from.As4(), to.As4()
		dst = appendByte(dst, chunkFamily, familyIPv4)
		dst = appendBytes(dst, chunkIPv4Source, source[:])
		dst = appendBytes(dst, chunkIPv4Target, target[:])
	} else {
		source, target := from.As16(), to.As16()
		dst = appendByte(dst, chunkFamily, familyIPv6)
		dst = appendBytes(dst, chunkIPv6Source, source[:])
		dst = appendBytes(dst, chunkIPv6Target, target[:])
	}
	protocol := byte(protocolTCP)
	if p.UDP {
		protocol = protocolUDP
	}
	dst = appendByte(dst, chunkProtocol, protocol)
	dst = appendUint16(dst, chunkSourcePort, p.From.Port())
	dst = appendUint16(dst, chunkTargetPort, p.To.Port())
	dst = appendUint32(dst, chunkSeconds, uint32(p.Time.Unix()))
	dst = appendUint32(dst, chunkMicros, uint32(p.Time.Nanosecond()/1000))
	dst = appendByte(dst, chunkType, typeSIP)
	dst = appendUint32(dst, chunkAgent, a.id)
	dst = append(appendHeader(dst, chunkName, len(a.name)), a.name...)
	if len(p.Correlation) > 0 {
		dst = appendBytes(dst, chunkCorrelation, p.Correlation)
	}
	if len(dst)-start+chunkHeader+len(payload) > maxPacket {
		return dst[:start], errTooLarge
	}
	dst = appendBytes(dst, chunkPayload, payload)
	binary.BigEndian.PutUint16(dst[start+4:], uint16(len(dst)-start))
	return dst, nil
}

// chunkHeader is vendor, type and length, which counts itself.
const chunkHeader = 6

func appendHeader(dst []byte, kind uint16, size int) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(kind)) // of vendor 0
	return binary.BigEndian.AppendUint16(dst, uint16(chunkHeader+size))
}

func appendByte(dst []byte, kind uint16, value byte) []byte {
	return append(appendHeader(dst, kind, 1), value)
}

func appendUint16(dst []byte, kind, value uint16) []byte {
	return binary.BigEndian.AppendUint16(appendHeader(dst, kind, 2), value)
}

func appendUint32(dst []byte, kind uint16, value uint32) []byte {
	return binary.BigEndian.AppendUint32(appendHeader(dst, kind, 4), value)
}

func appendBytes(dst []byte, kind uint16, value []byte) []byte {
	return append(appendHeader(dst, kind, len(value)), value...)
}
