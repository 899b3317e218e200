package ladder

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"

	"viaduct/gateway"
)

// lab is a gateway that serves the ladder itself, as the demo does, with one
// browser and with nobody at the other end.
type lab struct {
	testing.TB
	gateway *gateway.Gateway
	url     string // of the ladder, with a slash
	browser net.Conn
}

const limit = 5 * time.Second

func newLab(t testing.TB) *lab {
	t.Helper()
	l := &lab{TB: t}
	upstream, err := gateway.ParseUpstream("sip:127.0.0.1:9")
	if err != nil {
		t.Fatal(err)
	}
	ready := make(chan gateway.Bound, 1)
	l.gateway, err = gateway.New(gateway.Config{
		Listen: []string{"127.0.0.1:0"}, SIPListen: "127.0.0.1:0", Upstreams: []gateway.Upstream{upstream},
		Other: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.StripPrefix("/ladder", Handler(l.gateway)).ServeHTTP(w, r)
		}),
		Ready: func(b gateway.Bound) { ready <- b },
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- l.gateway.Serve(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	var bound gateway.Bound
	select {
	case bound = <-ready:
	case err := <-served:
		t.Fatal(err)
	}
	host := strings.TrimSuffix(strings.TrimPrefix(bound.WebSocket[0], "ws://"), "/ws")
	l.url = "http://" + host + "/ladder/"
	dialer := ws.Dialer{Protocols: []string{"sip"}, Timeout: limit}
	if l.browser, _, _, err = dialer.Dial(ctx, bound.WebSocket[0]); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.browser.Close() })
	return l
}

// get asks for a file of the ladder; the connection is closed when the test ends.
func (l *lab) get(file string, header ...string) *http.Response {
	l.Helper()
	req, err := http.NewRequestWithContext(l.Context(), http.MethodGet, l.url+file, http.NoBody)
	if err != nil {
		l.Fatal(err)
	}
	for _, h := range header {
		if h == "" {
			continue
		}
		name, value, _ := strings.Cut(h, ": ")
		req.Header.Set(name, value)
	}
	res, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(req)
	if err != nil {
		l.Fatal(err)
	}
	l.Cleanup(func() { res.Body.Close() })
	return res
}

// refused sends what the gateway answers by itself, and reads the answer.
func (l *lab) refused(callID string) {
	l.Helper()
	msg := "OPTIONS sip:bob@pbx.example SIP/2.0\r\nVia: SIP/2.0/WSS a.invalid;branch=z9hG4bK1\r\nMax-Forwards: 0\r\n" +
		"To: <sip:bob@pbx.example>\r\nFrom: <sip:alice@pbx.example>;tag=1\r\nCall-ID: " + callID + "\r\nCSeq: 1 OPTIONS\r\n" +
		"Authorization: Digest response=\"6629fae49393a05397450978507c4ef1\"\r\nSubject: </script>\u2028é\r\nContent-Length: 0\r\n\r\n"
	if err := wsutil.WriteClientText(l.browser, []byte(msg)); err != nil {
		l.Fatal(err)
	}
	if _, err := wsutil.ReadServerText(l.browser); err != nil {
		l.Fatal(err)
	}
}

// TestEvents: what passes comes as Server-Sent Events, each one JSON object.
func TestEvents(t *testing.T) {
	l := newLab(t)
	res := l.get("events")
	if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != "text/event-stream" || res.Header.Get("Cache-Control") != "no-store" {
		t.Fatal(res.Status, res.Header)
	}
	in := bufio.NewScanner(res.Body)
	for i := range 3 {
		l.refused(fmt.Sprint("call-", i))
		name, data := readEvent(t, in)
		var got map[string]string
		if err := json.Unmarshal([]byte(data), &got); err != nil || name != "sip" {
			t.Fatal(name, data, err)
		}
		if strings.Contains(data, "6629fae4") || strings.Contains(data, "</script>") {
			t.Errorf("shown: %s", data)
		}
		for field, want := range map[string]string{
			"callId": fmt.Sprint("call-", i), "direction": "up", "kind": "answered", "reason": "max_forwards",
			"startLine": "OPTIONS sip:bob@pbx.example SIP/2.0", "browser": l.browser.LocalAddr().String(),
		} {
			if got[field] != want {
				t.Errorf("%s is %q, want %q", field, got[field], want)
			}
		}
		if !strings.Contains(got["before"], "\r\nSubject: </script>\u2028é\r\n") || !strings.HasPrefix(got["after"], "SIP/2.0 483 Too Many Hops\r\n") {
			t.Errorf("before\n%s\nafter\n%s", got["before"], got["after"])
		}
		if _, err := time.Parse(time.RFC3339Nano, got["time"]); err != nil {
			t.Error(err)
		}
	}
}

// readEvent reads the next event that is no comment.
func readEvent(t testing.TB, in *bufio.Scanner) (name, data string) {
	t.Helper()
	for in.Scan() {
		switch field, value, _ := strings.Cut(in.Text(), ": "); {
		case field == "event":
			name = value
		case field == "data":
			data = value
		case field == "" && name != "":
			return name, data
		}
	}
	t.Fatal("the events end", in.Err())
	return "", ""
}

// TestHeartbeat: a stream of nothing is kept alive, and ends with its request.
func TestHeartbeat(t *testing.T) {
	l := newLab(t)
	ctx, cancel := context.WithCancel(t.Context())
	written := make(chan string)
	w := &pipe{ResponseRecorder: httptest.NewRecorder(), written: written}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		(&stream{gateway: l.gateway, heartbeat: time.Millisecond}).ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, "/events", http.NoBody))
	}()
	for _, want := range []string{"retry: 1000\n\n", ":\n\n", ":\n\n"} {
		if got := <-written; got != want {
			t.Errorf("written %q, want %q", got, want)
		}
	}
	cancel()
	for {
		select {
		case <-written:
			continue
		case <-ended:
		}
		break
	}
}

// pipe hands on what is written.
type pipe struct {
	*httptest.ResponseRecorder
	written chan<- string
}

func (p *pipe) Write(b []byte) (int, error) {
	p.written <- string(b)
	return len(b), nil
}

// TestViewersLeave: the places of viewers are few, and free again when their
// requests have ended; nothing runs on for them.
func TestViewersLeave(t *testing.T) {
	l := newLab(t)
	before := runtime.NumGoroutine()
	var open []*http.Response
	res := l.get("events")
	for ; res.StatusCode == http.StatusOK; res = l.get("events") {
		if open = append(open, res); len(open) > 100 {
			t.Fatal("there is no cap")
		}
	}
	if res.StatusCode != http.StatusServiceUnavailable || res.Header.Get("Retry-After") == "" {
		t.Fatal(res.Status, res.Header)
	}
	res.Body.Close()
	for _, res := range open {
		res.Body.Close()
	}
	deadline := time.Now().Add(limit)
	for res = l.get("events"); res.StatusCode != http.StatusOK; res = l.get("events") {
		if res.Body.Close(); time.Now().After(deadline) {
			t.Fatal("no place is free again:", res.Status)
		}
	}
	res.Body.Close()
	for runtime.NumGoroutine() > before {
		if time.Now().After(deadline) {
			buf := make([]byte, 1<<20)
			t.Fatalf("%d goroutines, %d before\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
		}
		<-time.After(time.Millisecond)
	}
}

// TestFiles: what a page loads is there, typed, and for its own origin alone.
func TestFiles(t *testing.T) {
	l := newLab(t)
	for file, contentType := range map[string]string{
		"ladder.js":  "text/javascript; charset=utf-8",
		"view.js":    "text/javascript; charset=utf-8",
		"pcap.js":    "text/javascript; charset=utf-8",
		"message.js": "text/javascript; charset=utf-8",
		"ladder.css": "text/css; charset=utf-8",
	} {
		res := l.get(file)
		text, err := io.ReadAll(res.Body)
		if res.StatusCode != http.StatusOK || err != nil || len(text) == 0 || res.Header.Get("Content-Type") != contentType {
			t.Errorf("%s: %s, %d bytes of %q, %v", file, res.Status, len(text), res.Header.Get("Content-Type"), err)
		}
		if res.Header.Get("X-Content-Type-Options") != "nosniff" || res.Header.Get("Cross-Origin-Resource-Policy") != "same-origin" {
			t.Errorf("%s: %v", file, res.Header)
		}
	}
	host := strings.TrimSuffix(strings.TrimPrefix(l.url, "http://"), "/ladder/")
	for _, test := range []struct {
		file, header string
		status       int
	}{
		{"", "", http.StatusNotFound},
		{"ladder.go", "", http.StatusNotFound},
		{"..%2fladder.go", "", http.StatusNotFound},
		{"events", "Origin: http://" + host, http.StatusOK},
		{"events", "Origin: http://evil.example", http.StatusForbidden},
		{"events", "Origin: null", http.StatusForbidden},
		{"events", "Sec-Fetch-Site: cross-site", http.StatusForbidden},
		{"events", "Sec-Fetch-Site: same-site", http.StatusForbidden},
		{"events", "Sec-Fetch-Site: same-origin", http.StatusOK},
	} {
		if res := l.get(test.file, test.header); res.StatusCode != test.status {
			t.Errorf("%q with %q: %s, want %d", test.file, test.header, res.Status, test.status)
		} else {
			res.Body.Close()
		}
	}
}

// TestFilter: a viewer gets what its address asks for; one that asks for what there
// is not is told so.
func TestFilter(t *testing.T) {
	l := newLab(t)
	res := l.get("events?call-id=wanted&user=alice")
	if res.StatusCode != http.StatusOK {
		t.Fatal(res.Status)
	}
	in := bufio.NewScanner(res.Body)
	l.refused("other")
	l.refused("wanted")
	if _, data := readEvent(t, in); !strings.Contains(data, `"callId":"wanted"`) {
		t.Errorf("shown: %s", data)
	}
	for _, query := range []string{
		"call-id=a&call-id=b", "call-id=" + strings.Repeat("x", 1025), "connection=x", "connection=0", "connection=", "connection=11112222333344445", "tag=1",
	} {
		if res := l.get("events?" + query); res.StatusCode != http.StatusBadRequest {
			t.Errorf("%.30s: %s", query, res.Status)
		}
	}
	if res := l.get("events?connection=af09"); res.StatusCode != http.StatusOK {
		t.Error(res.Status)
	}
}

// TestPage: the page has its files, which may load nothing from elsewhere, and the
// element's.
func TestPage(t *testing.T) {
	served := httptest.NewServer(http.StripPrefix("/trace", Page(nil)))
	defer served.Close()
	for file, contentType := range map[string]string{
		"":           "text/html; charset=utf-8",
		"page.js":    "text/javascript; charset=utf-8",
		"page.css":   "text/css; charset=utf-8",
		"icon.svg":   "image/svg+xml",
		"ladder.js":  "text/javascript; charset=utf-8",
		"ladder.css": "text/css; charset=utf-8",
		"page.html":  "",
		"page/":      "",
	} {
		res, err := http.Get(served.URL + "/trace/" + file)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if got := res.Header.Get("Content-Type"); contentType != "" && (res.StatusCode != http.StatusOK || got != contentType) {
			t.Errorf("%q: %s, %q", file, res.Status, got)
		}
		if contentType == "" && res.StatusCode != http.StatusNotFound {
			t.Errorf("%q: %s", file, res.Status)
		}
		if policy := res.Header.Get("Content-Security-Policy"); !strings.Contains(policy, "default-src 'none'") || !strings.Contains(policy, "frame-ancestors 'none'") {
			t.Errorf("%q: policy %q", file, policy)
		}
	}
}
