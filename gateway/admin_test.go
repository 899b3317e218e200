package gateway

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// withAdmin gives the gateway its admin listener.
func withAdmin(c *Config) { c.Admin = "127.0.0.1:0" }

// ask makes a request to the admin listener.
func (l *lab) ask(method, path string) (status int, header http.Header, body string) {
	l.t.Helper()
	request, err := http.NewRequest(method, l.bound.Admin+path, http.NoBody)
	if err != nil {
		l.t.Fatal(err)
	}
	response, err := (&http.Client{Timeout: 2 * patience, Transport: &http.Transport{DisableKeepAlives: true}}).Do(request)
	if err != nil {
		l.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err != nil {
		l.t.Fatal(err)
	}
	return response.StatusCode, response.Header, string(text)
}

// expectReady checks what /readyz says; it is ready if nothing is missing.
func (l *lab) expectReady(missing ...string) {
	l.t.Helper()
	want, wantText := http.StatusOK, "ok\n"
	if len(missing) > 0 {
		want, wantText = http.StatusServiceUnavailable, strings.Join(missing, "\n")+"\n"
	}
	if status, _, text := l.ask(http.MethodGet, "/readyz"); status != want || text != wantText {
		l.t.Errorf("/readyz answers %d %q, want %d %q", status, text, want, wantText)
	}
}

func TestAdminPages(t *testing.T) {
	l := newLab(t, withAdmin)
	tests := []struct {
		method, path string
		status       int
		holds        string
	}{
		{http.MethodGet, "/healthz", http.StatusOK, "ok\n"},
		{http.MethodHead, "/healthz", http.StatusOK, ""},
		{http.MethodPost, "/healthz", http.StatusMethodNotAllowed, ""},
		{http.MethodHead, "/readyz", http.StatusServiceUnavailable, ""},
		{http.MethodDelete, "/readyz", http.StatusMethodNotAllowed, ""},
		{http.MethodGet, "/metrics", http.StatusOK, "\nviaduct_connections 0\n"},
		{http.MethodGet, "/metrics", http.StatusOK, "\ngo_goroutines "},
		{http.MethodPost, "/metrics", http.StatusMethodNotAllowed, ""},
		{http.MethodGet, "/", http.StatusNotFound, ""},
		{http.MethodGet, "/ws", http.StatusNotFound, ""},
		{http.MethodGet, "/debug/pprof/", http.StatusNotFound, ""},
	}
	for _, tt := range tests {
		l.run(tt.method+" "+tt.path, func() {
			status, header, body := l.ask(tt.method, tt.path)
			if status != tt.status || !strings.Contains(body, tt.holds) {
				l.t.Errorf("%d %q, want %d and in it %q", status, body, tt.status, tt.holds)
			}
			if kind := header.Get("Content-Type"); status == http.StatusOK && !strings.HasPrefix(kind, "text/plain") {
				l.t.Errorf("Content-Type %q", kind)
			}
		})
	}
}

// TestAdminIsBounded: a request that is larger than any that is meant is refused.
func TestAdminIsBounded(t *testing.T) {
	l := newLab(t, withAdmin)
	conn, err := net.Dial("tcp", strings.TrimPrefix(l.bound.Admin, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	_, _ = io.WriteString(conn, "GET /healthz HTTP/1.1\r\nHost: gw\r\nX: "+strings.Repeat("x", 4*maxAdminHeader)+"\r\n\r\n")
	response, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	if response.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("answered %s", response.Status)
	}
}

// TestReady: an upstream has to answer, and to go on doing so.
func TestReady(t *testing.T) {
	l := preparedLab(t)
	withAdmin(&l.cfg)
	silent := l.newPBX()
	l.cfg.Upstreams = append(l.cfg.Upstreams, upstreams(t, "sip:"+silent.addr())...)
	verdicts := answered(l)
	l.start()
	l.expectReady("upstreams: none of 2 answers")

	l.pbx.send(l.pbx.next().reply("404 Not Found"))
	l.await(verdicts, patience)
	l.expectReady()
	l.expectUp(1, 0)
	l.gw.suspect(l.gw.upstreams[0], errors.New("gone"))
	l.expectReady("upstreams: none of 2 answers")
	l.expectUp(0, 0)
}

// expectUp checks what the metrics say of each upstream.
func (l *lab) expectUp(want ...float64) {
	l.t.Helper()
	values, _ := l.gathered(l.gw.registry())
	for i, up := range l.gw.upstreams {
		if got := values[fmt.Sprintf("viaduct_upstream_up{upstream=%q}", up)]; got != want[i] {
			l.t.Errorf("viaduct_upstream_up of %s is %v, want %v", up, got, want[i])
		}
	}
}

// TestReadyInADrain: who balances load is told before anything closes, and as
// long as it lasts.
func TestReadyInADrain(t *testing.T) {
	l := preparedLab(t)
	withAdmin(&l.cfg)
	verdicts := answered(l)
	l.start()
	l.pbx.send(l.pbx.next().reply("200 OK"))
	l.await(verdicts, patience)
	p := l.phone("alice")
	l.up(p, p.invite("sip:bob@pbx.example"))
	l.expectReady()

	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		l.stop()
	}()
	l.log.await("draining", 1)
	l.expectReady("drain: has begun")
	if status, _, _ := l.ask(http.MethodGet, "/healthz"); status != http.StatusOK {
		t.Errorf("not healthy in a drain: %d", status)
	}
	l.hangUp(p.browser)
	<-stopped
	if conn, err := net.Dial("tcp", strings.TrimPrefix(l.bound.Admin, "http://")); err == nil {
		conn.Close()
		t.Error("the admin listener outlives the gateway")
	}
}

// TestAdminTaken: an address in use is an error of that flag, and nothing stays open.
func TestAdminTaken(t *testing.T) {
	l := preparedLab(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	l.cfg.Admin = taken.Addr().String()
	gw, err := New(l.cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := gw.Serve(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "--admin: ") {
		t.Errorf("Serve: %v", err)
	}
}

// TestAdminClosesWithTheOthers: where another listener cannot be opened, the admin
// listener is closed again.
func TestAdminClosesWithTheOthers(t *testing.T) {
	l := preparedLab(t)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	withAdmin(&l.cfg)
	l.cfg.Listen = []string{taken.Addr().String()}
	gw, err := New(l.cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := gw.Serve(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "--listen: ") {
		t.Errorf("Serve: %v", err)
	}
	again, err := net.Listen("tcp", strings.TrimPrefix(gw.admin.url(), "http://"))
	if err != nil {
		t.Fatalf("the admin listener is open still: %v", err)
	}
	again.Close()
}
