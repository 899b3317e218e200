package gateway

import (
	"bytes"
	"fmt"
	"net"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// engine is a real rtpengine.
type engine struct {
	t    testing.TB
	addr string // of its ng port
	cmd  *exec.Cmd

	exited chan struct{}
}

// newEngine starts one that answers.
func newEngine(t testing.TB) *engine {
	t.Helper()
	conn, err := net.ListenPacket("udp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := &engine{t: t, addr: conn.LocalAddr().String()}
	_ = conn.Close()
	t.Cleanup(e.kill)
	e.start()
	return e
}

func (e *engine) start() {
	e.t.Helper()
	cmd, exited, started := exec.Command("rtpengine", "--config-file=none", "--table=-1", "--interface=127.0.0.1",
		"--listen-ng="+e.addr, "--num-threads=2", "--foreground", "--log-level=3"), make(chan struct{}), make(chan error)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	e.cmd, e.exited = cmd, exited
	go func() {
		defer close(exited)
		runtime.LockOSThread() // Pdeathsig comes when the thread ends that forked
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		e.t.Fatal(err)
	}
	e.t.Helper()
	eventually(e.t, "rtpengine answers", func() bool { return e.ng("d7:command4:pinge") != "" })
}

func (e *engine) kill() {
	_ = e.cmd.Process.Kill()
	<-e.exited
}

// freeze stops it until thaw: it is there, and says nothing.
func (e *engine) freeze() { e.signal(syscall.SIGSTOP) }
func (e *engine) thaw()   { e.signal(syscall.SIGCONT) }

func (e *engine) signal(s syscall.Signal) {
	e.t.Helper()
	if err := e.cmd.Process.Signal(s); err != nil {
		e.t.Fatal(err)
	}
	eventually(e.t, "the signal has come", func() bool { return (e.ng("d7:command4:pinge") == "") == (s == syscall.SIGSTOP) })
}

// ng returns what it answers to a command, nothing if it does not.
func (e *engine) ng(command string) string {
	e.t.Helper()
	conn, err := net.Dial("udp", e.addr)
	if err != nil {
		e.t.Fatal(err)
	}
	defer conn.Close()
	cookie := fmt.Sprint("test", time.Now().UnixNano(), " ")
	_, _ = conn.Write([]byte(cookie + command))
	_ = conn.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
	buf := make([]byte, 65536)
	n, err := conn.Read(buf)
	if err != nil {
		return ""
	}
	return strings.TrimPrefix(string(buf[:n]), cookie)
}

// calls is how many it has.
func (e *engine) calls() int {
	e.t.Helper()
	list, _, _ := strings.Cut(strings.TrimPrefix(e.ng("d7:command4:list5:limiti100ee"), "d5:callsl"), "e6:result")
	calls := 0
	for list != "" {
		digits, rest, _ := strings.Cut(list, ":")
		var length int
		if _, err := fmt.Sscan(digits, &length); err != nil || length > len(rest) {
			e.t.Fatalf("calls %q", list)
		}
		list = rest[length:]
		calls++
	}
	return calls
}

// eventually polls what no event tells of.
func eventually(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(2 * patience); !is(); <-time.After(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not so: %s", what)
		}
	}
}

// mediaLab is a lab with rtpengines, which have no call in the end.
type mediaLab struct {
	*lab
	engines []*engine
}

func newMediaLab(t *testing.T, engines int, options ...func(*Config)) *mediaLab {
	t.Helper()
	l := &mediaLab{lab: preparedLab(t)}
	for range engines {
		e := newEngine(t)
		l.engines = append(l.engines, e)
		l.cfg.RTPEngines = append(l.cfg.RTPEngines, e.addr)
	}
	for _, option := range options {
		option(&l.cfg)
	}
	l.start()
	return l
}

// expectCalls waits until the engines have that many calls together.
func (l *mediaLab) expectCalls(want int) {
	l.t.Helper()
	have := 0
	for deadline := time.Now().Add(patience); ; <-time.After(5 * time.Millisecond) {
		have = 0
		for _, e := range l.engines {
			have += e.calls()
		}
		if have == want {
			return
		}
		if time.Now().After(deadline) {
			l.t.Fatalf("%d calls at the engines, want %d", have, want)
		}
	}
}

// asked is how many offers and answers were made for the other side.
func (l *mediaLab) asked() uint64 { return l.gw.media.bodies[bodyBridged].Load() }

// call is a dialog between a phone and the PBX.
type call struct {
	*mediaLab
	p            *phone
	token        string
	id           string
	browser, pbx string // From and To, each with its tag
	cseq         int
}

// dial makes the call that a browser's INVITE and a response begin.
func (l *mediaLab) dial(p *phone, token string, invite, response sip) *call {
	return &call{mediaLab: l, p: p, token: token, id: invite.get("Call-ID"), browser: response.get("From"), pbx: response.get("To"), cseq: 200}
}

// taken is the same for one of the PBX.
func (l *mediaLab) taken(p *phone, token string, response sip) *call {
	return &call{mediaLab: l, p: p, token: token, id: response.get("Call-ID"), browser: response.get("To"), pbx: response.get("From"), cseq: 200}
}

// ofBrowser and ofPBX make requests in the dialog.
func (c *call) ofBrowser(method string) sip {
	c.cseq++
	req := c.p.request(method, "sip:bob@"+c.lab.pbx.addr()).set("From", c.browser).set("To", c.pbx)
	if method == "INVITE" || method == "UPDATE" {
		req = req.add(fmt.Sprintf("Contact: <%s;ob>", c.p.contact()))
	}
	return req.set("Call-ID", c.id).set("CSeq", fmt.Sprintf("%d %s", c.cseq, method))
}

func (c *call) ofPBX(method string) sip {
	c.cseq++
	return c.lab.pbx.request(method, c.token).set("From", c.pbx).set("To", c.browser).
		set("Call-ID", c.id).set("CSeq", fmt.Sprintf("%d %s", c.cseq, method))
}

// withSDP gives a message a session description.
func (m sip) withSDP(body string) sip { return m.set("Content-Type", "application/sdp").withBody(body) }

const webRTCFingerprint = "a=fingerprint:sha-256 3A:03:A9:1B:E6:3F:FE:6F:65:01:43:CE:5E:71:8E:2A:DC:CA:04:6F:F6:D2:E5:7D:82:74:96:84:21:29:AE:DD"

// webRTC is what a browser offers, or answers to what has that mid.
func webRTC(setup, mid string, more ...string) string {
	return lines(append([]string{"v=0", "o=- 8812 2 IN IP4 127.0.0.1", "s=-", "t=0 0",
		"m=audio 9 UDP/TLS/RTP/SAVPF 8 101", "c=IN IP4 0.0.0.0", "a=rtcp:9 IN IP4 0.0.0.0",
		"a=candidate:1 1 udp 2122260223 127.0.0.1 40404 typ host generation 0",
		"a=ice-ufrag:Xp2l", "a=ice-pwd:0123456789abcdefghijklmn", "a=ice-options:trickle", webRTCFingerprint,
		"a=setup:" + setup, "a=mid:" + mid, "a=rtcp-mux", "a=rtpmap:8 PCMA/8000",
		"a=rtpmap:101 telephone-event/8000", "a=ssrc:77 cname:x"}, more...)...)
}

// plainRTP is an offer or answer of a desk phone.
func plainRTP(port int, more ...string) string {
	return lines(append([]string{"v=0", "o=phone 1 1 IN IP4 127.0.0.1", "s=-", "c=IN IP4 127.0.0.1", "t=0 0",
		fmt.Sprintf("m=audio %d RTP/AVP 8 101", port), "a=rtpmap:8 PCMA/8000", "a=rtpmap:101 telephone-event/8000"}, more...)...)
}

func lines(all ...string) string { return strings.Join(all, "\r\n") + "\r\n" }

// expectPlain checks that a body is for a phone that knows only RTP.
func (l *mediaLab) expectPlain(m sip) sip {
	l.t.Helper()
	l.expectBody(m, []string{" RTP/AVP 8 101"}, []string{"a=ice-ufrag", "a=candidate", "a=fingerprint", "a=rtcp-mux", "SAVPF"})
	return m
}

// expectWebRTC checks that it is for a browser.
func (l *mediaLab) expectWebRTC(m sip) sip {
	l.t.Helper()
	l.expectBody(m, []string{" UDP/TLS/RTP/SAVPF 8 101", "a=ice-ufrag:", "a=candidate:", "a=fingerprint:", "a=setup:", "a=rtcp-mux", "a=mid:"}, []string{" RTP/AVP"})
	return m
}

func (l *mediaLab) expectBody(m sip, has, hasNot []string) {
	l.t.Helper()
	if got, want := m.get("Content-Length"), fmt.Sprint(len(m.body())); got != want {
		l.t.Errorf("Content-Length %s of %s bytes", got, want)
	}
	for _, text := range has {
		if !strings.Contains(m.body(), text) {
			l.t.Errorf("no %q in\n%s", text, m)
		}
	}
	for _, text := range hasNot {
		if strings.Contains(m.body(), text) {
			l.t.Errorf("%q in\n%s", text, m)
		}
	}
}

// expectUntouched checks that a body came as it was sent.
func (l *mediaLab) expectUntouched(got, sent sip) {
	l.t.Helper()
	if got.body() != sent.body() {
		l.t.Errorf("the body\n%s\nbecame\n%s", sent.body(), got.body())
	}
}

// port is that of the first m= line.
func (m sip) port() string { return strings.Fields(m.line("m="))[1] }

// mid is that of the first m= line.
func (m sip) mid() string { return strings.TrimPrefix(m.line("a=mid:"), "a=mid:") }

// line returns the first line of the body that begins so.
func (m sip) line(prefix string) string {
	for line := range bytes.Lines([]byte(m.body())) {
		if bytes.HasPrefix(line, []byte(prefix)) {
			return string(bytes.TrimSpace(line))
		}
	}
	return prefix + " - -"
}
