package e2e

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestProxies: nginx and HAProxy, with the files of deploy/proxies, in front of a
// viaduct that is started as their page says. A browser registers through them
// and is called, and viaduct knows where it is.
func TestProxies(t *testing.T) {
	for i, proxy := range []struct {
		name, heading string
		start         func(t *testing.T, host Host, folder string)
	}{
		{"nginx", "nginx", startNginx},
		{"haproxy", "HAProxy", startHAProxy},
	} {
		stack := []Stack{JsSIP, SIPJS}[i]
		t.Run(proxy.name, func(t *testing.T) {
			t.Parallel()
			desk, server, reachable := newOffice(t)
			pbx := startKamailioWith(t, server, PBXOptions{Port: 5060})
			_, section, _ := strings.Cut(readPage(t, "proxies/README.md"), "\n## "+proxy.heading+"\n")
			binary, err := filepath.Abs(viaductBinary)
			if err != nil {
				t.Fatal(err)
			}
			commands := strings.NewReplacer("./viaduct", binary, "https://phone.example.org", browser.Origin()).Replace(blocksOf(section)[0].Text)
			viaduct := startShell(t, desk, ".", commands)
			viaduct.Output.WaitFor(t, "an answer", func(line string) bool { return strings.Contains(line, "upstream answered") })
			proxy.start(t, desk, proxyFolder(t, reachable))

			via := &Viaduct{
				WebSocket: "wss://" + reachable.String() + ":443/ws", SIP: netip.AddrPortFrom(desk.IP, 5070), host: desk, process: viaduct,
			}
			lab := &Lab{Stack: stack, Leg: Leg{"udp", "wss"}, Host: server, PBX: pbx, Via: via, t: t}
			t.Cleanup(lab.finish)
			wantCallable(t, lab, lab.Registered("alice"), 1)
			connected := viaduct.Output.WaitFor(t, "the browser in the log", func(line string) bool { return strings.Contains(line, "browser connected") })
			if !strings.Contains(connected, `"`+desk.Harness.String()) {
				t.Errorf("the browser is at %s; log: %s", desk.Harness, connected)
			}
		})
	}
}

// proxyFolder has the certificate of a proxy, as nginx and HAProxy want it.
func proxyFolder(t *testing.T, at netip.Addr) string {
	t.Helper()
	folder := tempDir(t)
	certFile, keyFile := issue(t, "proxy", at.String())
	var both bytes.Buffer
	for from, to := range map[string]string{certFile: "cert.pem", keyFile: "key.pem"} {
		text, err := os.ReadFile(from)
		if err != nil {
			t.Fatal(err)
		}
		both.Write(text)
		writePage(t, filepath.Join(folder, to), string(text))
	}
	writePage(t, filepath.Join(folder, "haproxy.pem"), both.String())
	return folder
}

// startNginx starts nginx with deploy/proxies/nginx.conf as its one site.
func startNginx(t *testing.T, host Host, folder string) {
	t.Helper()
	writePage(t, filepath.Join(folder, "site"), strings.ReplaceAll(readPage(t, "proxies/nginx.conf"), "/etc/viaduct", folder))
	config := filepath.Join(folder, "nginx.conf")
	writePage(t, config, strings.ReplaceAll(`daemon off;
user root;
error_log stderr notice;
pid FOLDER/pid;
events {}
http {
	access_log off;
	client_body_temp_path FOLDER/body;
	proxy_temp_path FOLDER/proxy;
	fastcgi_temp_path FOLDER/fastcgi;
	uwsgi_temp_path FOLDER/uwsgi;
	scgi_temp_path FOLDER/scgi;
	include FOLDER/site;
}
`, "FOLDER", folder))
	nginx := startProcess(t, "nginx", host.command("nginx", "-e", "stderr", "-c", config))
	nginx.Output.WaitFor(t, "nginx to serve", func(line string) bool { return strings.Contains(line, "start worker process ") })
}

// startHAProxy starts HAProxy with deploy/proxies/haproxy.cfg.
func startHAProxy(t *testing.T, host Host, folder string) {
	t.Helper()
	config := filepath.Join(folder, "haproxy.cfg")
	writePage(t, config, strings.ReplaceAll(readPage(t, "proxies/haproxy.cfg"), "/etc/viaduct", folder))
	haproxy := startProcess(t, "haproxy", host.command("haproxy", "-W", "-db", "-f", config))
	haproxy.Output.WaitFor(t, "HAProxy to serve", func(line string) bool { return strings.Contains(line, "Loading success") })
}
