package transport

import (
	"context"
	"crypto/tls"
	"errors"
	"sync/atomic"
	"time"
)

// Certificate is a certificate with its key, read from PEM files and read again
// when they change. Connections keep the one they began with.
type Certificate struct {
	certFile, keyFile string
	current           atomic.Pointer[tls.Certificate]
}

// LoadCertificate reads a certificate chain and its key from PEM files.
func LoadCertificate(certFile, keyFile string) (*Certificate, error) {
	c := &Certificate{certFile: certFile, keyFile: keyFile}
	if err := c.Reload(); err != nil {
		return nil, err
	}
	return c, nil
}

// errExpired refuses a certificate that nobody would accept any more.
var errExpired = errors.New("the new certificate has expired, the one in use has not")

// Reload reads the files again. After an error, such as a key that does not
// belong to the certificate, the one in use stays. So it does if it is still
// valid and the new one is not any more.
func (c *Certificate) Reload() error {
	read, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err != nil {
		return err
	}
	now := time.Now()
	if c.current.Load() != nil && now.After(read.Leaf.NotAfter) && now.Before(c.Expiry()) {
		return errExpired
	}
	c.current.Store(&read)
	return nil
}

// Expiry is when the first certificate of the chain ends: it is the short-lived one.
func (c *Certificate) Expiry() time.Time { return c.current.Load().Leaf.NotAfter }

// Watch reloads the certificate whenever its files change, until ctx ends, and
// calls reloaded with the outcome, on another goroutine. It returns once it
// watches.
func (c *Certificate) Watch(ctx context.Context, reloaded func(error)) error {
	reload := func() { reloaded(c.Reload()) }
	if err := WatchFiles(ctx, []string{c.certFile, c.keyFile}, reload); err != nil {
		return err
	}
	// They may have changed after they were read and before they were watched.
	if err := c.Reload(); err != nil {
		reloaded(err)
	}
	return nil
}

// GetCertificate is for the tls.Config of a server.
func (c *Certificate) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return c.current.Load(), nil
}

// GetClientCertificate is for the tls.Config of a client.
func (c *Certificate) GetClientCertificate(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return c.current.Load(), nil
}
