package e2e

import (
	"fmt"
	"os"
	"testing"
)

// What all tests of a run share.
var (
	authority     *Authority // signs every certificate
	browser       *Browser
	viaductBinary string
)

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
	if viaductBinary, err = buildViaduct(dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	if browser, err = launchBrowser(authority.SPKIHash()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer browser.Close()
	defer func() { results.print(os.Stdout) }()
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
