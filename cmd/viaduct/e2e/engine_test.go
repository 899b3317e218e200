package e2e

import (
	"crypto/rand"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// A MediaEngine is an rtpengine without kernel module, on loopback. It can be
// killed and started again at the same address.
type MediaEngine struct {
	NG netip.AddrPort // where it takes commands

	// Commands is where viaduct sends them: NG, unless something is in between.
	Commands netip.AddrPort

	program []string
	process *Process
}

// Each engine has ports of its own for media, below those that the system hands
// out, and goes round where others have them.
const (
	mediaPorts      = 20000
	mediaPortsEnd   = 30000
	portsEachEngine = 200
)

var enginesStarted atomic.Int32

// startMediaEngine starts an engine and returns when it takes commands.
func startMediaEngine(t testing.TB) *MediaEngine {
	t.Helper()
	return startMediaEngineOn(t, loopback.IP.String())
}

// startMediaEngineOn is startMediaEngine with these interfaces for media, as
// rtpengine's --interface has them.
func startMediaEngineOn(t testing.TB, interfaces ...string) *MediaEngine {
	t.Helper()
	nth := int(enginesStarted.Add(1)) - 1
	ports := mediaPorts + nth*portsEachEngine%(mediaPortsEnd-mediaPorts)
	e := &MediaEngine{NG: loopback.freePort(t)}
	e.Commands = e.NG
	e.program = []string{
		"rtpengine", "--config-file=none", "--table=-1", "--foreground", "--log-stderr", "--num-threads=2",
		"--listen-ng=" + e.NG.String(),
		fmt.Sprintf("--port-min=%d", ports), fmt.Sprintf("--port-max=%d", ports+portsEachEngine-1),
	}
	for _, one := range interfaces {
		e.program = append(e.program, "--interface="+one)
	}
	e.Start(t)
	return e
}

// Start starts the engine, again after Kill. It knows no call then.
func (e *MediaEngine) Start(t testing.TB) {
	t.Helper()
	e.process = startProcess(t, "rtpengine", loopback.command(e.program[0], e.program[1:]...))
	e.process.Output.WaitFor(t, "rtpengine to start", func(line string) bool {
		return strings.Contains(line, "Startup complete")
	})
}

// Kill ends the engine by SIGKILL, with all media that it relays.
func (e *MediaEngine) Kill(t testing.TB) {
	t.Helper()
	e.process.Signal(syscall.SIGKILL)
	<-e.process.exited
}

// Sessions are the calls that the engine has, as it writes them.
func (e *MediaEngine) Sessions(t testing.TB) string {
	t.Helper()
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(e.NG))
	if err != nil {
		t.Fatalf("rtpengine: %v", err)
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "%s d7:command4:liste", rand.Text()); err != nil {
		t.Fatalf("rtpengine: %v", err)
	}
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	answer := make([]byte, 1<<16)
	n, err := conn.Read(answer)
	if err != nil {
		t.Fatalf("rtpengine: %v", err)
	}
	_, calls, found := strings.Cut(string(answer[:n]), "5:callsl")
	if !found {
		t.Fatalf("rtpengine lists its calls as %q", answer[:n])
	}
	calls, _, _ = strings.Cut(calls, "e6:result")
	return calls
}

// WaitEmpty waits until the engine has no call, of which it tells nobody.
func (e *MediaEngine) WaitEmpty(t testing.TB) {
	t.Helper()
	e.wait(t, "rtpengine still has the calls", func(calls string) bool { return calls == "" })
}

func (e *MediaEngine) wait(t testing.TB, complaint string, is func(calls string) bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; {
		calls := e.Sessions(t)
		if is(calls) {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s %q", complaint, calls)
		}
		<-time.After(10 * time.Millisecond)
	}
}
