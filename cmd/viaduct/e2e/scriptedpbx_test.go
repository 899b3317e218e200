package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// A ScriptedPBX is a PBX on TCP that a test plays by hand. It answers OPTIONS
// and lets everybody register by itself.
type ScriptedPBX struct {
	TCP netip.AddrPort

	// Messages has every message that viaduct sent, on all connections.
	Messages *Stream[ScriptedMessage]

	listener *net.TCPListener
	running  sync.WaitGroup
	mu       sync.Mutex
	open     map[*PBXConn]bool
}

// ScriptedMessage is a message that reached a ScriptedPBX.
type ScriptedMessage struct {
	Message
	Conn *PBXConn // that it came by
}

// startScriptedPBX listens on loopback until the test ends.
func startScriptedPBX(t testing.TB) *ScriptedPBX {
	t.Helper()
	return startScriptedPBXAt(t, loopback.IP)
}

// startScriptedPBXAt is startScriptedPBX at another address of the machine.
func startScriptedPBXAt(t testing.TB, ip netip.Addr) *ScriptedPBX {
	t.Helper()
	listener, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(netip.AddrPortFrom(ip, 0)))
	if err != nil {
		t.Fatalf("scripted PBX: %v", err)
	}
	pbx := &ScriptedPBX{
		TCP:      listener.Addr().(*net.TCPAddr).AddrPort(),
		Messages: NewStream[ScriptedMessage](), listener: listener, open: map[*PBXConn]bool{},
	}
	pbx.running.Go(pbx.accept)
	t.Cleanup(func() {
		pbx.Close()
		if t.Failed() {
			for _, m := range pbx.Messages.All() {
				t.Logf("→ pbx (%s)  %s", m.Conn.tcp.RemoteAddr(), m)
			}
		}
	})
	return pbx
}

// Close ends the PBX and its connections, if it has not ended yet.
func (p *ScriptedPBX) Close() {
	_ = p.listener.Close()
	p.mu.Lock()
	for c := range p.open {
		_ = c.tcp.Close()
	}
	p.mu.Unlock()
	p.running.Wait()
}

// Upstream is the PBX as viaduct's --upstream names it.
func (p *ScriptedPBX) Upstream() string { return fmt.Sprintf("sip:%s;transport=tcp", p.TCP) }

// Dial opens a connection of the PBX's own.
func (p *ScriptedPBX) Dial(t testing.TB, to netip.AddrPort) *PBXConn {
	t.Helper()
	tcp, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(to))
	if err != nil {
		t.Fatalf("scripted PBX: %v", err)
	}
	return p.serve(tcp)
}

// WaitReceived waits for a message that reached the PBX.
func (p *ScriptedPBX) WaitReceived(t testing.TB, what string, match func(Message) bool) ScriptedMessage {
	t.Helper()
	return p.Messages.WaitFor(t, what+" at the PBX", func(m ScriptedMessage) bool { return match(m.Message) })
}

func (p *ScriptedPBX) accept() {
	for {
		tcp, err := p.listener.AcceptTCP()
		if err != nil {
			return
		}
		p.serve(tcp)
	}
}

func (p *ScriptedPBX) serve(tcp *net.TCPConn) *PBXConn {
	c := &PBXConn{pbx: p, tcp: tcp, ended: make(chan struct{})}
	p.mu.Lock()
	p.open[c] = true
	p.mu.Unlock()
	p.running.Go(c.read)
	return c
}

// A PBXConn is one TCP connection of a ScriptedPBX.
type PBXConn struct {
	pbx   *ScriptedPBX
	tcp   *net.TCPConn
	ended chan struct{} // closed when nothing can be received any more
}

// Send sends one message.
func (c *PBXConn) Send(t testing.TB, message string) {
	t.Helper()
	if _, err := io.WriteString(c.tcp, message); err != nil {
		t.Fatalf("scripted PBX: %v", err)
	}
}

// Close ends the connection and returns when it has ended.
func (c *PBXConn) Close() {
	_ = c.tcp.Close()
	<-c.ended
}

func (c *PBXConn) read() {
	defer close(c.ended)
	lines := bufio.NewReader(c.tcp)
	for {
		raw, err := readFramed(lines)
		if err != nil {
			return
		}
		m := newMessage(raw)
		c.pbx.Messages.Add(ScriptedMessage{m, c})
		if m.Request("OPTIONS") || m.Request("REGISTER") {
			_, _ = io.WriteString(c.tcp, responseTo(m, "200 OK", "Contact: "+m.Header("Contact")))
		}
	}
}

// readFramed reads one message of a stream: RFC 3261 18.3.
func readFramed(lines *bufio.Reader) (string, error) {
	var head strings.Builder
	length := 0
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return "", err
		}
		if line == "\r\n" && head.Len() == 0 {
			continue // a keep-alive
		}
		head.WriteString(line)
		if line == "\r\n" {
			break
		}
		if name, value, _ := strings.Cut(line, ":"); strings.EqualFold(strings.TrimSpace(name), "Content-Length") {
			if length, err = strconv.Atoi(strings.TrimSpace(value)); err != nil {
				return "", err
			}
		}
	}
	body := make([]byte, length)
	_, err := io.ReadFull(lines, body)
	return head.String() + string(body), err
}

// responseTo is the response to a request, without a body.
func responseTo(request Message, status string, headers ...string) string {
	lines := []string{"SIP/2.0 " + status}
	for _, via := range request.Headers("Via") {
		lines = append(lines, "Via: "+via)
	}
	for _, name := range []string{"From", "To", "Call-ID", "CSeq"} {
		lines = append(lines, name+": "+request.Header(name))
	}
	lines = append(append(lines, headers...), "Content-Length: 0", "", "")
	return strings.Join(lines, "\r\n")
}
