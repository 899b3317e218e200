package gateway

import (
	"bytes"
	"encoding/binary"
	"io"
	"net/netip"
	"strconv"
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
		return l.toPBX(len(invite), func() { l.gw.fromBrowser(conn, nil, invite) })
	},
	"ResponseUp": func(l *lab, p *phone) track {
		req := l.down(p, l.pbx.request("INVITE", l.registered(p)))
		ok := []byte(req.reply("200 OK", "Contact: <"+p.contact()+">", "Content-Type: application/sdp").withBody(sdp))
		conn := l.onlyConn()
		return l.toPBX(len(ok), func() { l.gw.fromBrowser(conn, nil, ok) })
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
		return l.toPBX(len(register), func() { l.gw.fromBrowser(conn, nil, register) })
	},
	"RegisterDown": func(l *lab, p *phone) track {
		req := l.up(p, p.register())
		ok := []byte(req.reply("200 OK", "Contact: "+req.get("Contact")))
		from := l.fromPBX()
		return l.toBrowser(p, len(ok), func() { l.gw.fromSIP(from, ok) })
	},
}

// readPBX reads the next datagram that is no OPTIONS of the gateway's own.
func (l *lab) readPBX(buf []byte) []byte {
	for {
		n, err := l.pbx.conn.Read(buf)
		if err != nil {
			l.t.Fatal(err)
		}
		if !bytes.HasPrefix(buf[:n], []byte("OPTIONS")) {
			return buf[:n]
		}
		l.pbx.send(sip(buf[:n]).reply("200 OK"))
	}
}

// exchangeUp is the exchange of a REGISTER of a registered phone.
func (l *lab) exchangeUp(p *phone, register sip) func() {
	l.registered(p)
	request := numbered(register)
	conn, from := l.onlyConn(), l.fromPBX()
	var response, frame []byte
	_ = l.pbx.conn.SetReadDeadline(time.Time{})
	_ = p.conn.SetReadDeadline(time.Time{})
	buf := make([]byte, 65536)
	return func() {
		l.gw.fromBrowser(conn, nil, request.next())
		response = appendOK(response[:0], l.readPBX(buf))
		l.gw.fromSIP(from, response)
		frame, _ = l.readFrame(p, frame)
	}
}

// exchange makes a whole transaction each time: a new request, read at the far
// end, and its final response, read at the near one.
var exchange = map[string]func(*lab, *phone) func(){
	"Up":                func(l *lab, p *phone) func() { return l.exchangeUp(p, p.register()) },
	"UpWithCredentials": func(l *lab, p *phone) func() { return l.exchangeUp(p, p.guess()) },
	"Down": func(l *lab, p *phone) func() {
		request := numbered(l.pbx.request("INFO", l.registered(p)).set("CSeq", "100000000 INFO"))
		conn, from := l.onlyConn(), l.fromPBX()
		var response, frame, payload []byte
		_ = l.pbx.conn.SetReadDeadline(time.Time{})
		_ = p.conn.SetReadDeadline(time.Time{})
		buf := make([]byte, 65536)
		return func() {
			l.gw.fromSIP(from, request.next())
			frame, payload = l.readFrame(p, frame)
			response = appendOK(response[:0], payload)
			l.gw.fromBrowser(conn, nil, response)
			l.readPBX(buf)
		}
	},
}

// request is one whose CSeq number grows, and with it its transaction.
type request struct {
	text   []byte
	digits []byte // of text
	n      int
}

func numbered(msg sip) *request {
	_, method, _ := strings.Cut(msg.get("CSeq"), " ")
	text := []byte(msg.set("CSeq", "100000000 "+method))
	at := bytes.Index(text, []byte("100000000 "))
	return &request{text: text, digits: text[at : at+9], n: 100000000}
}

func (r *request) next() []byte {
	r.n++
	strconv.AppendInt(r.digits[:0], int64(r.n), 10)
	return r.text
}

// appendOK makes a 200 of a request by its first line alone.
func appendOK(dst, request []byte) []byte {
	dst = append(dst, "SIP/2.0 200 OK"...)
	return append(dst, request[bytes.IndexByte(request, '\r'):]...)
}

// readFrame reads the browser's next frame into frame and returns that and its
// payload. The first time it learns how large they are.
func (l *lab) readFrame(p *phone, frame []byte) (same, payload []byte) {
	if frame == nil {
		first := []byte(p.read())
		return make([]byte, ws.HeaderSize(ws.Header{Length: int64(len(first))})+len(first)), first
	}
	if _, err := io.ReadFull(p.conn, frame); err != nil {
		l.t.Fatal(err)
	}
	return frame, frame[len(frame)-payloadOf(frame):]
}

// payloadOf is how long the payload of a frame of a server is.
func payloadOf(frame []byte) int {
	if n := int(frame[1]); n < 126 {
		return n
	}
	return int(binary.BigEndian.Uint16(frame[2:]))
}

// undisturbed lets nothing come between the messages of a benchmark.
func undisturbed(c *Config) { c.HealthInterval = time.Hour }

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
	l := newLab(b, stateless)
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
	l := newLab(b, stateless)
	tr := lay["RelayUp"](l, l.phone("alice"))
	l.watch()
	b.ReportAllocs()
	for b.Loop() {
		tr.relay()
	}
}

// BenchmarkExchange is a whole transaction by UDP, with and without what is
// kept to send it again.
func BenchmarkExchange(b *testing.B) {
	for _, name := range []string{"Up", "Down"} {
		for mode, option := range map[string]func(*Config){"stateless": stateless, "repeated": func(*Config) {}} {
			b.Run(name+"/"+mode, func(b *testing.B) {
				l := newLab(b, undisturbed, option)
				do := exchange[name](l, l.phone("alice"))
				b.ReportAllocs()
				for b.Loop() {
					do()
				}
			})
		}
	}
}

// BenchmarkTraceUnwatched is what the trace costs a message when nobody looks.
func BenchmarkTraceUnwatched(b *testing.B) {
	g, w := &Gateway{}, &work{}
	b.ReportAllocs()
	for b.Loop() {
		g.traceRelayed(Up, nil, transport.Source{}, w)
	}
}
