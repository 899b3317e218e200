package main

import (
	"bytes"
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// asViaduct makes this test binary behave as viaduct itself.
const asViaduct = "VIADUCT_TEST_RUN_MAIN"

func TestMain(m *testing.M) {
	if os.Getenv(asViaduct) != "" {
		main()
	}
	os.Exit(m.Run())
}

// TestBadInvocation: what is wrong is said in one line that names the flag,
// and the exit status is 2. Both listeners' addresses are taken, so that an
// attempt to open a socket first would show as status 1.
func TestBadInvocation(t *testing.T) {
	dir := t.TempDir()
	cert, key := writeCertificate(t, dir)
	short := writeFile(t, dir, "short.key", "c2hvcnQ=\n")
	garbage := writeFile(t, dir, "garbage.pem", "not a certificate\n")
	missing := filepath.Join(dir, "missing")
	taken := []string{"--listen=" + takenTCP(t), "--sip-listen=" + takenTCP(t)}

	tests := []struct {
		name string
		args []string
		env  map[string]string
		says string // and the line names this
	}{
		{name: "no upstream", says: "--upstream"},
		{name: "unknown flag", args: []string{"--upstream=sip:127.0.0.1", "--insecure"}, says: "--insecure"},
		{name: "flag of a later version", args: []string{"--upstream=sip:127.0.0.1", "--no-such-flag=1"}, says: "--no-such-flag"},
		{name: "argument", args: []string{"--upstream=sip:127.0.0.1", "doctor"}, says: "doctor"},
		{name: "upstream without scheme", args: []string{"--upstream=pbx.example.org"}, says: "--upstream"},
		{name: "upstream by WebSocket", args: []string{"--upstream=sip:127.0.0.1;transport=ws"}, says: "--upstream"},
		{name: "upstream with a bad port", args: []string{"--upstream=sip:127.0.0.1:70000"}, says: "--upstream"},
		{name: "upstream, empty", args: []string{"--upstream="}, says: "--upstream"},
		{name: "listen without port", args: []string{"--upstream=sip:127.0.0.1", "--listen=localhost"}, says: "--listen"},
		{name: "path without slash", args: []string{"--upstream=sip:127.0.0.1", "--path=ws"}, says: "--path"},
		{name: "certificate without key", args: []string{"--upstream=sip:127.0.0.1", "--tls-cert=" + cert}, says: "--tls-key"},
		{name: "key without certificate", args: []string{"--upstream=sip:127.0.0.1", "--tls-key=" + key}, says: "--tls-cert"},
		{name: "missing certificate", args: []string{"--upstream=sip:127.0.0.1", "--tls-cert=" + missing, "--tls-key=" + key}, says: "--tls-cert"},
		{name: "certificate that is none", args: []string{"--upstream=sip:127.0.0.1", "--tls-cert=" + garbage, "--tls-key=" + key}, says: "--tls-cert"},
		{name: "ping interval without unit", args: []string{"--upstream=sip:127.0.0.1", "--ping-interval=25"}, says: "--ping-interval"},
		{name: "negative ping interval", args: []string{"--upstream=sip:127.0.0.1", "--ping-interval=-1s"}, says: "--ping-interval"},
		{name: "connections, not a number", args: []string{"--upstream=sip:127.0.0.1", "--max-connections=many"}, says: "--max-connections"},
		{name: "negative connections", args: []string{"--upstream=sip:127.0.0.1", "--max-connections=-1"}, says: "--max-connections"},
		{name: "message over the limit", args: []string{"--upstream=sip:127.0.0.1", "--max-message=65536"}, says: "--max-message"},
		{name: "policy", args: []string{"--upstream=sip:127.0.0.1", "--upstream-policy=random"}, says: "--upstream-policy"},
		{name: "missing authorities", args: []string{"--upstream=sips:127.0.0.1", "--upstream-ca=" + missing}, says: "--upstream-ca"},
		{name: "authorities that are none", args: []string{"--upstream=sips:127.0.0.1", "--upstream-ca=" + garbage}, says: "--upstream-ca"},
		{name: "upstream certificate without key", args: []string{"--upstream=sips:127.0.0.1", "--upstream-cert=" + cert}, says: "--upstream-key"},
		{name: "upstream key without certificate", args: []string{"--upstream=sips:127.0.0.1", "--upstream-key=" + key}, says: "--upstream-cert"},
		{name: "negative upstream message", args: []string{"--upstream=sip:127.0.0.1", "--upstream-max-message=-1"}, says: "--upstream-max-message"},
		{name: "SIP listener without port", args: []string{"--upstream=sip:127.0.0.1", "--sip-listen=localhost"}, says: "--sip-listen"},
		{name: "SIP TLS listener without certificate", args: []string{"--upstream=sip:127.0.0.1", "--sip-tls-listen=127.0.0.1:0"}, says: "--sip-tls-cert"},
		{name: "SIP TLS certificate without key", args: []string{"--upstream=sip:127.0.0.1", "--sip-tls-listen=127.0.0.1:0", "--sip-tls-cert=" + cert}, says: "--sip-tls-key"},
		{name: "advertise with a bad port", args: []string{"--upstream=sip:127.0.0.1", "--advertise=192.0.2.1:x"}, says: "--advertise"},
		{name: "advertise TLS with a bad port", args: []string{"--upstream=sip:127.0.0.1", "--advertise-tls=192.0.2.1:x"}, says: "--advertise-tls"},
		{name: "peer that is no network", args: []string{"--upstream=sip:127.0.0.1", "--allow-peer=192.0.2.1"}, says: "--allow-peer"},
		{name: "negative TCP threshold", args: []string{"--upstream=sip:127.0.0.1", "--tcp-above=-1"}, says: "--tcp-above"},
		{name: "header to strip that is no name", args: []string{"--upstream=sip:127.0.0.1", "--strip-header=X Y"}, says: "--strip-header"},
		{name: "header for the address that is no name", args: []string{"--upstream=sip:127.0.0.1", "--client-ip-header=X:"}, says: "--client-ip-header"},
		{name: "short key", args: []string{"--upstream=sip:127.0.0.1", "--token-key-file=" + short}, says: "--token-key-file"},
		{name: "key file without a key", args: []string{"--upstream=sip:127.0.0.1", "--token-key-file=" + writeFile(t, dir, "empty.key", "# none\n")}, says: "--token-key-file"},
		{name: "key file that cannot be read", args: []string{"--upstream=sip:127.0.0.1", "--token-key-file=" + dir}, says: "--token-key-file"},
		{name: "key file that cannot be made", args: []string{"--upstream=sip:127.0.0.1", "--token-key-file=" + filepath.Join(garbage, "token.key")}, says: "--token-key-file"},
		{name: "no transactions", args: []string{"--upstream=sip:127.0.0.1", "--max-transactions=0"}, says: "--max-transactions"},
		{name: "resending switched off", args: []string{"--upstream=sip:127.0.0.1", "--max-transactions=-1"}, says: "--max-transactions"},
		{name: "transactions, not a number", args: []string{"--upstream=sip:127.0.0.1", "--max-transactions=many"}, says: "--max-transactions"},
		{name: "memory for less than one message", args: []string{"--upstream=sip:127.0.0.1", "--max-transaction-memory=65534"}, says: "--max-transaction-memory"},
		{name: "no memory", args: []string{"--upstream=sip:127.0.0.1", "--max-transaction-memory=0"}, says: "--max-transaction-memory"},
		{name: "health interval under a second", args: []string{"--upstream=sip:127.0.0.1", "--health-interval=500ms"}, says: "--health-interval"},
		{name: "no health interval", args: []string{"--upstream=sip:127.0.0.1", "--health-interval=0"}, says: "--health-interval"},
		{name: "admin listener without port", args: []string{"--upstream=sip:127.0.0.1", "--admin=localhost"}, says: "--admin"},
		{name: "admin listener with a bad port", args: []string{"--upstream=sip:127.0.0.1", "--admin=localhost:70000"}, says: "--admin"},
		{name: "profiles of no listener", args: []string{"--upstream=sip:127.0.0.1", "--admin=", "--admin-pprof"}, says: "--admin-pprof"},
		{name: "collector without port", args: []string{"--upstream=sip:127.0.0.1", "--hep=homer.example"}, says: "--hep"},
		{name: "drain timeout without unit", args: []string{"--upstream=sip:127.0.0.1", "--drain-timeout=30"}, says: "--drain-timeout"},
		{name: "rtpengine without port", args: []string{"--upstream=sip:127.0.0.1", "--rtpengine=127.0.0.1"}, says: "--rtpengine"},
		{name: "rtpengine twice", args: []string{"--upstream=sip:127.0.0.1", "--rtpengine=127.0.0.1:2223,127.0.0.1:2223"}, says: "--rtpengine"},
		{name: "one interface", args: []string{"--upstream=sip:127.0.0.1", "--rtpengine=127.0.0.1:2223", "--rtpengine-direction=public"}, says: "--rtpengine-direction"},
		{name: "interfaces of no rtpengine", args: []string{"--upstream=sip:127.0.0.1", "--rtpengine-direction=public,private"}, says: "--rtpengine-direction"},
		{name: "optional without rtpengine", args: []string{"--upstream=sip:127.0.0.1", "--rtpengine-optional"}, says: "--rtpengine-optional"},
		{name: "negative drain timeout", args: []string{"--upstream=sip:127.0.0.1", "--drain-timeout=-1s"}, says: "--drain-timeout"},
		{name: "log level", args: []string{"--upstream=sip:127.0.0.1", "--log-level=loud"}, says: "--log-level"},
		{name: "log format", args: []string{"--upstream=sip:127.0.0.1", "--log-format=xml"}, says: "--log-format"},
		{name: "bad variable", args: []string{"--upstream=sip:127.0.0.1"}, env: map[string]string{"VIADUCT_PING_INTERVAL": "often"}, says: "--ping-interval"},
		{name: "bad upstream in a list", env: map[string]string{"VIADUCT_UPSTREAM": "sip:127.0.0.1,nonsense"}, says: "VIADUCT_UPSTREAM"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("XDG_STATE_HOME", t.TempDir())
			for name, value := range tt.env {
				t.Setenv(name, value)
			}
			var stdout, stderr bytes.Buffer
			status := run(t.Context(), append(append([]string{}, taken...), tt.args...), &stdout, &stderr)

			if status != exitUsage {
				t.Errorf("exit status %d, want %d", status, exitUsage)
			}
			line := stderr.String()
			if strings.Count(line, "\n") != 1 || !strings.HasSuffix(line, "\n") {
				t.Errorf("want exactly one line, got %q", line)
			}
			if !strings.HasPrefix(line, "viaduct: ") || !strings.Contains(line, tt.says) {
				t.Errorf("the line does not name %s: %q", tt.says, line)
			}
			if stdout.Len() > 0 {
				t.Errorf("printed on stdout: %q", stdout.String())
			}
			if tt.says == "--token-key-file" {
				t.Logf("attack: viaduct is started with a %s | it says so in one line and ends with 2 | none", tt.name)
			}
		})
	}
}

// TestListenerTaken: a right command line that cannot be carried out is status 1.
func TestListenerTaken(t *testing.T) {
	for _, flag := range []string{"--listen", "--sip-listen", "--admin"} {
		t.Run(flag, func(t *testing.T) {
			t.Setenv("XDG_STATE_HOME", t.TempDir())
			var stdout, stderr bytes.Buffer
			address := takenTCP(t)
			status := run(context.Background(), []string{
				"--upstream=sip:127.0.0.1:9", "--sip-listen=127.0.0.1:0", "--listen=127.0.0.1:0", "--admin=127.0.0.1:0",
				"--log-level=error", flag + "=" + address,
			}, &stdout, &stderr)
			if status != exitFailed {
				t.Errorf("exit status %d, want %d", status, exitFailed)
			}
			line := stderr.String()
			if !strings.HasPrefix(line, "viaduct: "+flag) || !strings.Contains(line, address) || strings.Count(line, "\n") != 1 {
				t.Errorf("the line does not name %s and %s: %q", flag, address, line)
			}
		})
	}
}

// takenTCP returns an address that a listener holds until the test ends.
func takenTCP(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}

func writeFile(t *testing.T, dir, name, content string) string {
	t.Helper()
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
