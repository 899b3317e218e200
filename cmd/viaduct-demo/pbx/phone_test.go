package pbx

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ghettovoice/gosip/sip"
	"github.com/ghettovoice/gosip/sip/parser"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"
)

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

var quick = pauses{answer: time.Minute, talk: 50 * time.Millisecond, callBack: 10 * time.Millisecond, bye: 50 * time.Millisecond, call: time.Hour}

func startPBX(t *testing.T, pauses pauses) *PBX {
	t.Helper()
	p, err := start(context.Background(), Config{
		Listen:   "127.0.0.1:0",
		Accounts: []Account{{"alice", "a-secret"}, {"bob", "b-secret"}},
		Log:      zaptest.NewLogger(t),
	}, pauses)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Close()
		noGoroutines(t)
	})
	return p
}

// noGoroutines fails the test if something of the PBX still runs.
func noGoroutines(t *testing.T) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		left := ofPBX()
		if left == "" {
			return
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("goroutines left after Close:\n%s", left)
		}
	}
}

func ofPBX() string {
	stacks := make([]byte, 1<<20)
	stacks = stacks[:runtime.Stack(stacks, true)]
	var left []string
	for i, stack := range strings.Split(string(stacks), "\n\n") {
		ours := strings.Contains(stack, "/gosip") || strings.Contains(stack, "/pion/") || strings.Contains(stack, "pbx.(*PBX)")
		if i > 0 && ours {
			left = append(left, stack)
		}
	}
	return strings.Join(left, "\n\n")
}

// A phone is a SIP client that does what the test says, message by message.
type phone struct {
	t        *testing.T
	user     string
	password string
	pbx      string
	udp      *net.UDPConn
	addr     string
	heard    chan heard
	seen     map[string]bool
}

// A heard is a message that came in, and the way an answer goes.
type heard struct {
	sip.Message
	raw   string
	by    string
	reply io.Writer
}

func newPhone(t *testing.T, p *PBX, user string) *phone {
	t.Helper()
	udp, tcp := bothSockets(t)
	password := map[string]string{"alice": "a-secret", "bob": "b-secret"}[user]
	ph := &phone{
		t: t, user: user, password: password, pbx: p.Addr(), udp: udp, addr: udp.LocalAddr().String(),
		heard: make(chan heard, 256), seen: map[string]bool{},
	}
	t.Cleanup(func() { udp.Close(); tcp.Close() })
	go ph.listenUDP()
	go ph.listenTCP(tcp)
	return ph
}

func bothSockets(t *testing.T) (*net.UDPConn, net.Listener) {
	for range attempts {
		tcp, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(tcp.Addr().(*net.TCPAddr).AddrPort()))
		if err == nil {
			return udp, tcp
		}
		tcp.Close()
	}
	t.Fatal("no port is free on UDP and TCP")
	return nil, nil
}

type udpReply struct {
	conn *net.UDPConn
	to   net.Addr
}

func (r udpReply) Write(msg []byte) (int, error) { return r.conn.WriteTo(msg, r.to) }

func (ph *phone) listenUDP() {
	buf := make([]byte, 65536)
	for {
		n, from, err := ph.udp.ReadFrom(buf)
		if err != nil {
			return
		}
		ph.hear(buf[:n], "UDP", udpReply{ph.udp, from})
	}
}

func (ph *phone) listenTCP(tcp net.Listener) {
	for {
		conn, err := tcp.Accept()
		if err != nil {
			return
		}
		go ph.readTCP(conn)
	}
}

func (ph *phone) readTCP(conn net.Conn) {
	defer conn.Close()
	stop := context.AfterFunc(ph.t.Context(), func() { conn.Close() })
	defer stop()
	for reader := bufio.NewReader(conn); ; {
		var msg strings.Builder
		for {
			line, err := reader.ReadString('\n')
			if err != nil {
				return
			}
			msg.WriteString(line)
			if line == "\r\n" {
				break
			}
		}
		_, header, _ := strings.Cut(msg.String(), "\r\n")
		fields, err := textproto.NewReader(bufio.NewReader(strings.NewReader(header))).ReadMIMEHeader()
		if err != nil {
			return
		}
		length, err := strconv.Atoi(fields.Get("Content-Length"))
		if err != nil {
			return
		}
		body := make([]byte, length)
		if _, err := io.ReadFull(reader, body); err != nil {
			return
		}
		ph.hear([]byte(msg.String()+string(body)), "TCP", conn)
	}
}

func (ph *phone) hear(raw []byte, by string, reply io.Writer) {
	msg, err := parser.ParseMessage(raw, newGosipLog(zap.NewNop()))
	if err != nil {
		ph.t.Errorf("%s got what is no SIP: %v\n%s", ph.user, err, raw)
		return
	}
	ph.heard <- heard{msg, string(raw), by, reply}
}

// kind is a method, or a status and the method it answers.
func (h heard) kind() string {
	if req, ok := h.Message.(sip.Request); ok {
		return string(req.Method())
	}
	seq, _ := h.CSeq()
	return fmt.Sprintf("%d %s", h.Message.(sip.Response).StatusCode(), seq.MethodName)
}

// next returns the next message but 100; want is what the test waits for.
func (ph *phone) next(want string) heard {
	ph.t.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		select {
		case h := <-ph.heard:
			if !strings.HasPrefix(h.kind(), "100 ") {
				return h
			}
		case <-timeout.C:
			ph.t.Fatalf("%s did not get %s", ph.user, want)
		}
	}
}

// expect returns the next message, which must be of kind want. A repeated one
// is passed over.
func (ph *phone) expect(want string) heard {
	ph.t.Helper()
	for {
		h := ph.next(want)
		hop, _ := h.ViaHop()
		id := fmt.Sprint(h.kind(), hop, seqOf(h))
		if ph.seen[id] {
			continue
		}
		ph.seen[id] = true
		if h.kind() != want {
			ph.t.Fatalf("%s got %s, expected %s:\n%s", ph.user, h.kind(), want, h)
		}
		return h
	}
}

// expectAgain returns when a message of kind want is repeated.
func (ph *phone) expectAgain(want string) {
	ph.t.Helper()
	for ph.next(want+" again").kind() != want {
	}
}

// answer sends a response to a request that came in.
func (ph *phone) answer(h heard, status int, reason, body string, headers ...string) {
	ph.t.Helper()
	res := sip.NewResponseFromRequest("", h.Message.(sip.Request), sip.StatusCode(status), reason, "")
	to, _ := res.To()
	if !to.Params.Has("tag") && status > 100 {
		to.Params.Add("tag", sip.String{Str: "tag-of-" + ph.user})
	}
	head, _, _ := strings.Cut(res.String(), "Content-Length")
	text := head + strings.Join(ph.addressed(headers, body), "")
	if _, err := io.WriteString(h.reply, text+body); err != nil {
		ph.t.Fatal(err)
	}
}

// addressed ends a message's head. The phone's own Contact is in it unless
// headers have one.
func (ph *phone) addressed(headers []string, body string) []string {
	all := strings.Join(headers, "\n")
	var lines []string
	if !strings.Contains(all, "Contact:") {
		lines = append(lines, fmt.Sprintf("Contact: <sip:%s@%s>\r\n", ph.user, ph.addr))
	}
	for _, header := range headers {
		lines = append(lines, header+"\r\n")
	}
	if body != "" && !strings.Contains(all, "Content-Type:") {
		lines = append(lines, "Content-Type: application/sdp\r\n")
	}
	return append(lines, fmt.Sprintf("Content-Length: %d\r\n\r\n", len(body)))
}
