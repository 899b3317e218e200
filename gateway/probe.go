package gateway

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"viaduct/rewrite"
	"viaduct/transport"
)

// timerT1 is the round-trip time that RFC 3261 17.1.1.1 assumes.
const timerT1 = 500 * time.Millisecond

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

// end tells the one that waits for it; the first outcome counts. It reports
// whether someone waited.
func (p *probes) end(callID []byte, o outcome) (waited bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	done, waited := p.waiting[string(callID)]
	if waited {
		delete(p.waiting, string(callID))
		done <- o
	}
	return waited
}

// probe sends an OPTIONS to an upstream and returns the status of its answer.
// Any final response means that it is alive; silence for half a health interval
// is errNoAnswer.
func (g *Gateway) probe(ctx context.Context, up *upstream) (answer string, err error) {
	ctx, cancel := context.WithTimeout(ctx, g.healthPeriod())
	defer cancel()
	to := up.main()
	if to == nil {
		return "", fmt.Errorf("%s does not resolve", up.Host)
	}
	callID := rand.Text()
	done := g.probes.begin(callID)
	defer g.probes.end([]byte(callID), outcome{})
	up.spoke.Store(false)
	return g.ask(ctx, up, to, g.options(to, callID), done)
}

// ask sends an OPTIONS until it is answered. It does so at an even pace, not at
// the slowing one of RFC 3261 17.1.2.2: few of many copies may be lost, or a
// lossy way would look like a dead upstream.
func (g *Gateway) ask(ctx context.Context, up *upstream, to *leg, msg []byte, done <-chan outcome) (answer string, err error) {
	begun := time.Now()
	silence := errNoAnswer
	again := time.NewTicker(min(timerT1, g.healthPeriod()/8))
	defer again.Stop()
	for first := true; ; first = false {
		if first || g.losesProbes(to.target) {
			err := g.sip.Send(to.target, msg)
			if err != nil && to.target.Proto == transport.ProtoUDP {
				return "", err
			}
			silence = cmp.Or(err, errNoAnswer)
		}
		select {
		case o := <-done:
			if o.err == nil {
				up.rtt.Store(int64(time.Since(begun)))
			}
			return o.answer, o.err
		case <-ctx.Done():
			return "", silence
		case <-again.C:
		}
	}
}

// losesProbes reports whether what was sent to a target may be lost by now: on
// UDP, or with a connection that is gone.
func (g *Gateway) losesProbes(to transport.Target) bool {
	return to.Proto == transport.ProtoUDP || g.sip.Stream(to.Proto, to.Addr) == nil
}

// leaveStream ends a connection to an upstream that does not answer on it, for a new
// one may work: the other end may have forgotten this one, or TCP wait for
// minutes before it tries again.
func (g *Gateway) leaveStream(up *upstream) {
	to := up.main()
	if to == nil || to.target.Proto == transport.ProtoUDP {
		return
	}
	if stream := g.sip.Stream(to.target.Proto, to.target.Addr); stream != nil {
		stream.Abandon()
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
