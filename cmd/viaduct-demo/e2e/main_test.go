// Package e2e uses the demo as a newcomer does: the built viaduct-demo, its
// phone page in Chromium, and what is heard and seen there.
//
//	Page (Chromium) ── ws ── Demo: viaduct ── udp, tcp ── embedded PBX, or Kamailio
//
// A Page is one tab; tests click, type and read what the page says, and ask
// the peer connections what arrived. Nothing sleeps: each step waits for what
// the page shows.
package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// patience is how long anything may take on a busy machine.
const patience = 40 * time.Second

const project = "../../.." // the module's folder

// What all tests of a run share.
var (
	browser    *Browser
	demoBinary string
)

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "viaduct-demo-e2e-")
	if err != nil {
		return fail(err)
	}
	defer os.RemoveAll(dir)
	if demoBinary, err = buildDemo(dir); err != nil {
		return fail(err)
	}
	if browser, err = launchBrowser(); err != nil {
		return fail(err)
	}
	defer browser.Close()
	return m.Run()
}

func fail(err error) int {
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// buildDemo builds the phone's script and the command, with the race detector.
func buildDemo(dir string) (string, error) {
	script := exec.Command("npm", "run", "build", "--silent", "--prefix", "../phone")
	script.Stderr = os.Stderr
	if err := script.Run(); err != nil {
		return "", fmt.Errorf("building the phone page: %w (has .ci/setup been run?)", err)
	}
	binary := filepath.Join(dir, "viaduct-demo")
	build := exec.Command("go", "build", "-race", "-o", binary, "..")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return "", fmt.Errorf("building viaduct-demo: %w", err)
	}
	return binary, nil
}
