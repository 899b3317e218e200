package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestFreshClone: in a copy of what is under version control, Go alone builds
// and vets the command, whose page then says what is missing; `make demo`
// builds it and runs the phone.
func TestFreshClone(t *testing.T) {
	clone := copyProject(t)
	inClone := func(name string, args ...string) *exec.Cmd {
		cmd := exec.Command(name, args...)
		cmd.Dir = clone
		return cmd
	}

	// What a package embeds or imports and a clone does not have, list misses too,
	// and it does not take minutes.
	for _, args := range [][]string{{"list", "./..."}, {"vet", "./cmd/viaduct-demo"}, {"build", "-o", "unbuilt", "./cmd/viaduct-demo"}} {
		if output, err := inClone("go", args...).CombinedOutput(); err != nil {
			t.Fatalf("go %q: %v\n%s", args, err, output)
		}
	}
	unbuilt := start(t, inClone("./unbuilt", "--listen=127.0.0.1:0"))
	page := openPage(t, unbuilt.WaitLine(t, "Phone "), nil)
	page.WaitText(t, "code", "make demo")
	unbuilt.Kill()

	made := start(t, inClone("make", "demo", "DEMO_FLAGS=--listen=127.0.0.1:0"))
	page = openPage(t, made.WaitLine(t, "Phone "), nil)
	page.WaitRegistered(t)
	page.Dial(t, "600")
	page.WaitTalking(t)
	page.WaitHears(t)
}

// copyProject copies the files of the work tree that a clone would have.
func copyProject(t testing.TB) string {
	t.Helper()
	list := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	list.Dir = project
	files, err := list.Output()
	if err != nil {
		t.Fatalf("git ls-files: %v", err)
	}
	clone := t.TempDir()
	for name := range strings.SplitSeq(strings.TrimRight(string(files), "\x00"), "\x00") {
		content, err := os.ReadFile(filepath.Join(project, name))
		if os.IsNotExist(err) {
			continue // deleted, and not committed yet
		}
		if err == nil {
			err = os.MkdirAll(filepath.Dir(filepath.Join(clone, name)), 0o755)
		}
		if err == nil {
			err = os.WriteFile(filepath.Join(clone, name), content, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return clone
}
