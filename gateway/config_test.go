package gateway

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"viaduct/rewrite"
	"viaduct/transport"
)

// TestInvalidConfig: an error begins with the flag that is wrong.
func TestInvalidConfig(t *testing.T) {
	ca := newAuthority(t)
	cert, key := ca.issue("cert")
	_, foreign := ca.issue("foreign")
	broken := filepath.Join(t.TempDir(), "broken")
	if err := os.WriteFile(broken, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		flag string
		set  func(*Config)
	}{
		{"listen", func(c *Config) { c.Listen = []string{":8080", "8081"} }},
		{"listen", func(c *Config) { c.Listen = []string{":99999"} }},
		{"path", func(c *Config) { c.Path = "ws" }},
		{"allow-origin", func(c *Config) { c.AllowOrigins = []string{"*", "example.org"} }},
		{"allow-origin", func(c *Config) { c.AllowOrigins = []string{"https://example.org/"} }},
		{"ping-interval", func(c *Config) { c.PingInterval = 1 }},
		{"max-connections", func(c *Config) { c.MaxConnections = -1 }},
		{"max-connections-per-ip", func(c *Config) { c.MaxConnectionsPerIP = -1 }},
		{"proxy-protocol", func(c *Config) { c.ProxyProtocol = true }},
		{"auth-url", func(c *Config) { c.AuthURL = "auth.example" }},
		{"auth-url", func(c *Config) { c.AuthURL = "ftp://auth.example/" }},
		{"auth-url", func(c *Config) { c.AuthURL = "http://user:password@auth.example/" }},
		{"auth-aor-header", func(c *Config) { c.AuthAoRHeader = "X-AOR" }},
		{"auth-aor-header", func(c *Config) { c.AuthURL, c.AuthAoRHeader = "http://auth.example", "X AOR" }},
		{"tls-min-version", func(c *Config) { c.TLSMinVersion = "1.1" }},
		{"tls-client-ca", func(c *Config) { c.TLSClientCA = ca.file() }},
		{"tls-client-ca", func(c *Config) { c.TLSCert, c.TLSKey, c.TLSClientCA = cert, key, broken }},
		{"tls-client-ca", func(c *Config) { c.TLSCert, c.TLSKey, c.TLSClientCA = cert, key, broken+"er" }},
		{"max-message", func(c *Config) { c.MaxMessage = 100 }},
		{"max-message", func(c *Config) { c.MaxMessage = rewrite.MaxLength + 1 }},
		{"rate", func(c *Config) { c.Rate = maxRate + 1 }},
		{"burst", func(c *Config) { c.Burst = -1 }},
		{"burst", func(c *Config) { c.Burst = maxRate + 1 }},
		{"tls-cert", func(c *Config) { c.TLSCert = cert }},
		{"tls-key", func(c *Config) { c.TLSKey = key }},
		{"tls-cert", func(c *Config) { c.TLSCert, c.TLSKey = cert, foreign }},
		{"tls-cert", func(c *Config) { c.TLSCert, c.TLSKey = broken, key }},
		{"upstream", func(c *Config) { c.Upstreams = nil }},
		{"upstream", func(c *Config) { c.Upstreams = append(c.Upstreams, c.Upstreams[0]) }},
		{"upstream-policy", func(c *Config) { c.Policy = "random" }},
		{"upstream-ca", func(c *Config) { c.UpstreamCA = broken }},
		{"upstream-ca", func(c *Config) { c.UpstreamCA = broken + "er" }},
		{"upstream-cert", func(c *Config) { c.UpstreamCert = cert }},
		{"upstream-key", func(c *Config) { c.UpstreamKey = key }},
		{"upstream-cert", func(c *Config) { c.UpstreamCert, c.UpstreamKey = cert, foreign }},
		{"upstream-max-message", func(c *Config) { c.UpstreamMaxMessage = 10 }},
		{"sip-listen", func(c *Config) { c.SIPListen = "nonsense" }},
		{"sip-tls-listen", func(c *Config) { c.SIPTLSListen, c.SIPTLSCert, c.SIPTLSKey = "nonsense", cert, key }},
		{"sip-tls-listen", func(c *Config) { c.SIPTLSListen = ":5071" }},
		{"sip-tls-cert", func(c *Config) { c.SIPTLSCert, c.SIPTLSKey = cert, key }},
		{"sip-tls-cert", func(c *Config) { c.SIPTLSListen, c.SIPTLSCert = ":5071", cert }},
		{"sip-tls-key", func(c *Config) { c.SIPTLSKey = key }},
		{"sip-tls-cert", func(c *Config) { c.SIPTLSListen, c.SIPTLSCert, c.SIPTLSKey = ":5071", cert, foreign }},
		{"advertise", func(c *Config) { c.Advertise = "sip:gw.example" }},
		{"advertise-tls", func(c *Config) { c.AdvertiseTLS = "gw.example;transport=tls" }},
		{"tcp-above", func(c *Config) { c.TCPAbove = -1 }},
		{"strip-header", func(c *Config) { c.StripHeaders = []string{"X-Fine", "Call-ID"} }},
		{"client-ip-header", func(c *Config) { c.ClientIPHeader = "Via" }},
		{"client-ip-header", func(c *Config) { c.ClientIPHeader = "Bad Name" }},
		{"token-key-file", func(c *Config) { c.TokenKeyFile = broken }},
		{"token-key-file", func(c *Config) { c.TokenKeyFile = filepath.Join(broken, "below", "a", "file") }},
		{"rtpengine", func(c *Config) { c.RTPEngines = []string{"127.0.0.1:2223", "127.0.0.1"} }},
		{"rtpengine", func(c *Config) { c.RTPEngines = []string{"127.0.0.1:2223", "127.0.0.1:2223"} }},
		{"rtpengine-direction", func(c *Config) { c.RTPEngineInterfaces = Interfaces{"public", "private"} }},
		{"admin-pprof", func(c *Config) { c.AdminPprof = true }},
		{"hep", func(c *Config) { c.HEP = "homer.example" }},
		{"hep", func(c *Config) { c.HEP = ":9060" }},
		{"hep", func(c *Config) { c.HEP = "homer.example:0" }},
		{"rtpengine-optional", func(c *Config) { c.RTPEngineOptional = true }},
	} {
		cfg := Config{Upstreams: upstreams(t, "sip:127.0.0.1")}
		test.set(&cfg)
		if _, err := New(cfg); err == nil || !strings.HasPrefix(err.Error(), "--"+test.flag+": ") || strings.Contains(err.Error(), "\n") {
			t.Errorf("--%s: error %v", test.flag, err)
		}
	}
}

// TestDefaultConfig: one flag is enough.
func TestDefaultConfig(t *testing.T) {
	g, err := New(Config{Upstreams: upstreams(t, "sip:127.0.0.1")})
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%v %v %v %v %v", g.cfg.Listen, g.cfg.Path, g.cfg.SIPListen, g.cfg.Policy, g.cfg.PingInterval); got != "[:8080] /ws :5070 failover 25s" {
		t.Errorf("defaults %s", got)
	}
}

func TestParseUpstream(t *testing.T) {
	for text, want := range map[string]string{
		"sip:10.0.0.5":                             "10.0.0.5 0 UDP []",
		"sip:10.0.0.5:5080":                        "10.0.0.5 5080 UDP []",
		"SIP:pbx.example;transport=TCP":            "pbx.example 0 TCP []",
		"sip:pbx.example:5061;transport=tls":       "pbx.example 5061 TLS []",
		"sips:pbx.example":                         "pbx.example 0 TLS []",
		"sips:pbx.example;transport=tcp":           "pbx.example 0 TLS []",
		"sip:[2001:db8::1]:5060;alias=[::2]":       "2001:db8::1 5060 UDP [::2]",
		"sip:pbx.example;alias=a;alias=10.0.0.6;":  "pbx.example 0 UDP [a 10.0.0.6]",
		"sip:pbx.example;transport=udp;alias=node": "pbx.example 0 UDP [node]",

		"pbx.example":                    "",
		"sip:":                           "",
		"http://pbx.example":             "",
		"sip:user@pbx.example":           "",
		"sip:pbx.example:0":              "",
		"sip:pbx.example:99999":          "",
		"sip:pbx.example?X=y":            "",
		"sip:pbx.example;transport=ws":   "",
		"sip:pbx.example;transport":      "",
		"sips:pbx.example;transport=udp": "",
		"sip:pbx.example;alias=":         "",
		"sip:pbx.example;lr":             "",
	} {
		var u Upstream
		err := u.UnmarshalText([]byte(text))
		got := fmt.Sprint(u.Host, " ", u.Port, " ", u.Proto, " ", u.Aliases)
		switch {
		case want == "" && (err == nil || !strings.Contains(err.Error(), text)):
			t.Errorf("%q: error %v", text, err)
		case want != "" && (err != nil || got != want || u.String() != text):
			t.Errorf("%q: %s (%s), %v, want %s", text, got, u, err, want)
		}
	}
}

// TestAddressInUse: Serve says which listener cannot be opened, and leaves none
// open.
func TestAddressInUse(t *testing.T) {
	l := preparedLab(t)
	taken := l.listenTCP("127.0.0.1:0").Addr().String()
	free := l.listenTCP("127.0.0.1:0")
	_ = free.Close()
	for flag, set := range map[string]func(*Config){
		"listen":     func(c *Config) { c.Listen = []string{free.Addr().String(), taken} },
		"sip-listen": func(c *Config) { c.SIPListen = taken },
	} {
		cfg := l.cfg
		set(&cfg)
		gw, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		if err := gw.Serve(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "--"+flag+": ") {
			t.Errorf("--%s: error %v", flag, err)
		}
	}
	again, err := net.Listen("tcp", free.Addr().String())
	if err != nil {
		t.Fatalf("a listener was left open: %v", err)
	}
	_ = again.Close()
}

// TestListenTwice: browsers of all listeners are of one gateway.
func TestListenTwice(t *testing.T) {
	l := newLab(t, func(c *Config) { c.Listen = []string{"127.0.0.1:0", "127.0.0.1:0"} })
	one := l.phone("alice")
	l.bound.WebSocket = l.bound.WebSocket[1:]
	two := l.phone("bob")
	for _, p := range []*phone{one, two} {
		l.expectReached(p, l.registered(p))
	}
}

// TestReasons: whatever is counted has a name and a sentence of its own.
func TestReasons(t *testing.T) {
	seen := map[string]Reason{}
	for _, r := range Reasons() {
		if r.String() == "" || r.Text() == "" || strings.Contains(r.String(), " ") {
			t.Errorf("reason %d is %q: %q", r, r, r.Text())
		}
		for _, text := range []string{r.String(), r.Text()} {
			if other, ok := seen[text]; ok {
				t.Errorf("reasons %d and %d are both %q", r, other, text)
			}
			seen[text] = r
		}
	}
	if len(Reasons()) != int(numReasons)-1 || len(transport.Refusals()) == 0 {
		t.Errorf("%d reasons", len(Reasons()))
	}
}

func TestInterfaces(t *testing.T) {
	var i Interfaces
	if err := i.UnmarshalText([]byte("public,private")); err != nil || i != (Interfaces{"public", "private"}) {
		t.Errorf("%+v, %v", i, err)
	}
	for _, text := range []string{"", ",", "public", "public,", ",private", "a,b,c", "a, b"} {
		if err := i.UnmarshalText([]byte(text)); err == nil || i.Browser != "public" {
			t.Errorf("%q: %+v, %v", text, i, err)
		}
	}
}
