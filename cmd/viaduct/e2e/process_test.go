package e2e

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// A Host is where a peer runs: its IP address and, when that is not the
// machine's own, the network namespace that has it.
type Host struct {
	IP        netip.Addr
	Namespace string // name for ip netns; empty for the machine's own

	// Harness is the address at which programs on this host reach the test.
	Harness netip.Addr

	// ResolvConf is what programs on this host read for /etc/resolv.conf; empty
	// for the machine's own. It needs a namespace.
	ResolvConf string
}

// loopback is the host of every peer of a test without namespaces.
var loopback = Host{IP: netip.MustParseAddr("127.0.0.1"), Harness: netip.MustParseAddr("127.0.0.1")}

// command prepares a program to run on h.
func (h Host) command(program string, args ...string) *exec.Cmd {
	if h.Namespace == "" {
		return exec.Command(program, args...)
	}
	run := []string{"netns", "exec", h.Namespace}
	if h.ResolvConf != "" {
		// ip netns exec gives the program mounts of its own.
		run = append(run, "sh", "-c", `mount --bind "$0" /etc/resolv.conf && exec "$@"`, h.ResolvConf)
	}
	return exec.Command("ip", append(append(run, program), args...)...)
}

// claimedPorts keeps one test run from handing out a port twice.
var claimedPorts sync.Map

// Ports that peers are given are above those of the media, and below those that the kernel hands out to
// whoever connects, and even: baresip takes the next one too, for TLS.
const (
	firstPort = 30_000
	portPairs = 1_300
)

// freePort finds a port that is free for UDP and TCP, and the next one too, for
// peers that cannot be told to take any port and say which.
func (h Host) freePort(t testing.TB) netip.AddrPort {
	t.Helper()
	bindable := h.IP
	if h.Namespace != "" {
		bindable = loopback.IP
	}
	for range 100 {
		port := uint16(firstPort + 2*rand.IntN(portPairs))
		if !isFree(bindable, port) || !isFree(bindable, port+1) {
			continue
		}
		if _, taken := claimedPorts.LoadOrStore(port, true); !taken {
			return netip.AddrPortFrom(h.IP, port)
		}
	}
	t.Fatal("no port is free for both UDP and TCP")
	return netip.AddrPort{}
}

func isFree(ip netip.Addr, port uint16) bool {
	at := netip.AddrPortFrom(ip, port)
	listener, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
	if err != nil {
		return false
	}
	defer listener.Close()
	packets, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		return false
	}
	_ = packets.Close()
	return true
}

// A Process is a peer's program, with its process group: nothing of it outlives
// the test.
type Process struct {
	Name   string
	Output *Stream[string] // lines of standard output and error

	cmd    *exec.Cmd
	exited chan struct{} // closed once the program has ended and its output is read
	err    error         // how it ended; read after exited
}

// startProcess runs cmd and records its output. It is killed when the test
// ends; the output of a failed test is shown.
func startProcess(t testing.TB, name string, cmd *exec.Cmd) *Process {
	t.Helper()
	output, writer, err := os.Pipe()
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	cmd.Stdout, cmd.Stderr = writer, writer
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid, cmd.SysProcAttr.Pdeathsig = true, syscall.SIGKILL
	if err := forkOnLastingThread(cmd); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	_ = writer.Close()

	p := &Process{Name: name, Output: NewStream[string](), cmd: cmd, exited: make(chan struct{})}
	go p.collect(output)
	t.Cleanup(func() {
		p.Signal(syscall.SIGKILL)
		<-p.exited
		if t.Failed() {
			t.Logf("output of %s:\n%s", name, strings.Join(p.Output.All(), "\n"))
		}
	})
	return p
}

// lastingThread runs functions on one thread that lives as long as the test
// binary.
var lastingThread = sync.OnceValue(func() chan<- func() {
	work := make(chan func())
	go func() {
		runtime.LockOSThread()
		for f := range work {
			f()
		}
	}()
	return work
})

// forkOnLastingThread starts cmd such that its Pdeathsig comes when the test
// binary dies (by a timeout, say) and not before: Linux sends it when the
// thread that forked ends.
func forkOnLastingThread(cmd *exec.Cmd) error {
	started := make(chan error)
	lastingThread() <- func() { started <- cmd.Start() }
	return <-started
}

// collect reads the output to its end, which the exit of the whole group brings.
func (p *Process) collect(output *os.File) {
	defer close(p.exited)
	lines := bufio.NewReader(output)
	for {
		line, err := lines.ReadString('\n')
		if line != "" {
			p.Output.Add(strings.TrimRight(line, "\r\n"))
		}
		if err != nil {
			break
		}
	}
	_ = output.Close()
	p.err = p.cmd.Wait()
	p.Output.End(fmt.Errorf("%s has ended: %v", p.Name, p.cmd.ProcessState))
}

// Signal sends sig to the program and everything it started. A program that
// has ended already is no error.
func (p *Process) Signal(sig syscall.Signal) {
	select {
	case <-p.exited:
	default:
		_ = syscall.Kill(-p.cmd.Process.Pid, sig)
	}
}
