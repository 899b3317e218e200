package gateway

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"viaduct/transport"
)

// resolveTimeout bounds one look-up of one upstream.
const resolveTimeout = 5 * time.Second

// resolveAll finds out where the upstreams are. One that cannot be found stays
// where it was; one that was never found is unreachable.
func (g *Gateway) resolveAll(ctx context.Context) {
	var looking sync.WaitGroup
	for _, up := range g.upstreams {
		looking.Go(func() {
			r, err := g.resolve(ctx, up)
			if err == nil {
				up.route.Store(r)
			} else if ctx.Err() == nil {
				g.log.Error("upstream not resolved", zap.Stringer("upstream", up), zap.Error(err))
			}
		})
	}
	looking.Wait()
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
// any order: the upstream stays where it was as long as that is among them.
func (g *Gateway) resolve(ctx context.Context, up *upstream) (*route, error) {
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	found, err := transport.Resolve(ctx, net.DefaultResolver, up.Host, up.Port, up.Proto, up.Proto == transport.ProtoTLS)
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
	old, at := up.route.Load(), found[0]
	if main := old.legs[up.Proto]; main != nil && slices.Contains(found, main.target.Addr) {
		r.legs = old.legs
		return r, nil
	}
	return r, g.makeLegs(up, r, at)
}

// aliases returns the addresses of an upstream's aliases. One that is only a
// name in a Contact need not resolve.
func (g *Gateway) aliases(ctx context.Context, up *upstream) (addrs []netip.Addr) {
	for _, alias := range up.Aliases {
		found, err := net.DefaultResolver.LookupNetIP(ctx, "ip", alias)
		if err != nil {
			g.log.Info("alias has no address", zap.Stringer("upstream", up), zap.String("alias", alias), zap.Error(err))
		}
		for _, addr := range found {
			addrs = append(addrs, addr.Unmap())
		}
	}
	return addrs
}

func (g *Gateway) makeLegs(up *upstream, r *route, at netip.AddrPort) error {
	local, err := g.localAddr(at)
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
		r.legs[proto] = newLeg(up, target, g.advertised(proto, local), g.maxMessage(proto))
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
// or where it listens on all of them the one that the kernel routes by.
func (g *Gateway) localAddr(at netip.AddrPort) (netip.Addr, error) {
	if bound := g.sip.Addr().Addr(); !bound.IsUnspecified() {
		return bound, nil
	}
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(at)) // sends nothing
	if err != nil {
		return netip.Addr{}, err
	}
	defer func() { _ = conn.Close() }()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap(), nil
}

// advertised returns what Via and Contact show on a transport.
func (g *Gateway) advertised(proto transport.Proto, local netip.Addr) string {
	given, port := g.cfg.Advertise, g.sip.Addr().Port()
	if proto == transport.ProtoTLS {
		given = g.cfg.AdvertiseTLS
		if tlsAddr := g.sip.TLSAddr(); tlsAddr.IsValid() {
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
	if g.cfg.SIPTLSCert != "" {
		if g.sipTLS, err = transport.LoadCertificate(g.cfg.SIPTLSCert, g.cfg.SIPTLSKey); err != nil {
			return fmt.Errorf("--sip-tls-cert: %w", err)
		}
	}
	g.upstreamTLS = &tls.Config{MinVersion: tls.VersionTLS12}
	if g.cfg.UpstreamCA != "" {
		pem, err := os.ReadFile(g.cfg.UpstreamCA)
		if err != nil {
			return fmt.Errorf("--upstream-ca: %w", err)
		}
		g.upstreamTLS.RootCAs = x509.NewCertPool()
		if !g.upstreamTLS.RootCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("--upstream-ca: %s: no certificate in it", g.cfg.UpstreamCA)
		}
	}
	if g.cfg.UpstreamCert != "" {
		if g.upstreamCert, err = transport.LoadCertificate(g.cfg.UpstreamCert, g.cfg.UpstreamKey); err != nil {
			return fmt.Errorf("--upstream-cert: %w", err)
		}
		g.upstreamTLS.GetClientCertificate = g.upstreamCert.GetClientCertificate
	}
	return nil
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
