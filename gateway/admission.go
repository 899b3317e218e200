package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"go.uber.org/zap"
	"golang.org/x/net/http/httpguts"

	"viaduct/rewrite"
	"viaduct/transport"
)

// Bounds of what is asked of the service that authorizes handshakes.
const (
	authTimeout   = 5 * time.Second // waiting for a connection to it included
	authAtOnce    = 64              // connections to it
	authIdle      = time.Minute     // that one of them is kept for without use
	authMaxHeader = 16 << 10        // bytes of its answer
	authMaxBody   = 4 << 10         // that are read so that the connection can be used again
)

// authorizer asks another service whether a browser may connect, as nginx does by
// auth_request and Traefik by forwardAuth: its status is the answer.
type authorizer struct {
	log       *zap.Logger
	url       *url.URL
	aorHeader string // of the answer; empty: connections are not bound
	transport *http.Transport
	timeout   time.Duration
}

func newAuthorizer(cfg *Config) (*authorizer, error) {
	u, err := parseAuthURL(cfg.AuthURL)
	if err != nil {
		return nil, err
	}
	return &authorizer{log: cfg.Log, url: u, aorHeader: cfg.AuthAoRHeader, timeout: authTimeout, transport: &http.Transport{
		DialContext:            (&net.Dialer{Timeout: authTimeout}).DialContext,
		TLSHandshakeTimeout:    authTimeout,
		MaxConnsPerHost:        authAtOnce,
		MaxIdleConnsPerHost:    authAtOnce,
		IdleConnTimeout:        authIdle,
		MaxResponseHeaderBytes: authMaxHeader,
		DisableCompression:     true, // Accept-Encoding is the browser's
	}}, nil
}

// validateAdmission checks what is said of whom to let in.
func (c *Config) validateAdmission() error {
	if c.AuthURL != "" {
		if _, err := parseAuthURL(c.AuthURL); err != nil {
			return fmt.Errorf("--auth-url: %w", err)
		}
	}
	switch {
	case c.MaxConnectionsPerIP < 1:
		return fmt.Errorf("--max-connections-per-ip: %d is less than 1", c.MaxConnectionsPerIP)
	case c.ProxyProtocol && len(c.TrustedProxies) == 0:
		return errors.New("--proxy-protocol: needs --trusted-proxy")
	case c.AuthAoRHeader != "" && c.AuthURL == "":
		return errors.New("--auth-aor-header: needs --auth-url")
	case c.AuthAoRHeader != "" && !httpguts.ValidHeaderFieldName(c.AuthAoRHeader):
		return fmt.Errorf("--auth-aor-header: %q is no header name", c.AuthAoRHeader)
	}
	return nil
}

func parseAuthURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.Fragment != "" {
		return nil, fmt.Errorf("%q is not http:// or https:// with a host", text)
	}
	return u, nil
}

// authorize is WSConfig.Authorize. The grant is the address-of-record that the
// connection is bound to, a *rewrite.URI, or nil.
func (a *authorizer) authorize(r *http.Request, client netip.Addr) (grant any, denied *transport.Denial) {
	ctx, cancel := context.WithTimeout(r.Context(), a.timeout)
	defer cancel()
	// Not by a Client: that would follow redirects, to where anybody may be asked.
	answer, err := a.transport.RoundTrip(a.question(ctx, r, client))
	if err != nil {
		a.failed(r, err)
		return nil, &transport.Denial{
			Why: transport.RefusedAuthFailed, Status: http.StatusServiceUnavailable,
			Header: http.Header{"Retry-After": {fmt.Sprint(retryAfter)}},
		}
	}
	_, _ = io.CopyN(io.Discard, answer.Body, authMaxBody) // or the connection is not used again
	defer answer.Body.Close()
	switch answer.StatusCode / 100 {
	case 2:
		return a.bind(r, answer)
	case 4:
		return nil, &transport.Denial{
			Why: transport.RefusedAuth, Status: answer.StatusCode,
			Header: picked(answer.Header, "Www-Authenticate", "Retry-After"),
		}
	}
	a.failed(r, fmt.Errorf("answered %s", answer.Status))
	return nil, badAnswer
}

// badAnswer is for whom the service has said nothing that can be understood.
var badAnswer = &transport.Denial{Why: transport.RefusedAuthFailed, Status: http.StatusBadGateway}

// bind returns the address-of-record that the answer names, if one is to.
func (a *authorizer) bind(r *http.Request, answer *http.Response) (grant any, denied *transport.Denial) {
	if a.aorHeader == "" {
		return nil, nil
	}
	values := answer.Header.Values(a.aorHeader)
	if len(values) == 1 {
		if aor, ok := parseAoR(values[0]); ok {
			return aor, nil
		}
	}
	a.failed(r, fmt.Errorf("%s: %q is not one address-of-record", a.aorHeader, values))
	return nil, badAnswer
}

func (a *authorizer) failed(r *http.Request, err error) {
	if r.Context().Err() == nil { // else it is the browser that did not wait
		a.log.Error("handshake not authorized", zap.String("remote", r.RemoteAddr), zap.Stringer("url", a.url), zap.Error(err))
	}
}

// parseAoR reads an address-of-record, with or without scheme and angle brackets.
func parseAoR(text string) (*rewrite.URI, bool) {
	text = strings.TrimSpace(text)
	if inner, ok := strings.CutPrefix(text, "<"); ok {
		text, ok = strings.CutSuffix(inner, ">")
		if !ok {
			return nil, false
		}
	}
	uri, ok := rewrite.ParseURI([]byte(text))
	if !ok {
		uri, ok = rewrite.ParseURI([]byte("sip:" + text))
	}
	return &uri, ok && len(uri.User) > 0 && !strings.ContainsAny(text, " \t,<>\"")
}

// question is the request to the service. Who connects, and where, is what the
// gateway has seen; the rest is the browser's own.
func (a *authorizer) question(ctx context.Context, r *http.Request, client netip.Addr) *http.Request {
	q := (&http.Request{Method: http.MethodGet, URL: a.url, Host: a.url.Host, Header: passedOn(r.Header)}).WithContext(ctx)
	set := func(name, value string) { q.Header[name] = []string{value} }
	set("X-Original-Method", r.Method)
	set("X-Original-Uri", r.RequestURI)
	set("X-Forwarded-Method", r.Method)
	set("X-Forwarded-Uri", r.RequestURI)
	set("X-Forwarded-Host", r.Host)
	set("X-Forwarded-Proto", scheme(r))
	set("X-Forwarded-For", client.String())
	return q
}

// scheme is how the browser came: what a proxy that is believed says, else how
// the request came here.
func scheme(r *http.Request) string {
	switch r.Header.Get("X-Forwarded-Proto") {
	case "https", "wss":
		return "https"
	case "http", "ws":
		return "http"
	}
	if r.TLS != nil {
		return "https"
	}
	return "http"
}

// passedOn returns what of a handshake's header the service gets: all but what is
// about this connection alone (RFC 9110 7.6.1), and what it would take for the
// gateway's word.
func passedOn(header http.Header) http.Header {
	passed := make(http.Header, len(header)+8)
	for name, values := range header {
		if !ofHop(name) && !ofGateway(name) {
			passed[name] = values
		}
	}
	for _, line := range header["Connection"] {
		for name := range strings.SplitSeq(line, ",") {
			delete(passed, http.CanonicalHeaderKey(strings.TrimSpace(name)))
		}
	}
	return passed
}

func ofHop(name string) bool {
	switch name {
	case "Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection", "Te", "Trailer",
		"Transfer-Encoding", "Upgrade", "Content-Length":
		return true
	}
	return strings.HasPrefix(name, "Sec-Websocket-")
}

func ofGateway(name string) bool {
	switch name {
	case "Forwarded", "X-Real-Ip":
		return true
	}
	return strings.HasPrefix(name, "X-Forwarded-") || strings.HasPrefix(name, "X-Original-") ||
		strings.Contains(name, "_") // services behind CGI or WSGI take it for a hyphen
}

// picked returns some fields of a header.
func picked(header http.Header, names ...string) http.Header {
	out := make(http.Header)
	for _, name := range names {
		if values := header[name]; len(values) > 0 {
			out[name] = values
		}
	}
	return out
}
