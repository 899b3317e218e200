package gateway

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// TestOnlyHere: what the admin listener shows of calls and of the process is for
// this machine's own clients, and for no page of another site.
func TestOnlyHere(t *testing.T) {
	const here, port = "127.0.0.1:40000", ":8081"
	guarded := onlyHere(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	for _, test := range []struct {
		from, host, header string
		status             int
	}{
		{here, "127.0.0.1" + port, "", http.StatusOK},
		{here, "localhost" + port, "", http.StatusOK},
		{here, "localhost", "", http.StatusOK}, // port 80 of a tunnel
		{here, "127.0.0.2" + port, "", http.StatusOK},
		{"[::1]:40000", "[::1]" + port, "", http.StatusOK},
		{"[::ffff:127.0.0.1]:40000", "127.0.0.1" + port, "", http.StatusOK},
		{here, "localhost" + port, "Origin: http://localhost:8081", http.StatusOK},
		{here, "localhost" + port, "Sec-Fetch-Site: same-origin", http.StatusOK},
		{here, "localhost" + port, "Sec-Fetch-Site: none", http.StatusOK},

		// From elsewhere: a pod of the cluster, the machine's own other address, a sidecar.
		{"10.0.0.9:40000", "127.0.0.1" + port, "", http.StatusForbidden},
		{"[2001:db8::9]:40000", "localhost" + port, "", http.StatusForbidden},
		{"127.0.0.6:40000", "127.0.0.1" + port, "", http.StatusForbidden},
		{here, "127.0.0.1" + port, "X-Forwarded-For: 192.0.2.9", http.StatusForbidden},
		{here, "127.0.0.1" + port, "Forwarded: for=192.0.2.9", http.StatusForbidden},
		{here, "127.0.0.1" + port, "X-Real-IP: 192.0.2.9", http.StatusForbidden},
		{"@", "127.0.0.1" + port, "", http.StatusForbidden},
		// A name that leads here.
		{here, "evil.example" + port, "", http.StatusForbidden},
		{here, "localhost.evil.example", "", http.StatusForbidden},
		{here, "127.0.0.1.evil.example", "", http.StatusForbidden},
		{here, "10.0.0.7" + port, "", http.StatusForbidden},
		{here, "", "", http.StatusForbidden},
		// A page of another site.
		{here, "localhost" + port, "Origin: http://evil.example", http.StatusForbidden},
		{here, "localhost" + port, "Origin: http://localhost:3000", http.StatusForbidden},
		{here, "localhost" + port, "Origin: null", http.StatusForbidden},
		{here, "localhost" + port, "Sec-Fetch-Site: cross-site", http.StatusForbidden},
		{here, "localhost" + port, "Sec-Fetch-Site: same-site", http.StatusForbidden},
	} {
		r := httptest.NewRequest(http.MethodGet, "/trace", http.NoBody)
		r.RemoteAddr, r.Host = test.from, test.host
		if name, value, found := strings.Cut(test.header, ": "); found {
			r.Header.Set(name, value)
		}
		answer := httptest.NewRecorder()
		guarded.ServeHTTP(answer, r)
		if answer.Code != test.status {
			t.Errorf("%s asks %q with %q: %d %q, want %d", test.from, test.host, test.header, answer.Code, answer.Body, test.status)
		}
		if test.status == http.StatusForbidden {
			t.Logf("attack: the trace asked for from %s by the name %q with header %q | answered 403 | none", test.from, test.host, test.header)
		}
		for name, want := range map[string]string{
			"Cache-Control": "no-store", "X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff",
			"Cross-Origin-Resource-Policy": "same-origin", "Referrer-Policy": "no-referrer",
		} {
			if got := answer.Header().Get(name); got != want {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
		}
	}
}

// TestProfiles: they are there if asked for, and for this machine's own clients.
func TestProfiles(t *testing.T) {
	t.Parallel() // one takes longer than a request may
	l := newLab(t, withAdmin, func(c *Config) { c.AdminPprof = true })
	for _, test := range []struct {
		path   string
		status int
		holds  string
	}{
		{"", http.StatusOK, "goroutine"},
		{"heap?gc=1&debug=1", http.StatusOK, "heap profile:"},
		{"cmdline", http.StatusOK, "gateway.test"},
		{"profile?seconds=1", http.StatusOK, "\x1f\x8b"}, // gzip
		{"trace?seconds=0.01", http.StatusOK, "trace\x00"},
		{"symbol", http.StatusOK, "num_symbols: 1"},
		{"goroutine?seconds=6", http.StatusOK, "\x1f\x8b"},
		{"nothing", http.StatusNotFound, ""},
	} {
		if status, _, body := l.ask(http.MethodGet, "/debug/pprof/"+test.path); status != test.status || !strings.Contains(body, test.holds) {
			t.Errorf("%q answers %d and %d bytes, want %d and in them %q", test.path, status, len(body), test.status, test.holds)
		}
	}
	if status, _ := l.askFrom("127.0.0.6", "/debug/pprof/cmdline"); status != http.StatusForbidden {
		t.Errorf("a sidecar gets %d", status)
	}
	if status, _ := l.askFrom("127.0.0.6", "/healthz"); status != http.StatusOK {
		t.Errorf("a probe through a sidecar gets %d", status)
	}
}

// askFrom makes a request to the admin listener from an address of this machine.
func (l *lab) askFrom(addr, path string) (status int, body string) {
	l.t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(addr)}}
	client := http.Client{Timeout: patience, Transport: &http.Transport{DialContext: dialer.DialContext, DisableKeepAlives: true}}
	response, err := client.Get(l.bound.Admin + path)
	if err != nil {
		l.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		l.t.Fatal(err)
	}
	return response.StatusCode, string(text)
}

// TestOtherPages: what is added to the admin listener is for this machine's own clients.
func TestOtherPages(t *testing.T) {
	l := newLab(t, withAdmin, func(c *Config) {
		c.AdminOther = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "other "+r.URL.Path) })
	})
	if status, header, body := l.ask(http.MethodGet, "/trace/x"); status != http.StatusOK || body != "other /trace/x" || header.Get("X-Frame-Options") != "DENY" {
		t.Errorf("%d %q %v", status, body, header)
	}
	if status, _, body := l.ask(http.MethodGet, "/healthz"); status != http.StatusOK || body != "ok\n" {
		t.Errorf("/healthz: %d %q", status, body)
	}
	if status, body := l.askFrom("127.0.0.6", "/trace/"); status != http.StatusForbidden || !strings.Contains(body, "only for clients on this machine") {
		t.Errorf("a sidecar gets %d %q", status, body)
	}
}
