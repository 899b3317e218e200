package gateway

import (
	"bytes"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"viaduct/transport"
)

// track relays one message again and again, over real sockets. Something reads
// at the far end, and no more than a few messages are under way.
type track struct {
	bytes int
	relay func()
}

// underWay is small enough for the receive buffer of the far end.
const underWay = 16

// drained makes a track of relay. One message is relayed to learn its size at
// the far end; receive reads one of that size.
func drained(bytes int, relay func(), receive func() error) track {
	tokens := make(chan struct{}, underWay)
	go func() {
		for receive() == nil {
			<-tokens
		}
	}()
	return track{bytes, func() {
		tokens <- struct{}{}
		relay()
	}}
}

// toPBX is a track whose messages arrive at the PBX.
func (l *lab) toPBX(size int, relay func()) track {
	relay()
	l.pbx.read()
	_ = l.pbx.conn.SetReadDeadline(time.Time{})
	buf := make([]byte, 65536)
	return drained(size, relay, func() error {
		for {
			n, err := l.pbx.conn.Read(buf)
			if err != nil || !bytes.HasPrefix(buf[:n], []byte("OPTIONS")) {
				return err
			}
			l.pbx.send(sip(buf[:n]).reply("200 OK"))
		}
	})
}

// toBrowser is a track whose messages arrive at the browser, as frames of one
// size.
func (l *lab) toBrowser(p *phone, bytes int, relay func()) track {
	relay()
	size := len(p.read())
	frame := make([]byte, ws.HeaderSize(ws.Header{Length: int64(size)})+size)
	_ = p.conn.SetReadDeadline(time.Time{})
	return drained(bytes, relay, func() error {
		_, err := io.ReadFull(p.conn, frame)
		return err
	})
}

// lay makes the tracks that the benchmarks and the test of allocations run.
var lay = map[string]func(*lab, *phone) track{
	"RelayUp": func(l *lab, p *phone) track {
		l.registered(p)
		invite := []byte(jsSIPInvite(p))
		conn := l.onlyConn()
		return l.toPBX(len(invite), func() { l.gw.fromBrowser(conn, invite) })
	},
	"ResponseUp": func(l *lab, p *phone) track {
		req := l.down(p, l.pbx.request("INVITE", l.registered(p)))
		ok := []byte(req.reply("200 OK", "Contact: <"+p.contact()+">", "Content-Type: application/sdp").withBody(sdp))
		conn := l.onlyConn()
		return l.toPBX(len(ok), func() { l.gw.fromBrowser(conn, ok) })
	},
	"RelayDown": func(l *lab, p *phone) track {
		invite := []byte(l.pbx.request("INVITE", l.registered(p)).add("Content-Type: application/sdp").withBody(sdp))
		from := l.fromPBX()
		return l.toBrowser(p, len(invite), func() { l.gw.fromSIP(from, invite) })
	},
	"ResponseDown": func(l *lab, p *phone) track {
		l.registered(p)
		ok := []byte(l.up(p, p.invite("sip:bob@pbx.example")).reply("200 OK", "Content-Type: application/sdp").withBody(sdp))
		from := l.fromPBX()
		return l.toBrowser(p, len(ok), func() { l.gw.fromSIP(from, ok) })
	},
	"RegisterUp": func(l *lab, p *phone) track {
		l.registered(p)
		register := []byte(p.register())
		conn := l.onlyConn()
		return l.toPBX(len(register), func() { l.gw.fromBrowser(conn, register) })
	},
	"RegisterDown": func(l *lab, p *phone) track {
		req := l.up(p, p.register())
		ok := []byte(req.reply("200 OK", "Contact: "+req.get("Contact")))
		from := l.fromPBX()
		return l.toBrowser(p, len(ok), func() { l.gw.fromSIP(from, ok) })
	},
}

// onlyConn is the connection of the only browser there is.
func (l *lab) onlyConn() *transport.WSConn {
	l.gw.flows.mu.Lock()
	defer l.gw.flows.mu.Unlock()
	for _, f := range l.gw.flows.byID {
		return f.conn
	}
	l.t.Fatal("nobody is connected")
	return nil
}

func (l *lab) fromPBX() transport.Source {
	return transport.Source{Addr: netip.MustParseAddrPort(l.pbx.addr())}
}

// jsSIPInvite is an INVITE as large as Chromium makes them, some 3 kB.
func jsSIPInvite(p *phone) sip {
	return p.invite("sip:bob@pbx.example").add("Content-Type: application/sdp", "Session-Expires: 90",
		"Allow: INVITE,ACK,CANCEL,BYE,UPDATE,MESSAGE,OPTIONS,REFER,INFO,NOTIFY", "Supported: timer,ice,replaces,outbound").
		withBody(sdp + strings.Repeat("a=rtpmap:111 opus/48000/2\r\n", 70))
}

const sdp = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\n" +
	"a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901234567\r\na=setup:actpass\r\na=mid:0\r\na=sendrecv\r\n" +
	"a=fingerprint:sha-256 00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF:00:11:22:33:44:55:66:77:88:99:AA:BB:CC:DD:EE:FF\r\n"

func benchmark(b *testing.B, name string) {
	l := newLab(b)
	tr := lay[name](l, l.phone("alice"))
	b.ReportAllocs()
	b.SetBytes(int64(tr.bytes))
	for b.Loop() {
		tr.relay()
	}
}

func BenchmarkRelayUp(b *testing.B)      { benchmark(b, "RelayUp") }
func BenchmarkResponseUp(b *testing.B)   { benchmark(b, "ResponseUp") }
func BenchmarkRelayDown(b *testing.B)    { benchmark(b, "RelayDown") }
func BenchmarkResponseDown(b *testing.B) { benchmark(b, "ResponseDown") }
func BenchmarkRegisterUp(b *testing.B)   { benchmark(b, "RegisterUp") }
func BenchmarkRegisterDown(b *testing.B) { benchmark(b, "RegisterDown") }

// BenchmarkRelayUpWatched is BenchmarkRelayUp with a viewer of the trace.
func BenchmarkRelayUpWatched(b *testing.B) {
	l := newLab(b)
	tr := lay["RelayUp"](l, l.phone("alice"))
	l.watch()
	b.ReportAllocs()
	for b.Loop() {
		tr.relay()
	}
}

// BenchmarkTraceUnwatched is what the trace costs a message when nobody looks.
func BenchmarkTraceUnwatched(b *testing.B) {
	g, w := &Gateway{}, &work{}
	b.ReportAllocs()
	for b.Loop() {
		g.traceRelayed(Up, nil, transport.ProtoUDP, netip.AddrPort{}, w)
	}
}
