package e2e

import (
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
)

const unitFile = "../../../deploy/systemd/viaduct.service"

// TestUnitAllows: what viaduct asks of the kernel while it serves a call and
// drains is what the systemd unit lets it.
func TestUnitAllows(t *testing.T) {
	t.Parallel()
	dir := tempDir(t)
	plain := filepath.Join(dir, "viaduct") // the race detector has calls of its own
	build := exec.Command("go", "build", "-o", plain, "..")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if said, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, said)
	}
	trace := filepath.Join(dir, "trace")
	host := newNamespace(t)
	certFile, keyFile := issue(t, "viaduct", host.IP.String())
	pbx := startKamailio(t, host)
	leg := Leg{"tcp", "wss"}
	flags := append(leg.flags(t, host, pbx), "--tls-cert="+certFile, "--tls-key="+keyFile,
		"--sip-listen=:5070", "--advertise="+host.IP.String()) // it asks the kernel whether that is its own
	via := launch(t, host, []string{"strace", "--follow-forks", "--output=" + trace, plain}, flags...)
	via.WaitLog(t, "upstream answered")
	via.SIP = netip.AddrPortFrom(host.IP, 5070)
	lab := &Lab{Stack: JsSIP, Leg: leg, Host: host, PBX: pbx, Via: via, t: t}
	t.Cleanup(lab.finish)
	wantCallable(t, lab, lab.Registered("alice"), 1)
	via.process.Signal(syscall.SIGTERM)
	via.WaitExit(t)

	text, err := os.ReadFile(trace)
	if err != nil {
		t.Fatal(err)
	}
	unit := readUnit(t)
	calls := allowedCalls(t, unit["SystemCallFilter"])
	families := strings.Fields(strings.Join(unit["RestrictAddressFamilies"], " "))
	seen := map[string]bool{}
	for _, match := range regexp.MustCompile(`(?m)^\d+ +([a-z0-9_]+)\((AF_\w+)?`).FindAllStringSubmatch(string(text), -1) {
		name, family := match[1], match[2]
		switch {
		case seen[name+family] || name == "execve": // strace's own start of viaduct
		case !calls[name]:
			t.Errorf("viaduct calls %s, which the unit's SystemCallFilter forbids", name)
		case name == "socket" && !slices.Contains(families, family):
			t.Errorf("viaduct opens a socket of %s, which the unit's RestrictAddressFamilies forbids", family)
		}
		seen[name+family] = true
	}
	if !seen["socketAF_INET"] || len(seen) < 20 {
		t.Errorf("the trace shows %v only", seen)
	}
}

// readUnit is the settings of the unit, each with its values in their order.
func readUnit(t *testing.T) map[string][]string {
	t.Helper()
	text, err := os.ReadFile(unitFile)
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string][]string{}
	for line := range strings.Lines(string(text)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(name, "#") {
			settings[name] = append(settings[name], value)
		}
	}
	return settings
}

// allowedCalls is what filters leave of the system calls, the first of them
// being a list of what is allowed.
func allowedCalls(t *testing.T, filters []string) map[string]bool {
	t.Helper()
	allowed := map[string]bool{}
	for _, filter := range filters {
		names, forbidden := strings.CutPrefix(filter, "~")
		for _, name := range strings.Fields(names) {
			addCalls(t, allowed, name, !forbidden)
		}
	}
	addCalls(t, allowed, "@default", true) // systemd.exec(5): always implied by a list of what is allowed
	return allowed
}

// addCalls sets what a name of systemd's stands for, a call or a group.
func addCalls(t *testing.T, calls map[string]bool, name string, to bool) {
	t.Helper()
	if !strings.HasPrefix(name, "@") {
		calls[name] = to
		return
	}
	for line := range strings.Lines(root(t, "systemd-analyze", "--no-pager", "syscall-filter", name)) {
		member := strings.TrimSpace(line)
		if member != "" && member != name && !strings.HasPrefix(member, "#") {
			addCalls(t, calls, member, to)
		}
	}
}
