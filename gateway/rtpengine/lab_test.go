package rtpengine

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

// patience is how long a test waits for an event that takes seconds at most.
const patience = 20 * time.Second

// TestMain checks that no goroutine outlives its client's Run, but for timers
// that have just fired.
func TestMain(m *testing.M) {
	code := m.Run()
	deadline := time.Now().Add(patience)
	for stacks := goroutines(); strings.Contains(stacks, "rtpengine.(*Engine)"); stacks = goroutines() {
		if time.Now().After(deadline) {
			fmt.Println("left behind:\n" + stacks)
			code = 1
			break
		}
		<-time.After(time.Millisecond)
	}
	os.Exit(code)
}

func goroutines() string {
	stacks := make([]byte, 1<<20)
	return string(stacks[:runtime.Stack(stacks, true)])
}

// lab is a client that runs, and leaves no command open.
type lab struct {
	*testing.T
	*Client
	log  *observer.ObservedLogs
	stop func() // ends Run, and waits for it
}

func newLab(t *testing.T, cfg Config) *lab {
	t.Helper()
	core, log := observer.New(zap.InfoLevel)
	cfg.Log = zap.New(core)
	c, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		c.Run(ctx)
	}()
	l := &lab{T: t, Client: c, log: log, stop: func() { cancel(); <-ended }}
	t.Cleanup(func() {
		l.stop()
		if open := c.open.Load(); open != 0 {
			t.Errorf("%d commands are open", open)
		}
	})
	return l
}

// eventually polls what no event tells of.
func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !is(); <-time.After(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not so: %s\n%s", what, goroutines())
		}
	}
}

// outcome is what a command ended with.
type outcome struct {
	Answer
	err  error
	took time.Duration
}

// begin asks, and returns where the one outcome comes.
func (l *lab) begin(e *Engine, cmd Command) <-chan outcome {
	begun, done := time.Now(), make(chan outcome, 2)
	l.Ask(e, cmd, func(a Answer, err error) { done <- outcome{a, err, time.Since(begun)} })
	return done
}

func (l *lab) end(done <-chan outcome) outcome {
	l.Helper()
	select {
	case o := <-done:
		return o
	case <-time.After(patience):
		l.Fatal("no outcome")
		return outcome{}
	}
}

// ask asks and waits.
func (l *lab) ask(e *Engine, cmd Command) outcome {
	l.Helper()
	return l.end(l.begin(e, cmd))
}

// must asks for what is to succeed.
func (l *lab) must(e *Engine, cmd Command) Answer {
	l.Helper()
	o := l.ask(e, cmd)
	if o.err != nil {
		l.Fatalf("%v: %v", cmd.Kind, o.err)
	}
	return o.Answer
}

// state waits until an engine is up or down.
func (l *lab) state(e *Engine, up bool) {
	l.Helper()
	eventually(l.T, fmt.Sprintf("%v is up: %v", e, up), func() bool { return e.healthy() == up })
}

// daemon is a real rtpengine.
type daemon struct {
	t    *testing.T
	addr string // of its ng port
	cmd  *exec.Cmd

	mu     sync.Mutex
	output bytes.Buffer
	exited chan struct{}
}

// newDaemon starts one that answers pings.
func newDaemon(t *testing.T) *daemon {
	t.Helper()
	d := &daemon{t: t, addr: freePort(t)}
	t.Cleanup(func() {
		d.kill()
		if t.Failed() {
			text := d.text()
			t.Logf("rtpengine %s, the end of it:\n%s", d.addr, text[max(0, len(text)-10_000):])
		}
	})
	d.start()
	return d
}

func (d *daemon) start() {
	d.t.Helper()
	d.cmd = exec.Command("rtpengine", "--config-file=none", "--table=-1", "--interface=127.0.0.1",
		"--listen-ng="+d.addr, "--num-threads=2", "--foreground", "--log-stderr")
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	output, err := d.cmd.StderrPipe()
	if err != nil {
		d.t.Fatal(err)
	}
	exited := make(chan struct{})
	d.exited = exited
	started := make(chan error)
	go func() {
		defer close(exited)
		runtime.LockOSThread() // Pdeathsig comes when the thread ends that forked
		err := d.cmd.Start()
		started <- err
		if err == nil {
			d.collect(output)
			_ = d.cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		d.t.Fatal(err)
	}
	d.awaitPong()
}

// awaitPong returns when the daemon answers.
func (d *daemon) awaitPong() {
	d.t.Helper()
	conn, err := net.Dial("udp", d.addr)
	if err != nil {
		d.t.Fatal(err)
	}
	defer conn.Close()
	eventually(d.t, d.addr+" answers", func() bool {
		_, _ = conn.Write([]byte("hello d7:command4:pinge"))
		_ = conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
		_, err := conn.Read(make([]byte, 100))
		return err == nil
	})
}

func (d *daemon) collect(output io.Reader) {
	for lines := bufio.NewScanner(output); lines.Scan(); {
		d.mu.Lock()
		d.output.WriteString(lines.Text() + "\n")
		d.mu.Unlock()
	}
}

func (d *daemon) text() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.output.String()
}

// said counts how often the log has a text.
func (d *daemon) said(text string) int { return strings.Count(d.text(), text) }

func (d *daemon) signal(s os.Signal) {
	d.t.Helper()
	if err := d.cmd.Process.Signal(s); err != nil {
		d.t.Fatal(err)
	}
}

// freeze stops every thread, as a machine does that hangs.
func (d *daemon) freeze() {
	d.t.Helper()
	d.signal(syscall.SIGSTOP)
	eventually(d.t, d.addr+" stands still", func() bool {
		threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", d.cmd.Process.Pid))
		return !slices.ContainsFunc(threads, func(file string) bool {
			stat, _ := os.ReadFile(file)
			return !bytes.Contains(stat, []byte(") T "))
		})
	})
}

func (d *daemon) kill() {
	if d.cmd == nil || d.cmd.Process == nil {
		return
	}
	_ = d.cmd.Process.Kill()
	<-d.exited
}

// freePort returns a loopback address that nobody listens on.
func freePort(t *testing.T) string {
	t.Helper()
	conn := listen(t)
	defer conn.Close()
	return conn.LocalAddr().String()
}

func listen(t *testing.T) *net.UDPConn {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn
}

// bodies.

// chromium returns the offer of a real browser.
func chromium(t *testing.T) []byte {
	t.Helper()
	invite, err := os.ReadFile("../../rewrite/testdata/jssip-invite.txt")
	if err != nil {
		t.Fatal(err)
	}
	_, text, found := strings.Cut(string(invite), "\n\n")
	if !found {
		t.Fatal("no body")
	}
	return body(strings.Split(strings.TrimSuffix(text, "\n"), "\n")...)
}

const fingerprint = "a=fingerprint:sha-256 3A:03:A9:1B:E6:3F:FE:6F:65:01:43:CE:5E:71:8E:2A:DC:CA:04:6F:F6:D2:E5:7D:82:74:96:84:21:29:AE:DD"

// chromiumAnswer is what a browser answers to one audio stream.
func chromiumAnswer(mid string) []byte {
	return body("v=0", "o=- 8812 2 IN IP4 127.0.0.1", "s=-", "t=0 0", "a=msid-semantic: WMS",
		"m=audio 9 UDP/TLS/RTP/SAVPF 8 101", "c=IN IP4 0.0.0.0", "a=rtcp:9 IN IP4 0.0.0.0",
		"a=candidate:1 1 udp 2122260223 127.0.0.1 40404 typ host generation 0",
		"a=ice-ufrag:Xp2l", "a=ice-pwd:0123456789abcdefghijklmn", "a=ice-options:trickle", fingerprint,
		"a=setup:active", "a=mid:"+mid, "a=sendrecv", "a=rtcp-mux", "a=rtpmap:8 PCMA/8000",
		"a=rtpmap:101 telephone-event/8000", "a=ssrc:77 cname:x")
}

// plain is an offer or answer of a desk phone, with its number for RFC 4733.
func plain(dtmf int) []byte {
	return body("v=0", "o=phone 1 1 IN IP4 127.0.0.1", "s=-", "c=IN IP4 127.0.0.1", "t=0 0",
		fmt.Sprintf("m=audio 40000 RTP/AVP 8 %d", dtmf), "a=rtpmap:8 PCMA/8000",
		fmt.Sprintf("a=rtpmap:%d telephone-event/8000", dtmf), "a=sendrecv")
}

func body(lines ...string) []byte { return []byte(strings.Join(lines, "\r\n") + "\r\n") }

// line returns the first line of a body that begins so.
func line(sdp []byte, prefix string) string {
	for l := range strings.Lines(string(sdp)) {
		if strings.HasPrefix(l, prefix) {
			return strings.TrimRight(l, "\r\n")
		}
	}
	return ""
}

// expectLines checks which beginnings of lines a body has and has not.
func expectLines(t *testing.T, sdp []byte, has, hasNot []string) {
	t.Helper()
	for _, prefix := range has {
		if line(sdp, prefix) == "" {
			t.Errorf("no %q in\n%s", prefix, sdp)
		}
	}
	for _, prefix := range hasNot {
		if line(sdp, prefix) != "" {
			t.Errorf("%q in\n%s", prefix, sdp)
		}
	}
}
