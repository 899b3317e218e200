package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestOneFlag: --upstream is all that viaduct needs to be told. The browser comes
// by way of a web server in front of viaduct that has the page, too, so that the
// page's origin is the WebSocket's own host.
func TestOneFlag(t *testing.T) {
	t.Parallel()
	host := newNamespace(t)
	pbx := startKamailio(t, host)
	home := tempDir(t)
	via := startPlainViaduct(t, host, []string{"HOME=" + home}, "--upstream="+pbx.Upstream("udp"))
	listening := via.WaitLog(t, "listening").Fields
	for field, want := range map[string]string{
		"websocket":  "[ws://localhost:8080/ws]",
		"advertised": fmt.Sprintf("[UDP %s:5070]", host.IP),
	} {
		if got := fmt.Sprint(listening[field]); got != want {
			t.Errorf("%s: %s, want %s", field, got, want)
		}
	}
	answered := via.WaitLog(t, "upstream answered").Fields
	if answered["upstream"] != pbx.Upstream("udp") || answered["answer"] != "200 OK" {
		t.Errorf("log: %v", answered)
	}
	if key, err := os.Stat(filepath.Join(home, ".local", "state", "viaduct", "token.key")); err != nil || key.Mode().Perm() != 0o600 {
		t.Errorf("the key file: %v, %v", key, err)
	}

	via.SIP = netip.AddrPortFrom(host.IP, 5070)
	site := serveInFront(t, netip.AddrPortFrom(host.IP, 8080))
	lab := &Lab{Stack: JsSIP, Leg: Leg{"udp", "ws"}, Host: host, PBX: pbx, Via: via, t: t}
	t.Cleanup(lab.finish)
	page := lab.PageWith(JsSIP, PageOptions{Site: site.URL})
	phone := lab.PhoneIn(page, "alice", PhoneOptions{WebSocket: strings.Replace(site.URL, "http:", "ws:", 1) + "/ws"})
	phone.Register(t)
	wantCallable(t, lab, phone, 1)
}

// serveInFront is a web server that has the pages and passes /ws on, with the
// Host that the browser asked for.
func serveInFront(t *testing.T, viaduct netip.AddrPort) *httptest.Server {
	t.Helper()
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: viaduct.String()})
		r.Out.Host = r.In.Host
	}}
	mux := http.NewServeMux()
	mux.Handle("/ws", proxy)
	mux.Handle("/", http.FileServer(http.Dir("browser")))
	site := httptest.NewServer(mux)
	t.Cleanup(site.Close)
	return site
}

// TestEnvironment: viaduct can be told everything by its environment.
func TestEnvironment(t *testing.T) {
	t.Parallel()
	pbx := startKamailio(t, loopback)
	certFile, keyFile := issue(t, "viaduct", loopback.IP.String())
	via := startPlainViaduct(t, loopback, []string{
		"VIADUCT_UPSTREAM=" + pbx.Upstream("tcp"),
		"VIADUCT_LISTEN=127.0.0.1:0",
		"VIADUCT_PATH=/sip",
		"VIADUCT_TLS_CERT=" + certFile, "VIADUCT_TLS_KEY=" + keyFile,
		"VIADUCT_ALLOW_ORIGIN=https://phone.example," + browser.Origin(),
		"VIADUCT_SIP_LISTEN=127.0.0.1:0",
		"VIADUCT_TOKEN_KEY_FILE=" + filepath.Join(tempDir(t), "token.key"),
		"VIADUCT_ADMIN=127.0.0.1:0",
		"VIADUCT_LOG_FORMAT=json",
	})
	via.learnAddresses(t, via.WaitLog(t, "listening"))
	if !strings.HasPrefix(via.WebSocket, "wss://127.0.0.1:") || !strings.HasSuffix(via.WebSocket, "/sip") {
		t.Errorf("listening at %s", via.WebSocket)
	}
	lab := &Lab{Stack: SIPJS, Leg: Leg{"tcp", "wss"}, Host: loopback, PBX: pbx, Via: via, t: t}
	t.Cleanup(lab.finish)
	wantCallable(t, lab, lab.Registered("alice"), 1)
}

// startPlainViaduct starts viaduct with just these variables and flags.
func startPlainViaduct(t *testing.T, host Host, environment []string, flags ...string) *Viaduct {
	t.Helper()
	via := &Viaduct{host: host}
	cmd := host.command(viaductBinary, flags...)
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, environment...)
	via.process = startProcess(t, "viaduct", cmd)
	t.Cleanup(func() { via.checkOutput(t, via.process) })
	return via
}

// TestTermination: SIGTERM closes every connection with 1001, which the stacks
// take for a reason to come back later, and ends viaduct with status 0.
func TestTermination(t *testing.T) {
	for i, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(signal.String(), func(t *testing.T) {
			t.Parallel()
			lab := newLab(t, JsSIP, legs[1+3*i])
			phones := []*Phone{lab.Registered("alice"), lab.PhoneIn(lab.PageWith(SIPJS, PageOptions{}), "bob", PhoneOptions{})}
			client := lab.newWebClient()

			lab.Via.process.Signal(signal)
			wantClosed(t, client)
			wantSentAway(t, phones...)
			lab.Via.WaitExit(t)
		})
	}
}

// WaitExit waits until viaduct has ended and wants it to have done so with
// status 0.
func (v *Viaduct) WaitExit(t *testing.T) {
	t.Helper()
	select {
	case <-v.process.exited:
	case <-time.After(patience):
		t.Fatal("viaduct does not end")
	}
	if v.process.err != nil {
		t.Errorf("viaduct ended with %v, want status 0", v.process.err)
	}
}
