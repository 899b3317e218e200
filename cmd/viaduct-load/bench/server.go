//go:build linux

package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"viaduct/cmd/viaduct-load/socket"
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

// A server is one that relays between browsers and the answering end.
type server struct {
	name    string
	process *process
	addr    netip.AddrPort // WebSocket
	path    string
	loose   bool           // it may add parameters to a browser's own Via
	admin   netip.AddrPort // viaduct's, else zero
}

// startNull starts the relay that does nothing.
func (b *bench) startNull(ctx context.Context, leg leg) (*server, error) {
	args := []string{"null", "--upstream=" + b.answerer.String()}
	if leg == tcp {
		args = append(args, "--tcp")
	}
	p, addr, err := role(ctx, "null", args...)
	if err != nil {
		return nil, err
	}
	return &server{name: "null", process: p, addr: addr, path: "/ws"}, nil
}

// transactions are what --max-transactions is set to: the ACK of a 2xx is kept
// for 32 seconds (RFC 6026), so that calls as fast as they go need more than the
// default.
const transactions = 1_000_000

// startViaduct starts viaduct as it would run, with its log at warn.
func (b *bench) startViaduct(ctx context.Context, leg leg) (*server, error) {
	listen, err := freePort()
	if err != nil {
		return nil, err
	}
	sip, err := freePort()
	if err != nil {
		return nil, err
	}
	admin, err := freePort()
	if err != nil {
		return nil, err
	}
	args := []string{
		"--listen=" + listen.String(), "--sip-listen=" + sip.String(), "--admin=" + admin.String(),
		fmt.Sprintf("--upstream=sip:%s;transport=%s", b.answerer, leg),
		"--token-key-file=" + filepath.Join(b.dir, "token.key"),
		"--log-level=warn", "--drain-timeout=1ms",
		fmt.Sprintf("--max-transactions=%d", transactions), fmt.Sprintf("--max-transaction-memory=%d", 1<<30),
	}
	if limitsRate(b.cfg.Viaduct) {
		args = append(args, "--rate=0") // a load is faster than any browser
	}
	p, err := startIn(ctx, "viaduct", b.viaductEnv, b.cfg.Viaduct, args...)
	if err != nil {
		return nil, err
	}
	s := &server{name: "viaduct", process: p, addr: listen, path: "/ws", admin: admin}
	if err := s.wait(ctx); err != nil {
		p.stop()
		return nil, err
	}
	return s, nil
}

// limitsRate tells whether the binary has --rate. One of before it can be
// measured too.
func limitsRate(binary string) bool {
	help, _ := exec.Command(binary, "--help").Output()
	return bytes.Contains(help, []byte("--rate="))
}

// wait waits until the server takes connections.
func (s *server) wait(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if s.answers() {
			return nil
		}
		select {
		case <-tick.C:
		case <-s.process.ended:
			return fmt.Errorf("%s ended: %s", s.name, s.process.output.String())
		case <-ctx.Done():
			return fmt.Errorf("%s does not serve: %s", s.name, s.process.output.String())
		}
	}
}

// answers tries one handshake.
func (s *server) answers() bool {
	fd, _, err := socket.DialTCP(netip.AddrPortFrom(s.addr.Addr(), 0), s.addr)
	if err != nil {
		return false
	}
	defer closeFD(fd)
	if s.admin.IsValid() && !s.ready() {
		return false
	}
	return socket.Handshake(fd, s.addr, s.path) == nil
}

// freePort finds a port of loopback that nobody uses, for TCP and UDP.
func freePort() (netip.AddrPort, error) {
	any := netip.MustParseAddrPort("127.0.0.1:0")
	for range 10 {
		fd, addr, err := socket.ListenTCP(any)
		if err != nil {
			return addr, err
		}
		other, _, err := socket.ListenUDP(addr)
		closeFD(fd)
		if err == nil {
			closeFD(other)
			return addr, nil
		}
	}
	return netip.AddrPort{}, errors.New("no free port")
}
