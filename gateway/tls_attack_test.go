package gateway

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"viaduct/transport"
)

// wssLab is a gateway whose browsers come by TLS.
type wssLab struct {
	*lab
	ca *authority
}

func newWSSLab(t *testing.T, options ...func(*Config)) *wssLab {
	t.Helper()
	l := &wssLab{preparedLab(t), newAuthority(t)}
	l.cfg.TLSCert, l.cfg.TLSKey = l.ca.issue("web")
	for _, option := range options {
		option(&l.cfg)
	}
	l.tls = l.ca.config(l.ca.issue("browser"))
	l.tls.Certificates = nil
	l.start()
	return l
}

// connects makes a handshake of TLS and one of WebSocket on it; the error is that
// of either.
func (l *wssLab) connects(cfg *tls.Config) (*tls.Conn, error) {
	l.t.Helper()
	conn, err := tls.Dial("tcp", l.webAddr(), cfg)
	if err != nil {
		return nil, err
	}
	l.t.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(patience))
	_, _ = fmt.Fprint(conn, "GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: sip\r\n\r\n")
	answer := make([]byte, len("HTTP/1.1 101"))
	// In TLS 1.3 a client hears only now that it was not accepted.
	if _, err := conn.Read(answer); err != nil {
		return nil, err
	}
	if string(answer) != "HTTP/1.1 101" {
		return nil, errors.New(string(answer))
	}
	return conn, nil
}

// refusedTLS waits until so many connections were counted as ended without a request.
func (l *wssLab) refusedTLS(n uint64) {
	l.t.Helper()
	for deadline := time.After(patience); l.gw.Refused(transport.RefusedUnfinished) < n; {
		select {
		case <-l.log.written:
		case <-time.After(10 * time.Millisecond): // it is counted after the other end has been told
		case <-deadline:
			l.t.Fatalf("%v counts %d, want %d", transport.RefusedUnfinished, l.gw.Refused(transport.RefusedUnfinished), n)
		}
	}
}

// TestAttackTLSVersion: what is older than wanted, or weak, is not spoken.
func TestAttackTLSVersion(t *testing.T) {
	weak := []uint16{tls.TLS_RSA_WITH_AES_128_CBC_SHA, tls.TLS_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_RSA_WITH_3DES_EDE_CBC_SHA,
		tls.TLS_ECDHE_RSA_WITH_RC4_128_SHA, tls.TLS_ECDHE_ECDSA_WITH_RC4_128_SHA}
	for _, test := range []struct {
		least, name string
		client      *tls.Config
		ok          bool
	}{
		{"1.2", "TLS 1.0", &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10}, false},
		{"1.2", "TLS 1.1", &tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, false},
		{"1.2", "TLS 1.2", &tls.Config{MaxVersion: tls.VersionTLS12}, true},
		{"1.2", "TLS 1.2 with nothing but weak ciphers", &tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: weak}, false},
		{"1.2", "TLS 1.3", &tls.Config{MinVersion: tls.VersionTLS13}, true},
		{"1.3", "TLS 1.2", &tls.Config{MaxVersion: tls.VersionTLS12}, false},
		{"1.3", "TLS 1.3", &tls.Config{}, true},
	} {
		t.Run(test.name+" of "+test.least, func(t *testing.T) {
			l := newWSSLab(t, func(c *Config) { c.TLSMinVersion = test.least })
			test.client.RootCAs, test.client.ServerName = l.tls.RootCAs, "127.0.0.1"
			_, err := l.connects(test.client)
			if (err == nil) != test.ok {
				t.Errorf("error %v", err)
			}
			if test.ok {
				return
			}
			l.refusedTLS(1)
			t.Logf("attack: %s to a listener of TLS %s or better | refused in the handshake of TLS | viaduct_handshakes_total{outcome=\"%s\"} 1", test.name, test.least, transport.RefusedUnfinished)
		})
	}
}

// pair is issue for who wants no files.
func (a *authority) pair(name string, options ...func(*x509.Certificate)) tls.Certificate {
	a.t.Helper()
	cert, err := tls.LoadX509KeyPair(a.issue(name, options...))
	if err != nil {
		a.t.Fatal(err)
	}
	return cert
}

func expired(template *x509.Certificate) {
	template.NotBefore, template.NotAfter = time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour)
}

func notYet(template *x509.Certificate) {
	template.NotBefore, template.NotAfter = time.Now().Add(time.Hour), time.Now().Add(2*time.Hour)
}

// TestAttackClientCertificate: with --tls-client-ca nobody comes in without the
// right certificate, in either version of TLS.
func TestAttackClientCertificate(t *testing.T) {
	clients := newAuthority(t)
	l := newWSSLab(t, func(c *Config) { c.TLSClientCA = clients.file() })
	other := newAuthority(t)
	for name, certificates := range map[string][]tls.Certificate{
		"no certificate":                    nil,
		"one of another authority":          {other.pair("a")},
		"one of the listener's authority":   {l.ca.pair("a")},
		"one that signed itself":            {selfSigned(t)},
		"one that has expired":              {clients.pair("a", expired)},
		"one that is not valid yet":         {clients.pair("a", notYet)},
		"one of a server":                   {clients.pair("a", func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })},
		"one with the authority behind it":  {behind(other.pair("a"), clients.cert)},
		"one of a client that is no issuer": {issuedBy(t, clients)},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(name+", "+tls.VersionName(version), func(t *testing.T) {
				before := l.gw.Refused(transport.RefusedUnfinished)
				cfg := l.tls.Clone()
				cfg.Certificates, cfg.MinVersion, cfg.MaxVersion = certificates, version, version
				if _, err := l.connects(cfg); err == nil || !strings.Contains(err.Error(), "tls: ") {
					t.Errorf("error %v", err)
				}
				l.refusedTLS(before + 1)
				t.Logf("attack: --tls-client-ca, %s, %s | refused in the handshake of TLS | viaduct_handshakes_total{outcome=\"%s\"} 1", name, tls.VersionName(version), transport.RefusedUnfinished)
			})
		}
	}
	cfg := l.tls.Clone()
	cfg.Certificates = []tls.Certificate{clients.pair("right")}
	if _, err := l.connects(cfg); err != nil {
		t.Errorf("the right one: %v", err)
	}
}

// behind adds a certificate to a chain that it does not belong to.
func behind(cert tls.Certificate, other *x509.Certificate) tls.Certificate {
	cert.Certificate = append(cert.Certificate, other.Raw)
	return cert
}

// issuedBy returns a certificate that the holder of another one, who may issue
// none, has issued.
func issuedBy(t testing.TB, a *authority) tls.Certificate {
	t.Helper()
	holder := a.pair("holder")
	key := a.newKey()
	der, err := x509.CreateCertificate(rand.Reader, a.template(), holder.Leaf, key.Public(), holder.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der, holder.Leaf.Raw}, PrivateKey: key}
}

// selfSigned is a certificate that no authority issued.
func selfSigned(t testing.TB) tls.Certificate {
	t.Helper()
	a := newAuthority(t)
	template := a.template()
	return tls.Certificate{Certificate: [][]byte{a.sign(template, template, a.key).Raw}, PrivateKey: a.key}
}

// TestAttackResumedClient: a session that was begun with a certificate is not
// resumed when its authority is no longer one, and one that cannot be read
// replaces none.
func TestAttackResumedClient(t *testing.T) {
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			clients, later := newAuthority(t), newAuthority(t)
			l := newWSSLab(t, func(c *Config) { c.TLSClientCA = clients.file() })
			cfg := l.tls.Clone()
			cfg.Certificates = []tls.Certificate{clients.pair("a")}
			cfg.MinVersion, cfg.MaxVersion, cfg.ClientSessionCache = version, version, tls.NewLRUClientSessionCache(10)
			if _, err := l.connects(cfg); err != nil {
				t.Fatal(err)
			}
			conn, err := l.connects(cfg)
			if err != nil || !conn.ConnectionState().DidResume {
				t.Fatalf("not resumed, error %v", err)
			}

			clients.write("ca.crt", "NOTHING", nil)
			l.log.await("certificate not reloaded", 1)
			if _, err := l.connects(cfg); err != nil {
				t.Errorf("after a file without certificates: %v", err)
			}
			clients.write("ca.crt", "CERTIFICATE", later.cert.Raw)
			l.log.await("certificate reloaded", 1)
			if _, err := l.connects(cfg); err == nil {
				t.Error("a session of an authority that is gone was resumed")
			}
			cfg.Certificates, cfg.ClientSessionCache = []tls.Certificate{later.pair("a")}, nil
			if _, err := l.connects(cfg); err != nil {
				t.Errorf("by the new authority: %v", err)
			}
			t.Logf("attack: --tls-client-ca, a session resumed after its authority was replaced, %s | refused in the handshake of TLS | viaduct_handshakes_total{outcome=\"%s\"} 1",
				tls.VersionName(version), transport.RefusedUnfinished)
		})
	}
}

// TestAttackUpstreamCertificate: whoever is in the place of the SIP server
// without its certificate gets nothing.
func TestAttackUpstreamCertificate(t *testing.T) {
	for name, shown := range map[string]func(ca *authority) tls.Certificate{
		"has expired":             func(ca *authority) tls.Certificate { return ca.pair("x", expired) },
		"is not valid yet":        func(ca *authority) tls.Certificate { return ca.pair("x", notYet) },
		"signed itself":           func(*authority) tls.Certificate { return selfSigned(t) },
		"is of another authority": func(*authority) tls.Certificate { return newAuthority(t).pair("x") },
		"is of a client":          func(ca *authority) tls.Certificate { return ca.pair("x", usage(x509.ExtKeyUsageClientAuth)) },
		"is for another address":  func(ca *authority) tls.Certificate { return ca.pair("x", forAddress("127.0.0.2")) },
		"is for a name":           func(ca *authority) tls.Certificate { return ca.pair("x", forName("pbx.example")) },
		"has the address as name": func(ca *authority) tls.Certificate { return ca.pair("x", forName("127.0.0.1")) },
		"has it in its common name": func(ca *authority) tls.Certificate {
			return ca.pair("x", func(c *x509.Certificate) { c.IPAddresses, c.Subject.CommonName = nil, "127.0.0.1" })
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newTLSLab(t, func(l *tlsLab) {
				l.config.Certificates = []tls.Certificate{shown(l.ca)}
			})
			p := l.phone("alice")
			req := p.register()
			p.send(req)
			if _, err := l.accept(); err == nil {
				t.Error("the handshake succeeds")
			}
			expectAnswer(t, req, p.read(), 503)
			l.log.await("upstream down", 1)
			text := fmt.Sprint(l.log.FilterMessage("upstream down").All()[0].ContextMap()["error"])
			if !strings.Contains(text, "x509: ") {
				t.Errorf("log: %s", text)
			}
			t.Logf("attack: an upstream whose certificate %s | nothing sent, the browser is answered 503 | viaduct_dropped_total{reason=\"%s\"} %d",
				name, ReasonUpstreamUnreachable, l.gw.Dropped(ReasonUpstreamUnreachable))
		})
	}
}

func usage(usage x509.ExtKeyUsage) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{usage} }
}

func forAddress(addr string) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.ParseIP(addr)} }
}

func forName(name string) func(*x509.Certificate) {
	return func(c *x509.Certificate) { c.IPAddresses, c.DNSNames = nil, []string{name} }
}

// TestReloadUnderLoad: while browsers come, go and speak, certificates are
// renewed, broken, and replaced by one that has expired: no handshake fails and no
// connection is lost.
func TestReloadUnderLoad(t *testing.T) {
	const phones, comers, renewals = 8, 4, 5
	l := newWSSLab(t)
	var open []*phone
	for i := range phones {
		p := l.phone(fmt.Sprintf("user%d", i))
		l.registered(p)
		open = append(open, p)
	}
	stop := make(chan struct{})
	var coming sync.WaitGroup
	for range comers {
		coming.Go(func() {
			for ctx := t.Context(); ctx.Err() == nil; {
				select {
				case <-stop:
					return
				default:
				}
				conn, err := tls.Dial("tcp", l.webAddr(), l.tls)
				if err != nil {
					t.Error(err)
					return
				}
				_ = conn.Close()
			}
		})
	}
	for i := range renewals {
		l.ca.issue("web")
		l.log.await("certificate reloaded", i+1)
		for _, p := range open {
			l.expectAlive(p)
		}
	}
	good := l.gw.browserTLS.Expiry()
	for i, spoil := range []func(){
		func() { l.ca.issue("web", expired) },
		func() { _ = os.WriteFile(l.cfg.TLSCert, []byte("nonsense"), 0o600) },
		func() { _ = os.Remove(l.cfg.TLSKey) },
	} {
		spoil()
		l.log.await("certificate not reloaded", i+1)
		for _, p := range open {
			l.expectAlive(p)
		}
	}
	close(stop)
	coming.Wait()
	if now := l.gw.browserTLS.Expiry(); !now.Equal(good) {
		t.Errorf("the certificate in use ends %v, not %v", now, good)
	}
	if l.log.count("browser gone") > 0 {
		t.Error("a connection was lost")
	}
	t.Logf("attack: %d renewals, an expired, a broken and a missing certificate under load | no handshake of TLS failed, no connection was lost | viaduct_connections %d",
		renewals, phones)
}

// TestExpiredCertificate: one that has expired is better than none, but is said
// to be; its renewal takes its place.
func TestExpiredCertificate(t *testing.T) {
	ca := newAuthority(t)
	l := newLab(t, func(c *Config) { c.TLSCert, c.TLSKey = ca.issue("web", expired) })
	l.log.await("certificate has expired", 1)
	if flag := l.log.FilterMessage("certificate has expired").All()[0].ContextMap()["flag"]; flag != "--tls-cert" {
		t.Errorf("of %v", flag)
	}
	ca.issue("web")
	l.log.await("certificate reloaded", 1)
	if _, err := http.Get("https://" + l.webAddr()); err == nil || strings.Contains(err.Error(), "expired") {
		t.Errorf("error %v", err) // an unknown authority
	}
}
