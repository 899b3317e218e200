package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestHealth: the exit status is what a container engine looks at, and the line
// what its operator reads.
func TestHealth(t *testing.T) {
	answering := func(status int, text string) string {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodGet || r.URL.Path != "/readyz" {
				t.Errorf("asked %s %s", r.Method, r.URL)
			}
			w.WriteHeader(status)
			_, _ = io.WriteString(w, text)
		}))
		t.Cleanup(server.Close)
		return server.Listener.Addr().String()
	}
	everywhere := func(address string) string { return strings.TrimPrefix(address, "127.0.0.1") }
	ready := answering(http.StatusOK, "ok\n")
	unready := answering(http.StatusServiceUnavailable, "upstreams: none of 2 answers\ndrain: has begun\n")

	tests := []struct {
		name   string
		args   []string
		env    string // VIADUCT_ADMIN
		status int
		says   string
	}{
		{name: "ready", args: []string{"--admin=" + ready}},
		{name: "by the variable", env: ready},
		{name: "on every interface", args: []string{"--admin=" + everywhere(ready)}},
		{name: "on every interface, IPv4", env: "0.0.0.0" + everywhere(ready)},
		{name: "not ready", env: unready, status: exitFailed, says: "viaduct: upstreams: none of 2 answers; drain: has begun\n"},
		{name: "not ready, without a word", env: answering(http.StatusBadGateway, ""), status: exitFailed, says: "502 Bad Gateway"},
		{name: "nobody there", args: []string{"--admin=127.0.0.1:1"}, status: exitFailed, says: "--admin"},
		{name: "address without port", args: []string{"--admin=localhost"}, status: exitUsage, says: "--admin"},
		{name: "a flag of the gateway", args: []string{"--path=/ws"}, status: exitUsage, says: "--path"},
		{name: "an argument", args: []string{"now"}, status: exitUsage, says: "now"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.env != "" {
				t.Setenv("VIADUCT_ADMIN", tt.env)
			}
			var stdout, stderr bytes.Buffer
			status := run(t.Context(), append([]string{"health"}, tt.args...), &stdout, &stderr)
			if status != tt.status {
				t.Errorf("exit status %d, want %d: %s", status, tt.status, stderr.String())
			}
			if line := stderr.String(); !strings.Contains(line, tt.says) || tt.says == "" && line != "" || strings.Count(line, "\n") > 1 {
				t.Errorf("said %q, want %q", line, tt.says)
			}
			if stdout.Len() > 0 {
				t.Errorf("printed on stdout: %q", stdout.String())
			}
		})
	}
}
