package gateway

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"viaduct/rewrite"
)

// Validate sets defaults and checks every field; an error begins with the flag
// that sets the field.
func (c *Config) Validate() error {
	c.setDefaults()
	if err := c.validateBrowserSide(); err != nil {
		return err
	}
	if err := c.validateAdmission(); err != nil {
		return err
	}
	if err := c.validateSIPSide(); err != nil {
		return err
	}
	return c.validateOperation()
}

func (c *Config) setDefaults() {
	setDefault(&c.Path, "/ws")
	setDefault(&c.PingInterval, 25*time.Second)
	setDefault(&c.MaxConnections, 10_000)
	setDefault(&c.MaxConnectionsPerIP, 1000)
	setDefault(&c.TLSMinVersion, "1.2")
	setDefault(&c.MaxMessage, rewrite.MaxLength)
	setDefault(&c.Rate, 50)
	setDefault(&c.Burst, 200)
	setDefault(&c.Policy, PolicyFailover)
	setDefault(&c.SIPListen, ":5070")
	setDefault(&c.MaxTransactions, 20_000)
	setDefault(&c.MaxTransactionMemory, 64<<20)
	setDefault(&c.HealthInterval, 10*time.Second)
	setDefault(&c.DrainTimeout, 30*time.Second)
	setDefault(&c.Log, zap.NewNop())
	if len(c.Listen) == 0 {
		c.Listen = []string{":8080"}
	}
}

func setDefault[T comparable](v *T, to T) {
	var unset T
	if *v == unset {
		*v = to
	}
}

func (c *Config) validateBrowserSide() error {
	for _, addr := range c.Listen {
		if err := checkAddr(addr); err != nil {
			return fmt.Errorf("--listen: %w", err)
		}
	}
	for _, origin := range c.AllowOrigins {
		if u, err := url.Parse(origin); origin != "*" && (err != nil || u.Scheme == "" || u.Host == "" || u.Path != "") {
			return fmt.Errorf("--allow-origin: %q is neither * nor scheme://host[:port]", origin)
		}
	}
	switch {
	case !strings.HasPrefix(c.Path, "/"):
		return fmt.Errorf("--path: %q does not begin with /", c.Path)
	case c.PingInterval < time.Second:
		return fmt.Errorf("--ping-interval: %v is less than 1s", c.PingInterval)
	case c.MaxConnections < 1:
		return fmt.Errorf("--max-connections: %d is less than 1", c.MaxConnections)
	case c.Rate > maxRate:
		return fmt.Errorf("--rate: %d is more than %d", c.Rate, maxRate)
	case c.Burst < 1 || c.Burst > maxRate:
		return fmt.Errorf("--burst: %d is not within 1 and %d", c.Burst, maxRate)
	case c.MaxMessage < 1024 || c.MaxMessage > rewrite.MaxLength:
		return fmt.Errorf("--max-message: %d is not within 1024 and %d", c.MaxMessage, rewrite.MaxLength)
	case tlsVersions[c.TLSMinVersion] == 0:
		return fmt.Errorf("--tls-min-version: %q is neither 1.2 nor 1.3", c.TLSMinVersion)
	case c.TLSClientCA != "" && c.TLSCert == "":
		return errors.New("--tls-client-ca: needs --tls-cert and --tls-key")
	}
	return pair("tls-cert", c.TLSCert, "tls-key", c.TLSKey)
}

func (c *Config) validateSIPSide() error {
	if err := c.validateUpstreams(); err != nil {
		return err
	}
	if err := c.validateHeaders(); err != nil {
		return err
	}
	if err := checkAddr(c.SIPListen); err != nil {
		return fmt.Errorf("--sip-listen: %w", err)
	}
	if c.SIPTLSListen != "" {
		if err := checkAddr(c.SIPTLSListen); err != nil {
			return fmt.Errorf("--sip-tls-listen: %w", err)
		}
	}
	switch {
	case c.SIPTLSListen != "" && c.SIPTLSCert == "":
		return errors.New("--sip-tls-listen: needs --sip-tls-cert and --sip-tls-key")
	case c.SIPTLSListen == "" && c.SIPTLSCert != "":
		return errors.New("--sip-tls-cert: needs --sip-tls-listen")
	case !advertisable(c.Advertise):
		return fmt.Errorf("--advertise: %q is not host[:port]", c.Advertise)
	case !advertisable(c.AdvertiseTLS):
		return fmt.Errorf("--advertise-tls: %q is not host[:port]", c.AdvertiseTLS)
	case c.TCPAbove < 0 || c.TCPAbove > rewrite.MaxLength:
		return fmt.Errorf("--tcp-above: %d is not within 0 and %d", c.TCPAbove, rewrite.MaxLength)
	case c.UpstreamMaxMessage != 0 && (c.UpstreamMaxMessage < 1024 || c.UpstreamMaxMessage > 2*rewrite.MaxLength):
		return fmt.Errorf("--upstream-max-message: %d is not within 1024 and %d", c.UpstreamMaxMessage, 2*rewrite.MaxLength)
	}
	return errors.Join(
		pair("sip-tls-cert", c.SIPTLSCert, "sip-tls-key", c.SIPTLSKey),
		pair("upstream-cert", c.UpstreamCert, "upstream-key", c.UpstreamKey),
	)
}

func (c *Config) validateOperation() error {
	if c.Admin != "" {
		if err := checkAddr(c.Admin); err != nil {
			return fmt.Errorf("--admin: %w", err)
		}
	}
	if c.HEP != "" {
		if host, port, err := net.SplitHostPort(c.HEP); err != nil || host == "" || !isPort(port) {
			return fmt.Errorf("--hep: %q is not host:port", c.HEP)
		}
	}
	switch {
	case c.Admin == "" && c.AdminPprof:
		return errors.New("--admin-pprof: needs --admin")
	case len(c.RTPEngines) == 0 && c.RTPEngineOptional:
		return errors.New("--rtpengine-optional: needs --rtpengine")
	case len(c.RTPEngines) == 0 && c.RTPEngineInterfaces != Interfaces{}:
		return errors.New("--rtpengine-direction: needs --rtpengine")
	case c.MaxTransactionMemory < rewrite.MaxLength:
		return fmt.Errorf("--max-transaction-memory: %d is less than %d", c.MaxTransactionMemory, rewrite.MaxLength)
	case c.HealthInterval < time.Second:
		return fmt.Errorf("--health-interval: %v is less than 1s", c.HealthInterval)
	case c.DrainTimeout < 0:
		return fmt.Errorf("--drain-timeout: %v is negative", c.DrainTimeout)
	}
	return nil
}

func (c *Config) validateUpstreams() error {
	if len(c.Upstreams) == 0 {
		return errors.New("--upstream: at least one is needed, such as sip:10.0.0.5:5060")
	}
	seen := make(map[string]bool)
	for _, u := range c.Upstreams {
		if seen[u.String()] {
			return fmt.Errorf("--upstream: %s stands twice", u)
		}
		seen[u.String()] = true
	}
	if c.Policy != PolicyFailover && c.Policy != PolicyHash {
		return fmt.Errorf("--upstream-policy: %q is neither failover nor hash", c.Policy)
	}
	return nil
}

func (c *Config) validateHeaders() error {
	for _, name := range c.StripHeaders {
		if !rewrite.Strippable(name) {
			return fmt.Errorf("--strip-header: %q is no header name, or one that a message needs", name)
		}
	}
	if c.ClientIPHeader != "" && !rewrite.Strippable(c.ClientIPHeader) {
		return fmt.Errorf("--client-ip-header: %q is no header name, or one with a meaning of its own", c.ClientIPHeader)
	}
	return nil
}

// advertisable reports whether text can stand as the host and port of a URI.
func advertisable(text string) bool {
	uri, ok := rewrite.ParseURI([]byte("sip:" + text))
	return text == "" || ok && len(uri.User)+len(uri.Params) == 0 && !strings.ContainsAny(text, " \t?,<>\"")
}

func checkAddr(addr string) error {
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("%q is not host:port", addr)
	}
	if _, err := net.LookupPort("tcp", port); err != nil {
		return fmt.Errorf("%q has no valid port", addr)
	}
	return nil
}

// isPort reports whether text is the number of a port that can be sent to.
func isPort(text string) bool {
	number, err := strconv.ParseUint(text, 10, 16)
	return err == nil && number > 0
}

func pair(a, aValue, b, bValue string) error {
	switch {
	case aValue != "" && bValue == "":
		return fmt.Errorf("--%s: needs --%s too", a, b)
	case aValue == "" && bValue != "":
		return fmt.Errorf("--%s: needs --%s too", b, a)
	}
	return nil
}
