package e2e

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"testing"
)

// Chunk types of HEP version 3 that this reader uses (all of vendor 0).
const (
	hepIPv4Source      = 0x0003
	hepIPv4Destination = 0x0004
	hepIPv6Source      = 0x0005
	hepIPv6Destination = 0x0006
	hepSourcePort      = 0x0007
	hepDestinationPort = 0x0008
	hepPayload         = 0x000f
)

// hepPacket is one mirrored SIP message and the addresses it travelled between.
type hepPacket struct {
	from, to netip.AddrPort
	payload  []byte
}

// listenHEP receives HEP on a port of its own on ip and gives each packet to
// receive, from one goroutine and in the order of arrival, until the test ends.
func listenHEP(t testing.TB, ip netip.Addr, receive func(hepPacket)) netip.AddrPort {
	t.Helper()
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(ip, 0)))
	if err != nil {
		t.Fatalf("listening for HEP: %v", err)
	}
	// A burst of the mirrored traffic must not be lost while the test is not scheduled.
	if err := conn.SetReadBuffer(8 << 20); err != nil {
		t.Fatalf("listening for HEP: %v", err)
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		datagram := make([]byte, 1<<16)
		for {
			n, err := conn.Read(datagram)
			if err != nil {
				return
			}
			packet, err := parseHEP(datagram[:n])
			if err != nil {
				t.Errorf("HEP: %v", err)
				continue
			}
			receive(packet)
		}
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-stopped
	})
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

// parseHEP reads one HEP3 packet. The payload is a copy.
func parseHEP(datagram []byte) (hepPacket, error) {
	if len(datagram) < 6 || string(datagram[:4]) != "HEP3" {
		return hepPacket{}, fmt.Errorf("not HEP3: %.16q", datagram)
	}
	var packet hepPacket
	var fromIP, toIP netip.Addr
	var fromPort, toPort uint16
	for rest := datagram[6:]; len(rest) > 0; {
		if len(rest) < 6 {
			return hepPacket{}, fmt.Errorf("chunk header cut after %d bytes", len(rest))
		}
		kind, size := binary.BigEndian.Uint16(rest[2:]), int(binary.BigEndian.Uint16(rest[4:]))
		if size < 6 || size > len(rest) {
			return hepPacket{}, fmt.Errorf("chunk %#x has length %d of %d", kind, size, len(rest))
		}
		value := rest[6:size]
		rest = rest[size:]
		switch kind {
		case hepIPv4Source, hepIPv6Source:
			fromIP, _ = netip.AddrFromSlice(value)
		case hepIPv4Destination, hepIPv6Destination:
			toIP, _ = netip.AddrFromSlice(value)
		case hepSourcePort:
			fromPort = binary.BigEndian.Uint16(value)
		case hepDestinationPort:
			toPort = binary.BigEndian.Uint16(value)
		case hepPayload:
			packet.payload = append([]byte(nil), value...)
		}
	}
	packet.from, packet.to = netip.AddrPortFrom(fromIP, fromPort), netip.AddrPortFrom(toIP, toPort)
	return packet, nil
}
