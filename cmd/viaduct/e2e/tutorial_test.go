package e2e

import (
	"crypto/tls"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/gobwas/ws"
)

// A codeBlock is one that a page shows.
type codeBlock struct{ Language, Text string }

// codeBlocks returns the blocks of deploy/README.md below a heading.
func codeBlocks(t *testing.T, heading string) []codeBlock {
	t.Helper()
	_, section, found := strings.Cut(readPage(t, "README.md"), "\n## "+heading+"\n")
	if !found {
		t.Fatalf("no heading %q", heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	return blocksOf(section)
}

func readPage(t *testing.T, name string) string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("../../../deploy", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(page)
}

func blocksOf(page string) (blocks []codeBlock) {
	for _, match := range regexp.MustCompile("(?s)```(\\w*)\n(.*?)```").FindAllStringSubmatch(page, -1) {
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
	followTutorial(t, desk)
	pbx.WaitReceived(t, "INVITE of 1001", func(m Message) bool { return m.Request("INVITE") })
}

// TestKamailioPage: the configuration of deploy/kamailio.md is all that a
// Kamailio needs for the same call.
func TestKamailioPage(t *testing.T) {
	t.Parallel()
	desk, server, _ := newOffice(t)
	dir := tempDir(t)
	config := filepath.Join(dir, "kamailio.cfg")
	const ready = "\nloadmodule \"xlog.so\"\nevent_route[core:worker-one-init] {\n\txlog(\"L_WARN\", \"PBX ready\\n\");\n}\n"
	writePage(t, config, blocksOf(readPage(t, "kamailio.md"))[0].Text+ready)
	cmd := server.command("kamailio", "-f", config, "-DD", "-E", "-m", "64", "-M", "8", "-w", dir, "-Y", dir)
	// Kamailio's workers outlive its main process, but not its PID namespace.
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	startProcess(t, "kamailio", cmd).Output.WaitFor(t, "kamailio to serve", func(line string) bool {
		return strings.Contains(line, "PBX ready")
	})
	followTutorial(t, desk)
}

// making is held while ./viaduct is made and started.
var making sync.Mutex

// followTutorial does on desk what deploy/README.md says, to the end of the call.
func followTutorial(t *testing.T, desk Host) {
	t.Helper()
	const first, second, logged = 0, 4, 1 // the blocks of shell commands, and what the first of them logs
	blocks := codeBlocks(t, "A call in five minutes")
	var languages []string
	for _, block := range blocks {
		languages = append(languages, block.Language)
	}
	if want := []string{"sh", "", "html", "js", "sh"}; !slices.Equal(languages, want) {
		t.Fatalf("the page has blocks of %q, want %q", languages, want)
	}
	func() {
		making.Lock()
		defer making.Unlock()
		wantLog(t, startShell(t, desk, "../../..", blocks[first].Text), blocks[logged].Text)
	}()

	folder := tempDir(t)
	writePage(t, filepath.Join(folder, "index.html"), blocks[2].Text)
	writePage(t, filepath.Join(folder, "phone.js"), blocks[3].Text)
	// npm install would ask its registry: what .ci/setup got from there is the same.
	installed, err := filepath.Abs("browser/node_modules")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(installed, filepath.Join(folder, "node_modules")); err != nil {
		t.Fatal(err)
	}
	served := startShell(t, desk, folder, strings.Replace(blocks[second].Text, "npm install jssip esbuild\n", "", 1))
	served.Output.WaitFor(t, "esbuild to serve", func(line string) bool { return strings.Contains(line, ":3000") })

	tutorial := startProcess(t, "browser", desk.command("node", "browser/tutorial.mjs", "http://localhost:3000"))
	tutorial.Output.WaitFor(t, "the call", func(line string) bool { return line == "called" })
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
	cmd.Env = append(os.Environ(), "HOME="+home, "XDG_STATE_HOME="+tempDir(t), "VIADUCT_LOG_FORMAT=console", "VIADUCT_LOG_LEVEL=debug")
	keyboard, err := cmd.StdinPipe() // esbuild serves as long as there is one
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = keyboard.Close() })
	return startProcess(t, "sh", cmd)
}

// wantLog waits for the lines of viaduct's log that a page shows: its level,
// message and fields, of which the page may leave some out.
func wantLog(t *testing.T, viaduct *Process, lines string) {
	t.Helper()
	for line := range strings.Lines(lines) {
		message, fields, _ := strings.Cut(strings.TrimSpace(line), "{")
		words := strings.Fields(message)
		wanted := append([]string{words[0], strings.Join(words[1:], " ")}, strings.Split(strings.TrimSuffix(fields, "}"), `, "`)...)
		viaduct.Output.WaitFor(t, line, func(said string) bool {
			return !slices.ContainsFunc(wanted, func(part string) bool { return !strings.Contains(said, part) })
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
