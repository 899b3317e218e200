package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"viaduct/transport"
)

const (
	// resolveTimeout bounds one look-up of one upstream.
	resolveTimeout = 5 * time.Second
	// resolveInterval is the time between two look-ups of an upstream that lives;
	// the system's resolver does not tell for how long an answer holds.
	resolveInterval = 30 * time.Second
)

// keepLocated looks every upstream up again and again until ctx ends.
func (g *Gateway) keepLocated(ctx context.Context) {
	ticker := time.NewTicker(resolveInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			g.resolveAll(ctx)
		}
	}
}

// resolveAll finds out where the upstreams are. One that cannot be found stays
// where it was; one that was never found is unreachable.
func (g *Gateway) resolveAll(ctx context.Context) {
	var looking sync.WaitGroup
	for _, up := range g.upstreams {
		looking.Go(func() {
			if _, err := g.locate(ctx, up, false); err != nil && ctx.Err() == nil {
				g.log.Error("upstream not resolved", zap.Stringer("upstream", up), zap.Error(err))
			}
		})
	}
	looking.Wait()
}

// seek looks for an upstream that is dead: where its name leads now, else at the
// next address that it has. It reports whether it may be elsewhere now.
func (g *Gateway) seek(ctx context.Context, up *upstream) (moved bool) {
	ctx, cancel := context.WithTimeout(ctx, g.healthPeriod())
	defer cancel()
	moved, err := g.locate(ctx, up, true)
	if err != nil {
		g.log.Debug("upstream not resolved", zap.Stringer("upstream", up), zap.Error(err))
	}
	return moved
}

// locate looks an upstream up, and reports whether it is at another address
// than before. One that is to be elsewhere is where its name leads next.
func (g *Gateway) locate(ctx context.Context, up *upstream, elsewhere bool) (moved bool, err error) {
	up.locating.Lock()
	defer up.locating.Unlock()
	before := up.main()
	r, err := g.resolve(ctx, up, elsewhere)
	if err != nil {
		return false, err
	}
	up.route.Store(r)
	g.listSources()
	g.sip.Favour(g.targets())
	return up.main() != before, nil
}

// targets are where the upstreams are reached now.
func (g *Gateway) targets() (all []transport.Target) {
	for _, up := range g.upstreams {
		if l := up.main(); l != nil {
			all = append(all, l.target)
		}
	}
	return all
}

// listSources notes who may speak on the SIP side.
func (g *Gateway) listSources() {
	g.sourcing.Lock()
	defer g.sourcing.Unlock()
	sources := make(map[netip.Addr]*upstream)
	for _, up := range g.upstreams {
		for _, addr := range up.route.Load().addrs {
			if sources[addr] == nil {
				sources[addr] = up
			}
		}
	}
	g.sources.Store(&sources)
}

// resolve looks an upstream up and makes its legs. DNS gives equal addresses in
// any order: the upstream stays where it was as long as that is among them, but
// for one that is to be elsewhere, which goes to the next in turn.
func (g *Gateway) resolve(ctx context.Context, up *upstream, elsewhere bool) (*route, error) {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	found, err := transport.Resolve(ctx, g.resolver, up.Host, up.Port, up.Proto, up.Proto == transport.ProtoTLS)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, errors.New("no address")
	}
	r := &route{addrs: g.aliases(ctx, up)}
	for _, at := range found {
		r.addrs = append(r.addrs, at.Addr())
	}
	slices.SortFunc(r.addrs, netip.Addr.Compare)
	r.addrs = slices.Compact(r.addrs)
	old, at := up.route.Load(), 0
	if main := old.legs[up.Proto]; main != nil {
		was := slices.Index(found, main.target.Addr)
		if elsewhere {
			at = (was + 1) % len(found)
		}
		if was >= 0 && (!elsewhere || at == was) {
			r.legs = old.legs
			return r, nil
		}
	}
	return r, g.makeLegs(up, r, found[at])
}

// aliases returns the addresses of an upstream's aliases. One that is only a
// name in a Contact need not resolve; what was known stays while DNS fails.
func (g *Gateway) aliases(ctx context.Context, up *upstream) (addrs []netip.Addr) {
	for _, alias := range up.Aliases {
		found, err := g.resolver.LookupNetIP(ctx, "ip", alias)
		if missing := (*net.DNSError)(nil); err != nil && (!errors.As(err, &missing) || !missing.IsNotFound) {
			g.log.Warn("alias not resolved", zap.Stringer("upstream", up), zap.String("alias", alias), zap.Error(err))
			addrs = append(addrs, up.route.Load().addrs...)
		}
		for _, addr := range found {
			addrs = append(addrs, addr.Unmap())
		}
	}
	return addrs
}

func (g *Gateway) makeLegs(up *upstream, r *route, at netip.AddrPort) error {
	local, err := g.cfg.localAddr(g.sip, at)
	if err != nil {
		return err
	}
	protos := []transport.Proto{up.Proto}
	if up.Proto == transport.ProtoUDP {
		protos = append(protos, transport.ProtoTCP)
	}
	for _, proto := range protos {
		target := transport.Target{Proto: proto, Addr: at, Local: local}
		if proto == transport.ProtoTLS {
			target.ServerName, target.TLS = up.Host, g.upstreamTLS
		}
		r.legs[proto] = newLeg(up, target, g.cfg.advertised(g.sip, proto, local), g.maxMessage(proto))
	}
	return nil
}

func (g *Gateway) maxMessage(proto transport.Proto) int {
	const maxDatagram, maxStream = 65507, 20000
	switch {
	case proto == transport.ProtoUDP && g.cfg.UpstreamMaxMessage == 0:
		return maxDatagram
	case proto == transport.ProtoUDP:
		return min(g.cfg.UpstreamMaxMessage, maxDatagram)
	case g.cfg.UpstreamMaxMessage == 0:
		return maxStream
	}
	return g.cfg.UpstreamMaxMessage
}

// localAddr returns the gateway's address towards a remote one: the listener's,
// or where it listens on all of them the advertised one if it is this machine's,
// since a Contact should be where packets come from, else the one that the
// kernel routes by.
func (c *Config) localAddr(sip *transport.SIP, at netip.AddrPort) (netip.Addr, error) {
	if bound := sip.Addr().Addr(); !bound.IsUnspecified() {
		return bound, nil
	}
	if shown, ok := ownAddr(c.Advertise); ok && shown.Is4() == at.Addr().Is4() {
		return shown, nil
	}
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(at)) // sends nothing
	if err != nil {
		return netip.Addr{}, err
	}
	defer func() { _ = conn.Close() }()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap(), nil
}

// ownAddr returns the IP address of `host[:port]` if this machine has it.
func ownAddr(hostport string) (netip.Addr, bool) {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = strings.Trim(hostport, "[]")
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}, false
	}
	own, err := net.InterfaceAddrs()
	return addr, err == nil && slices.ContainsFunc(own, func(a net.Addr) bool {
		prefix, err := netip.ParsePrefix(a.String())
		return err == nil && prefix.Addr() == addr
	})
}

// Appears returns where a gateway with these listening sockets sends to an
// upstream's address from, and the `host:port` that its Via and Contact show
// there: for who tries an upstream in the gateway's stead.
func (c *Config) Appears(sip *transport.SIP, proto transport.Proto, at netip.AddrPort) (local netip.Addr, host string, err error) {
	local, err = c.localAddr(sip, at)
	return local, c.advertised(sip, proto, local), err
}

// advertised returns what Via and Contact show on a transport.
func (c *Config) advertised(sip *transport.SIP, proto transport.Proto, local netip.Addr) string {
	given, port := c.Advertise, sip.Addr().Port()
	if proto == transport.ProtoTLS {
		given = c.AdvertiseTLS
		if tlsAddr := sip.TLSAddr(); tlsAddr.IsValid() {
			port = tlsAddr.Port()
		}
	}
	if given == "" {
		return hostPort(local.WithZone("").String(), port)
	}
	if _, _, err := net.SplitHostPort(given); err == nil {
		return given
	}
	return hostPort(given, port)
}

// loadCertificates reads every PEM file that the Config names.
func (g *Gateway) loadCertificates() (err error) {
	if g.cfg.TLSCert != "" {
		if g.browserTLS, err = transport.LoadCertificate(g.cfg.TLSCert, g.cfg.TLSKey); err != nil {
			return fmt.Errorf("--tls-cert: %w", err)
		}
	}
	if g.cfg.TLSClientCA != "" {
		if g.browserCAs, err = transport.LoadAuthorities(g.cfg.TLSClientCA); err != nil {
			return fmt.Errorf("--tls-client-ca: %w", err)
		}
	}
	if g.cfg.SIPTLSCert != "" {
		if g.sipTLS, err = transport.LoadCertificate(g.cfg.SIPTLSCert, g.cfg.SIPTLSKey); err != nil {
			return fmt.Errorf("--sip-tls-cert: %w", err)
		}
	}
	if g.upstreamTLS, g.upstreamCert, err = g.cfg.loadUpstreamTLS(); err != nil {
		return err
	}
	for flag, cert := range g.certificates() {
		if ends := cert.Expiry(); time.Now().After(ends) {
			g.log.Error("certificate has expired", zap.String("flag", "--"+flag), zap.Time("expired", ends))
		}
	}
	return nil
}

// certificates returns what the gateway shows to others, by the flag.
func (g *Gateway) certificates() map[string]*transport.Certificate {
	all := map[string]*transport.Certificate{"tls-cert": g.browserTLS, "sip-tls-cert": g.sipTLS, "upstream-cert": g.upstreamCert}
	maps.DeleteFunc(all, func(_ string, cert *transport.Certificate) bool { return cert == nil })
	return all
}

// UpstreamTLS returns how a gateway speaks TLS to its upstreams; an error names
// the flag. The files are read now and not watched.
func (c *Config) UpstreamTLS() (*tls.Config, error) {
	made, _, err := c.loadUpstreamTLS()
	return made, err
}

func (c *Config) loadUpstreamTLS() (made *tls.Config, shown *transport.Certificate, err error) {
	made = &tls.Config{MinVersion: tls.VersionTLS12}
	if c.UpstreamCA != "" {
		pem, err := os.ReadFile(c.UpstreamCA)
		if err != nil {
			return nil, nil, fmt.Errorf("--upstream-ca: %w", err)
		}
		made.RootCAs = x509.NewCertPool()
		if !made.RootCAs.AppendCertsFromPEM(pem) {
			return nil, nil, fmt.Errorf("--upstream-ca: %s: no certificate in it", c.UpstreamCA)
		}
	}
	if c.UpstreamCert != "" {
		if shown, err = transport.LoadCertificate(c.UpstreamCert, c.UpstreamKey); err != nil {
			return nil, nil, fmt.Errorf("--upstream-cert: %w", err)
		}
		made.GetClientCertificate = shown.GetClientCertificate
	}
	return made, shown, nil
}

// watch takes over changed key and certificate files until ctx ends. It returns
// once it watches; what changed since the files were read is not missed.
func (g *Gateway) watch(ctx context.Context) {
	if file := g.cfg.TokenKeyFile; file != "" {
		g.logUnwatched(file, transport.WatchFiles(ctx, []string{file}, g.reloadKeys))
		g.reloadKeys()
	}
	if file := g.cfg.TLSCert; file != "" {
		g.logUnwatched(file, g.browserTLS.Watch(ctx, g.certificateReloaded(file)))
	}
	if file := g.cfg.TLSClientCA; file != "" {
		g.logUnwatched(file, g.browserCAs.Watch(ctx, g.certificateReloaded(file)))
	}
	if file := g.cfg.UpstreamCert; file != "" {
		g.logUnwatched(file, g.upstreamCert.Watch(ctx, g.certificateReloaded(file)))
	}
	if file := g.cfg.SIPTLSCert; file != "" {
		g.logUnwatched(file, g.sipTLS.Watch(ctx, g.certificateReloaded(file)))
	}
}

func (g *Gateway) logUnwatched(file string, err error) {
	if err != nil {
		g.log.Error("file not watched", zap.String("file", file), zap.Error(err))
	}
}

// certificateReloaded returns what logs the outcome of a reload.
func (g *Gateway) certificateReloaded(file string) func(error) {
	return func(err error) {
		if err != nil {
			g.log.Error("certificate not reloaded", zap.String("file", file), zap.Error(err))
			return
		}
		g.log.Info("certificate reloaded", zap.String("file", file))
	}
}
