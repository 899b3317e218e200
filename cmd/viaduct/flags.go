package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"time"

	"github.com/alecthomas/kong"
	"go.uber.org/zap/zapcore"

	"viaduct/gateway"
)

// commands declares what can be asked of viaduct. kong is used because the
// standard flag package knows neither commands, nor groups, nor environment
// variables, nor repetition.
type commands struct {
	Serve  flags       `cmd:"" default:"withargs" help:"${description}"`
	Health healthFlags `cmd:"" help:"Ask a running viaduct whether it is ready, for container health checks: the exit status is 0 if it is, else 1."`
	Doctor doctorFlags `cmd:"" help:"Try a SIP server before browsers do, and say what to set: the exit status is 1 if viaduct must not be switched on so, else 0."`

	Version kong.VersionFlag `env:"-" help:"Print the version and exit."`
}

// flags declares every option of the gateway once: name, environment variable,
// default, help text and group all come from here.
type flags struct {
	Listen         []string       `group:"Browser side" placeholder:"ADDR" default:":8080" help:"WebSocket listener."`
	Path           string         `group:"Browser side" placeholder:"PATH" default:"/ws" help:"The WebSocket's path; other paths answer 404."`
	TLSCert        string         `group:"Browser side" placeholder:"FILE" help:"With --tls-key: serve wss on every --listen. Both files are watched."`
	TLSKey         string         `group:"Browser side" placeholder:"FILE" help:"The key of --tls-cert."`
	AllowOrigin    []string       `group:"Browser side" placeholder:"ORIGIN" help:"Origin accepted from browsers, * for any; a client without Origin is accepted. Without this flag: the request's own host."`
	PingInterval   time.Duration  `group:"Browser side" placeholder:"DURATION" default:"25s" help:"Time between WebSocket pings; two missed pongs close."`
	MaxConnections int            `group:"Browser side" placeholder:"N" help:"Most WebSocket connections; past it 503. Without this flag: what the descriptor limit allows, at most 1000000."`
	MaxPerIP       int            `name:"max-connections-per-ip" group:"Browser side" placeholder:"N" default:"1000" help:"Most of them from one client's address, which of IPv6 is the first 64 bits; past it 429."`
	TrustedProxy   []netip.Prefix `group:"Browser side" placeholder:"CIDR" help:"Peers whose X-Forwarded-For is believed: the last address in it that is none of theirs is the client's."`
	ProxyProtocol  bool           `group:"Browser side" help:"Each --listen expects the PROXY protocol, v1 or v2, and that from --trusted-proxy only."`
	AuthURL        string         `name:"auth-url" group:"Browser side" placeholder:"URL" help:"Asked before each upgrade with the handshake's headers, as nginx's auth_request and Traefik's forwardAuth do; 2xx admits, 4xx is passed on, anything else and 5 s without an answer refuse."`
	AuthAoRHeader  string         `name:"auth-aor-header" group:"Browser side" placeholder:"NAME" help:"A header of that answer with the address-of-record that the connection is bound to: From, and To of a REGISTER, must be it, else 403. Not in a dialog, where From is what the SIP server has called."`
	TLSMinVersion  string         `name:"tls-min-version" group:"Browser side" placeholder:"VERSION" default:"1.2" enum:"1.2,1.3" help:"Least version of TLS that browsers may use: 1.2 or 1.3."`
	TLSClientCA    string         `name:"tls-client-ca" group:"Browser side" placeholder:"FILE" help:"Browsers need a certificate of one of these authorities. Watched."`
	MaxMessage     int            `group:"Browser side" placeholder:"BYTES" default:"65535" help:"Largest SIP message from a browser; larger: 513 where it can be said, then close 1009."`
	Rate           int            `group:"Browser side" placeholder:"N" default:"50" help:"Most initial requests a second from one connection, 0: any number; past it 503. All its other messages have a budget four times as large of their own, past which the connection is closed 1008."`
	Burst          int            `group:"Browser side" placeholder:"N" default:"200" help:"How many of those may come at once."`

	upstreamFlag
	UpstreamPolicy gateway.Policy `group:"SIP side" placeholder:"POLICY" default:"failover" enum:"failover,hash" help:"Which upstream gets a request outside a dialog. failover: the first that is alive, in the order given; hash: by hash of the address-of-record among those alive, so that a user always meets the same one."`
	upstreamTLSFlags
	UpstreamMaxMessage int `group:"SIP side" placeholder:"BYTES" help:"Largest message to an upstream, after rewriting; larger: 513. Without this flag: 65507 on UDP, 20000 on TCP and TLS."`
	sipFlags
	TCPAbove          int           `group:"SIP side" placeholder:"BYTES" default:"0" help:"On a UDP upstream, send larger requests by TCP; 0: never."`
	StripHeader       []string      `group:"SIP side" placeholder:"NAME" help:"Further header never taken from a browser, besides the built-in ones."`
	ClientIPHeader    string        `group:"SIP side" placeholder:"NAME" help:"Tell the SIP server the browser's address in this header."`
	TokenKeyFile      string        `group:"SIP side" placeholder:"FILE" help:"Keys of the tokens, a line each, base64 of 32 bytes; the first signs, later ones still verify. Watched; made if missing. Without this flag: token.key in $$STATE_DIRECTORY, else in the user's state directory."`
	MaxTransactions   int           `group:"SIP side" placeholder:"N" default:"20000" help:"Most messages kept to be sent again on UDP, 64 of them for one browser; past it they are relayed without."`
	MaxTransactionMem int           `name:"max-transaction-memory" group:"SIP side" placeholder:"BYTES" default:"67108864" help:"Most memory for them."`
	HealthInterval    time.Duration `group:"SIP side" placeholder:"DURATION" default:"10s" help:"Time within which a dead upstream is noticed: it is asked with OPTIONS twice in it, any answer means alive."`

	rtpengineFlag
	RTPEngineDirection gateway.Interfaces `name:"rtpengine-direction" group:"Media" placeholder:"BROWSER,PBX" help:"The rtpengine's names of its interfaces for the two sides."`
	RTPEngineOptional  bool               `name:"rtpengine-optional" group:"Media" help:"While no rtpengine can be reached calls pass as they are, instead of being answered 503."`

	adminFlag
	AdminPprof   bool          `group:"Operation" help:"Serve the profiles of net/http/pprof at --admin, to clients on this machine only."`
	HEP          string        `name:"hep" group:"Operation" placeholder:"HOST:PORT" help:"Copy every message, as it is on either side, to a collector such as Homer by HEP version 3 over UDP. Credentials and tokens are masked."`
	DrainTimeout time.Duration `group:"Operation" placeholder:"DURATION" default:"30s" help:"After SIGTERM: how long calls are waited for, while new connections are refused."`
	LogLevel     zapcore.Level `group:"Operation" placeholder:"LEVEL" default:"info" enum:"debug,info,warn,error" help:"Least severe that is logged: debug, info, warn or error."`
	LogFormat    *string       `group:"Operation" placeholder:"FORMAT" enum:"console,json" help:"console or json. Without this flag: console on a terminal, else json."`
}

// adminFlag is what viaduct and the one who asks it about its health agree on.
type adminFlag struct {
	Admin string `group:"Operation" placeholder:"ADDR" default:"127.0.0.1:8081" help:"Listener of /healthz, /readyz and /metrics, and of the live trace at /trace/ for clients on this machine only; empty: none."`
}

// The flags that the gateway and the doctor have in common, in groups that stand
// together in the help.
type (
	upstreamFlag struct {
		Upstream []gateway.Upstream `group:"SIP side" placeholder:"URI" required:"" help:"The SIP server: sip:host[:port][;transport=udp|tcp|tls], or sips:. A name without port is resolved by SRV, then A/AAAA. ;alias=HOST: a further address the same server speaks from or names in its Contact."`
	}
	upstreamTLSFlags struct {
		UpstreamCA   string `group:"SIP side" placeholder:"FILE" help:"Authorities of a TLS upstream's certificate. Without this flag: the system's."`
		UpstreamCert string `group:"SIP side" placeholder:"FILE" help:"With --upstream-key: the certificate shown to a TLS upstream."`
		UpstreamKey  string `group:"SIP side" placeholder:"FILE" help:"The key of --upstream-cert."`
	}
	sipFlags struct {
		SIPListen    string         `group:"SIP side" placeholder:"ADDR" default:":5070" help:"Where the SIP server reaches viaduct, UDP and TCP."`
		SIPTLSListen string         `name:"sip-tls-listen" group:"SIP side" placeholder:"ADDR" help:"The same for TLS."`
		SIPTLSCert   string         `name:"sip-tls-cert" group:"SIP side" placeholder:"FILE" help:"Certificate of --sip-tls-listen. Watched."`
		SIPTLSKey    string         `name:"sip-tls-key" group:"SIP side" placeholder:"FILE" help:"The key of --sip-tls-cert. Watched."`
		Advertise    string         `group:"SIP side" placeholder:"HOST[:PORT]" help:"What Via and Contact say on UDP and TCP. Without this flag: the local address that routes to the upstream, and the listener's port."`
		AdvertiseTLS string         `group:"SIP side" placeholder:"HOST[:PORT]" help:"The same for TLS."`
		AllowPeer    []netip.Prefix `group:"SIP side" placeholder:"CIDR" help:"Further sources accepted on the SIP side, besides the upstreams' addresses."`
	}
	rtpengineFlag struct {
		RTPEngine []string `name:"rtpengine" group:"Media" placeholder:"HOST:PORT" help:"Bridge WebRTC media to plain RTP: the ng port of an rtpengine. Each call goes to the first that is healthy, in an order of its own."`
	}
)

const description = `viaduct relays SIP between browsers (SIP over WebSocket) and a SIP server that knows only UDP, TCP or TLS.

Every flag is also an environment variable, VIADUCT_FLAG_NAME; a flag wins. Flags shown with ",..." may be repeated, and take commas.`

// errStop means that --help or --version has said everything.
var errStop = errors.New("nothing more to do")

// An errand is a command that asks or tries something and ends.
type errand interface {
	validate() error
	// do returns the exit status. An error is printed as one line.
	do(ctx context.Context, stdout io.Writer) (status int, err error)
}

// parse reads args and the environment, and returns the gateway's flags or, if
// another command was given, that. Its errors name the flag. It returns errStop
// after --help or --version.
func parse(args []string, stdout io.Writer) (serve *flags, other errand, err error) {
	var c commands
	parser, stopped, err := newParser(&c, stdout)
	if err != nil {
		return nil, nil, err
	}
	given, err := parser.Parse(args)
	switch {
	case *stopped:
		return nil, nil, errStop
	case err != nil:
		return nil, nil, err
	}
	switch given.Command() {
	case "health":
		other = &c.Health
	case "doctor":
		other = &c.Doctor
	default:
		return &c.Serve, nil, c.Serve.validate()
	}
	return nil, other, other.validate()
}

// validate refuses what the gateway would take for something else: a zero field
// of its Config stands for the default, and only code may switch resending off.
func (f *flags) validate() error {
	switch {
	case f.MaxPerIP < 1:
		return fmt.Errorf("--max-connections-per-ip: %d is less than 1", f.MaxPerIP)
	case f.Rate < 0:
		return fmt.Errorf("--rate: %d is negative", f.Rate)
	case f.Burst < 1:
		return fmt.Errorf("--burst: %d is less than 1", f.Burst)
	case f.MaxTransactions < 1:
		return fmt.Errorf("--max-transactions: %d is less than 1", f.MaxTransactions)
	case f.MaxTransactionMem < 1:
		return fmt.Errorf("--max-transaction-memory: %d is less than 1", f.MaxTransactionMem)
	case f.HealthInterval <= 0:
		return fmt.Errorf("--health-interval: %v is not more than 0", f.HealthInterval)
	}
	return nil
}

// newParser builds the command line over c. stopped turns true when --help or
// --version is met: kong then goes on parsing, and its result means nothing.
func newParser(c *commands, stdout io.Writer) (parser *kong.Kong, stopped *bool, err error) {
	stopped = new(bool)
	parser, err = kong.New(c,
		kong.Name("viaduct"),
		kong.DefaultEnvars("VIADUCT"),
		kong.Vars{"version": version(), "description": description},
		kong.Writers(stdout, io.Discard),
		kong.Exit(func(int) { *stopped = true }),
		kong.ConfigureHelp(kong.HelpOptions{WrapUpperBound: 100}),
		kong.ValueFormatter(helpWithDefault),
		kong.Help(help),
	)
	return parser, stopped, err
}

// help prints the flags of the command that was given. Without one it is that of
// the gateway, of which kong would show nothing but the name.
func help(options kong.HelpOptions, ctx *kong.Context) error {
	if ctx.Selected() == nil {
		serve := ctx.Model.DefaultCmd
		ctx.Path = append(ctx.Path, &kong.Path{Parent: ctx.Model.Node, Command: serve, Flags: serve.Flags})
		fmt.Fprintf(ctx.Stdout, "Usage: viaduct %s [flags]\n       viaduct health [flags]\n       viaduct doctor [flags]\n", serve.FlagSummary(true))
		options.NoAppSummary = true
	}
	return kong.DefaultHelpPrinter(options, ctx)
}

// helpWithDefault adds the default to a flag's help. Kong would show it as the
// flag's placeholder, where what kind of value is wanted says more.
func helpWithDefault(value *kong.Value) string {
	if !value.HasDefault || value.Default == "" {
		return value.Help
	}
	return fmt.Sprintf("%s Default: %s.", value.Help, value.Default)
}

// oneLine turns a parser's error into the line that is printed.
func oneLine(err error) string {
	return strings.Join(strings.Fields(err.Error()), " ")
}

// config is what the gateway is told. It leaves Log and the call-backs to the caller.
func (f *flags) config() gateway.Config {
	return gateway.Config{
		Listen:              f.Listen,
		Path:                f.Path,
		TLSCert:             f.TLSCert,
		TLSKey:              f.TLSKey,
		AllowOrigins:        f.AllowOrigin,
		PingInterval:        f.PingInterval,
		MaxConnections:      f.MaxConnections,
		MaxMessage:          f.MaxMessage,
		Rate:                cmp.Or(f.Rate, -1), // its zero is the default
		Burst:               f.Burst,
		MaxConnectionsPerIP: f.MaxPerIP,
		TrustedProxies:      f.TrustedProxy,
		ProxyProtocol:       f.ProxyProtocol,
		AuthURL:             f.AuthURL,
		AuthAoRHeader:       f.AuthAoRHeader,
		TLSMinVersion:       f.TLSMinVersion,
		TLSClientCA:         f.TLSClientCA,
		Upstreams:           f.Upstream,
		Policy:              f.UpstreamPolicy,
		UpstreamCA:          f.UpstreamCA,
		UpstreamCert:        f.UpstreamCert,
		UpstreamKey:         f.UpstreamKey,
		UpstreamMaxMessage:  f.UpstreamMaxMessage,
		SIPListen:           f.SIPListen,
		SIPTLSListen:        f.SIPTLSListen,
		SIPTLSCert:          f.SIPTLSCert,
		SIPTLSKey:           f.SIPTLSKey,
		Advertise:           f.Advertise,
		AdvertiseTLS:        f.AdvertiseTLS,
		AllowPeers:          f.AllowPeer,
		TCPAbove:            f.TCPAbove,
		StripHeaders:        f.StripHeader,
		ClientIPHeader:      f.ClientIPHeader,
		TokenKeyFile:        f.TokenKeyFile,

		MaxTransactions:      f.MaxTransactions,
		MaxTransactionMemory: f.MaxTransactionMem,
		HealthInterval:       f.HealthInterval,
		RTPEngines:           f.RTPEngine,
		RTPEngineInterfaces:  f.RTPEngineDirection,
		RTPEngineOptional:    f.RTPEngineOptional,
		Admin:                f.Admin,
		AdminPprof:           f.AdminPprof,
		HEP:                  f.HEP,
		DrainTimeout:         cmp.Or(f.DrainTimeout, time.Nanosecond), // its zero is the default
	}
}
