package hep

import (
	"bytes"
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"
)

func packet(payload []byte) *Packet {
	return &Packet{
		Time: time.Unix(1, 2000), From: netip.MustParseAddrPort("192.0.2.1:5060"), To: netip.MustParseAddrPort("192.0.2.2:5070"),
		UDP: true, Correlation: []byte("call"), Payload: payload,
	}
}

func same(dst, msg []byte) []byte { return append(dst, msg...) }

// TestPacket: a packet is, byte for byte, what the HEP3 draft (revision 12) says.
func TestPacket(t *testing.T) {
	a := agent{id: 0x01020304, name: "gw"}
	for _, test := range []struct {
		name string
		set  func(*Packet)
		want string
	}{
		{"IPv4, UDP", func(*Packet) {}, "HEP3\x00\x7a" +
			"\x00\x00\x00\x01\x00\x07\x02" + "\x00\x00\x00\x03\x00\x0a\xc0\x00\x02\x01" + "\x00\x00\x00\x04\x00\x0a\xc0\x00\x02\x02" +
			"\x00\x00\x00\x02\x00\x07\x11" + ports},
		{"IPv6, TCP", func(p *Packet) {
			p.UDP = false
			p.From, p.To = netip.MustParseAddrPort("[2001:db8::1]:5060"), netip.MustParseAddrPort("[2001:db8::2]:5070")
		}, "HEP3\x00\x92" +
			"\x00\x00\x00\x01\x00\x07\x0a" + "\x00\x00\x00\x05\x00\x16\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01" +
			"\x00\x00\x00\x06\x00\x16\x20\x01\x0d\xb8\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02" +
			"\x00\x00\x00\x02\x00\x07\x06" + ports},
	} {
		p := packet([]byte("hello"))
		test.set(p)
		got, err := a.appendPacket(nil, p, p.Payload)
		if err != nil || string(got) != test.want {
			t.Errorf("%s: %v\n%q, want\n%q", test.name, err, got, test.want)
		}
	}
}

// ports is what the packets have in common, from the ports on.
const ports = "\x00\x00\x00\x07\x00\x08\x13\xc4" + "\x00\x00\x00\x08\x00\x08\x13\xce" +
	"\x00\x00\x00\x09\x00\x0a\x00\x00\x00\x01" + "\x00\x00\x00\x0a\x00\x0a\x00\x00\x00\x02" +
	"\x00\x00\x00\x0b\x00\x07\x01" + "\x00\x00\x00\x0c\x00\x0a\x01\x02\x03\x04" + "\x00\x00\x00\x13\x00\x08gw" +
	"\x00\x00\x00\x11\x00\x0acall" + "\x00\x00\x00\x0f\x00\x0bhello"

// TestTooLarge: what HEP adds has to fit too.
func TestTooLarge(t *testing.T) {
	a := agent{name: "gw"}
	small, err := a.appendPacket(nil, packet(nil), nil)
	if err != nil {
		t.Fatal(err)
	}
	largest := make([]byte, maxPacket-len(small))
	if got, err := a.appendPacket(nil, packet(nil), largest); err != nil || len(got) != maxPacket || int(binary.BigEndian.Uint16(got[4:])) != maxPacket {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if got, err := a.appendPacket(nil, packet(nil), append(largest, 0)); err == nil || len(got) != 0 {
		t.Errorf("%d bytes, %v", len(got), err)
	}
}

// TestQueueIsBounded: what finds no room is counted, and nobody waits for it.
func TestQueueIsBounded(t *testing.T) {
	for name, test := range map[string]struct{ size, kept int }{
		"by number": {0, maxQueue},
		"by bytes":  {60_000, maxQueueBytes / 60_004},
	} {
		s := New(Config{Collector: "127.0.0.1:9", Mask: same}) // does not run
		p := packet(make([]byte, test.size))
		for range 2 * maxQueue {
			s.Copy(p)
		}
		if got := s.Stats(); got.Dropped != uint64(2*maxQueue-test.kept) || got.Sent+got.Failed != 0 {
			t.Errorf("%s: %+v, %d kept", name, got, test.kept)
		}
	}
}

// TestSender: what is copied comes, in order, whatever its buffer is used for then.
func TestSender(t *testing.T) {
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	s := New(Config{Collector: conn.LocalAddr().String(), Mask: func(dst, msg []byte) []byte {
		return append(dst, bytes.ReplaceAll(msg, []byte("secret"), []byte("***"))...)
	}})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		s.Run(ctx)
	}()
	defer func() {
		cancel()
		<-ended
	}()
	buf, text := make([]byte, 65536), []byte("0 secret")
	_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	for round := range 3 {
		for i := range 10 {
			text[0] = byte('0' + i)
			s.Copy(packet(text))
		}
		for i := range 10 {
			n, err := conn.Read(buf)
			if want := string(rune('0'+i)) + " ***"; err != nil || !bytes.HasSuffix(buf[:n], []byte(want)) {
				t.Fatalf("round %d: %q, %v, want %q at the end", round, buf[:n], err, want)
			}
		}
	}
	if got := s.Stats(); got.Dropped+got.Failed != 0 {
		t.Errorf("%+v", got)
	}
}
