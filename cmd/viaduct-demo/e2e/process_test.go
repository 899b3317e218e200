package e2e

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A Process is a program with its process group: nothing of it outlives the test.
type Process struct {
	cmd    *exec.Cmd
	exited chan struct{}

	mu    sync.Mutex
	lines []string
	more  chan struct{} // closed and replaced at each line
}

// start runs cmd and records what it says. It is killed when the test ends;
// its output is shown when the test has failed.
func start(t testing.TB, cmd *exec.Cmd) *Process {
	t.Helper()
	output, writer := io.Pipe()
	cmd.Stdout, cmd.Stderr = writer, writer
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatalf("%s: %v", cmd.Path, err)
	}
	p := &Process{cmd: cmd, exited: make(chan struct{}), more: make(chan struct{})}
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines := bufio.NewScanner(output); lines.Scan(); {
			p.add(lines.Text())
		}
	}()
	go func() {
		_ = cmd.Wait() // how it ended is in its output
		writer.Close()
		<-read
		close(p.exited)
	}()
	t.Cleanup(func() {
		p.Kill()
		text := p.Output()
		if t.Failed() {
			t.Logf("output of %s:\n%s", cmd.Path, text)
		}
		for _, trouble := range []string{"DATA RACE", "panic:", "fatal error:"} {
			if strings.Contains(text, trouble) {
				t.Errorf("%s: %s in\n%s", cmd.Path, trouble, text)
			}
		}
	})
	return p
}

func (p *Process) add(line string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.lines = append(p.lines, line)
	close(p.more)
	p.more = make(chan struct{})
}

// Output is everything that was said so far.
func (p *Process) Output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return strings.Join(p.lines, "\n")
}

// WaitLine waits for a line with what in it and returns what follows it there.
func (p *Process) WaitLine(t testing.TB, what string) string {
	t.Helper()
	deadline := time.After(3 * patience)
	for {
		p.mu.Lock()
		more := p.more
		for _, line := range p.lines {
			if _, after, found := strings.Cut(line, what); found {
				p.mu.Unlock()
				return strings.TrimSpace(after)
			}
		}
		p.mu.Unlock()
		select {
		case <-more:
		case <-p.exited:
			t.Fatalf("%s ended without saying %q:\n%s", p.cmd.Path, what, p.Output())
		case <-deadline:
			t.Fatalf("%s does not say %q:\n%s", p.cmd.Path, what, p.Output())
		}
	}
}

// Kill ends the program at once, by SIGKILL.
func (p *Process) Kill() {
	select {
	case <-p.exited:
		return
	default:
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.exited
}

// A Demo is a running viaduct-demo.
type Demo struct {
	*Process
	Page string // the phone page's URL
	PBX  string // the PBX's URI
}

// startDemo starts the built demo with flags, on free ports unless they say otherwise.
func startDemo(t testing.TB, flags ...string) *Demo {
	t.Helper()
	args := append([]string{"--listen=127.0.0.1:0", "--log-level=info"}, flags...)
	d := &Demo{Process: start(t, exec.Command(demoBinary, args...))}
	d.Page = d.WaitLine(t, "Phone ")
	d.PBX = d.WaitLine(t, "PBX ")
	return d
}

// freePort is a port of loopback that is free for UDP and TCP.
func freePort(t testing.TB) string {
	t.Helper()
	for range 100 {
		packets, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		addr := packets.LocalAddr().String()
		listener, err := net.Listen("tcp", addr)
		packets.Close()
		if err == nil {
			listener.Close()
			return addr
		}
	}
	t.Fatal("no port is free for both UDP and TCP")
	return ""
}

// startKamailio starts the PBX of viaduct's own tests and returns its address.
// Its accounts are alice, bob and carol @pbx.test.
func startKamailio(t testing.TB) string {
	t.Helper()
	addr, dir := freePort(t), t.TempDir()
	kamailio := start(t, exec.Command("kamailio",
		"-f", "../../viaduct/e2e/testdata/kamailio.cfg", "-DD", "-E", "-m", "64", "-M", "8", "-w", dir, "-Y", dir,
		"-A", "LISTEN_UDP=udp:"+addr, "-A", "LISTEN_TCP=tcp:"+addr, "-A", "PEERS=127.0.0.1",
		"-A", fmt.Sprintf("HEP=%q", "sip:127.0.0.1:9"), // nobody listens
	))
	kamailio.WaitLine(t, "PBX ready")
	return addr
}
