package deploy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// mostExposure is the worst score that systemd-analyze may give the unit, from
// 0 (safe) to 10.
const mostExposure = 1.5

// TestUnitVerify: systemd knows every setting of the unit.
func TestUnitVerify(t *testing.T) {
	unit, err := os.ReadFile("systemd/viaduct.service")
	if err != nil {
		t.Fatal(err)
	}
	// The only thing that is not on the machine of a test is viaduct.
	present := strings.Replace(string(unit), "/usr/local/bin/viaduct", "/bin/true", 1)
	file := filepath.Join(t.TempDir(), "viaduct.service")
	if err := os.WriteFile(file, []byte(present), 0o600); err != nil {
		t.Fatal(err)
	}
	said, err := exec.Command("systemd-analyze", "verify", "--man=no", file).CombinedOutput()
	if err != nil || strings.Contains(string(said), file) {
		t.Errorf("systemd-analyze verify: %v\n%s", err, said)
	}
}

// TestUnitSecurity: the unit's exposure is what its page states.
func TestUnitSecurity(t *testing.T) {
	said, err := exec.Command("systemd-analyze", "security", "--offline=true", "--no-pager", "systemd/viaduct.service").CombinedOutput()
	if err != nil {
		t.Fatalf("systemd-analyze security: %v\n%s", err, said)
	}
	match := regexp.MustCompile(`Overall exposure level for viaduct\.service: ([0-9.]+)`).FindSubmatch(said)
	if match == nil {
		t.Fatalf("systemd-analyze security said\n%s", said)
	}
	score, err := strconv.ParseFloat(string(match[1]), 64)
	if err != nil || score > mostExposure {
		t.Errorf("exposure %s, want %v or less (%v)", match[1], mostExposure, err)
	}
}
