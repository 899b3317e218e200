// Package doctor tries a SIP server in the gateway's stead, before browsers do:
//
//	doctor                         PBX
//	   |-- OPTIONS ---------------->|  by UDP, TCP and TLS; of 4 kB and 8 kB
//	   |-- REGISTER (401), digest ->|  Contact: <sip:‹token›@GW>
//	   |<-------------------- 200 --|  is the token whole?
//	   |-- INVITE to itself ------->|
//	   |<--- INVITE sip:‹token›@GW -|  does it come here, and whole?
//	   |-- INVITE, no credentials ->|  a browser could send it: is it challenged?
//	   |-- REGISTER, expires 0 ---->|
//
// gosip is the user agent: it knows transactions, which resend and time out, and
// digest. The sockets are the gateway's own (transport.SIP), at the addresses where
// the gateway has them, so that the server sees what it will see; layer.go puts
// the one on the other.
package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"time"

	"viaduct/gateway"
	"viaduct/gateway/rtpengine"
	"viaduct/transport"
)

// How long a check waits. Together they stay below a minute even where nothing is
// answered but what the next check builds on.
const (
	resolveTimeout  = 5 * time.Second
	answerTimeout   = 4 * time.Second  // OPTIONS and REGISTER
	callTimeout     = 8 * time.Second  // an INVITE to ourselves
	strangerTimeout = 4 * time.Second  // an INVITE that should be refused
	hangUpTimeout   = 2 * time.Second  // until what was cancelled has ended
	runTimeout      = 50 * time.Second // everything but the end
	endTimeout      = 5 * time.Second  // the end
)

// Config says what to try.
type Config struct {
	// Gateway is what the gateway would be told. Its upstreams are tried one after
	// the other.
	Gateway gateway.Config
	// User is a test account, `user` or `user@domain`, without domain that of the
	// upstream. Default: none, and what needs one is skipped.
	User string
	// Password is the account's. It is never shown.
	Password string
}

// A Doctor tries upstreams.
type Doctor struct {
	cfg       Config
	clientTLS *tls.Config            // towards upstreams
	serverTLS *transport.Certificate // nil: no TLS listener
}

// New returns a Doctor; an error names the flag that is wrong. It opens no socket.
func New(cfg Config) (*Doctor, error) {
	if err := cfg.Gateway.Validate(); err != nil {
		return nil, err
	}
	d := &Doctor{cfg: cfg}
	var err error
	if d.clientTLS, err = cfg.Gateway.UpstreamTLS(); err != nil {
		return nil, err
	}
	if cert := cfg.Gateway.SIPTLSCert; cert != "" {
		if d.serverTLS, err = transport.LoadCertificate(cert, cfg.Gateway.SIPTLSKey); err != nil {
			return nil, fmt.Errorf("--sip-tls-cert: %w", err)
		}
	}
	if engines := cfg.Gateway.RTPEngines; len(engines) > 0 {
		if _, err := rtpengine.New(rtpengine.Config{Engines: engines}); err != nil {
			return nil, fmt.Errorf("--rtpengine: %w", err)
		}
	}
	return d, nil
}

// Run tries every upstream and returns a Report for each, and one for the
// rtpengines if there are any. When ctx ends, what is
// left is skipped and what was begun is ended.
func (d *Doctor) Run(ctx context.Context) (reports []*Report) {
	for _, upstream := range d.cfg.Gateway.Upstreams {
		if ctx.Err() != nil {
			return reports
		}
		reports = append(reports, d.try(ctx, upstream))
	}
	if len(d.cfg.Gateway.RTPEngines) > 0 {
		reports = append(reports, d.checkEngines(ctx))
	}
	return reports
}

// try makes all checks of one upstream.
func (d *Doctor) try(ctx context.Context, upstream gateway.Upstream) *Report {
	ctx, cancel := context.WithTimeoutCause(ctx, runTimeout, errTimeOver)
	defer cancel()
	e := &examination{doctor: d, cfg: d.cfg.Gateway, upstream: upstream, report: &Report{Subject: upstream.String()}}
	if e.open(ctx) {
		defer e.close()
		if e.checkReach(ctx) {
			e.checkAccount(ctx)
		} else {
			e.skip("the SIP server does not answer", "what is said above",
				checkRegister, checkContact, checkSelfCall, checkStranger, checkPath)
		}
	}
	return e.report
}

// examination is what is known of one upstream so far.
type examination struct {
	doctor   *Doctor
	upstream gateway.Upstream
	cfg      gateway.Config // of the gateway, for this upstream
	report   *Report

	place *place
	agent *agent
}

var errTimeOver = errors.New("no time is left")

// skip notes checks that cannot be made, and what it takes to have them made.
func (e *examination) skip(why, set string, checks ...string) {
	for _, check := range checks {
		e.report.add(Note, check, "skipped: "+why, set)
	}
}
