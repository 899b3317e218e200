package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"time"

	"github.com/alecthomas/kong"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"viaduct/gateway"
)

// webSocketPath is where the phone page's WebSocket connects.
const webSocketPath = "/ws"

// flags declares every option once, as those of viaduct are.
type flags struct {
	Listen       string           `placeholder:"ADDR" default:"127.0.0.1:8080" help:"Where the phone page is served."`
	AllowRemote  bool             `help:"Let --listen be reached from other machines. Whoever reaches the page gets the demo's accounts and sees every message. Browsers give a microphone to a page from another machine only by https: add --tls-cert."`
	TLSCert      string           `placeholder:"FILE" help:"With --tls-key: serve the page by https."`
	TLSKey       string           `placeholder:"FILE" help:"The key of --tls-cert."`
	Upstream     gateway.Upstream `placeholder:"URI" help:"A real PBX instead of the embedded one: sip:host[:port][;transport=udp|tcp|tls]."`
	SIPListen    string           `placeholder:"ADDR" help:"Where the PBX reaches viaduct, UDP and TCP. Without this flag: any free port of loopback, or :5070 if --upstream is another machine; only the PBX is listened to."`
	PBXListen    string           `name:"pbx-listen" placeholder:"ADDR" default:"127.0.0.1:0" help:"The embedded PBX's own address, UDP and TCP."`
	RTPEngine    []string         `name:"rtpengine" placeholder:"HOST:PORT" help:"Bridge WebRTC media to plain RTP, as viaduct does: the ng port of an rtpengine. The embedded PBX then hears plain RTP."`
	TokenKeyFile string           `placeholder:"FILE" help:"Keys of the tokens, as viaduct keeps them, so that calls through a real PBX survive a restart. Without this flag: keys that live as long as the process."`
	LogLevel     zapcore.Level    `placeholder:"LEVEL" default:"warn" enum:"debug,info,warn,error" help:"Least severe that is logged: debug, info, warn or error."`
}

const description = `viaduct-demo is viaduct with a phone page and a small PBX in one process, on loopback, to see and to try it.

Every flag is also an environment variable, VIADUCT_DEMO_FLAG_NAME; a flag wins.`

// errStop means that --help has said everything.
var errStop = errors.New("nothing more to do")

// parse reads args and the environment. Its errors name the flag. It returns
// errStop after --help.
func parse(args []string, stdout io.Writer) (*flags, error) {
	var f flags
	parser, stopped, err := newParser(&f, stdout)
	if err != nil {
		return nil, err
	}
	_, err = parser.Parse(args)
	if *stopped {
		return nil, errStop
	}
	return &f, err
}

// newParser builds the command line over f. stopped turns true when --help is
// met: kong then goes on parsing, and its result means nothing.
func newParser(f *flags, stdout io.Writer) (parser *kong.Kong, stopped *bool, err error) {
	stopped = new(bool)
	parser, err = kong.New(f,
		kong.Name("viaduct-demo"),
		kong.Description(description),
		kong.DefaultEnvars("VIADUCT_DEMO"),
		kong.Writers(stdout, io.Discard),
		kong.Exit(func(int) { *stopped = true }),
		kong.ConfigureHelp(kong.HelpOptions{WrapUpperBound: 100}),
		kong.ValueFormatter(func(value *kong.Value) string {
			if value.Default == "" {
				return value.Help
			}
			return fmt.Sprintf("%s Default: %s.", value.Help, value.Default)
		}),
	)
	return parser, stopped, err
}

// validate refuses what would open the demo to other machines unasked.
func (f *flags) validate() error {
	host, _, err := net.SplitHostPort(f.Listen)
	if err != nil {
		return fmt.Errorf("--listen: %q is not host:port", f.Listen)
	}
	if !f.AllowRemote && !isLoopback(host) {
		return fmt.Errorf("--listen: other machines could reach %s, and with it the demo's accounts; add --allow-remote if that is wanted", f.Listen)
	}
	host, _, err = net.SplitHostPort(f.PBXListen)
	if err != nil {
		return fmt.Errorf("--pbx-listen: %q is not host:port", f.PBXListen)
	}
	if !isLoopback(host) {
		return fmt.Errorf("--pbx-listen: %s is not on loopback, and the embedded PBX is for this machine alone", f.PBXListen)
	}
	return nil
}

// config is what the gateway is told.
func (f *flags) config(log *zap.Logger) gateway.Config {
	sip := f.SIPListen
	switch {
	case sip != "":
	case f.Upstream.Host == "" || isLoopback(f.Upstream.Host):
		sip = "127.0.0.1:0"
	default:
		sip = ":5070"
	}
	return gateway.Config{
		Listen:       []string{f.Listen},
		Path:         webSocketPath,
		TLSCert:      f.TLSCert,
		TLSKey:       f.TLSKey,
		Upstreams:    []gateway.Upstream{f.Upstream},
		SIPListen:    sip,
		RTPEngines:   f.RTPEngine,
		TokenKeyFile: f.TokenKeyFile,
		DrainTimeout: time.Second, // who ends a demo does not wait for its calls
		Log:          log,
	}
}

// isLoopback tells whether host is an address of this machine alone. No name
// is looked up.
func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.Unmap().IsLoopback()
}
