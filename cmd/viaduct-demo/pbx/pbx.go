// Package pbx is the PBX of the demo: plain SIP over UDP and TCP, a registrar,
// a B2BUA between registered users, and a few extensions to call.
//
//	phone A               PBX               phone B
//	   |-- INVITE (407) -->|                   |
//	   |-- INVITE -------->|-- INVITE -------->|  one to each contact of B
//	   |<------------ 180 -|<------------ 180 -|
//	   |<------------ 200 -|<------------ 200 -|  the others get CANCEL
//	   |-- ACK ----------->|-- ACK ----------->|
//	   |<================ media ==============>|  bodies pass untouched
//	   |-- BYE ----------->|-- BYE ----------->|
//
// Each side of a call is a dialog of its own, with its own Call-ID and tags.
// An extension that answers speaks WebRTC, or PCMU by plain RTP if it is
// offered that.
package pbx

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/ghettovoice/gosip"
	siplog "github.com/ghettovoice/gosip/log"
	"github.com/ghettovoice/gosip/sip"
	"github.com/ghettovoice/gosip/transport"
	"go.uber.org/zap"
)

// An Account may register and call.
type Account struct {
	User     string // user part of its address
	Password string
}

// A Config says what a PBX is made of.
type Config struct {
	// Listen is the IPv4 address and port of both UDP and TCP, and the address
	// of the extensions' media. Port 0 is any that is free on both.
	Listen string

	// Accounts are all users there are.
	Accounts []Account

	// Log gets what happens. Nil: nothing is logged.
	Log *zap.Logger
}

// pauses are how long the PBX waits for people.
type pauses struct {
	answer   time.Duration // for a phone that rings
	talk     time.Duration // before the bye extension hangs up
	callBack time.Duration // before the callback extension calls
	bye      time.Duration // for the BYE of a phone whose media is gone
	call     time.Duration // the longest call, so that none is forgotten
}

var usualPauses = pauses{
	answer:   2 * time.Minute,
	talk:     5 * time.Second,
	callBack: time.Second,
	bye:      2 * time.Second,
	call:     4 * time.Hour,
}

// A PBX is a running PBX.
type PBX struct {
	addr    netip.AddrPort
	log     *zap.Logger
	pauses  pauses
	server  gosip.Server
	gate    *gate
	media   *media
	users   *authority
	places  *registrar
	dialogs *dialogs

	ctx       context.Context // ends when the PBX closes
	cancel    context.CancelFunc
	tasks     sync.WaitGroup
	closeOnce sync.Once
}

// Start returns a PBX that serves until ctx ends or Close is called.
func Start(ctx context.Context, cfg Config) (*PBX, error) {
	return start(ctx, cfg, usualPauses)
}

func start(ctx context.Context, cfg Config, pauses pauses) (*PBX, error) {
	listen, err := netip.ParseAddrPort(cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("pbx: listen address: %w", err)
	}
	// It is what Via and Contact say, and gosip writes IPv6 there without
	// brackets.
	if !listen.Addr().Is4() || listen.Addr().IsUnspecified() {
		return nil, fmt.Errorf("pbx: listen address %s is not one IPv4 address", listen)
	}
	for _, account := range cfg.Accounts {
		if extensions[account.User] != nil {
			return nil, fmt.Errorf("pbx: account %q has the name of an extension", account.User)
		}
	}
	media, err := newMedia(listen.Addr())
	if err != nil {
		return nil, fmt.Errorf("pbx: media: %w", err)
	}
	p := &PBX{
		log: cfg.Log, pauses: pauses, media: media,
		users: newAuthority(cfg.Accounts), places: newRegistrar(), dialogs: newDialogs(),
	}
	if p.log == nil {
		p.log = zap.NewNop()
	}
	p.ctx, p.cancel = context.WithCancel(ctx)
	if err := p.listen(listen); err != nil {
		p.cancel()
		return nil, err
	}
	context.AfterFunc(ctx, p.Close)
	return p, nil
}

// Addr returns the address of both sockets, as host:port.
func (p *PBX) Addr() string { return p.addr.String() }

// Close ends all calls without telling the phones, and returns when nothing
// of the PBX runs any more. It may be called more than once.
func (p *PBX) Close() {
	p.closeOnce.Do(func() {
		p.cancel()
		p.dialogs.finish()
		p.gate.close()
		p.server.Shutdown()
		p.tasks.Wait()
		p.dialogs.finish() // a call that was being answered meanwhile
	})
}

// attempts is how often a port is chosen that is free on UDP: TCP may have it.
const attempts = 20

func (p *PBX) listen(addr netip.AddrPort) error {
	var failed error
	for range attempts {
		// gosip finds its sockets by the port it was told, so it cannot be
		// told 0.
		chosen, err := freePort(addr)
		if err != nil {
			return fmt.Errorf("pbx: %w", err)
		}
		if failed = p.serve(chosen); failed == nil {
			return nil
		}
		if addr.Port() != 0 {
			break
		}
	}
	return fmt.Errorf("pbx: %w", failed)
}

func freePort(addr netip.AddrPort) (netip.AddrPort, error) {
	if addr.Port() != 0 {
		return addr, nil
	}
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(addr))
	if err != nil {
		return addr, err
	}
	defer conn.Close()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort(), nil
}

// serve starts a SIP server on addr.
func (p *PBX) serve(addr netip.AddrPort) error {
	var gate *gate
	layer := func(ip net.IP, resolver *net.Resolver, mapper sip.MessageMapper, log siplog.Logger) transport.Layer {
		gate = newGate(ip, resolver, mapper, log)
		return gate
	}
	config := gosip.ServerConfig{Host: addr.Addr().String(), UserAgent: "viaduct-demo"}
	server := gosip.NewServer(config, layer, nil, newGosipLog(p.log))
	p.server, p.gate, p.addr = server, gate, addr
	err := errors.Join(p.route(server), server.Listen("udp", addr.String()), server.Listen("tcp", addr.String()))
	if err != nil {
		gate.close()
		server.Shutdown()
	}
	return err
}

// route says who serves which requests. gosip refuses the others with 405.
func (p *PBX) route(server gosip.Server) error {
	return errors.Join(
		server.OnRequest(sip.REGISTER, p.onRegister),
		server.OnRequest(sip.INVITE, p.onInvite),
		server.OnRequest(sip.ACK, p.onAck),
		server.OnRequest(sip.BYE, p.onBye),
		server.OnRequest(sip.UPDATE, p.onInDialog),
		server.OnRequest(sip.INFO, p.onInDialog),
		server.OnRequest(sip.MESSAGE, p.onMessage),
		server.OnRequest(sip.OPTIONS, p.onOptions),
	)
}

// spawn runs task in the background; Close waits for it.
func (p *PBX) spawn(task func()) { p.tasks.Go(task) }

// pause waits for d, and returns false if the PBX closes or done is closed
// before.
func (p *PBX) pause(d time.Duration, done <-chan struct{}) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-done:
	case <-p.ctx.Done():
	}
	return false
}
