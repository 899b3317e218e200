package e2e

import (
	"crypto/tls"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestCertificateReplaced: the wss certificate is replaced during a call. New
// connections see the new one, a broken one is refused, and the connection that
// was there lives on with its call.
func TestCertificateReplaced(t *testing.T) {
	t.Parallel()
	certFile, keyFile := issue(t, "viaduct", loopback.IP.String())
	lab := newLab(t, JsSIP, Leg{"udp", "ws"}, "--tls-cert="+certFile, "--tls-key="+keyFile)
	alice := lab.Registered("alice")
	caller := lab.Caller("alice", "send-invite", "recv-200", "send-ack", "wait", "send-bye")
	call := alice.WaitCall(t, 1)
	call.Answer(t)
	call.Wait(t, "confirmed")
	first := serialAt(t, lab.Via.Listen())

	if err := os.WriteFile(certFile, []byte("not a certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	if refused := lab.Via.WaitLog(t, "certificate not reloaded"); refused.Level != "error" || refused.Fields["file"] != certFile {
		t.Errorf("log: %v", refused.Fields)
	}
	if serial := serialAt(t, lab.Via.Listen()); serial != first {
		t.Errorf("with a broken file there, viaduct shows certificate %s instead of %s", serial, first)
	}

	newCert, newKey := issue(t, "renewed", loopback.IP.String())
	for from, to := range map[string]string{newCert: certFile, newKey: keyFile} {
		if err := os.Rename(from, to); err != nil {
			t.Fatal(err)
		}
	}
	lab.Via.WaitLog(t, "certificate reloaded")
	if serialAt(t, lab.Via.Listen()) == first {
		t.Error("a new connection sees the old certificate")
	}

	caller.Continue(t, callIDFrom(t, lab.PBX, caller))
	call.Wait(t, "ended")
	caller.Wait(t)
	if states := alice.Page.Socket.All(); !slices.Equal(states, []string{"open"}) {
		t.Errorf("alice's WebSocket: %q, want one that stays open", states)
	}
	wantCallable(t, lab, lab.Registered("bob"), 1)
}

// serialAt is the serial number of the certificate that a TLS listener shows.
func serialAt(t *testing.T, addr netip.AddrPort) string {
	t.Helper()
	conn, err := tls.Dial("tcp", addr.String(), &tls.Config{RootCAs: authority.Pool()})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0].SerialNumber.String()
}

// TestUpstreamNotTrusted: viaduct speaks to no upstream whose certificate is of
// another authority or for another name, and to none that does not trust viaduct. The
// browser is told 503 at once, and the log says why.
func TestUpstreamNotTrusted(t *testing.T) {
	stranger, err := newAuthority(tempDir(t))
	if err != nil {
		t.Fatal(err)
	}
	for i, test := range []struct {
		name   string
		host   string // that viaduct is told
		ca     string
		demand bool   // the PBX wants to see a certificate
		why    string // in the log
	}{
		{"other authority", "127.0.0.1", stranger.File, false, "certificate signed by unknown authority"},
		{"other name", "localhost", authority.File, false, "not localhost"},
		{"no certificate of its own", "127.0.0.1", authority.File, true, "certificate"},
	} {
		stack := []Stack{JsSIP, SIPJS}[i%2]
		t.Run(test.name+"/"+string(stack), func(t *testing.T) {
			t.Parallel()
			pbx := startKamailioWith(t, loopback, PBXOptions{ClientCertificates: test.demand})
			upstream := strings.Replace(pbx.Upstream("tls"), loopback.IP.String(), test.host, 1)
			via := launchViaduct(t, loopback, "--upstream="+upstream, "--upstream-ca="+test.ca)
			failed := via.WaitLog(t, "upstream did not answer")
			if why, _ := failed.Fields["error"].(string); !strings.Contains(why, test.why) || failed.Fields["upstream"] != upstream {
				t.Errorf("log: %v, want %q of %s", failed.Fields, test.why, upstream)
			}

			page := openPage(t, stack, PageOptions{})
			phone := page.newPhone(t, via.WebSocket, "alice", PhoneOptions{})
			phone.StartRegister(t)
			if refused := phone.Wait(t, "registrationFailed"); refused.Status != 503 {
				t.Errorf("the client reports %d %s, want 503", refused.Status, refused.Cause)
			}
			if got := pbx.Messages.All(); len(got) > 0 {
				t.Errorf("the PBX received %q", got)
			}
			checkBrowserSide(t, page)
		})
	}
}

// TestUpstreamWantsCertificate: a PBX that asks TLS clients for a certificate is
// shown the one of --upstream-cert.
func TestUpstreamWantsCertificate(t *testing.T) {
	t.Parallel()
	leg := Leg{"tls", "ws"}
	certFile, keyFile := issue(t, "gateway", loopback.IP.String())
	pbx := startKamailioWith(t, loopback, PBXOptions{ClientCertificates: true})
	via := startViaduct(t, loopback, leg, pbx, "--upstream-cert="+certFile, "--upstream-key="+keyFile)
	lab := &Lab{Stack: SIPJS, Leg: leg, Host: loopback, PBX: pbx, Via: via, t: t}
	t.Cleanup(lab.finish)
	wantCallable(t, lab, lab.Registered("alice"), 1)
}
