package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"testing"
	"time"
)

// TestDoctorCertificate: what is wrong with the certificate of a SIP server.
func TestDoctorCertificate(t *testing.T) {
	dir := t.TempDir()
	issue := func(until time.Duration, hosts ...string) (*tls.Certificate, string) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority of the test"},
			NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(until), IsCA: true, BasicConstraintsValid: true,
		}
		for _, host := range hosts {
			if ip := net.ParseIP(host); ip != nil {
				template.IPAddresses = append(template.IPAddresses, ip)
			} else {
				template.DNSNames = append(template.DNSNames, host)
			}
		}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, writePEM(t, dir, "ca.pem", "CERTIFICATE", der)
	}
	const year = 365 * 24 * time.Hour
	tests := []struct {
		name      string
		until     time.Duration
		host      string // "": the PBX's address
		distrust  bool
		mutual    bool // the PBX wants a certificate too
		transport string
		want      []string
		blocked   bool
	}{
		{name: "good", until: year, transport: "tls", want: []string{
			`ok certificate for 127\.\S+, by CN=authority of the test, until \d+-\d+-\d+`, `ok OPTIONS by TLS 200 OK after \S+`,
		}},
		{name: "ends soon", until: 48 * time.Hour, transport: "tls", want: []string{
			`warning certificate it ends on \d+-\d+-\d+ → a new certificate at the SIP server`, `ok OPTIONS by TLS 200 OK after \S+`,
		}},
		{name: "has ended", until: -time.Hour, transport: "tls", blocked: true, want: []string{
			`BLOCKER certificate x509: certificate has expired .* → a new certificate at the SIP server`,
			`note REGISTER skipped: the SIP server does not answer → what is said above`,
		}},
		{name: "another name", until: year, host: "pbx.example", transport: "tls", blocked: true, want: []string{
			`BLOCKER certificate x509: .* → a name that it has in --upstream \(pbx\.example\), or a certificate for 127\.\S+`,
		}},
		{name: "unknown authority", until: year, distrust: true, transport: "tls", blocked: true, want: []string{
			`BLOCKER certificate x509: certificate signed by unknown authority → --upstream-ca=FILE with the certificate of CN=authority of the test`,
		}},
		{name: "wants one itself", until: year, mutual: true, transport: "tls", blocked: true, want: []string{
			`BLOCKER OPTIONS by TLS .*certificate required → --upstream-cert and --upstream-key with a certificate that the SIP server accepts`,
		}},
		{name: "another name, and TLS is not asked for", until: year, host: "pbx.example", transport: "udp", want: []string{
			`ok OPTIONS by UDP 200 OK after \S+`, `note certificate x509: .* → a name that it has .* \(only if --upstream shall say transport=tls\)`,
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			pbx := startDoctorPBX(t, doctorScript{})
			host := tt.host
			if host == "" {
				host = pbx.ip
			}
			cert, ca := issue(tt.until, host)
			config := &tls.Config{Certificates: []tls.Certificate{*cert}}
			if tt.mutual {
				config.ClientAuth = tls.RequireAnyClientCert
			}
			pbx.serveTLS(t, config)
			args := []string{"--upstream=sip:" + pbx.ip + ";transport=" + tt.transport}
			if !tt.distrust {
				args = append(args, "--upstream-ca="+ca)
			}
			rows, status := doctorRun(t, args...)
			if want := map[bool]int{false: exitOK, true: exitFailed}[tt.blocked]; status != want {
				t.Errorf("exit status %d, want %d", status, want)
			}
			wantRows(t, rows, tt.want)
		})
	}
}
