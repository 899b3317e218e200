package gateway

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

// browser is a WebSocket client that speaks raw SIP.
type browser struct {
	t    *scope
	conn net.Conn
}

func (b *browser) send(msg sip) {
	b.t.Helper()
	_ = b.conn.SetWriteDeadline(time.Now().Add(patience))
	if err := wsutil.WriteClientText(b.conn, []byte(msg)); err != nil {
		b.t.Fatal(err)
	}
}

func (b *browser) read() sip {
	b.t.Helper()
	_ = b.conn.SetReadDeadline(time.Now().Add(patience))
	msg, err := wsutil.ReadServerText(b.conn)
	if err != nil {
		b.t.Fatalf("browser reads: %v", err)
	}
	return sip(msg)
}

// expectClosed reads nothing but the close frame with that code.
func (b *browser) expectClosed(code ws.StatusCode) {
	b.t.Helper()
	_ = b.conn.SetReadDeadline(time.Now().Add(patience))
	msg, err := wsutil.ReadServerText(b.conn)
	var closed wsutil.ClosedError
	if !errors.As(err, &closed) || closed.Code != code {
		b.t.Errorf("read %q, %v, want close %d", msg, err, code)
	}
}

// readUntilClosed reads up to the close frame with that code, and returns how many
// messages came before it.
func (b *browser) readUntilClosed(code ws.StatusCode) (messages int) {
	b.t.Helper()
	_ = b.conn.SetReadDeadline(time.Now().Add(patience))
	for {
		_, err := wsutil.ReadServerText(b.conn)
		var closed wsutil.ClosedError
		switch {
		case err == nil:
			messages++
		case errors.As(err, &closed) && closed.Code == code:
			return messages
		default:
			b.t.Fatalf("after %d messages: %v, want close %d", messages, err, code)
		}
	}
}

// pbx is a UDP socket that plays the SIP server.
type pbx struct {
	*lab
	conn *net.UDPConn
	sent int          // requests
	seen map[sip]bool // datagrams
}

func (l *lab) newPBX() *pbx { return l.newPBXAt("127.0.0.1:0") }

func (l *lab) newPBXAt(addr string) *pbx {
	l.t.Helper()
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(addr)))
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = conn.Close() })
	return &pbx{lab: l, conn: conn}
}

func (p *pbx) addr() string { return p.conn.LocalAddr().String() }

// read returns the next datagram. The gateway's own OPTIONS are answered by the
// way, as every PBX does.
func (p *pbx) read() sip {
	p.t.Helper()
	for {
		msg := p.next()
		if !msg.isProbe() {
			return msg
		}
		p.send(msg.reply("200 OK"))
	}
}

// next returns the next datagram that is not a request of before, sent again.
func (p *pbx) next() sip {
	p.t.Helper()
	if p.seen == nil {
		p.seen = make(map[sip]bool)
	}
	for {
		msg := p.datagram()
		if strings.HasPrefix(msg.start(), "SIP/2.0 ") {
			return msg
		}
		if !p.seen[msg] {
			p.seen[msg] = true
			return msg
		}
	}
}

// datagram returns the next one, whatever it is.
func (p *pbx) datagram() sip {
	p.t.Helper()
	buf := make([]byte, 65536)
	_ = p.conn.SetReadDeadline(time.Now().Add(patience))
	n, err := p.conn.Read(buf)
	if err != nil {
		p.t.Fatalf("PBX reads: %v", err)
	}
	return sip(buf[:n])
}

func (p *pbx) send(msg sip) {
	p.t.Helper()
	if _, err := p.conn.WriteToUDPAddrPort([]byte(msg), p.bound.SIP); err != nil {
		p.t.Fatal(err)
	}
}

// request makes a request of the PBX's own, outside any dialog.
func (p *pbx) request(method, uri string) sip {
	p.sent++
	return newRequest(method, uri,
		fmt.Sprintf("Via: SIP/2.0/UDP %s;rport;branch=z9hG4bKpbx%d", p.addr(), p.sent),
		"From: <sip:bob@pbx.example>;tag=bob", "To: <"+uri+">",
		fmt.Sprintf("Call-ID: pbx%d@%s", p.sent, p.addr()), "CSeq: 7 "+method)
}

// stream is a TCP or TLS connection that the PBX has with the gateway.
type stream struct {
	t    *scope
	conn net.Conn
	in   *bufio.Reader
}

func (l *lab) stream(conn net.Conn) *stream {
	l.t.Cleanup(func() { _ = conn.Close() })
	return &stream{l.t, conn, bufio.NewReader(conn)}
}

// dialTCP connects to the gateway's SIP port from an address of the test's choice.
func (l *lab) dialTCP(from string) *stream {
	l.t.Helper()
	dialer := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(netip.MustParseAddrPort(from)), Timeout: patience}
	conn, err := dialer.Dial("tcp", l.bound.SIP.String())
	if err != nil {
		l.t.Fatal(err)
	}
	return l.stream(conn)
}

// listenTCP opens a port on which the PBX waits for the gateway.
func (l *lab) listenTCP(addr string) *net.TCPListener {
	l.t.Helper()
	at, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(netip.MustParseAddrPort(addr)))
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = at.Close() })
	return at
}

// accept returns the gateway's next connection to a listener.
func (l *lab) accept(on *net.TCPListener) *stream {
	l.t.Helper()
	_ = on.SetDeadline(time.Now().Add(patience))
	conn, err := on.Accept()
	if err != nil {
		l.t.Fatal(err)
	}
	return l.stream(conn)
}

func (s *stream) send(msg sip) {
	s.t.Helper()
	_ = s.conn.SetWriteDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(s.conn, string(msg)); err != nil {
		s.t.Fatal(err)
	}
}

// read returns the next message, and answers the gateway's own OPTIONS by the way.
func (s *stream) read() sip {
	s.t.Helper()
	for {
		msg := s.next()
		if !msg.isProbe() {
			return msg
		}
		s.send(msg.reply("200 OK"))
	}
}

// next returns the next message, framed by its Content-Length.
func (s *stream) next() sip {
	s.t.Helper()
	_ = s.conn.SetReadDeadline(time.Now().Add(patience))
	var head strings.Builder
	for !strings.HasSuffix(head.String(), "\r\n\r\n") {
		line, err := s.in.ReadString('\n')
		if err != nil {
			s.t.Fatalf("PBX reads %q: %v", head.String()+line, err)
		}
		head.WriteString(line)
	}
	length, err := strconv.Atoi(one(sip(head.String()).values("content-length")))
	if err != nil {
		s.t.Fatalf("PBX reads: %v in\n%s", err, head.String())
	}
	body := make([]byte, length)
	if _, err := io.ReadFull(s.in, body); err != nil {
		s.t.Fatalf("PBX reads: %v", err)
	}
	return sip(head.String() + string(body))
}

// expectClosed reads the end of the connection and nothing before it.
func (s *stream) expectClosed() {
	s.t.Helper()
	_ = s.conn.SetReadDeadline(time.Now().Add(patience))
	got, err := io.ReadAll(s.in)
	var late net.Error
	if len(got) > 0 || errors.As(err, &late) && late.Timeout() {
		s.t.Errorf("read %q, %v, want the end of the connection", got, err)
	}
}
