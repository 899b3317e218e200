package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// domain is the PBX's SIP domain, which no name server knows.
const domain = "pbx.test"

// passwordOf is the password of an account: alice, bob, carol, u00 to u39, and
// u000 to u999.
func passwordOf(user string) string { return "secret-" + user }

// A PBXMessage is one message as it passed Kamailio's socket, outside any TLS.
type PBXMessage struct {
	Message
	Sent     bool // by Kamailio; otherwise received
	From, To netip.AddrPort
}

func (m PBXMessage) String() string {
	direction := "→ pbx"
	if m.Sent {
		direction = "pbx →"
	}
	return fmt.Sprintf("%s (%s → %s)  %s", direction, m.From, m.To, m.Message)
}

// Kamailio is the PBX of a test: a registrar with digest authentication and a
// proxy, on UDP, TCP and TLS, without WebSocket.
type Kamailio struct {
	UDP, TCP, TLS netip.AddrPort

	// Messages has every message received and sent, byte for byte, in the order
	// of the sockets.
	Messages *Stream[PBXMessage]

	host    Host
	program []string
	process *Process
}

// PBXOptions change how a PBX is set up.
type PBXOptions struct {
	Port               uint16 // for UDP and TCP, instead of any free one
	ClientCertificates bool   // TLS clients must show a certificate of the test authority
	NoTrunks           bool   // who is no account may not call

	// Voicemail answers the calls that accounts do not take; it is found as
	// the user 9PPPPP is. Zero for none.
	Voicemail netip.AddrPort
}

// startKamailio starts a PBX on host and returns when it serves. sipp peers
// behind it are found at host's address.
func startKamailio(t testing.TB, host Host) *Kamailio {
	t.Helper()
	return startKamailioWith(t, host, PBXOptions{})
}

// startKamailioWith is startKamailio with options.
func startKamailioWith(t testing.TB, host Host, options PBXOptions) *Kamailio {
	t.Helper()
	k := &Kamailio{
		UDP:      host.freePort(t),
		TLS:      host.freePort(t),
		Messages: NewStream[PBXMessage](),
		host:     host,
	}
	if options.Port != 0 {
		k.UDP = netip.AddrPortFrom(host.IP, options.Port)
	}
	k.TCP = k.UDP
	mirror := listenHEP(t, host.Harness, k.record)

	dir := tempDir(t)
	tlsConfig := filepath.Join(dir, "tls.cfg")
	if err := os.WriteFile(tlsConfig, []byte(kamailioTLS(t, host, options.ClientCertificates)), 0o600); err != nil {
		t.Fatalf("kamailio: %v", err)
	}
	config, err := filepath.Abs("testdata/kamailio.cfg")
	if err != nil {
		t.Fatalf("kamailio: %v", err)
	}
	k.program = []string{
		"kamailio",
		"-f", config, "-DD", "-E", "-m", "64", "-M", "8", "-w", dir, "-Y", dir,
		"-A", fmt.Sprintf("LISTEN_UDP=udp:%s", k.UDP),
		"-A", fmt.Sprintf("LISTEN_TCP=tcp:%s", k.TCP),
		"-A", fmt.Sprintf("LISTEN_TLS=tls:%s", k.TLS),
		"-A", fmt.Sprintf("PEERS=%s", host.IP),
		"-A", fmt.Sprintf("HEP=%q", "sip:"+mirror.String()),
		"-A", "WITH_TLS",
		"-A", fmt.Sprintf("TLS_CONFIG=%q", tlsConfig),
	}
	if options.NoTrunks {
		k.program = append(k.program, "-A", "NO_TRUNKS")
	}
	if options.Voicemail.IsValid() {
		k.program = append(k.program, "-A", fmt.Sprintf("VOICEMAIL=%q", fmt.Sprintf("9%05d", options.Voicemail.Port())))
	}
	k.start(t)
	return k
}

func (k *Kamailio) start(t testing.TB) {
	t.Helper()
	cmd := k.host.command(k.program[0], k.program[1:]...)
	// Kamailio's workers outlive its main process, but not its PID namespace.
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	k.process = startProcess(t, "kamailio", cmd)
	k.process.Output.WaitFor(t, "kamailio to serve", func(line string) bool {
		return strings.Contains(line, "PBX ready")
	})
}

// Kill ends the PBX by SIGKILL: its ports are closed, its connections reset, and
// its registrations forgotten.
func (k *Kamailio) Kill(t testing.TB) {
	t.Helper()
	k.process.Signal(syscall.SIGKILL)
	select {
	case <-k.process.exited:
	case <-time.After(patience):
		t.Fatal("kamailio does not end")
	}
}

// Restart starts the PBX again after Kill, at the same addresses.
func (k *Kamailio) Restart(t testing.TB) {
	t.Helper()
	k.start(t)
}

// kamailioTLS is the configuration of Kamailio's TLS module: it shows a
// certificate of the test authority and wants one of whomever it connects to.
func kamailioTLS(t testing.TB, host Host, clientCertificates bool) string {
	t.Helper()
	certFile, keyFile := issue(t, "kamailio", host.IP.String(), domain)
	demand := "no"
	if clientCertificates {
		demand = "yes"
	}
	return fmt.Sprintf(`[server:default]
method = TLSv1.2+
verify_certificate = %[4]s
require_certificate = %[4]s
ca_list = %[3]s
certificate = %[1]s
private_key = %[2]s

[client:default]
method = TLSv1.2+
verify_certificate = yes
require_certificate = yes
ca_list = %[3]s
certificate = %[1]s
private_key = %[2]s
`, certFile, keyFile, authority.File, demand)
}

func (k *Kamailio) record(packet hepPacket) {
	if len(strings.TrimSpace(string(packet.payload))) == 0 {
		return // a CRLF keep-alive
	}
	k.Messages.Add(PBXMessage{
		Message: newMessage(string(packet.payload)),
		Sent:    packet.from == k.UDP || packet.from == k.TLS || !k.owns(packet.to),
		From:    packet.from,
		To:      packet.to,
	})
}

func (k *Kamailio) owns(addr netip.AddrPort) bool {
	return addr == k.UDP || addr == k.TCP || addr == k.TLS
}

// Upstream is the PBX as viaduct's --upstream names it; proto is udp, tcp or tls.
func (k *Kamailio) Upstream(proto string) string {
	if proto == "tls" {
		return fmt.Sprintf("sip:%s;transport=tls", k.TLS)
	}
	return fmt.Sprintf("sip:%s;transport=%s", k.UDP, proto)
}

// WaitReceived waits for a message that reached the PBX.
func (k *Kamailio) WaitReceived(t testing.TB, what string, match func(Message) bool) PBXMessage {
	t.Helper()
	return k.Messages.WaitFor(t, what+" at the PBX", func(m PBXMessage) bool {
		return !m.Sent && match(m.Message)
	})
}

// WaitSent waits for a message that left the PBX.
func (k *Kamailio) WaitSent(t testing.TB, what string, match func(Message) bool) PBXMessage {
	t.Helper()
	return k.Messages.WaitFor(t, what+" from the PBX", func(m PBXMessage) bool {
		return m.Sent && match(m.Message)
	})
}
