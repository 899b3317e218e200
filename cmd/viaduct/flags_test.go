package main

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"viaduct/gateway"
)

func mustParse(t *testing.T, args ...string) *flags {
	t.Helper()
	f, _, err := parse(args, io.Discard)
	if err != nil {
		t.Fatalf("viaduct %s: %v", strings.Join(args, " "), err)
	}
	return f
}

func mustUpstream(t *testing.T, uri string) gateway.Upstream {
	t.Helper()
	var u gateway.Upstream
	if err := u.UnmarshalText([]byte(uri)); err != nil {
		t.Fatal(err)
	}
	return u
}

// model is what kong knows of the gateway's flags, in order.
func model(t *testing.T) []*kong.Flag {
	t.Helper()
	parser, _, err := newParser(new(commands), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	return parser.Model.DefaultCmd.Flags
}

func TestDefaults(t *testing.T) {
	got := mustParse(t, "--upstream=sip:10.0.0.5").config()
	want := gateway.Config{
		Listen:              []string{":8080"},
		Path:                "/ws",
		PingInterval:        25 * time.Second,
		MaxMessage:          65535,
		Rate:                50,
		Burst:               200,
		MaxConnectionsPerIP: 1000,
		TLSMinVersion:       "1.2",
		Upstreams:           []gateway.Upstream{mustUpstream(t, "sip:10.0.0.5")},
		Policy:              gateway.PolicyFailover,
		SIPListen:           ":5070",

		MaxTransactions:      20_000,
		MaxTransactionMemory: 64 << 20,
		HealthInterval:       10 * time.Second,
		Admin:                "127.0.0.1:8081",
		DrainTimeout:         30 * time.Second,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// TestEveryFlagReachesTheGateway: no flag without effect.
func TestEveryFlagReachesTheGateway(t *testing.T) {
	got := mustParse(t,
		"--listen=127.0.0.1:8443", "--path=/sip", "--tls-cert=c", "--tls-key=k", "--allow-origin=https://a.example",
		"--ping-interval=10s", "--max-connections=7", "--max-message=4096", "--rate=5", "--burst=10",
		"--max-connections-per-ip=3", "--trusted-proxy=10.0.0.0/8", "--trusted-proxy=::1/128", "--proxy-protocol",
		"--auth-url=https://auth.example/sip", "--auth-aor-header=X-AOR", "--tls-min-version=1.3", "--tls-client-ca=ca",
		"--upstream=sip:10.0.0.5", "--upstream-policy=hash", "--upstream-ca=ca", "--upstream-cert=uc", "--upstream-key=uk",
		"--upstream-max-message=9000", "--sip-listen=:5060", "--sip-tls-listen=:5061", "--sip-tls-cert=sc",
		"--sip-tls-key=sk", "--advertise=192.0.2.1", "--advertise-tls=192.0.2.1:5061", "--allow-peer=192.0.2.0/24",
		"--tcp-above=1300", "--strip-header=X-Secret", "--client-ip-header=X-Client", "--token-key-file=keys",
		"--max-transactions=100", "--max-transaction-memory=1000000", "--health-interval=5s", "--admin=127.0.0.1:9090",
		"--drain-timeout=1m", "--rtpengine=127.0.0.1:2223", "--rtpengine=[::1]:2223", "--rtpengine-direction=public,private",
		"--rtpengine-optional", "--admin-pprof", "--hep=127.0.0.1:9060",
	).config()
	want := gateway.Config{
		Listen:              []string{"127.0.0.1:8443"},
		Path:                "/sip",
		TLSCert:             "c",
		TLSKey:              "k",
		AllowOrigins:        []string{"https://a.example"},
		PingInterval:        10 * time.Second,
		MaxConnections:      7,
		MaxMessage:          4096,
		Rate:                5,
		Burst:               10,
		MaxConnectionsPerIP: 3,
		TrustedProxies:      []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")},
		ProxyProtocol:       true,
		AuthURL:             "https://auth.example/sip",
		AuthAoRHeader:       "X-AOR",
		TLSMinVersion:       "1.3",
		TLSClientCA:         "ca",
		Upstreams:           []gateway.Upstream{mustUpstream(t, "sip:10.0.0.5")},
		Policy:              gateway.PolicyHash,
		UpstreamCA:          "ca",
		UpstreamCert:        "uc",
		UpstreamKey:         "uk",
		UpstreamMaxMessage:  9000,
		SIPListen:           ":5060",
		SIPTLSListen:        ":5061",
		SIPTLSCert:          "sc",
		SIPTLSKey:           "sk",
		Advertise:           "192.0.2.1",
		AdvertiseTLS:        "192.0.2.1:5061",
		AllowPeers:          []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
		TCPAbove:            1300,
		StripHeaders:        []string{"X-Secret"},
		ClientIPHeader:      "X-Client",
		TokenKeyFile:        "keys",

		MaxTransactions:      100,
		MaxTransactionMemory: 1_000_000,
		HealthInterval:       5 * time.Second,
		RTPEngines:           []string{"127.0.0.1:2223", "[::1]:2223"},
		RTPEngineInterfaces:  gateway.Interfaces{Browser: "public", PBX: "private"},
		RTPEngineOptional:    true,
		Admin:                "127.0.0.1:9090",
		AdminPprof:           true,
		HEP:                  "127.0.0.1:9060",
		DrainTimeout:         time.Minute,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// TestNoDrain: nothing is waited for if that is wanted.
func TestNoDrain(t *testing.T) {
	if got := mustParse(t, "--upstream=sip:10.0.0.5", "--drain-timeout=0").config().DrainTimeout; got > time.Millisecond || got <= 0 {
		t.Errorf("the drain takes %v, and the gateway's default is that of 0", got)
	}
}

func TestRepeatedFlag(t *testing.T) {
	f := mustParse(t, "--upstream=sip:10.0.0.5", "--upstream", "sip:10.0.0.6", "--listen=:1", "--listen=:2")
	if got := f.Upstream; len(got) != 2 || got[0].String() == got[1].String() {
		t.Errorf("upstreams: %v", got)
	}
	if want := []string{":1", ":2"}; !slices.Equal(f.Listen, want) {
		t.Errorf("listen: %q, want %q (the default replaced, not added to)", f.Listen, want)
	}
}

func TestEnvironment(t *testing.T) {
	t.Setenv("VIADUCT_UPSTREAM", "sip:10.0.0.5,sip:10.0.0.6;transport=tcp")
	t.Setenv("VIADUCT_ALLOW_ORIGIN", "https://a.example,https://b.example")
	t.Setenv("VIADUCT_STRIP_HEADER", "")
	t.Setenv("VIADUCT_PING_INTERVAL", "40s")
	t.Setenv("VIADUCT_SIP_TLS_LISTEN", ":5061")

	f := mustParse(t, "--ping-interval=10s", "--allow-origin=https://c.example")
	if len(f.Upstream) != 2 {
		t.Errorf("upstreams from the variable: %v", f.Upstream)
	}
	if f.SIPTLSListen != ":5061" {
		t.Errorf("--sip-tls-listen from the variable: %q", f.SIPTLSListen)
	}
	if len(f.StripHeader) != 0 {
		t.Errorf("an empty variable gave %q", f.StripHeader)
	}
	if f.PingInterval != 10*time.Second {
		t.Errorf("the flag does not win over the variable: %v", f.PingInterval)
	}
	if want := []string{"https://c.example"}; !slices.Equal(f.AllowOrigin, want) {
		t.Errorf("the flag does not win over the variable: %q", f.AllowOrigin)
	}
}

// TestVariableNames: every flag is also VIADUCT_FLAG_NAME, and belongs to a
// group of the help.
func TestVariableNames(t *testing.T) {
	groups := []string{"Browser side", "SIP side", "Media", "Operation"}
	for _, flag := range model(t) {
		want := "VIADUCT_" + strings.ToUpper(strings.ReplaceAll(flag.Name, "-", "_"))
		if !slices.Equal(flag.Envs, []string{want}) {
			t.Errorf("--%s: variables %q, want %s", flag.Name, flag.Envs, want)
		}
		if !slices.Contains(groups, flag.Group.Title) {
			t.Errorf("--%s: group %q", flag.Name, flag.Group.Title)
		}
	}
}

func TestHelp(t *testing.T) {
	t.Setenv("COLUMNS", "80")
	const golden = "testdata/help.txt"
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if status := run(t.Context(), []string{"--help"}, &out, io.Discard); status != exitOK {
		t.Errorf("exit status %d", status)
	}
	if out.String() != string(want) {
		t.Errorf("--help differs from %s; if it is right, write it there:\n%s", golden, out.String())
	}
}

func TestVersion(t *testing.T) {
	var out bytes.Buffer
	if _, _, err := parse([]string{"--version"}, &out); !errors.Is(err, errStop) {
		t.Fatal(err)
	}
	if line := out.String(); !strings.HasPrefix(line, "viaduct ") || strings.Count(line, "\n") != 1 {
		t.Errorf("printed %q", line)
	}
}
