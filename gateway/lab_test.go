package gateway

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

// patience is how long a test waits for what must come.
const patience = 5 * time.Second

// lab is a gateway between browsers and a PBX of the test's own, all on real
// loopback sockets.
type lab struct {
	t     *testing.T
	gw    *Gateway
	bound Bound
	pbx   *pbx
}

// newLab starts a gateway whose upstream is a UDP socket that the test reads
// and writes. The options change the Config before it starts.
func newLab(t *testing.T, options ...func(*Config)) *lab {
	t.Helper()
	l := &lab{t: t, pbx: newPBX(t)}
	cfg := Config{Listen: []string{"127.0.0.1:0"}, SIPListen: "127.0.0.1:0"}
	cfg.Upstreams = []Upstream{mustUpstream(t, "sip:"+l.pbx.addr())}
	for _, option := range options {
		option(&cfg)
	}
	l.start(cfg)
	return l
}

// start runs a gateway until the test ends, or stop is called.
func (l *lab) start(cfg Config) (stop func()) {
	l.t.Helper()
	ready := make(chan Bound, 1)
	cfg.Ready = func(b Bound) { ready <- b }
	var err error
	if l.gw, err = New(cfg); err != nil {
		l.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- l.gw.Serve(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-served; err != nil {
			l.t.Errorf("Serve: %v", err)
		}
	}
	l.t.Cleanup(stop)
	select {
	case l.bound = <-ready:
	case err := <-served:
		l.t.Fatalf("Serve: %v", err)
	}
	return stop
}

func mustUpstream(t *testing.T, text string) Upstream {
	t.Helper()
	u, err := ParseUpstream(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// pbx is a UDP socket that plays the SIP server.
type pbx struct {
	t    *testing.T
	conn *net.UDPConn
	gw   netip.AddrPort // where the last datagram came from
}

func newPBX(t *testing.T) *pbx {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return &pbx{t: t, conn: conn}
}

func (p *pbx) addr() string { return p.conn.LocalAddr().String() }

// read returns the next datagram.
func (p *pbx) read() sip {
	p.t.Helper()
	buf := make([]byte, 65536)
	_ = p.conn.SetReadDeadline(time.Now().Add(patience))
	n, from, err := p.conn.ReadFromUDPAddrPort(buf)
	if err != nil {
		p.t.Fatalf("PBX reads: %v", err)
	}
	p.gw = from
	return sip(buf[:n])
}

func (p *pbx) send(msg string) {
	p.t.Helper()
	if _, err := p.conn.WriteToUDPAddrPort([]byte(msg), p.gw); err != nil {
		p.t.Fatal(err)
	}
}

// browser is a WebSocket client that speaks raw SIP.
type browser struct {
	t    *testing.T
	conn net.Conn
	rw   interface {
		Read([]byte) (int, error)
		Write([]byte) (int, error)
	}
}

func (l *lab) browser() *browser {
	l.t.Helper()
	dialer := ws.Dialer{Protocols: []string{"sip"}}
	conn, _, _, err := dialer.Dial(context.Background(), l.bound.WebSocket[0])
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = conn.Close() })
	return &browser{t: l.t, conn: conn}
}

func (b *browser) send(msg string) {
	b.t.Helper()
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

// sip is a message as a test looks at it.
type sip string

func (m sip) start() string {
	line, _, _ := strings.Cut(string(m), "\r\n")
	return line
}

// all returns the values of a header, a line each, in order.
func (m sip) all(name string) (values []string) {
	head, _, _ := strings.Cut(string(m), "\r\n\r\n")
	for _, line := range strings.Split(head, "\r\n")[1:] {
		if n, v, ok := strings.Cut(line, ":"); ok && strings.EqualFold(strings.TrimSpace(n), name) {
			values = append(values, strings.TrimSpace(v))
		}
	}
	return values
}

func (m sip) get(name string) string {
	if v := m.all(name); len(v) > 0 {
		return v[0]
	}
	return ""
}

// reply makes a response as a PBX does: it repeats what must be repeated.
func (m sip) reply(status string, more ...string) string {
	var b bytes.Buffer
	fmt.Fprintf(&b, "SIP/2.0 %s\r\n", status)
	for _, name := range []string{"Via", "From", "To", "Call-ID", "CSeq"} {
		for _, v := range m.all(name) {
			if name == "To" && !strings.Contains(v, ";tag=") && !strings.HasPrefix(status, "100") {
				v += ";tag=pbx"
			}
			fmt.Fprintf(&b, "%s: %s\r\n", name, v)
		}
	}
	for _, line := range more {
		b.WriteString(line + "\r\n")
	}
	b.WriteString("Content-Length: 0\r\n\r\n")
	return b.String()
}

// between returns the part of s between two texts.
func between(s, from, to string) string {
	_, s, _ = strings.Cut(s, from)
	s, _, _ = strings.Cut(s, to)
	return s
}
