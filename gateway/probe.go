package gateway

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"viaduct/rewrite"
	"viaduct/transport"
)

// The first OPTIONS to each upstream is repeated like any non-INVITE request
// (RFC 3261 17.1.2.2), but is given up sooner.
const (
	timerT1   = 500 * time.Millisecond
	probeWait = 5 * time.Second
)

var errNoAnswer = errors.New("no answer")

// probes are the gateway's own requests that wait for their answer, by Call-ID.
type probes struct {
	mu      sync.Mutex
	waiting map[string]chan<- outcome
}

type outcome struct {
	answer string
	err    error
}

func (p *probes) begin(callID string) <-chan outcome {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.waiting == nil {
		p.waiting = make(map[string]chan<- outcome)
	}
	done := make(chan outcome, 1)
	p.waiting[callID] = done
	return done
}

// end tells the one that waits for it; the first outcome counts.
func (p *probes) end(callID []byte, o outcome) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if done, ok := p.waiting[string(callID)]; ok {
		delete(p.waiting, string(callID))
		done <- o
	}
}

// greet asks every upstream for an OPTIONS and reports what it answered.
func (g *Gateway) greet(ctx context.Context) {
	if g.cfg.Answered == nil {
		return
	}
	var asking sync.WaitGroup
	for _, up := range g.upstreams {
		asking.Go(func() {
			answer, err := g.probe(ctx, up)
			if ctx.Err() == nil {
				g.cfg.Answered(up.String(), answer, err)
			}
		})
	}
	asking.Wait()
}

// probe sends an OPTIONS to an upstream and returns the status of its answer.
// Any final response means that it is alive.
func (g *Gateway) probe(ctx context.Context, up *upstream) (answer string, err error) {
	ctx, cancel := context.WithTimeout(ctx, probeWait)
	defer cancel()
	to := up.main()
	if to == nil {
		return "", fmt.Errorf("%s does not resolve", up.Host)
	}
	callID := rand.Text()
	done := g.probes.begin(callID)
	defer g.probes.end([]byte(callID), outcome{})
	msg := g.options(to, callID)
	for wait := timerT1; ; wait *= 2 {
		if err := g.sip.Send(to.target, msg); err != nil {
			return "", err
		}
		if to.target.Proto != transport.ProtoUDP {
			wait = probeWait
		}
		repeat := time.NewTimer(wait)
		select {
		case o := <-done:
			repeat.Stop()
			return o.answer, o.err
		case <-ctx.Done():
			repeat.Stop()
			return "", errNoAnswer
		case <-repeat.C:
		}
	}
}

// options makes an OPTIONS of the gateway's own.
func (g *Gateway) options(to *leg, callID string) []byte {
	seal := rewrite.UpSeal{Own: true}
	branch := g.keys.Load().First().AppendUpSeal(nil, &seal, []byte(callID), 1)
	host := hostPort(to.upstream.Host, to.target.Addr.Port())
	return fmt.Appendf(nil, "OPTIONS sip:%[1]s SIP/2.0\r\n"+
		"Via: %[2]s%[3]s\r\n"+
		"Max-Forwards: 70\r\n"+
		"From: <sip:viaduct@%[4]s>;tag=%[5]s\r\n"+
		"To: <sip:%[1]s>\r\n"+
		"Call-ID: %[5]s\r\n"+
		"CSeq: 1 OPTIONS\r\n"+
		"Accept: application/sdp\r\n"+
		"Content-Length: 0\r\n\r\n", host, to.via, branch, to.host, callID)
}
