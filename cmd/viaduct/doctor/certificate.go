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

// errCertificate says that the certificate is what is wrong.
var errCertificate = errors.New("the certificate is refused")

// tryTLS looks at what the upstream shows by TLS. The error says why the gateway
// would not get as far, or not go on.
func (e *examination) tryTLS(ctx context.Context, w *way) ([]Finding, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, answerTimeout, errNoAnswer)
	defer cancel()
	cfg := e.doctor.clientTLS.Clone()
	cfg.ServerName = e.upstream.Host
	conn, err := (&tls.Dialer{Config: cfg}).DialContext(ctx, "tcp", w.target.Addr.String())
	if refused, is := errors.AsType[*tls.CertificateVerificationError](err); is {
		return e.refusedCertificate(refused), errCertificate
	}
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	shown := conn.(*tls.Conn).ConnectionState().PeerCertificates[0]
	until := shown.NotAfter.UTC().Format(time.DateOnly)
	if time.Until(shown.NotAfter) < renewBefore {
		return []Finding{{Warning, checkCertificate, "it ends on " + until, "a new certificate at the SIP server"}}, nil
	}
	found := fmt.Sprintf("for %s, by %s, until %s", e.upstream.Host, shown.Issuer, until)
	return []Finding{{OK, checkCertificate, found, ""}}, nil
}

// refusedCertificate says what is wrong with a certificate. It blocks only where
// TLS is what --upstream asks for.
func (e *examination) refusedCertificate(err *tls.CertificateVerificationError) []Finding {
	verdict, after := Note, " (only if --upstream shall say transport=tls)"
	if e.upstream.Proto == transport.ProtoTLS {
		verdict, after = Blocker, ""
	}
	shown, set := err.UnverifiedCertificates[0], "a certificate at the SIP server that clients accept"
	switch {
	case isA[x509.HostnameError](err):
		set = fmt.Sprintf("a name that it has in --upstream (%s), or a certificate for %s", strings.Join(names(shown), ", "), e.upstream.Host)
	case isA[x509.UnknownAuthorityError](err):
		set = fmt.Sprintf("--upstream-ca=FILE with the certificate of %s", shown.Issuer)
	case time.Now().After(shown.NotAfter):
		set = "a new certificate at the SIP server"
	}
	return []Finding{{verdict, checkCertificate, err.Err.Error(), set + after}}
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
