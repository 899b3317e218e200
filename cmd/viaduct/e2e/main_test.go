package e2e

import (
	"fmt"
	"os"
	"testing"
)

// authority signs every certificate of the run.
var authority *Authority

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "viaduct-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	if authority, err = newAuthority(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// issue makes a certificate for hosts, of which the files live as long as the test.
func issue(t testing.TB, name string, hosts ...string) (certFile, keyFile string) {
	t.Helper()
	certFile, keyFile, err := authority.Issue(t.TempDir(), name, hosts...)
	if err != nil {
		t.Fatalf("certificate of %s: %v", name, err)
	}
	return certFile, keyFile
}
