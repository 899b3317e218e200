package transport

import (
	"testing"
)

// BenchmarkRelay is a message there and back between two endpoints on loopback.
func BenchmarkRelay(b *testing.B) {
	ca := newAuthority(b)
	msg := []byte(sipMessage(string(make([]byte, 600))))
	answered := make(chan struct{}, 1)
	near := startSIP(b, SIPConfig{Message: func(Source, []byte) { answered <- struct{}{} }})
	var far *sipSide
	far = startSIP(b, SIPConfig{
		TLSListen: "127.0.0.1:0", TLS: serverTLS(ca.issue(b, "a")),
		Message: func(from Source, msg []byte) {
			if err := far.Reply(from, msg); err != nil {
				b.Error(err)
			}
		},
	})
	for _, to := range []Target{
		{Proto: ProtoUDP, Addr: far.Addr()},
		{Proto: ProtoTCP, Addr: far.Addr()},
		far.tlsTarget("a", ca.trusting()),
	} {
		b.Run(to.Proto.String(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := near.Send(to, msg); err != nil {
					b.Fatal(err)
				}
				<-answered
			}
		})
	}
}

func BenchmarkFraming(b *testing.B) {
	p := []byte(sipMessage(string(make([]byte, 600))))
	f := framer{max: defaultStreamMessage, message: func([]byte) {}, ping: func() {}}
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	for b.Loop() {
		if err := f.consume(p); err != nil {
			b.Fatal(err)
		}
	}
}
