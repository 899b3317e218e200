//go:build linux

package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"viaduct/cmd/viaduct-load/socket"
)

// leg is how a relay reaches the SIP server.
type leg string

const (
	udp leg = "udp"
	tcp leg = "tcp"
)

// setting is how a server is to be started.
type setting struct {
	leg   leg
	cores int  // GOMAXPROCS, 0 for all; of a server in Go
	tls   bool // browsers come by wss; viaduct's alone

	processes processes // Kamailio's, zero for the best
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

// start starts the server of that name.
func (b *bench) start(ctx context.Context, name string, how setting) (*server, error) {
	switch name {
	case "null":
		return b.startNull(ctx, how)
	case "viaduct":
		return b.startViaduct(ctx, how)
	case "kamailio":
		return b.startKamailio(ctx, name, how)
	case "kamailio-tm":
		return b.startKamailio(ctx, name, how, "-A", "WITH_TM")
	}
	return nil, fmt.Errorf("no server %q", name)
}

// startNull starts the relay that does nothing.
func (b *bench) startNull(ctx context.Context, how setting) (*server, error) {
	args := []string{"null", "--upstream=" + b.answerer.String()}
	if how.leg == tcp {
		args = append(args, "--tcp")
	}
	p, addr, err := role(ctx, "null", args...)
	if err != nil {
		return nil, err
	}
	return &server{name: "null", process: p, addr: addr, path: "/ws"}, nil
}

// What --max-transactions and --max-transaction-memory are set to: the ACK of a
// 2xx is kept for 32 seconds (RFC 6026), so that calls as fast as they go need
// more than the default.
const (
	transactions      = 1_000_000
	transactionMemory = 1 << 30
)

// startViaduct starts viaduct as it would run, with its log at warn.
func (b *bench) startViaduct(ctx context.Context, how setting) (*server, error) {
	var ports [3]netip.AddrPort
	for i := range ports {
		var err error
		if ports[i], err = freePort(); err != nil {
			return nil, err
		}
	}
	listen, sip, admin := ports[0], ports[1], ports[2]
	args := []string{
		"--listen=" + listen.String(), "--sip-listen=" + sip.String(), "--admin=" + admin.String(),
		fmt.Sprintf("--upstream=sip:%s;transport=%s", b.answerer, how.leg),
		"--token-key-file=" + filepath.Join(b.dir, "token.key"),
		"--log-level=warn", "--drain-timeout=1ms",
		fmt.Sprintf("--max-transactions=%d", transactions),
		fmt.Sprintf("--max-transaction-memory=%d", transactionMemory),
	}
	if how.tls {
		args = append(args, "--tls-cert="+b.certFile, "--tls-key="+b.keyFile)
	}
	// One from before these flags can be measured too.
	for name, value := range map[string]string{"--rate=": "0", "--admin-pprof": ""} {
		if b.knows(name) {
			args = append(args, name+value)
		}
	}
	var env []string
	if how.cores > 0 {
		env = []string{fmt.Sprintf("GOMAXPROCS=%d", how.cores)}
	}
	p, err := startIn(ctx, "viaduct", env, b.cfg.Viaduct, args...)
	if err != nil {
		return nil, err
	}
	s := &server{name: "viaduct", process: p, addr: listen, path: "/ws", admin: admin}
	return s, s.wait(ctx, how.tls)
}

// knows tells whether viaduct has a flag.
func (b *bench) knows(flag string) bool {
	if b.help == nil {
		b.help, _ = exec.Command(b.cfg.Viaduct, "--help").Output() // what is wrong with it shows when it is started
	}
	return bytes.Contains(b.help, []byte("  "+flag))
}

// wait waits until the server serves, and ends it if it does not.
func (s *server) wait(ctx context.Context, tls bool) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !s.answers(tls) {
		select {
		case <-tick.C:
		case <-s.process.ended:
			return fmt.Errorf("%s ended: %s", s.name, s.process.output.String())
		case <-ctx.Done():
			s.process.stop()
			return fmt.Errorf("%s does not serve: %s", s.name, s.process.output.String())
		}
	}
	return nil
}

// answers tries one connection, and where that is easy one handshake.
func (s *server) answers(tls bool) bool {
	fd, _, err := socket.DialTCP(netip.AddrPortFrom(s.addr.Addr(), 0), s.addr)
	if err != nil {
		return false
	}
	defer closeFD(fd)
	if s.admin.IsValid() && !s.ready() {
		return false
	}
	return tls || socket.Handshake(fd, s.addr, s.path) == nil
}

// freePort finds a port of loopback that nobody uses, for TCP and UDP.
func freePort() (netip.AddrPort, error) {
	loopback := netip.MustParseAddrPort("127.0.0.1:0")
	for range 10 {
		fd, addr, err := socket.ListenTCP(loopback)
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

func closeFD(fd int) { _ = unix.Close(fd) }
