// Package e2e plays the built viaduct against real peers: JsSIP and SIP.js in
// Chromium on one side, Kamailio with sipp behind it on the other.
//
//	Chromium ── ws, wss ── viaduct ── udp, tcp, tls ── Kamailio ── udp ── sipp
//	  page, phone, call      (lab)                    Messages          ladder
//
// A Lab is one such row, of which a test holds every end: what the browsers'
// stacks report (Page.Events), what Chromium saw on its sockets (Page.Frames),
// what passed the PBX's sockets (Kamailio.Messages), viaduct's log
// (Viaduct.WaitLog) and sipp's progress (Sipp.Steps) are Streams that tests
// wait on; nothing sleeps. When a Lab ends, all of that traffic is held against
// the invariants of invariants_test.go. The file matrix_test.go says which scenarios are
// played on which legs; VIADUCT_E2E_FULL=1 plays all on all.
//
// An AudioLab has rtpengine beside viaduct, and phones that know plain RTP alone
// behind Kamailio. Each end of a call sends a tone of its own and tells which it
// hears, so that tests wait for audio as for any other event:
//
//	Chromium ── UDP/TLS/RTP/SAVPF ── rtpengine ── RTP/AVP ── PlainPhone, Baresip
//	700 Hz                                                   1900 Hz
//
// .ci/setup installs the peers.
package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"viaduct/deploy/manifest"
)

// What all tests of a run share.
var (
	authority     *Authority // signs every certificate
	browser       *Browser
	viaductBinary string
)

func TestMain(m *testing.M) {
	if os.Getenv(asUnaided) != "" {
		os.Exit(serveUnaided(os.Args[1:]))
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "viaduct-e2e-")
	if err != nil {
		return fail(err)
	}
	defer os.RemoveAll(dir)
	if viaductBinary, err = buildViaduct(dir); err != nil {
		return fail(err)
	}
	if os.Geteuid() != 0 {
		return runInUserNamespace()
	}
	if authority, err = newAuthority(dir); err != nil {
		return fail(err)
	}
	if browser, err = launchBrowser(authority.SPKIHash()); err != nil {
		return fail(err)
	}
	defer browser.Close()
	defer results.print(os.Stdout)
	return m.Run()
}

func fail(err error) int {
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// binaryVariable hands a viaduct that is already built to the run in a user namespace.
const binaryVariable = "VIADUCT_E2E_BINARY"

// buildViaduct builds the command with the race detector and returns its path.
func buildViaduct(dir string) (string, error) {
	if built := os.Getenv(binaryVariable); built != "" {
		return built, nil
	}
	binary := filepath.Join(dir, "viaduct")
	build := exec.Command("go", "build", "-race", "-o", binary, "..")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return "", fmt.Errorf("building viaduct: %w", err)
	}
	return binary, nil
}

// runInUserNamespace runs this test binary again where an ordinary user may
// make network namespaces and drop packets: as the root of namespaces of its
// own, with loopback for a network and an empty /run for ip netns.
func runInUserNamespace() int {
	offline, err := manifest.Offline()
	if err != nil {
		return fail(err)
	}
	args := append([]string{
		"--user", "--map-root-user", "--net", "--mount",
		"sh", "-c", `mount -t tmpfs tmpfs /run && ip link set lo up && exec "$0" "$@"`, os.Args[0],
	}, os.Args[1:]...)
	again := exec.Command("unshare", args...)
	again.Env = append(append(os.Environ(), offline...), binaryVariable+"="+viaductBinary)
	again.Stdout, again.Stderr = os.Stdout, os.Stderr
	again.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := forkOnLastingThread(again); err != nil {
		return fail(fmt.Errorf("user namespace: %w", err))
	}
	if err := again.Wait(); err != nil {
		return fail(fmt.Errorf("in a user namespace: %w", err))
	}
	return 0
}

// tempDir is t.TempDir with a name that every configuration language takes as
// it is: a test's own name may have a # or a space.
func tempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "viaduct-e2e-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// issue makes a certificate for hosts, of which the files live as long as the test.
func issue(t testing.TB, name string, hosts ...string) (certFile, keyFile string) {
	t.Helper()
	certFile, keyFile, err := authority.Issue(tempDir(t), name, hosts...)
	if err != nil {
		t.Fatalf("certificate of %s: %v", name, err)
	}
	return certFile, keyFile
}
