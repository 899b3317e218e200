package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"

	"viaduct/transport"
)

const checkAddress = "address"

// A place is where the doctor is, and the ways from there to the upstream.
type place struct {
	sip  *transport.SIP
	ways map[transport.Proto]*way // none: that transport has no address
}

// A way is how the upstream is spoken to by one transport.
type way struct {
	target transport.Target
	host   string // `host:port` of Via and Contact
}

// contact is the URI by which the upstream reaches user here, as the gateway
// writes it.
func (w *way) contact(user string) string { return "sip:" + user + "@" + w.place() }

// place is that URI behind the user.
func (w *way) place() string {
	if w.target.Proto == transport.ProtoUDP {
		return w.host
	}
	return w.host + ";transport=" + inURI(w.target.Proto)
}

// open finds the upstream, opens the gateway's sockets and starts the user agent.
// It returns false if there is nothing to try.
func (e *examination) open(ctx context.Context) bool {
	found, err := e.locate(ctx, e.upstream.Proto)
	if err != nil {
		e.report.add(Blocker, checkAddress, fmt.Sprintf("%s is not found: %v", e.upstream.Host, err),
			"write the SIP server's IP address in --upstream, or mend the name")
		return false
	}
	a := newAgent(e.doctor.cfg.Password)
	peers := e.peers(ctx, found)
	if !e.listen(a, func(from netip.Addr) bool { return e.admits(peers, from) }) {
		return false
	}
	e.agent = a
	for _, proto := range protos {
		at, err := e.locate(ctx, proto)
		if err != nil {
			continue
		}
		if err := e.addWay(proto, at[0]); err != nil && proto == e.upstream.Proto {
			e.report.add(Blocker, checkAddress, err.Error(), "a route from this machine to the SIP server")
			e.close()
			return false
		}
	}
	a.start(e.place)
	e.report.ok(checkAddress, "%s, which is shown %s", found[0], e.main().host)
	return true
}

func (e *examination) close() { e.agent.close() }

// main is the way by the transport that --upstream names.
func (e *examination) main() *way { return e.place.ways[e.upstream.Proto] }

// locate returns the upstream's addresses by a transport. Where that is TLS and
// the upstream's own is not, or the other way about, a port that was given is not
// its port.
func (e *examination) locate(ctx context.Context, proto transport.Proto) ([]netip.AddrPort, error) {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	port, secure := e.upstream.Port, proto == transport.ProtoTLS
	if port != 0 && secure != (e.upstream.Proto == transport.ProtoTLS) {
		port = 5060
		if secure {
			port = 5061
		}
	}
	found, err := transport.Resolve(ctx, net.DefaultResolver, e.upstream.Host, port, proto, secure)
	if err == nil && len(found) == 0 {
		err = errors.New("no address")
	}
	return found, err
}

// peers are the addresses that the gateway takes for this upstream.
func (e *examination) peers(ctx context.Context, found []netip.AddrPort) (peers []netip.Addr) {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	for _, at := range found {
		peers = append(peers, at.Addr())
	}
	for _, alias := range e.upstream.Aliases {
		// One that is only a name in a Contact need not resolve.
		addrs, _ := net.DefaultResolver.LookupNetIP(ctx, "ip", alias)
		for _, addr := range addrs {
			peers = append(peers, addr.Unmap())
		}
	}
	return peers
}

func (e *examination) admits(peers []netip.Addr, from netip.Addr) bool {
	return slices.Contains(peers, from) ||
		slices.ContainsFunc(e.cfg.AllowPeers, func(p netip.Prefix) bool { return p.Contains(from) })
}

// listen opens the gateway's sockets, or others if someone has those.
func (e *examination) listen(a *agent, admit func(netip.Addr) bool) bool {
	cfg := &e.cfg
	sip, err := transport.ListenSIP(e.sipConfig(a, admit, cfg.SIPListen, cfg.SIPTLSListen))
	if errors.Is(err, syscall.EADDRINUSE) {
		e.report.add(Warning, checkAddress, "--sip-listen is in use, by a running viaduct perhaps: another port was tried",
			"stop viaduct and run this again: what a firewall or the SIP server does with that port has not been tried")
		cfg.Advertise, cfg.AdvertiseTLS = withoutPort(cfg.Advertise), withoutPort(cfg.AdvertiseTLS)
		sip, err = transport.ListenSIP(e.sipConfig(a, admit, withPort0(cfg.SIPListen), withPort0(cfg.SIPTLSListen)))
	}
	if err != nil {
		e.report.add(Blocker, checkAddress, err.Error(), "an address of this machine in --sip-listen")
		return false
	}
	e.place = &place{sip: sip, ways: make(map[transport.Proto]*way)}
	return true
}

func (e *examination) sipConfig(a *agent, admit func(netip.Addr) bool, listen, tlsListen string) transport.SIPConfig {
	cfg := transport.SIPConfig{
		Listen: listen, TLSListen: tlsListen, Admit: admit,
		Message:       a.layer.heard,
		Stranger:      a.layer.stranger,
		Undeliverable: func(_ transport.Target, msg []byte, err error) { a.layer.fail(msg, err) },
		Unreachable:   func(_ netip.AddrPort, msg []byte, err error) { a.layer.fail(msg, err) },
	}
	if cert := e.doctor.serverTLS; cert != nil {
		cfg.TLS = &tls.Config{GetCertificate: cert.GetCertificate, MinVersion: tls.VersionTLS12}
	}
	return cfg
}

func withPort0(addr string) string {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return addr
	}
	return net.JoinHostPort(host, "0")
}

func withoutPort(hostport string) string {
	if host, _, err := net.SplitHostPort(hostport); err == nil {
		return host
	}
	return hostport
}

func (e *examination) addWay(proto transport.Proto, at netip.AddrPort) error {
	local, host, err := e.cfg.Appears(e.place.sip, proto, at)
	if err != nil {
		return err
	}
	w := &way{target: transport.Target{Proto: proto, Addr: at, Local: local}, host: host}
	if proto == transport.ProtoTLS {
		w.target.ServerName, w.target.TLS = e.upstream.Host, e.doctor.clientTLS
	}
	e.place.ways[proto] = w
	return nil
}
