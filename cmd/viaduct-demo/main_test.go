package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestRefusals: what is wrong is said in one line that names the flag, and
// nothing is opened.
func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"--listen=0.0.0.0:8080"}, "--listen: other machines could reach 0.0.0.0:8080, and with it the demo's accounts; add --allow-remote if that is wanted"},
		{[]string{"--listen=:8080"}, "add --allow-remote"},
		{[]string{"--listen=192.0.2.1:8080"}, "add --allow-remote"},
		{[]string{"--listen=[::]:8080"}, "add --allow-remote"},
		{[]string{"--listen=example.org:8080"}, "add --allow-remote"},
		{[]string{"--listen=8080"}, `--listen: "8080" is not host:port`},
		{[]string{"--listen=0.0.0.0:0", "--allow-remote", "--pbx-listen=0.0.0.0:0"}, "--pbx-listen: 0.0.0.0:0 is not on loopback"},
		{[]string{"--tls-cert=cert.pem"}, "--tls-cert: needs --tls-key too"},
		{[]string{"--upstream=10.0.0.5"}, "--upstream"},
		{[]string{"--rtpengine=127.0.0.1"}, "--rtpengine"},
		{[]string{"--nonsense"}, "--nonsense"},
	} {
		var stdout, stderr bytes.Buffer
		if status := run(t.Context(), c.args, &stdout, &stderr); status == exitOK {
			t.Errorf("%q: exit status 0", c.args)
		}
		if said := stderr.String(); !strings.Contains(said, c.want) || strings.Count(said, "\n") != 1 || stdout.Len() > 0 {
			t.Errorf("%q: said %q on stderr and %q on stdout, want one line with %q", c.args, said, stdout.String(), c.want)
		}
	}
}

func TestLoopback(t *testing.T) {
	for host, want := range map[string]bool{
		"127.0.0.1": true, "127.9.9.9": true, "::1": true, "localhost": true, "::ffff:127.0.0.1": true,
		"": false, "0.0.0.0": false, "::": false, "10.0.0.5": false, "localhost.example.org": false,
	} {
		if isLoopback(host) != want {
			t.Errorf("isLoopback(%q) is %v", host, !want)
		}
	}
}

// TestGuard: a page under another name, which may belong to another site,
// gets nothing (DNS rebinding).
func TestGuard(t *testing.T) {
	for _, c := range []struct {
		flags  []string
		host   string
		status int
	}{
		{nil, "127.0.0.1:8080", 200},
		{nil, "localhost:8080", 200},
		{nil, "[::1]:8080", 200},
		{nil, "rebound.example.org:8080", 403},
		{[]string{"--allow-remote"}, "demo.example.org:8080", 200},
	} {
		f, err := parse(c.flags, io.Discard)
		if err != nil {
			t.Fatal(err)
		}
		s := newSite(f)
		request := httptest.NewRequest("GET", "/config.json", nil)
		request.Host = c.host
		response := httptest.NewRecorder()
		s.guard(s.pages()).ServeHTTP(response, request)
		if response.Code != c.status {
			t.Errorf("%q %s: status %d, want %d", c.flags, c.host, response.Code, c.status)
		}
		if policy := response.Header().Get("Content-Security-Policy"); c.status == 200 && !strings.Contains(policy, "script-src 'self';") {
			t.Errorf("Content-Security-Policy is %q", policy)
		}
	}
}

// TestDocsFlags: the table of the demo's flags is what the code says.
func TestDocsFlags(t *testing.T) {
	parser, _, err := newParser(new(flags), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	table.WriteString("| flag | default | meaning |\n|---|---|---|\n")
	code := func(text string) string {
		return strings.ReplaceAll(regexp.MustCompile(`--[a-z-]+`).ReplaceAllString(text, "`$0`"), "|", `\|`)
	}
	for _, flag := range parser.Model.Flags {
		if flag.Name == "help" {
			continue
		}
		meaning, byDefault, _ := strings.Cut(flag.Help, " Without this flag: ")
		if flag.HasDefault && flag.Default != "" {
			byDefault = "`" + flag.Default + "`"
		}
		fmt.Fprintf(&table, "| `%s` | %s | %s |\n", flag, code(strings.TrimSuffix(byDefault, ".")), code(meaning))
	}
	reference, err := os.ReadFile("../../deploy/REFERENCE.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(reference), "<!-- demo flags -->\n"+table.String()+"<!-- /demo flags -->") {
		t.Errorf("deploy/REFERENCE.md should have, between <!-- demo flags --> and <!-- /demo flags -->:\n%s", table.String())
	}
}
