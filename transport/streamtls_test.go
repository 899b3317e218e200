package transport

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"syscall"
	"testing"
)

// startTLS is startSIP with a TLS listener that shows cert.
func startTLS(t testing.TB, cert tls.Certificate) *sipSide {
	t.Helper()
	return startSIP(t, SIPConfig{TLSListen: "127.0.0.1:0", TLS: serverTLS(cert)})
}

func (s *sipSide) tlsTarget(name string, cfg *tls.Config) Target {
	return Target{Proto: ProtoTLS, Addr: s.TLSAddr(), ServerName: name, TLS: cfg}
}

func TestTLSBothWays(t *testing.T) {
	ca := newAuthority(t)
	near, far := startTLS(t, ca.issue(t, "near.example")), startTLS(t, ca.issue(t, "pbx.example"))
	near.send(t, far.tlsTarget("pbx.example", ca.trusting()), sipMessage("there"))
	from := far.receives(t, sipMessage("there"))
	if from.Proto != ProtoTLS || from.Addr != near.TLSAddr() {
		t.Errorf("came from %v %s, want the listener's own %s", from.Proto, from.Addr, near.TLSAddr())
	}
	if err := far.Reply(from, []byte(sipMessage("back"))); err != nil {
		t.Fatal(err)
	}
	back := near.receives(t, sipMessage("back"))
	if back.Stream != near.Stream(ProtoTLS, far.TLSAddr()) {
		t.Error("replied by another connection")
	}
}

func TestTLSVerifies(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	named, numbered := startTLS(t, ca.issue(t, "pbx.example")), startTLS(t, ca.issue(t, "127.0.0.1"))
	near := startSIP(t, SIPConfig{})
	trusted := ca.trusting()

	near.send(t, numbered.tlsTarget("127.0.0.1", trusted), sipMessage("by number"))
	numbered.receives(t, sipMessage("by number"))

	var name x509.HostnameError
	var unknown x509.UnknownAuthorityError
	for what, test := range map[string]struct {
		to Target
		as any // of errors.As; nil for any error
	}{
		"another name":                 {named.tlsTarget("other.example", trusted), &name},
		"a name of its domain":         {named.tlsTarget("sub.pbx.example", trusted), &name},
		"a number for a name":          {named.tlsTarget("127.0.0.1", trusted), &name},
		"a name for a number":          {numbered.tlsTarget("pbx.example", trusted), &name},
		"another authority":            {named.tlsTarget("pbx.example", other.trusting()), &unknown},
		"the system's own authorities": {named.tlsTarget("pbx.example", nil), &unknown},
		"no name at all":               {named.tlsTarget("", trusted), nil},
		"the plain port":               {Target{Proto: ProtoTLS, Addr: named.Addr(), ServerName: "pbx.example", TLS: trusted}, nil},
	} {
		near.send(t, test.to, sipMessage("secret"))
		u := next(t, near.undelivered)
		if u.to != test.to || test.as != nil && !errors.As(u.err, test.as) {
			t.Errorf("%s: undelivered for %v", what, u.err)
		}
		if err := near.Send(test.to, []byte("x")); !errors.Is(err, ErrBackoff) {
			t.Errorf("%s: dialled again at once: %v", what, err)
		}
	}
	none(t, "received", named.messages)
	none(t, "received", numbered.messages)
}

func TestTLSRefusesAtHandshake(t *testing.T) {
	ca := newAuthority(t)
	s := startTLS(t, ca.issue(t, "a"))

	old := ca.trusting()
	old.ServerName, old.MinVersion, old.MaxVersion = "a", tls.VersionTLS10, tls.VersionTLS11
	if err := tls.Client(dialSIP(t, "127.0.0.1:0", s.TLSAddr()), old).Handshake(); err == nil {
		t.Error("TLS 1.1 was accepted")
	}
	next(t, s.garbled)

	plain := dialSIP(t, "127.0.0.1:0", s.TLSAddr())
	writes(t, plain, sipMessage("not TLS"))
	g := next(t, s.garbled)
	var record tls.RecordHeaderError
	if !errors.As(g.err, &record) || g.from.Proto != ProtoTLS {
		t.Errorf("garbled %+v", g)
	}
}

// A client of TLS that comes from the very address of a PBX has not proved to
// be it: nothing is sent to it that is meant for the PBX.
func TestTLSAcceptedIsNotReused(t *testing.T) {
	ca := newAuthority(t)
	s := startTLS(t, ca.issue(t, "a"))
	cfg := ca.trusting()
	cfg.ServerName = "a"
	inbound := tls.Client(dialSIP(t, "127.0.0.1:0", s.TLSAddr()), cfg)
	writes(t, inbound, sipMessage("a"))
	from := s.receives(t, sipMessage("a"))

	to := Target{Proto: ProtoTLS, Addr: from.Addr, ServerName: "pbx.example", TLS: ca.trusting()}
	s.send(t, to, sipMessage("for the PBX"))
	if u := next(t, s.undelivered); !errors.Is(u.err, syscall.ECONNREFUSED) {
		t.Errorf("undelivered for %v", u.err)
	}
	if err := s.Stream(ProtoTLS, from.Addr).Send([]byte(sipMessage("answer"))); err != nil {
		t.Fatal(err)
	}
	wants(t, inbound, sipMessage("answer"))
}

// Over TLS, as over TCP, a PBX that closes is dialled anew.
func TestTLSRedial(t *testing.T) {
	ca := newAuthority(t)
	s, far := startSIP(t, SIPConfig{}), newPBX(t)
	to := Target{Proto: ProtoTLS, Addr: far.addr(), ServerName: "a", TLS: ca.trusting()}
	cfg := serverTLS(ca.issue(t, "a"))
	for range 2 {
		s.send(t, to, sipMessage("a"))
		conn := tls.Server(far.accept(), cfg)
		wants(t, conn, sipMessage("a"))
		conn.Close()
		s.forgets(t, ProtoTLS, far.addr())
	}
}

// Close tells the peer that nothing was cut off.
func TestTLSCloseNotifies(t *testing.T) {
	ca := newAuthority(t)
	s := startTLS(t, ca.issue(t, "a"))
	cfg := ca.trusting()
	cfg.ServerName = "a"
	conn := tls.Client(dialSIP(t, "127.0.0.1:0", s.TLSAddr()), cfg)
	writes(t, conn, sipMessage("a"))
	s.receives(t, sipMessage("a"))
	s.Close()
	wantsEnd(t, conn)
}

func TestCertificateSwap(t *testing.T) {
	ca, dir := newAuthority(t), t.TempDir()
	cert, err := LoadCertificate(writePEM(t, dir, ca.issue(t, "a")))
	if err != nil {
		t.Fatal(err)
	}
	outcomes := make(chan error, 10)
	if err := cert.Watch(t.Context(), func(err error) { outcomes <- err }); err != nil {
		t.Fatal(err)
	}
	s := startSIP(t, SIPConfig{TLSListen: "127.0.0.1:0", TLS: &tls.Config{GetCertificate: cert.GetCertificate}})
	serial := func() (*tls.Conn, int64) {
		cfg := ca.trusting()
		cfg.ServerName = "a"
		conn := tls.Client(dialSIP(t, "127.0.0.1:0", s.TLSAddr()), cfg)
		writes(t, conn, sipMessage("hello"))
		s.receives(t, sipMessage("hello"))
		return conn, conn.ConnectionState().PeerCertificates[0].SerialNumber.Int64()
	}

	old, first := serial()
	writePEM(t, dir, ca.issue(t, "a"))
	for err := next(t, outcomes); err != nil; err = next(t, outcomes) { // seen between the two files
	}
	if _, second := serial(); second != first+1 {
		t.Errorf("certificate %d after %d", second, first)
	}
	writes(t, old, sipMessage("still here"))
	s.receives(t, sipMessage("still here"))

	replaceFile(t, dir+"/tls.crt", []byte("broken"))
	for next(t, outcomes) == nil { // of the change before
	}
	if _, third := serial(); third != first+1 {
		t.Errorf("certificate %d instead of a broken one", third)
	}
}

func TestCertificateOfClient(t *testing.T) {
	ca := newAuthority(t)
	cert, err := LoadCertificate(writePEM(t, t.TempDir(), ca.issue(t, "gateway.example")))
	if err != nil {
		t.Fatal(err)
	}
	server := serverTLS(ca.issue(t, "a"))
	server.ClientAuth, server.ClientCAs = tls.RequireAndVerifyClientCert, ca.trusting().RootCAs
	far := startSIP(t, SIPConfig{TLSListen: "127.0.0.1:0", TLS: server})
	near := startSIP(t, SIPConfig{})
	client := ca.trusting()
	client.GetClientCertificate = cert.GetClientCertificate
	near.send(t, far.tlsTarget("a", client), sipMessage("a"))
	far.receives(t, sipMessage("a"))
}

func TestLoadCertificateFails(t *testing.T) {
	ca, dir := newAuthority(t), t.TempDir()
	certFile, _ := writePEM(t, dir, ca.issue(t, "a"))
	_, otherKey := writePEM(t, t.TempDir(), ca.issue(t, "a"))
	for _, key := range []string{otherKey, dir + "/missing"} {
		if _, err := LoadCertificate(certFile, key); err == nil {
			t.Errorf("a certificate with the key %s", key)
		}
	}
}
