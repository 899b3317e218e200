package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"

	"viaduct/transport"
)

const checkCertificate = "certificate"

// renewBefore is how long before its end a certificate is worth a warning.
const renewBefore = 14 * 24 * time.Hour

// tryTLS looks at what the upstream shows by TLS, and reports whether
// the gateway would speak to it.
func (e *examination) tryTLS(ctx context.Context, w *way) bool {
	ctx, cancel := context.WithTimeoutCause(ctx, answerTimeout, errNoAnswer)
	defer cancel()
	cfg := e.doctor.clientTLS.Clone()
	cfg.ServerName = e.upstream.Host
	conn, err := (&tls.Dialer{Config: cfg}).DialContext(ctx, "tcp", w.target.Addr.String())
	if err != nil {
		e.badTLS(err)
		return false
	}
	defer func() { _ = conn.Close() }()
	shown := conn.(*tls.Conn).ConnectionState().PeerCertificates[0]
	until := shown.NotAfter.UTC().Format(time.DateOnly)
	if time.Until(shown.NotAfter) < renewBefore {
		e.report.add(Warning, checkCertificate, "it ends on "+until, "a new certificate at the SIP server")
		return true
	}
	e.report.ok(checkCertificate, "for %s, by %s, until %s", e.upstream.Host, shown.Issuer, until)
	return true
}

// badTLS says why a TLS connection failed. It blocks only where TLS is what
// --upstream asks for.
func (e *examination) badTLS(err error) {
	verdict, after := Note, " (only if --upstream shall say transport=tls)"
	if e.upstream.Proto == transport.ProtoTLS {
		verdict, after = Blocker, ""
	}
	refused, isCertificate := errors.AsType[*tls.CertificateVerificationError](err)
	if !isCertificate {
		e.report.add(verdict, checkOptions(transport.ProtoTLS), reason(err), "the SIP server's TLS port open for this address"+after)
		return
	}
	shown := refused.UnverifiedCertificates[0]
	set := "a certificate at the SIP server that clients accept"
	switch {
	case isA[x509.HostnameError](err):
		set = fmt.Sprintf("a name that it has in --upstream (%s), or a certificate for %s", strings.Join(names(shown), ", "), e.upstream.Host)
	case isA[x509.UnknownAuthorityError](err):
		set = fmt.Sprintf("--upstream-ca=FILE with the certificate of %s", shown.Issuer)
	case time.Now().After(shown.NotAfter):
		set = "a new certificate at the SIP server"
	}
	e.report.add(verdict, checkCertificate, refused.Err.Error(), set+after)
}

func isA[E error](err error) bool {
	_, is := errors.AsType[E](err)
	return is
}

// names are those that a certificate is for.
func names(cert *x509.Certificate) []string {
	all := append([]string{}, cert.DNSNames...)
	for _, ip := range cert.IPAddresses {
		all = append(all, ip.String())
	}
	return all
}
