package transport

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
)

// A TLS 1.3 server judges its client when messages are on their way already.
// None of them is lost in silence.
func TestTLSRefusesClient(t *testing.T) {
	ca := newAuthority(t)
	server := serverTLS(ca.issue(t, "a"))
	server.ClientAuth, server.ClientCAs, server.MinVersion = tls.RequireAndVerifyClientCert, ca.trusting().RootCAs, tls.VersionTLS13
	far, near := startSIP(t, SIPConfig{TLSListen: "127.0.0.1:0", TLS: server}), startSIP(t, SIPConfig{})
	to := far.tlsTarget("a", ca.trusting())

	near.send(t, to, sipMessage("one"))
	var alert *net.OpError
	if u := next(t, near.undelivered); u.to != to || u.msg != sipMessage("one") || !errors.As(u.err, &alert) || alert.Op != "remote error" {
		t.Errorf("undelivered %+v, want the message for an alert", u)
	}
	near.forgets(t, ProtoTLS, to.Addr)

	// The second may meet a connection that is reset already.
	near.send(t, to, sipMessage("two"))
	near.send(t, to, sipMessage("three"))
	lost := map[string]bool{}
	for range 2 {
		lost[next(t, near.undelivered).msg] = true
	}
	if len(lost) != 2 {
		t.Errorf("undelivered %v", lost)
	}
	none(t, "received", far.messages)
}

// A host that accepts a connection only to reset it has not read a message
// either. One that has been heard is another matter: it may have acted on what
// it was sent.
func TestResetBeforeAnswer(t *testing.T) {
	s, far := startSIP(t, SIPConfig{}), newPBX(t)
	s.send(t, far.target(), sipMessage("one"))
	conn := far.accept()
	wants(t, conn, sipMessage("one"))
	far.must(conn.SetLinger(0))
	conn.Close()
	if u := next(t, s.undelivered); u.to != far.target() || u.msg != sipMessage("one") {
		t.Errorf("undelivered %+v", u)
	}

	far = newPBX(t)
	s.send(t, far.target(), sipMessage("two"))
	conn = far.accept()
	wants(t, conn, sipMessage("two"))
	writes(t, conn, sipMessage("answer"))
	s.receives(t, sipMessage("answer"))
	far.must(conn.SetLinger(0))
	conn.Close()
	s.forgets(t, ProtoTCP, far.addr())
	none(t, "undelivered", s.undelivered)
	s.send(t, far.target(), sipMessage("three"))
	wants(t, far.accept(), sipMessage("three"))
}

// What is kept until the peer is heard is bounded.
func TestTrialIsBounded(t *testing.T) {
	var tr trial
	tr.begin()
	msg := []byte(strings.Repeat("x", maxTrial/4))
	for range 5 {
		if err := tr.note(msg); err != nil {
			t.Fatal(err)
		}
	}
	if sent := tr.lost(io.ErrUnexpectedEOF); len(sent) > 0 || tr.sent != nil {
		t.Errorf("%d messages are kept", len(sent))
	}
}
