package e2e

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A LogLine is one entry of viaduct's log.
type LogLine struct {
	Level   string         `json:"level"`
	Message string         `json:"msg"`
	Fields  map[string]any // every field, level and msg too
}

// Viaduct is the built command as a process. It can be killed and started
// again at the same addresses with the same keys.
type Viaduct struct {
	WebSocket string         // URL for browsers
	SIP       netip.AddrPort // where the PBX reaches it by UDP and TCP
	SIPTLS    netip.AddrPort // the same for TLS; zero without
	Admin     string         // URL of the admin listener, without a path

	host    Host
	program []string // and its first arguments
	flags   []string
	process *Process
}

// startViaduct starts viaduct on host for that leg to the PBX, and returns when
// it serves and the PBX has answered it.
func startViaduct(t testing.TB, host Host, leg Leg, pbx *Kamailio, flags ...string) *Viaduct {
	t.Helper()
	v := launchViaduct(t, host, append(leg.flags(t, host, pbx), flags...)...)
	v.WaitLog(t, "upstream answered")
	return v
}

// launchViaduct starts viaduct on host, and returns when it serves. Its
// listeners' addresses, its key file and the pages' origin are set; flags are
// added to that.
func launchViaduct(t testing.TB, host Host, flags ...string) *Viaduct {
	t.Helper()
	return launch(t, host, []string{viaductBinary}, flags...)
}

// launch is launchViaduct with a program that takes these flags.
func launch(t testing.TB, host Host, program []string, flags ...string) *Viaduct {
	t.Helper()
	v := &Viaduct{host: host, program: program}
	v.flags = append([]string{
		"--token-key-file=" + filepath.Join(t.TempDir(), "token.key"),
		"--allow-origin=" + browser.Origin(),
		"--log-format=json", "--log-level=debug",
	}, flags...)
	anyPort := netip.AddrPortFrom(host.IP, 0).String()
	v.start(t, anyPort, anyPort, anyPort, anyPort)
	return v
}

func (v *Viaduct) start(t testing.TB, listen, sip, sipTLS, admin string) {
	t.Helper()
	args := append([]string{"--listen=" + listen, "--sip-listen=" + sip, "--admin=" + admin}, v.flags...)
	if v.servesTLS() {
		args = append(args, "--sip-tls-listen="+sipTLS)
	}
	v.process = startProcess(t, "viaduct", v.host.command(v.program[0], append(v.program[1:len(v.program):len(v.program)], args...)...))
	t.Cleanup(func() { v.checkOutput(t, v.process) })
	v.learnAddresses(t, v.WaitLog(t, "listening"))
}

func (v *Viaduct) servesTLS() bool {
	for _, flag := range v.flags {
		if strings.HasPrefix(flag, "--sip-tls-cert=") {
			return true
		}
	}
	return false
}

func (v *Viaduct) learnAddresses(t testing.TB, listening LogLine) {
	t.Helper()
	urls, _ := listening.Fields["websocket"].([]any)
	if len(urls) != 1 {
		t.Fatalf("viaduct listens at %v, want one WebSocket URL", listening.Fields)
	}
	v.WebSocket, _ = urls[0].(string)
	v.SIP = addrField(t, listening, "sip")
	v.Admin, _ = listening.Fields["admin"].(string)
	if v.servesTLS() {
		v.SIPTLS = addrField(t, listening, "sip_tls")
	}
}

func addrField(t testing.TB, line LogLine, field string) netip.AddrPort {
	t.Helper()
	text, _ := line.Fields[field].(string)
	addr, err := netip.ParseAddrPort(text)
	if err != nil {
		t.Fatalf("viaduct's log: %s of %q: %v", field, line.Message, err)
	}
	return addr
}

// Kill ends viaduct by SIGKILL: it gets no chance to say goodbye to anybody.
func (v *Viaduct) Kill(t testing.TB) {
	t.Helper()
	v.process.Signal(syscall.SIGKILL)
	<-v.process.exited
}

// Restart starts viaduct again after Kill, at the same addresses and with the
// same keys.
func (v *Viaduct) Restart(t testing.TB) {
	t.Helper()
	v.start(t, v.Listen().String(), v.SIP.String(), v.SIPTLS.String(), strings.TrimPrefix(v.Admin, "http://"))
	v.WaitLog(t, "upstream answered")
}

// Listen is the address of the WebSocket listener.
func (v *Viaduct) Listen() netip.AddrPort {
	_, rest, _ := strings.Cut(v.WebSocket, "://")
	address, _, _ := strings.Cut(rest, "/")
	return netip.MustParseAddrPort(address)
}

// WebSocketAt is the WebSocket URL by way of another address, that of a Wire
// to Listen, for PhoneOptions.WebSocket.
func (v *Viaduct) WebSocketAt(addr netip.AddrPort) string {
	return strings.Replace(v.WebSocket, v.Listen().String(), addr.String(), 1)
}

// WaitLog waits for a log entry with that message of the running process.
func (v *Viaduct) WaitLog(t testing.TB, message string) LogLine {
	t.Helper()
	var found LogLine
	v.process.Output.WaitFor(t, fmt.Sprintf("viaduct to log %q", message), func(line string) bool {
		entry, ok := parseLog(line)
		found = entry
		return ok && entry.Message == message
	})
	return found
}

func parseLog(line string) (LogLine, bool) {
	var entry LogLine
	if json.Unmarshal([]byte(line), &entry) != nil || json.Unmarshal([]byte(line), &entry.Fields) != nil {
		return LogLine{}, false
	}
	return entry, true
}

// checkOutput fails the test for what the Go runtime said in viaduct's stead.
func (v *Viaduct) checkOutput(t testing.TB, process *Process) {
	for _, line := range process.Output.All() {
		for _, trouble := range []string{"DATA RACE", "panic:", "fatal error:"} {
			if strings.Contains(line, trouble) {
				t.Errorf("viaduct: %s", line)
			}
		}
	}
}
