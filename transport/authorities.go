package transport

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"os"
	"sync/atomic"
)

// Authorities are the certificates of a PEM file that those of TLS clients must
// come from. They are read again when the file changes.
type Authorities struct {
	file    string
	current atomic.Pointer[x509.CertPool]
}

// LoadAuthorities reads them.
func LoadAuthorities(file string) (*Authorities, error) {
	a := &Authorities{file: file}
	if err := a.Reload(); err != nil {
		return nil, err
	}
	return a, nil
}

// Reload reads the file again. After an error those in use stay.
func (a *Authorities) Reload() error {
	pem, err := os.ReadFile(a.file)
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return errors.New("no certificate in " + a.file)
	}
	a.current.Store(pool)
	return nil
}

// Watch reloads them whenever their file changes, until ctx ends, and calls
// reloaded with the outcome, on another goroutine. It returns once it watches.
func (a *Authorities) Watch(ctx context.Context, reloaded func(error)) error {
	if err := WatchFiles(ctx, []string{a.file}, func() { reloaded(a.Reload()) }); err != nil {
		return err
	}
	if err := a.Reload(); err != nil { // it may have changed before it was watched
		reloaded(err)
	}
	return nil
}

// Verify is VerifyConnection of the tls.Config of a server that requires a
// certificate of its clients. It is called for sessions that are resumed, too:
// who came in by an authority that is gone does not come back.
func (a *Authorities) Verify(state tls.ConnectionState) error {
	if len(state.PeerCertificates) == 0 {
		return errors.New("tls: no client certificate")
	}
	between := x509.NewCertPool()
	for _, cert := range state.PeerCertificates[1:] {
		between.AddCert(cert)
	}
	_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{
		Roots: a.current.Load(), Intermediates: between,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	return err
}
