package transport

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"golang.org/x/net/websocket"
)

// patience is how long a test waits for an event before it fails.
const patience = 20 * time.Second

// wsEnd is one call of WSConfig.Closed.
type wsEnd struct {
	conn *WSConn
	why  CloseCause
}

// wsServer is a server under test and what it reported.
type wsServer struct {
	*WSServer
	addr      string
	opened    chan *WSConn
	messages  chan string
	oversized chan string
	ended     chan wsEnd
	refused   chan Refusal
	unasked   chan Refusal
}

// startWS serves cfg on a loopback port until the test ends. Callbacks that cfg
// sets take the place of the recording ones.
func startWS(t testing.TB, cfg WSConfig, tlsConfig *tls.Config) *wsServer {
	t.Helper()
	s := &wsServer{
		opened:    make(chan *WSConn, 1000),
		messages:  make(chan string, 10_000),
		oversized: make(chan string, 10),
		ended:     make(chan wsEnd, 1000),
		refused:   make(chan Refusal, 10_000),
		unasked:   make(chan Refusal, 10_000),
	}
	cfg.Path = "/ws"
	var unended atomic.Int32
	cfg.Opened = func(c *WSConn) { unended.Add(1); s.opened <- c }
	if cfg.Message == nil {
		cfg.Message = func(_ *WSConn, msg []byte) { s.messages <- string(msg) }
	}
	if cfg.Oversized == nil {
		cfg.Oversized = func(_ *WSConn, head []byte) { s.oversized <- string(head) }
	}
	cfg.Closed = func(c *WSConn, why CloseCause) { unended.Add(-1); s.ended <- wsEnd{c, why} }
	cfg.Refused = func(_ *http.Request, why Refusal) { s.refused <- why }
	cfg.Unasked = func(_ netip.AddrPort, why Refusal) { s.unasked <- why }
	var err error
	if s.WSServer, err = NewWSServer(cfg); err != nil {
		t.Fatal(err)
	}
	l, err := Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.addr = l.Addr().String()
	served := make(chan error, 1)
	go func() { served <- s.Serve(l, tlsConfig) }()
	t.Cleanup(func() {
		s.Close(ws.StatusGoingAway)
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if n := unended.Load(); n != 0 {
			t.Errorf("%d more calls of Opened than of Closed", n)
		}
	})
	return s
}

// next receives from an event channel.
func next[T any](t testing.TB, events <-chan T) T {
	t.Helper()
	select {
	case e := <-events:
		return e
	case <-time.After(patience):
		t.Fatal("nothing happened")
		panic("unreachable")
	}
}

// none fails if an event happened.
func none[T any](t testing.TB, what string, events <-chan T) {
	t.Helper()
	select {
	case e := <-events:
		t.Errorf("%s: %v", what, e)
	default:
	}
}

// ends waits for the end of c and checks its cause.
func (s *wsServer) ends(t testing.TB, c *WSConn, why CloseCause) {
	t.Helper()
	end := next(t, s.ended)
	if end.conn != c || end.why != why {
		t.Errorf("ended for %v, want %v (the same connection: %v)", end.why, why, end.conn == c)
	}
}

// handshake is a correct request to upgrade, with further header lines.
func handshake(further ...string) string {
	lines := append([]string{
		"GET /ws HTTP/1.1",
		"Host: gw.example.com",
		"Upgrade: websocket",
		"Connection: Upgrade",
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
		"Sec-WebSocket-Version: 13",
		"Sec-WebSocket-Protocol: sip",
	}, further...)
	return strings.Join(lines, "\r\n") + "\r\n\r\n"
}

// wsPeer is the browser's end: raw frames in both directions.
type wsPeer struct {
	net.Conn
	t testing.TB
	r *bufio.Reader
}

// dial opens a connection with a correct handshake, and returns both ends.
func (s *wsServer) dial(t testing.TB) (*wsPeer, *WSConn) {
	t.Helper()
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	return s.upgradeOver(t, conn)
}

// upgradeOver is dial over a given connection.
func (s *wsServer) upgradeOver(t testing.TB, conn net.Conn) (*wsPeer, *WSConn) {
	t.Helper()
	p := &wsPeer{conn, t, bufio.NewReader(conn)}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(2 * patience))
	p.raw([]byte(handshake()))
	resp := p.response()
	if resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("handshake: %s", resp.Status)
	}
	return p, next(t, s.opened)
}

func (p *wsPeer) raw(b []byte) {
	p.t.Helper()
	if _, err := p.Write(b); err != nil {
		p.t.Fatal(err)
	}
}

func (p *wsPeer) response() *http.Response {
	p.t.Helper()
	resp, err := http.ReadResponse(p.r, nil)
	if err != nil {
		p.t.Fatal(err)
	}
	return resp
}

// frame is a masked frame on the wire.
func frame(op ws.OpCode, fin bool, payload string) []byte {
	f := ws.MaskFrame(ws.NewFrame(op, fin, []byte(payload)))
	var b bytes.Buffer
	if err := ws.WriteFrame(&b, f); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func text(payload string) []byte { return frame(ws.OpText, true, payload) }

// readFrame reads one frame of a server that tests trust.
func readFrame(r io.Reader) (f ws.Frame, err error) {
	if f.Header, err = ws.ReadHeader(r); err != nil {
		return f, err
	}
	f.Payload = make([]byte, f.Header.Length)
	_, err = io.ReadFull(r, f.Payload)
	return f, err
}

// read returns the next frame.
func (p *wsPeer) read() (ws.OpCode, string) {
	p.t.Helper()
	f, err := readFrame(p.r)
	if err != nil {
		p.t.Fatal(err)
	}
	if err := ws.CheckHeader(f.Header, ws.StateClientSide); err != nil {
		p.t.Fatal(err)
	}
	if !f.Header.Fin {
		p.t.Error("the server sent a fragment")
	}
	return f.Header.OpCode, string(f.Payload)
}

// wants checks the next frame.
func (p *wsPeer) wants(op ws.OpCode, payload string) {
	p.t.Helper()
	if gotOp, got := p.read(); gotOp != op || got != payload {
		p.t.Errorf("got opcode %x %.100q, want %x %.100q", gotOp, got, op, payload)
	}
}

// wantsClose reads up to the close frame and checks its code.
func (p *wsPeer) wantsClose(code ws.StatusCode) {
	p.t.Helper()
	for {
		op, payload := p.read()
		if op != ws.OpClose {
			continue
		}
		if got, _ := ws.ParseCloseFrameData([]byte(payload)); got != code {
			p.t.Errorf("closed with %d, want %d", got, code)
		}
		return
	}
}

// wantsEnd checks that the connection ends without a further frame; reset or
// not is the network's luck.
func (p *wsPeer) wantsEnd() {
	p.t.Helper()
	if f, err := readFrame(p.r); err == nil {
		p.t.Errorf("got opcode %x %.100q instead of the end", f.Header.OpCode, f.Payload)
	} else if errors.Is(err, errTimeout) {
		p.t.Error("the connection stays open")
	}
}

var errTimeout = error(timeoutError{})

// timeoutError matches whatever ran into a deadline.
type timeoutError struct{}

func (timeoutError) Error() string { return "timeout" }
func (timeoutError) Is(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

func TestWSMessages(t *testing.T) {
	s := startWS(t, WSConfig{}, nil)
	p, c := s.dial(t)

	p.raw(text("REGISTER sip:example.com SIP/2.0\r\n\r\n"))
	if got := next(t, s.messages); got != "REGISTER sip:example.com SIP/2.0\r\n\r\n" {
		t.Errorf("got %q", got)
	}
	for _, size := range []int{0, 1, 125, 126, 65_535, 65_536, 300_000} {
		msg := strings.Repeat("x", size)
		if err := c.Send([]byte(msg)); err != nil {
			t.Fatal(err)
		}
		p.wants(ws.OpText, msg)
	}
	if err := c.Send([]byte("\xff\xfe")); err != nil {
		t.Fatal(err)
	}
	p.wants(ws.OpBinary, "\xff\xfe")

	if got := c.RemoteAddr().String(); got != p.LocalAddr().String() {
		t.Errorf("RemoteAddr %s, dialled from %s", got, p.LocalAddr())
	}
	if got := c.LocalAddr().String(); got != p.RemoteAddr().String() {
		t.Errorf("LocalAddr %s, dialled %s", got, p.RemoteAddr())
	}
	if c.Host() != "gw.example.com" || c.ID() == 0 {
		t.Errorf("Host %q, ID %x", c.Host(), c.ID())
	}
	p.Close()
	s.ends(t, c, CauseLost)
	if err := c.Send([]byte("late")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Send on a closed connection: %v", err)
	}
}

// The other client of the Go world, with a handshake and framing of its own.
func TestWSSecondClient(t *testing.T) {
	s := startWS(t, WSConfig{Message: func(c *WSConn, msg []byte) { c.Send(msg) }}, nil)
	cfg, err := websocket.NewConfig("ws://"+s.addr+"/ws", "http://"+s.addr)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Protocol = []string{"sip"}
	conn, err := websocket.DialConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"OPTIONS sip:a SIP/2.0\r\n\r\n", strings.Repeat("é", 20_000)} {
		if err := websocket.Message.Send(conn, want); err != nil {
			t.Fatal(err)
		}
		var got string
		if err := websocket.Message.Receive(conn, &got); err != nil || got != want {
			t.Errorf("echo of %d bytes: %d bytes, %v", len(want), len(got), err)
		}
	}
	conn.Close()
	s.ends(t, next(t, s.opened), CausePeer)
}

// What a browser sends right behind its handshake, in the same packet and TLS
// record, is the first message.
func TestWSEarlyMessage(t *testing.T) {
	server, client := wssConfigs(t)
	for _, early := range []string{"OPTIONS", strings.Repeat("y", 50_000)} {
		for _, secure := range []*tls.Config{nil, server} {
			s := startWS(t, WSConfig{}, secure)
			conn, err := net.Dial("tcp", s.addr)
			if err != nil {
				t.Fatal(err)
			}
			if secure != nil {
				conn = tls.Client(conn, client)
			}
			p := &wsPeer{conn, t, bufio.NewReader(conn)}
			p.raw(append([]byte(handshake()), text(early)...))
			if got := next(t, s.messages); got != early {
				t.Errorf("got %.100q", got)
			}
			p.response()
			c := next(t, s.opened)
			c.Close(ws.StatusNormalClosure, "")
			p.wantsClose(ws.StatusNormalClosure)
			p.raw(frame(ws.OpClose, true, "\x03\xe8"))
			p.wantsEnd()
			s.ends(t, c, CauseLocal)
		}
	}
}

func TestWSOtherPaths(t *testing.T) {
	s := startWS(t, WSConfig{}, nil)
	for _, path := range []string{"/", "/ws/", "/wss", "/WS"} {
		resp, err := http.Get("http://" + s.addr + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusNotFound {
			t.Errorf("%s: %s", path, resp.Status)
		}
	}
	none(t, "refused", s.refused)

	page := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Write(bytes.Repeat([]byte("page "), 1<<20)) // more than any socket buffer
	})
	s = startWS(t, WSConfig{Other: page}, nil)
	resp, err := http.Get("http://" + s.addr + "/phone")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if n, err := io.Copy(io.Discard, resp.Body); n != 5<<20 || err != nil {
		t.Errorf("Other: %d bytes, %v", n, err)
	}
}
