//go:build !race

// The race detector makes sync.Pool drop some of what it is given.

package transport

import (
	"bytes"
	"net/netip"
	"testing"
)

func TestFramingDoesNotAllocate(t *testing.T) {
	p := []byte(sipMessage("first") + sipMessage("second"))
	messages := 0
	f := framer{max: 512, ping: func() {}, message: func([]byte) { messages++ }}
	for name, pieces := range map[string][][]byte{
		"whole":        {p},
		"fragmented":   {p[:50], p[50:100], p[100:]},
		"byte by byte": bytes.SplitAfter(p, nil),
	} {
		messages = 0
		allocs := testing.AllocsPerRun(100, func() {
			for _, piece := range pieces {
				if err := f.consume(piece); err != nil {
					t.Fatal(err)
				}
			}
		})
		if allocs != 0 || messages != 2*101 {
			t.Errorf("%s: %v allocations, %d messages", name, allocs, messages)
		}
	}
}

// TestRelayDoesNotAllocate sends a message there and back between two endpoints
// over real sockets.
func TestRelayDoesNotAllocate(t *testing.T) {
	msg := []byte(sipMessage("hello"))
	answered := make(chan struct{}, 1)
	near := startSIP(t, SIPConfig{Message: func(Source, []byte) { answered <- struct{}{} }})
	var far *sipSide
	far = startSIP(t, SIPConfig{Listen: ":0", Message: func(from Source, msg []byte) {
		if err := far.Reply(from, msg); err != nil {
			t.Error(err)
		}
	}})
	at := loopback(far.Addr().Port())
	for name, to := range map[string]Target{
		"UDP":                       {Proto: ProtoUDP, Addr: at},
		"TCP":                       {Proto: ProtoTCP, Addr: at},
		"UDP from a chosen address": {Proto: ProtoUDP, Addr: loopback(near.Addr().Port()), Local: netip.MustParseAddr("127.0.0.2")},
	} {
		t.Run(name, func(t *testing.T) {
			from := near.SIP
			if to.Local.IsValid() {
				from = far.SIP
			}
			allocs := testing.AllocsPerRun(1000, func() {
				if err := from.Send(to, msg); err != nil {
					t.Fatal(err)
				}
				<-answered
			})
			if allocs != 0 {
				t.Errorf("%v allocations", allocs)
			}
		})
	}
}
