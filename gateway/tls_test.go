package gateway

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"viaduct/transport"
)

// tlsLab is a gateway in front of a PBX on TLS that can connect back.
type tlsLab struct {
	*lab
	ca     *authority
	server *net.TCPListener
	config *tls.Config // the PBX's
}

func newTLSLab(t *testing.T, options ...func(*tlsLab)) *tlsLab {
	t.Helper()
	l := &tlsLab{lab: preparedLab(t), ca: newAuthority(t)}
	l.server = l.listenTCP("127.0.0.1:0")
	l.config = l.ca.config(l.ca.issue("pbx"))
	l.cfg.Upstreams = upstreams(t, "sip:"+l.server.Addr().String()+";transport=tls")
	l.cfg.UpstreamCA = l.ca.file()
	l.cfg.SIPTLSListen = "127.0.0.1:0"
	l.cfg.SIPTLSCert, l.cfg.SIPTLSKey = l.ca.issue("gw")
	for _, option := range options {
		option(l)
	}
	l.start()
	return l
}

// accept returns the gateway's next connection to the PBX, its handshake done.
func (l *tlsLab) accept() (*stream, error) {
	l.t.Helper()
	conn := tls.Server(l.lab.accept(l.server).conn, l.config)
	_ = conn.SetDeadline(time.Now().Add(patience))
	return l.stream(conn), conn.Handshake()
}

// dial connects the PBX to the gateway by TLS and returns the serial number of
// the certificate it sees.
func (l *tlsLab) dial() (s *stream, serial string) {
	l.t.Helper()
	conn, err := tls.Dial("tcp", l.bound.SIPTLS.String(), l.config)
	if err != nil {
		l.t.Fatal(err)
	}
	return l.stream(conn), conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
}

// registered registers a phone by the connection that the gateway opens.
func (l *tlsLab) registered(p *phone) (token string, pbx *stream) {
	l.t.Helper()
	p.send(p.register())
	pbx, err := l.accept()
	if err != nil {
		l.t.Fatal(err)
	}
	req := pbx.read()
	pbx.send(req.reply("200 OK", "Contact: "+req.get("Contact")))
	if got := p.read(); got.start() != "SIP/2.0 200 OK" {
		l.t.Fatalf("REGISTER answered %s", got)
	}
	return req.contactURI(), pbx
}

func TestTLSUpstream(t *testing.T) {
	l := newTLSLab(t, func(l *tlsLab) {
		l.cfg.AdvertiseTLS, l.cfg.Advertise = "gw.example:5999", "wrong.example"
		l.cfg.UpstreamCert, l.cfg.UpstreamKey = l.ca.issue("client")
		l.config.ClientAuth = tls.RequireAndVerifyClientCert
	})
	p := l.phone("alice")
	token, pbx := l.registered(p)
	if !strings.HasSuffix(token, "@gw.example:5999;transport=tls") {
		t.Errorf("Contact %q", token)
	}
	p.send(p.request("MESSAGE", "sip:b@pbx.example"))
	if via := pbx.read().get("Via"); !strings.HasPrefix(via, "SIP/2.0/TLS gw.example:5999;rport;branch=") {
		t.Errorf("Via %q", via)
	}
	back, _ := l.dial()
	for _, s := range []*stream{pbx, back} {
		s.expectReached(l.lab, p, token)
	}
}

// TestUntrustedUpstream: a PBX whose certificate is of another authority, or
// that does not know ours, gets nothing.
func TestUntrustedUpstream(t *testing.T) {
	for name, option := range map[string]func(*tlsLab){
		"another authority": func(l *tlsLab) { l.cfg.UpstreamCA = newAuthority(t).file() },
		"the system's":      func(l *tlsLab) { l.cfg.UpstreamCA = "" },
		"no client certificate": func(l *tlsLab) {
			l.config.ClientAuth, l.config.MaxVersion = tls.RequireAndVerifyClientCert, tls.VersionTLS12
		},
		"no client certificate, TLS 1.3": func(l *tlsLab) {
			l.config.ClientAuth, l.config.MinVersion = tls.RequireAndVerifyClientCert, tls.VersionTLS13
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := newTLSLab(t, option)
			p := l.phone("alice")
			req := p.register()
			p.send(req)
			if _, err := l.accept(); err == nil {
				t.Error("the handshake succeeds")
			}
			expectAnswer(t, req, p.read(), 503)
			l.log.await("upstream down", 1)
			why := l.log.FilterMessage("upstream down").All()[0].ContextMap()
			if text, _ := why["error"].(string); !strings.Contains(text, "tls: ") {
				t.Errorf("log: %v", why)
			}
		})
	}
}

// TestTLSFromUDPUpstream: a peer may come by TLS though its upstream is spoken
// to by UDP; the answers go back the same way.
func TestTLSFromUDPUpstream(t *testing.T) {
	l := newTLSLab(t, func(l *tlsLab) { l.cfg.Upstreams = upstreams(t, "sip:"+l.pbx.addr()) })
	p := l.phone("alice")
	token := l.lab.registered(p)
	s, _ := l.dial()
	s.expectReached(l.lab, p, token)
	l.expectReached(p, token)
}

// TestSIPCertificateReload: a renewed certificate is shown to who connects
// next, a broken one to nobody, and no connection is lost.
func TestSIPCertificateReload(t *testing.T) {
	l := newTLSLab(t)
	p := l.phone("alice")
	token, _ := l.registered(p)
	first, serial := l.dial()

	l.ca.issue("gw")
	l.log.await("certificate reloaded", 1)
	second, renewed := l.dial()
	if renewed == serial {
		t.Errorf("certificate %s is still shown", serial)
	}

	if err := os.WriteFile(l.cfg.SIPTLSCert, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	l.log.await("certificate not reloaded", 1)
	third, same := l.dial()
	if same != renewed {
		t.Errorf("certificate %s after %s", same, renewed)
	}
	for _, s := range []*stream{first, second, third} {
		s.expectReached(l.lab, p, token)
	}
}

// TestBrowserCertificateReload is the same for wss.
func TestBrowserCertificateReload(t *testing.T) {
	ca := newAuthority(t)
	l := newLab(t, func(c *Config) { c.TLSCert, c.TLSKey = ca.issue("web") })
	if !strings.HasPrefix(l.bound.WebSocket[0], "wss://") {
		t.Errorf("URL %s", l.bound.WebSocket[0])
	}
	config := ca.config(ca.issue("browser"))
	serial := func() string {
		conn, err := tls.Dial("tcp", l.webAddr(), config)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close() }()
		return fmt.Sprint(conn.ConnectionState().PeerCertificates[0].SerialNumber)
	}
	before := serial()
	ca.issue("web")
	l.log.await("certificate reloaded", 1)
	if after := serial(); after == before {
		t.Errorf("certificate %s is still shown", before)
	}
}

// TestOneWayWarning: without a TLS listener of our own a TLS upstream cannot
// connect back, which is said at the start.
func TestOneWayWarning(t *testing.T) {
	const warning = "the upstream can reach browsers only over the connection that viaduct opens: set --sip-tls-listen"
	if l := newTLSLab(t); l.log.count(warning) != 0 {
		t.Error("warned though it listens for TLS")
	}
	l := newTLSLab(t, func(l *tlsLab) { l.cfg.SIPTLSListen, l.cfg.SIPTLSCert, l.cfg.SIPTLSKey = "", "", "" })
	if l.log.count(warning) != 1 {
		t.Errorf("not warned: %v", l.log.All())
	}
	if got := l.gw.upstreams[0].main().target.Proto; got != transport.ProtoTLS {
		t.Errorf("the leg is %s", got)
	}
	p := l.phone("alice")
	token, pbx := l.registered(p)
	pbx.expectReached(l.lab, p, token)
}
