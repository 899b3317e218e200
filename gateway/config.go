package gateway

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"go.uber.org/zap"
)

// Policy says which upstream a request outside a dialog goes to.
type Policy string

const (
	// PolicyFailover takes the first upstream that is alive, in the order given.
	PolicyFailover Policy = "failover"
	// PolicyHash spreads addresses-of-record over the upstreams that are alive, so
	// that a user's REGISTER and INVITE meet the same one.
	PolicyHash Policy = "hash"
)

// Config is everything a Gateway is told. The zero value of an optional field
// means what the field's comment says; [New] validates it before any socket
// or file is opened.
type Config struct {
	// Listen holds the WebSocket listeners' addresses, "host:port". Default ":8080".
	Listen []string
	// Path is the WebSocket's path, matched exactly. Default "/ws".
	Path string
	// TLSCert and TLSKey are PEM files; both or neither. With them every Listen
	// address serves wss. Both files are watched.
	TLSCert, TLSKey string
	// AllowOrigins are the Origin values accepted from browsers, "*" for any.
	// Default: the request's own host.
	AllowOrigins []string
	// PingInterval is the time between WebSocket pings. Default 25 s.
	PingInterval time.Duration
	// MaxConnections bounds the WebSocket connections of all listeners together.
	// Default: 10,000.
	MaxConnections int
	// MaxConnectionsPerIP bounds those of one client's address, which of IPv6 is the
	// first 64 bits. Default: 1,000.
	MaxConnectionsPerIP int
	// TrustedProxies are the peers whose X-Forwarded-For is believed. Default: none.
	TrustedProxies []netip.Prefix
	// ProxyProtocol makes every Listen address expect the PROXY protocol, version 1
	// or 2, and that from TrustedProxies only. Default: none is expected.
	ProxyProtocol bool
	// AuthURL is asked about each handshake, with its header; 2xx admits. Default:
	// all are admitted.
	AuthURL string
	// AuthAoRHeader names a header of AuthURL's answer that holds the
	// address-of-record for which alone the connection may speak. Default: none.
	AuthAoRHeader string
	// TLSMinVersion is the least version of TLS for browsers, "1.2" or "1.3".
	// Default "1.2".
	TLSMinVersion string
	// TLSClientCA is a PEM file, watched, of the authorities that a browser's
	// certificate must come from. Default: none is asked for.
	TLSClientCA string
	// MaxMessage is the largest SIP message taken from a browser, in bytes.
	// Default and most: 65,535.
	MaxMessage int
	// Rate and Burst bound the initial requests of one connection: so many a second,
	// and so many at once. All its other messages together may be four times as
	// many. Default: 50 and 200. A negative Rate switches both off.
	Rate, Burst int
	// Other answers HTTP requests for every path but Path. Default: 404.
	Other http.Handler

	// Upstreams are the SIP servers, in order of preference. Required.
	Upstreams []Upstream
	// Policy chooses among Upstreams. Default PolicyFailover.
	Policy Policy
	// UpstreamCA is a PEM file of the authorities that a TLS upstream's
	// certificate must come from. Default: the system's.
	UpstreamCA string
	// UpstreamCert and UpstreamKey are PEM files with the certificate shown to a
	// TLS upstream; both or neither.
	UpstreamCert, UpstreamKey string
	// UpstreamMaxMessage is the largest message relayed to an upstream, in bytes
	// after rewriting. Default: 65,507 on UDP, 20,000 on TCP and TLS (chan_sip
	// closes the connection that all browsers share above 20,480).
	UpstreamMaxMessage int
	// SIPListen is where the upstreams reach the gateway, by UDP and TCP.
	// Default ":5070".
	SIPListen string
	// SIPTLSListen is the same for TLS; it needs SIPTLSCert and SIPTLSKey, PEM
	// files that are watched. Default: none.
	SIPTLSListen          string
	SIPTLSCert, SIPTLSKey string
	// Advertise and AdvertiseTLS are the "host[:port]" that Via and Contact show
	// on UDP and TCP, and on TLS. Default: the local address that routes to the
	// upstream, and the listener's port.
	Advertise, AdvertiseTLS string
	// AllowPeers are sources accepted on the SIP side besides the upstreams.
	AllowPeers []netip.Prefix
	// TCPAbove is the size in bytes above which a request to a UDP upstream goes
	// by TCP (RFC 3261 18.1.1). Default 0: never.
	TCPAbove int
	// StripHeaders are header names never taken from a browser, besides the
	// built-in ones.
	StripHeaders []string
	// ClientIPHeader names a header that tells the upstream the browser's
	// address. Default: none.
	ClientIPHeader string
	// TokenKeyFile holds the keys of tokens and seals, a line each, base64 of 32
	// bytes; the first signs, the others verify. It is watched. A missing file is
	// made. Default: keys that live as long as the process.
	TokenKeyFile string

	// MaxTransactions and MaxTransactionMemory, in bytes, bound what is kept to
	// resend messages on UDP; past either they are relayed without. Default: 20,000
	// and 64 MiB. A negative MaxTransactions switches resending off.
	MaxTransactions, MaxTransactionMemory int
	// HealthInterval is the time within which a dead upstream is noticed, and its
	// browsers are moved to another. Default 10 s, least 1 s.
	HealthInterval time.Duration
	// RTPEngines are the ng ports, "host:port", of rtpengines that bridge the media
	// of browsers to plain RTP. Default: none, and bodies are left alone.
	RTPEngines []string
	// RTPEngineInterfaces name the engines' interfaces. Default: the engine chooses.
	RTPEngineInterfaces Interfaces
	// RTPEngineOptional lets calls pass as they are while no engine can be reached.
	// Default: they are answered 503.
	RTPEngineOptional bool
	// Admin is the address of the admin listener, "host:port", where /healthz,
	// /readyz and /metrics are. Default: none.
	Admin string
	// AdminPprof adds the profiles of net/http/pprof there, for this machine's own
	// clients alone.
	AdminPprof bool
	// AdminOther answers the requests for other paths there that are made on this
	// machine, by its own clients. Default: 404.
	AdminOther http.Handler
	// HEP is the address of a collector, "host:port", that gets a copy of every
	// message by HEP version 3. Default: none.
	HEP string
	// DrainTimeout bounds how long calls are waited for at the end. Default 30 s.
	DrainTimeout time.Duration

	// Log receives the gateway's log. Default: none.
	Log *zap.Logger
	// Ready is called once, when every listener is open. Default: none.
	Ready func(Bound)
	// Answered is called once for each upstream with what it answered to the
	// first OPTIONS: a status line, or an error. Default: none.
	Answered func(upstream string, answer string, err error)
}

// Interfaces are the names that rtpengine's own configuration gives to its
// interface towards the browsers, and to that towards the SIP server.
type Interfaces struct{ Browser, PBX string }

// UnmarshalText reads "BROWSER,PBX".
func (i *Interfaces) UnmarshalText(text []byte) error {
	browser, pbx, _ := strings.Cut(string(text), ",")
	if browser == "" || pbx == "" || strings.ContainsAny(pbx, ", ") || strings.Contains(browser, " ") {
		return fmt.Errorf("%q is not BROWSER,PBX", text)
	}
	*i = Interfaces{browser, pbx}
	return nil
}

// Bound says where a serving Gateway can be reached.
type Bound struct {
	// WebSocket holds one URL for each WebSocket listener.
	WebSocket []string
	// SIP is the address of the UDP and TCP listener, SIPTLS of the TLS one
	// (zero without).
	SIP, SIPTLS netip.AddrPort
	// Advertised is what Via and Contact show, one "transport host:port" for each upstream.
	Advertised []string
	// Admin is the URL of the admin listener, without a path; empty without.
	Admin string
	// EphemeralKeys is true when tokens and seals do not survive a restart.
	EphemeralKeys bool
}
