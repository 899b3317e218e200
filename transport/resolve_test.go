package transport

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// namespaceVariable is set for the test binary that runs within the network
// namespace.
const namespaceVariable = "VIADUCT_TEST_NAMESPACE"

// TestResolve runs in a network namespace of its own, whose resolv.conf names
// a DNS server that the test is: the system's resolver itself is asked.
func TestResolve(t *testing.T) {
	if os.Getenv(namespaceVariable) != "" {
		serveZone(t)
		t.Run("records", resolveRecords)
		t.Run("order", resolveOrder)
		t.Run("failures", resolveFailures)
		return
	}
	name := fmt.Sprintf("viaduct-resolve-%d", os.Getpid())
	run(t, "ip", "netns", "add", name)
	t.Cleanup(func() { run(t, "ip", "netns", "del", name) })
	config := filepath.Join("/etc/netns", name)
	if err := os.MkdirAll(config, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(config) })
	if err := os.WriteFile(filepath.Join(config, "resolv.conf"), []byte("nameserver 127.0.0.1\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	run(t, "ip", "-n", name, "link", "set", "lo", "up")
	t.Setenv(namespaceVariable, name)
	t.Log(run(t, "ip", "netns", "exec", name, os.Args[0], "-test.run=^TestResolve$", "-test.v"))
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// zone is what the DNS server knows. A name of rotate.example gets its addresses
// in another order each time, one of broken.example a failure.
const zone = `
_sip._udp.pbx.example.   SRV 20 0 5080 three.pbx.example.
_sip._udp.pbx.example.   SRV 10 5 5070 two.pbx.example.
_sip._udp.pbx.example.   SRV 10 90 5060 one.pbx.example.
_sip._tcp.pbx.example.   SRV 10 0 5090 two.pbx.example.
_sip._tcp.pbx.example.   SRV 10 0 5090 one.pbx.example.
_sips._tcp.pbx.example.  SRV 10 0 5091 one.pbx.example.
pbx.example.             A 127.0.0.9
one.pbx.example.         A 127.0.0.1
two.pbx.example.         A 127.0.0.2
three.pbx.example.       A 127.0.0.3
bare.example.            A 127.0.0.4
six.example.             AAAA ::1
many.rotate.example.     A 127.0.0.1
many.rotate.example.     A 127.0.0.2
many.rotate.example.     A 127.0.0.3
many.rotate.example.     AAAA ::1
_sip._udp.half.example.  SRV 10 0 5060 missing.example.
_sip._udp.half.example.  SRV 20 0 5060 one.pbx.example.
_sip._udp.lost.example.  SRV 10 0 5060 missing.example.
_sip._udp.none.example.  SRV 0 0 0 .
none.example.            A 127.0.0.5
_sip._udp.twice.example. SRV 10 0 5060 one.pbx.example.
_sip._udp.twice.example. SRV 20 0 5060 one.pbx.example.
`

// serveZone answers on port 53 of the namespace until the test ends.
func serveZone(t *testing.T) {
	t.Helper()
	var records []dns.RR
	for parser := dns.NewZoneParser(strings.NewReader("$TTL 1\n"+zone), ".", ""); ; {
		record, ok := parser.Next()
		if !ok {
			if err := parser.Err(); err != nil {
				t.Fatal(err)
			}
			break
		}
		records = append(records, record)
	}
	turn := 0
	answer := func(w dns.ResponseWriter, question *dns.Msg) {
		reply := new(dns.Msg).SetReply(question)
		q := question.Question[0]
		known := false
		for _, record := range records {
			if !strings.EqualFold(record.Header().Name, q.Name) {
				continue
			}
			known = true
			if record.Header().Rrtype == q.Qtype {
				reply.Answer = append(reply.Answer, record)
			}
		}
		switch {
		case strings.HasSuffix(q.Name, "broken.example."):
			reply.Rcode = dns.RcodeServerFailure
		case !known:
			reply.Rcode = dns.RcodeNameError
		case strings.HasSuffix(q.Name, "rotate.example.") && len(reply.Answer) > 1:
			turn++
			n := turn % len(reply.Answer)
			reply.Answer = slices.Concat(reply.Answer[n:], reply.Answer[:n])
		}
		if err := w.WriteMsg(reply); err != nil {
			t.Error(err)
		}
	}
	conn, err := net.ListenPacket("udp", "127.0.0.1:53")
	if err != nil {
		t.Fatal(err)
	}
	server := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(answer)}
	served := make(chan error, 1)
	started := make(chan struct{})
	server.NotifyStartedFunc = func() { close(started) }
	go func() { served <- server.ActivateAndServe() }()
	next(t, started)
	t.Cleanup(func() {
		if err := server.Shutdown(); err != nil {
			t.Error(err)
		}
		if err := next(t, served); err != nil {
			t.Error(err)
		}
	})
}

func resolveRecords(t *testing.T) {
	for _, test := range []struct {
		host  string
		port  uint16
		proto Proto
		sips  bool
		want  string
	}{
		{"192.0.2.1", 0, ProtoUDP, false, "[192.0.2.1:5060]"},
		{"192.0.2.1", 0, ProtoTLS, false, "[192.0.2.1:5061]"},
		{"192.0.2.1", 0, ProtoTCP, true, "[192.0.2.1:5061]"},
		{"192.0.2.1", 5070, ProtoTCP, false, "[192.0.2.1:5070]"},
		{"2001:db8::1", 0, ProtoUDP, false, "[[2001:db8::1]:5060]"},
		{"[2001:db8::1]", 5070, ProtoUDP, false, "[[2001:db8::1]:5070]"},
		{"::ffff:192.0.2.1", 5070, ProtoUDP, false, "[192.0.2.1:5070]"},

		{"pbx.example", 0, ProtoUDP, false, "[127.0.0.1:5060 127.0.0.2:5070 127.0.0.3:5080]"},
		{"pbx.example", 0, ProtoTCP, false, "[127.0.0.1:5090 127.0.0.2:5090]"},
		{"pbx.example", 0, ProtoTLS, false, "[127.0.0.1:5091]"},
		{"pbx.example", 0, ProtoTCP, true, "[127.0.0.1:5091]"},
		{"PBX.Example", 0, ProtoTLS, true, "[127.0.0.1:5091]"},
		{"pbx.example", 5062, ProtoUDP, false, "[127.0.0.9:5062]"},
		{"bare.example", 0, ProtoUDP, false, "[127.0.0.4:5060]"},
		{"bare.example", 0, ProtoTLS, false, "[127.0.0.4:5061]"},
		{"six.example", 0, ProtoTCP, false, "[[::1]:5060]"},
		{"half.example", 0, ProtoUDP, false, "[127.0.0.1:5060]"},
		{"twice.example", 0, ProtoUDP, false, "[127.0.0.1:5060]"},
	} {
		addrs, err := Resolve(t.Context(), net.DefaultResolver, test.host, test.port, test.proto, test.sips)
		if got := fmt.Sprint(addrs); err != nil || got != test.want {
			t.Errorf("%s port %d %v (sips %v): %s, error %v, want %s", test.host, test.port, test.proto, test.sips, got, err, test.want)
		}
	}
}

func resolveOrder(t *testing.T) {
	var first []netip.AddrPort
	for range 5 {
		addrs, err := Resolve(t.Context(), net.DefaultResolver, "many.rotate.example", 0, ProtoUDP, false)
		if err != nil {
			t.Fatal(err)
		}
		if first == nil {
			first = addrs
		}
		if len(addrs) != 4 || !slices.Equal(addrs, first) {
			t.Errorf("%v after %v", addrs, first)
		}
	}
}

func resolveFailures(t *testing.T) {
	for _, host := range []string{"missing.example", "lost.example", "none.example", "any.broken.example", ""} {
		if addrs, err := Resolve(t.Context(), net.DefaultResolver, host, 0, ProtoUDP, false); err == nil {
			t.Errorf("%q: %v", host, addrs)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Resolve(ctx, net.DefaultResolver, "pbx.example", 0, ProtoUDP, false); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}
