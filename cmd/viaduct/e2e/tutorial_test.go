package e2e

import (
	"crypto/tls"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/gobwas/ws"
)

// A codeBlock is one that a page shows.
type codeBlock struct{ Language, Text string }

// codeBlocks returns the blocks of deploy/README.md below a heading.
func codeBlocks(t *testing.T, heading string) (blocks []codeBlock) {
	t.Helper()
	page, err := os.ReadFile("../../../deploy/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(page), "\n## "+heading+"\n")
	if !found {
		t.Fatalf("no heading %q", heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	for _, match := range regexp.MustCompile("(?s)```(\\w*)\n(.*?)```").FindAllStringSubmatch(section, -1) {
		blocks = append(blocks, codeBlock{match[1], match[2]})
	}
	return blocks
}

// newOffice makes the two machines of deploy/README.md: a desk, 10.0.0.7, and
// one for the SIP server, 10.0.0.5. The test reaches the desk at reachable.
func newOffice(t *testing.T) (desk, server Host, reachable netip.Addr) {
	t.Helper()
	desk, server = newNamespace(t), newNamespace(t)
	reachable = desk.IP
	root(t, "ip", "link", "add", "office", "netns", desk.Namespace, "type", "veth", "peer", "name", "office", "netns", server.Namespace)
	for host, address := range map[*Host]string{&desk: "10.0.0.7", &server: "10.0.0.5"} {
		host.run(t, "ip", "address", "add", address+"/24", "dev", "office")
		host.run(t, "ip", "link", "set", "office", "up")
		host.IP = netip.MustParseAddr(address)
	}
	return desk, server, reachable
}

// TestFiveMinutes follows deploy/README.md to its first call, with a Kamailio in
// the place of Asterisk.
func TestFiveMinutes(t *testing.T) {
	t.Parallel()
	desk, server, _ := newOffice(t)
	pbx := startKamailioWith(t, server, PBXOptions{Port: 5060})
	folder := tempDir(t)
	// npm install would ask its registry: what .ci/setup got from there is the same.
	installed, err := filepath.Abs("browser/node_modules")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(installed, filepath.Join(folder, "node_modules")); err != nil {
		t.Fatal(err)
	}

	shell := 0
	for _, block := range codeBlocks(t, "A call in five minutes") {
		switch block.Language {
		case "html":
			writePage(t, filepath.Join(folder, "index.html"), block.Text)
		case "js":
			writePage(t, filepath.Join(folder, "phone.js"), block.Text)
		case "sh":
			shell++
			if shell == 1 {
				viaduct := startShell(t, desk, "../../..", block.Text)
				wantLog(t, viaduct, codeBlocks(t, "A call in five minutes")[1].Text)
				continue
			}
			served := startShell(t, desk, folder, strings.Replace(block.Text, "npm install jssip esbuild\n", "", 1))
			served.Output.WaitFor(t, "esbuild to serve", func(line string) bool { return strings.Contains(line, ":3000") })
		}
	}
	if shell != 2 {
		t.Fatalf("%d blocks of shell commands, want 2", shell)
	}
	tutorial := startProcess(t, "browser", desk.command("node", "browser/tutorial.mjs", "http://localhost:3000"))
	tutorial.Output.WaitFor(t, "the call", func(line string) bool { return line == "called" })
	pbx.WaitReceived(t, "INVITE of 1001", func(m Message) bool { return m.Request("INVITE") })
}

// startShell runs a block of commands on host, in dir.
func startShell(t *testing.T, host Host, dir, commands string) *Process {
	t.Helper()
	cmd := host.command("sh", "-ec", commands)
	cmd.Dir = dir
	// The Go command builds with the caches that it has.
	home, err := os.UserHomeDir()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_STATE_HOME="+tempDir(t), "VIADUCT_LOG_FORMAT=console")
	return startProcess(t, "sh", cmd)
}

// wantLog waits for the lines of viaduct's log that a page shows, apart from
// the time and the width of the columns.
func wantLog(t *testing.T, viaduct *Process, lines string) {
	t.Helper()
	for line := range strings.Lines(lines) {
		words := strings.Join(strings.Fields(line), " ")
		viaduct.Output.WaitFor(t, words, func(said string) bool {
			message, fields, _ := strings.Cut(words, " {")
			said = strings.Join(strings.Fields(said), " ")
			fields = strings.TrimSuffix(fields, "}")
			return strings.Contains(said, message) && strings.Contains(said, fields)
		})
	}
}

func writePage(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestProduction: the command of deploy/README.md serves the page that it
// admits by wss, and no other. Only the files' folders are other ones.
func TestProduction(t *testing.T) {
	t.Parallel()
	desk, server, reachable := newOffice(t)
	startKamailioWith(t, server, PBXOptions{Port: 5060})
	folder := tempDir(t)
	certFile, keyFile := issue(t, "sip.example.org", "sip.example.org")
	for from, to := range map[string]string{certFile: "cert.pem", keyFile: "key.pem"} {
		if err := os.Rename(from, filepath.Join(folder, to)); err != nil {
			t.Fatal(err)
		}
	}
	binary, err := filepath.Abs(viaductBinary)
	if err != nil {
		t.Fatal(err)
	}
	block := codeBlocks(t, "Production")[0]
	commands := strings.NewReplacer("/etc/viaduct", folder, "/var/lib/viaduct", folder, "./viaduct", binary).Replace(block.Text)
	viaduct := startShell(t, desk, ".", commands)
	viaduct.Output.WaitFor(t, "an answer", func(line string) bool { return strings.Contains(line, "upstream answered") })

	for origin, admitted := range map[string]bool{"https://phone.example.org": true, "https://elsewhere.example": false} {
		dialer := ws.Dialer{
			Protocols: []string{"sip"},
			Header:    ws.HandshakeHeaderHTTP(http.Header{"Origin": {origin}}),
			TLSConfig: &tls.Config{RootCAs: authority.Pool(), ServerName: "sip.example.org"},
		}
		conn, _, _, err := dialer.Dial(t.Context(), "wss://"+reachable.String()+"/ws")
		if (err == nil) != admitted {
			t.Errorf("a page of %s: %v", origin, err)
		}
		if conn != nil {
			_ = conn.Close()
		}
	}
}
