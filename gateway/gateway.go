// Package gateway relays SIP between browsers and the servers behind it. It
// keeps no call: every fact that routes a message is inside the message, put
// there by package rewrite. What it remembers is which socket a client is on,
// and for a short time what may have to be sent again.
//
//	              ┌───────────── Gateway ─────────────┐
//	browser ──ws──┤ fromBrowser ── requestUp ─────────├──udp/tcp/tls── upstream
//	              │            └── responseUp ────────│
//	              │ responseDown ──┬── fromSIP        │
//	              │ requestDown ───┘                  │
//	              └───────────────────────────────────┘
//
// browser.go is the way up, pbx.go the way down; identity.go says on whose
// behalf a browser's message goes, routing.go to which upstream, health.go which
// of them live, move.go who has to change over, clients.go who is where,
// unreliable.go what is sent again, held.go what waits for a browser that is away,
// media.go what is bridged by rtpengine, mediaqueue.go what waits for that,
// mediaend.go when that is over,
// refuse.go what is not relayed and who is told, rate.go and guessing.go who sends
// too much or tries passwords, passing.go what passes, trace.go who looks on,
// logfields.go what the log says.
package gateway

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	stdlog "log"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/gobwas/ws"
	"go.uber.org/zap"

	"viaduct/gateway/hep"
	"viaduct/gateway/transaction"
	"viaduct/rewrite"
	"viaduct/transport"
)

// Gateway relays SIP between browsers and upstreams.
type Gateway struct {
	cfg  Config
	log  *zap.Logger
	keys atomic.Pointer[rewrite.Keyring]

	auth        *authorizer            // nil: nobody is asked
	browserTLS  *transport.Certificate // nil: plain ws
	browserCAs  *transport.Authorities // nil: browsers need no certificate
	sipTLS      *transport.Certificate // nil: no TLS listener
	upstreamTLS *tls.Config

	upstreamCert *transport.Certificate // nil: none is shown to upstreams

	untrusted []string // header names not taken from a browser's response
	upstreams []*upstream
	resolver  *net.Resolver
	sources   atomic.Pointer[map[netip.Addr]*upstream] // who may speak on the SIP side
	sourcing  sync.Mutex                               // held to replace sources

	sip     *transport.SIP
	web     *transport.WSServer
	works   *workPool
	flows   flows
	clients *clients
	invites *invites
	probes  probes
	held    *heldStore

	rates    rates
	guessers guessers

	media *media // nil: bodies are left alone

	transactions *transaction.Table
	started      time.Time

	dropped counters
	refusal [numReasons]*zap.Logger // says why
	refused refusals
	stats   stats
	traces  traces

	hep *hep.Sender // nil: messages are not copied

	admin    admin
	serving  atomic.Bool // every listener is open
	draining atomic.Bool // browsers are sent away, and no new ones taken
}

// maxInvites bounds the INVITEs remembered in one generation, some 100 bytes each.
const maxInvites = 50_000

// New returns a Gateway for a valid Config; an error names the flag that is
// wrong. It reads the files that the Config names, makes the key file if there
// is none, and opens no socket.
func New(cfg Config) (*Gateway, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	g := &Gateway{
		cfg: cfg, log: cfg.Log, started: time.Now(),
		clients: newClients(cfg.MaxConnections), invites: newInvites(maxInvites),
		rates: newRates(cfg.Rate, cfg.Burst), guessers: newGuessers(),
	}
	for _, r := range Reasons() {
		g.refusal[r] = cfg.Log.With(zap.Stringer("reason", r))
	}
	g.works = newWorkPool(g)
	g.transactions, g.held = g.newTransactions(), newHeldStore()
	g.untrusted = slices.Clone(cfg.StripHeaders)
	if cfg.ClientIPHeader != "" {
		g.untrusted = append(g.untrusted, cfg.ClientIPHeader)
	}
	g.resolver = net.DefaultResolver
	g.sources.Store(&map[netip.Addr]*upstream{})
	for _, u := range cfg.Upstreams {
		g.upstreams = append(g.upstreams, newUpstream(u))
	}
	var err error
	if g.media, err = newMedia(&cfg); err != nil {
		return nil, err
	}
	if cfg.AuthURL != "" {
		if g.auth, err = newAuthorizer(&cfg); err != nil {
			return nil, err
		}
	}
	keys, err := loadKeys(cfg.TokenKeyFile, nil)
	if err != nil {
		return nil, fmt.Errorf("--token-key-file: %s: %w", cfg.TokenKeyFile, err)
	}
	g.keys.Store(keys)
	g.hep = g.newHEP()
	return g, g.loadCertificates()
}

// Serve opens the listeners and relays until ctx ends; it then closes every
// connection (1001), one with a call when that is over or DrainTimeout has
// passed, and returns nil. Call it once. An error says which listener could not
// be opened, or failed.
func (g *Gateway) Serve(ctx context.Context) error {
	asked := ctx // to go on
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer g.admin.close()
	listeners, err := g.open()
	if err != nil {
		return err
	}
	failed := make(chan error, len(listeners)+3)
	g.admin.serve(failed)
	g.resolveAll(asked)
	g.warnOneWay()
	g.watch(ctx)

	var running sync.WaitGroup
	running.Go(func() { failed <- g.sip.Serve(ctx) })
	for _, l := range listeners {
		running.Go(func() { failed <- g.web.Serve(l, g.serverTLS()) })
	}
	running.Go(func() { g.housekeep(ctx) })
	running.Go(func() { g.transactions.Run(ctx) })
	running.Go(func() { g.keepHeld(ctx) })
	running.Go(func() { g.runHealth(ctx) })
	if g.media != nil {
		running.Go(func() { g.media.Run(ctx) })
	}
	if g.hep != nil {
		running.Go(func() { g.hep.Run(ctx) })
	}
	g.serving.Store(true)
	if g.cfg.Ready != nil {
		g.cfg.Ready(g.bound(listeners))
	}

	select {
	case <-asked.Done():
		err = g.drain(failed)
	case err = <-failed:
	}
	cancel()
	g.web.Close(ws.StatusGoingAway)
	err = errors.Join(err, g.sip.Close())
	running.Wait()
	return err
}

// open opens every listener, or none but that of the admin pages.
func (g *Gateway) open() (listeners []net.Listener, err error) {
	if err := g.openAdmin(); err != nil {
		return nil, err
	}
	g.sip, err = transport.ListenSIP(g.sipConfig())
	if err != nil {
		return nil, fmt.Errorf("--sip-listen: %w", err)
	}
	if g.web, err = transport.NewWSServer(g.webConfig()); err != nil {
		return nil, errors.Join(err, g.sip.Close())
	}
	for _, addr := range g.cfg.Listen {
		l, err := transport.Listen(addr)
		if err != nil {
			for _, open := range listeners {
				_ = open.Close()
			}
			g.web.Close(ws.StatusGoingAway)
			return nil, errors.Join(fmt.Errorf("--listen: %w", err), g.sip.Close())
		}
		listeners = append(listeners, l)
	}
	return listeners, nil
}

func (g *Gateway) sipConfig() transport.SIPConfig {
	cfg := transport.SIPConfig{
		Listen:     g.cfg.SIPListen,
		TLSListen:  g.cfg.SIPTLSListen,
		MaxMessage: rewrite.MaxLength,
		Admit:      g.admits,
		Message:    g.fromSIP,
		Stranger: func(from transport.Source) {
			g.dropped[ReasonStranger].Add(1)
			if entry := g.refusal[ReasonStranger].Check(zap.WarnLevel, "refused"); entry != nil {
				entry.Write(zap.String("side", "sip"), zap.Stringer("remote", from.Addr), zap.Stringer("transport", from.Proto))
			}
		},
		Garbled: func(from transport.Source, err error) {
			g.dropped[ReasonGarbledStream].Add(1)
			g.refusal[ReasonGarbledStream].Warn("refused", zap.String("side", "sip"),
				zap.Stringer("remote", from.Addr), zap.Stringer("transport", from.Proto), zap.Error(err))
		},
		Undeliverable: g.undeliverable,
		Unreachable:   g.unreachable,
	}
	if g.sipTLS != nil {
		cfg.TLS = &tls.Config{GetCertificate: g.sipTLS.GetCertificate, MinVersion: tls.VersionTLS12}
	}
	return cfg
}

func (g *Gateway) webConfig() transport.WSConfig {
	cfg := transport.WSConfig{
		Path:           g.cfg.Path,
		Origins:        g.cfg.AllowOrigins,
		PingInterval:   g.cfg.PingInterval,
		MaxConnections: g.cfg.MaxConnections,
		MaxPerAddress:  g.cfg.MaxConnectionsPerIP,
		TrustedProxies: g.cfg.TrustedProxies,
		ProxyProtocol:  g.cfg.ProxyProtocol,
		MaxMessage:     g.cfg.MaxMessage,
		Other:          g.cfg.Other,
		HTTPErrors:     debugLog(g.log),
		Needed:         g.needed,
		Loop:           func() any { return g.sip.NewBatch() },
		Rest:           func(loop any) { loop.(*transport.Batch).Flush() },
		Opened:         g.opened,
		Message: func(conn *transport.WSConn, msg []byte) {
			batch, _ := conn.Loop().(*transport.Batch)
			g.fromBrowser(conn, batch, msg)
		},
		Oversized: g.tooLargeFromBrowser,
		Closed:    g.closed,
		Refused: func(r *http.Request, why transport.Refusal) {
			g.refused.add(why)
			g.log.With(zap.Stringer("reason", why)).Warn("handshake refused", zap.String("remote", r.RemoteAddr),
				zap.Strings("origin", r.Header.Values("Origin")), zap.String("admit_with", admitWith(r, why)))
		},
		Unasked: g.unasked,
	}
	if g.auth != nil {
		cfg.Authorize = g.auth.authorize
	}
	return cfg
}

// unasked is told of connections that never became a handshake. Of those that
// ended by themselves, such as port scans, the log has to say no more than
// net/http does.
func (g *Gateway) unasked(client netip.AddrPort, why transport.Refusal) {
	g.refused.add(why)
	level := zap.WarnLevel
	if why == transport.RefusedUnfinished {
		level = zap.DebugLevel
	}
	g.log.With(zap.Stringer("reason", why)).Log(level, "connection refused", zap.Stringer("remote", client))
}

// debugLog takes what net/http says of handshakes that never became one: port
// scans and browsers that do not trust the certificate.
func debugLog(log *zap.Logger) *stdlog.Logger {
	std, err := zap.NewStdLogAt(log, zap.DebugLevel)
	if err != nil {
		panic(err) // only an unknown level fails
	}
	return std
}

// admitWith names the flag that would have let a handshake through.
func admitWith(r *http.Request, why transport.Refusal) string {
	switch why {
	case transport.RefusedOrigin:
		return "--allow-origin=" + r.Header.Get("Origin")
	case transport.RefusedConnections:
		return "--max-connections"
	case transport.RefusedAddress:
		if remote, err := netip.ParseAddrPort(r.RemoteAddr); err == nil && r.Header.Get("X-Forwarded-For") != "" {
			return "--trusted-proxy=" + netip.PrefixFrom(remote.Addr(), remote.Addr().BitLen()).String()
		}
		return "--max-connections-per-ip"
	}
	return ""
}

// tlsVersions are those that may be asked for.
var tlsVersions = map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}

func (g *Gateway) serverTLS() *tls.Config {
	if g.browserTLS == nil {
		return nil
	}
	cfg := &tls.Config{GetCertificate: g.browserTLS.GetCertificate, MinVersion: tlsVersions[g.cfg.TLSMinVersion]}
	if g.browserCAs != nil {
		// Any at first, for the authorities may change; Verify then looks at it.
		cfg.ClientAuth, cfg.VerifyConnection = tls.RequireAnyClientCert, g.browserCAs.Verify
	}
	return cfg
}

// opened and closed are the life of one browser's connection, which is one line
// of the log.
func (g *Gateway) opened(conn *transport.WSConn) {
	f := newFlow(conn)
	if g.media != nil {
		f.waiting = new(mediaQueue)
	}
	conn.Tag = f
	g.flows.add(f)
	g.stats.accepted.Add(1)
	g.guessers.begin(f, f.client(), g.now())
	g.log.Debug("browser connected", zap.Stringer("remote", conn.RemoteAddr()))
}

func (g *Gateway) closed(conn *transport.WSConn, why transport.CloseCause) {
	f := conn.Tag.(*flow)
	g.flows.remove(f)
	g.clients.leave(f)
	g.leave(f, why)
	g.stats.closed[why].Add(1)
	if entry := g.log.Check(zap.InfoLevel, "browser gone"); entry != nil {
		entry.Write(zap.Stringer("client", f.client()), zap.Stringer("remote", conn.RemoteAddr()), zap.String("user", f.user()),
			zap.String("host", conn.Host()), zap.Duration("lasted", time.Since(f.since.time())),
			zap.Uint32("up", f.activity.relayed[Up.index()].Load()), zap.Uint32("down", f.activity.relayed[Down.index()].Load()),
			zap.Stringer("cause", why))
	}
}

// needed tells whether a silent connection is one that calls may come by.
func (g *Gateway) needed(conn *transport.WSConn) bool {
	return g.clients.any(conn.Tag.(*flow))
}

// admits tells whether an address may speak on the SIP side.
func (g *Gateway) admits(addr netip.Addr) bool {
	addr = addr.WithZone("")
	if _, ok := (*g.sources.Load())[addr]; ok {
		return true
	}
	for _, peers := range g.cfg.AllowPeers {
		if peers.Contains(addr) {
			return true
		}
	}
	return false
}

// housekeep forgets what has had its time.
func (g *Gateway) housekeep(ctx context.Context) {
	const every = 30 * time.Second
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	turned := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-ticker.C:
			g.clients.sweep()
			if now.Sub(turned) >= inviteGeneration {
				g.invites.turn()
				turned = now
			}
		}
	}
}

// warnOneWay says so when a server that is spoken to by TLS cannot connect back.
func (g *Gateway) warnOneWay() {
	for _, up := range g.upstreams {
		if up.Proto == transport.ProtoTLS && g.sipTLS == nil {
			g.log.Warn("the upstream can reach browsers only over the connection that viaduct opens: set --sip-tls-listen",
				zap.Stringer("upstream", up))
		}
	}
}

func (g *Gateway) bound(listeners []net.Listener) Bound {
	b := Bound{SIP: g.sip.Addr(), SIPTLS: g.sip.TLSAddr(), Admin: g.admin.url(), EphemeralKeys: g.cfg.TokenKeyFile == ""}
	scheme := "ws"
	if g.browserTLS != nil {
		scheme = "wss"
	}
	for _, l := range listeners {
		b.WebSocket = append(b.WebSocket, fmt.Sprintf("%s://%s%s", scheme, l.Addr(), g.cfg.Path))
	}
	for _, up := range g.upstreams {
		if l := up.main(); l != nil {
			b.Advertised = append(b.Advertised, fmt.Sprintf("%s %s", l.target.Proto, l.host))
		}
	}
	return b
}
