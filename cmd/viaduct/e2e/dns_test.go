package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"
)

// TestUpstreamByName: viaduct finds the PBX by what a DNS server says to it, and
// a browser registers there and is called.
func TestUpstreamByName(t *testing.T) {
	for i, test := range []struct {
		name     string
		upstream string
		port     uint16 // of the PBX; 0 for any
		leg      Leg
		zone     string // with PORT and TLS for the ports of the PBX, IP for its address
	}{
		{
			"SRV", "sip:pbx.test", 0, Leg{"udp", "ws"}, `
			_sip._udp.pbx.test.  SRV 10 0 PORT kamailio.pbx.test.
			_sip._tcp.pbx.test.  SRV 10 0 9 kamailio.pbx.test.
			kamailio.pbx.test.   A IP`,
		},
		{
			"SRV with TLS", "sips:pbx.test", 0, Leg{"tls", "wss"}, `
			_sips._tcp.pbx.test. SRV 10 0 TLS kamailio.pbx.test.
			_sip._tcp.pbx.test.  SRV 10 0 9 kamailio.pbx.test.
			kamailio.pbx.test.   A IP`,
		},
		{"A alone", "sip:pbx.test;transport=tcp", 5060, Leg{"tcp", "ws"}, "pbx.test. A IP"},
		{"port and A, whatever SRV says", "sip:pbx.test:PORT", 0, Leg{"udp", "wss"}, `
			_sip._udp.pbx.test.  SRV 10 0 9 pbx.test.
			pbx.test.            A IP`},
	} {
		stack := []Stack{JsSIP, SIPJS}[i%2]
		t.Run(test.name+"/"+string(stack), func(t *testing.T) {
			t.Parallel()
			host := newNamespace(t)
			pbx := startKamailioWith(t, host, PBXOptions{Port: test.port})
			fill := strings.NewReplacer("PORT", fmt.Sprint(pbx.UDP.Port()), "TLS", fmt.Sprint(pbx.TLS.Port()), "IP", host.IP.String())
			zone := serveZone(t, netip.AddrPortFrom(host.Harness, 53), fill.Replace(test.zone))
			via := launchViaduct(t, host.resolvingAt(t, zone.Resolver),
				append(test.leg.certificates(t, host), "--upstream="+fill.Replace(test.upstream))...)
			via.WaitLog(t, "upstream answered")

			lab := &Lab{Stack: stack, Leg: test.leg, Host: host, PBX: pbx, Via: via, t: t}
			t.Cleanup(lab.finish)
			wantCallable(t, lab, lab.Registered("alice"), 1)
		})
	}
}

// resolvingAt is h for programs that are to ask a name server at that address.
func (h Host) resolvingAt(t testing.TB, resolver netip.Addr) Host {
	t.Helper()
	config := filepath.Join(tempDir(t), "resolv.conf")
	if err := os.WriteFile(config, fmt.Appendf(nil, "nameserver %s\n", resolver), 0o644); err != nil {
		t.Fatal(err)
	}
	h.ResolvConf = config
	return h
}

// A Zone is what a DNS server of a test says. It can be changed at any time.
type Zone struct {
	Resolver netip.Addr // the server's address

	records atomic.Pointer[[]dns.RR]
}

// serveZone answers questions about the records of a zone file at an address
// until the test ends.
func serveZone(t testing.TB, at netip.AddrPort, text string) *Zone {
	t.Helper()
	zone := &Zone{Resolver: at.Addr()}
	zone.Set(t, text)
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
	if err != nil {
		t.Fatalf("DNS server: %v", err)
	}
	server := &dns.Server{PacketConn: conn, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, question *dns.Msg) {
		_ = w.WriteMsg(answerFrom(*zone.records.Load(), question))
	})}
	stopped := make(chan error, 1)
	go func() { stopped <- server.ActivateAndServe() }()
	t.Cleanup(func() {
		_ = conn.Close()
		<-stopped
	})
	return zone
}

// Set replaces the records by those of a zone file.
func (z *Zone) Set(t testing.TB, text string) {
	t.Helper()
	var records []dns.RR
	parser := dns.NewZoneParser(strings.NewReader(unindent(text)), ".", "")
	for record, ok := parser.Next(); ok; record, ok = parser.Next() {
		records = append(records, record)
	}
	if err := parser.Err(); err != nil {
		t.Fatalf("zone: %v", err)
	}
	z.records.Store(&records)
}

// answerFrom is the answer that the owner of the records gives.
func answerFrom(records []dns.RR, question *dns.Msg) *dns.Msg {
	reply := new(dns.Msg).SetRcode(question, dns.RcodeNameError)
	for _, record := range records {
		if !strings.EqualFold(record.Header().Name, question.Question[0].Name) {
			continue
		}
		reply.Rcode = dns.RcodeSuccess
		if record.Header().Rrtype == question.Question[0].Qtype {
			reply.Answer = append(reply.Answer, record)
		}
	}
	return reply
}

// unindent removes the tabs that begin lines: a zone file's owner names start
// its lines.
func unindent(zone string) string {
	lines := strings.Split("$TTL 60\n"+zone, "\n")
	for i := range lines {
		lines[i] = strings.TrimLeft(lines[i], "\t")
	}
	return strings.Join(lines, "\n") + "\n"
}
