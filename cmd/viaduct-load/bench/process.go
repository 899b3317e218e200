//go:build linux

package bench

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Listening begins the line in which a role of viaduct-load says where it
// listens.
const Listening = "listening "

// A process is one that the bench started.
type process struct {
	name   string
	cmd    *exec.Cmd
	lines  chan string // of its output, while somebody waits for one
	ended  chan struct{}
	output tail
}

// tail keeps the end of what a process said.
type tail struct {
	mu   sync.Mutex
	text []byte
}

const tailSize = 4 << 10

func (t *tail) Write(line []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, line...)
	t.text = t.text[max(len(t.text)-tailSize, 0):]
	return len(line), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return strings.TrimSpace(string(t.text))
}

// startPatience is how long a server may take to serve.
const startPatience = 20 * time.Second

// start runs a program until the bench stops it.
func start(ctx context.Context, name, program string, args ...string) (*process, error) {
	return startIn(ctx, name, nil, program, args...)
}

// startIn is start with additions to the environment.
func startIn(ctx context.Context, name string, env []string, program string, args ...string) (*process, error) {
	p := &process{name: name, cmd: exec.CommandContext(ctx, program, args...), lines: make(chan string, 64), ended: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	// A group of its own, so that all of it can be ended; and it does not
	// outlive the bench.
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	p.cmd.Cancel = func() error { return syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) }
	read, write := io.Pipe()
	p.cmd.Stdout, p.cmd.Stderr = write, write
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	go func() {
		lines := bufio.NewScanner(read)
		for lines.Scan() {
			_, _ = p.output.Write(append(lines.Bytes(), '\n'))
			select {
			case p.lines <- lines.Text():
			default:
			}
		}
	}()
	go func() {
		_ = p.cmd.Wait()
		_ = write.Close()
		close(p.ended)
	}()
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// alive tells that the process has not ended.
func (p *process) alive() error {
	select {
	case <-p.ended:
		return fmt.Errorf("%s ended: %v %s", p.name, p.cmd.ProcessState, p.output.String())
	default:
		return nil
	}
}

// stop ends the process and its descendants.
func (p *process) stop() {
	_ = syscall.Kill(-p.pid(), syscall.SIGTERM)
	select {
	case <-p.ended:
	case <-time.After(3 * time.Second):
	}
	_ = syscall.Kill(-p.pid(), syscall.SIGKILL)
	<-p.ended
}

// line waits for a line that begins with prefix, and returns the rest of it.
func (p *process) line(prefix string) (string, error) {
	patience := time.After(startPatience)
	for {
		select {
		case line := <-p.lines:
			if rest, ok := strings.CutPrefix(line, prefix); ok {
				return rest, nil
			}
		case <-p.ended:
			return "", fmt.Errorf("%s ended: %s", p.name, p.output.String())
		case <-patience:
			return "", fmt.Errorf("%s does not serve: %s", p.name, p.output.String())
		}
	}
}

// role starts this program in another of its roles and returns where it listens.
func role(ctx context.Context, name string, args ...string) (*process, netip.AddrPort, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	p, err := start(ctx, name, self, args...)
	if err != nil {
		return nil, netip.AddrPort{}, err
	}
	text, err := p.line(Listening)
	if err != nil {
		p.stop()
		return nil, netip.AddrPort{}, err
	}
	addr, err := netip.ParseAddrPort(text)
	return p, addr, err
}
