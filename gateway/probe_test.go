package gateway

import (
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"
)

// verdict is what Config.Answered was told of an upstream.
type verdict struct {
	upstream, answer string
	err              error
}

func answered(l *lab) <-chan verdict {
	verdicts := make(chan verdict, 8)
	l.cfg.Answered = func(upstream, answer string, err error) { verdicts <- verdict{upstream, answer, err} }
	return verdicts
}

func (l *lab) await(verdicts <-chan verdict, within time.Duration) verdict {
	l.t.Helper()
	select {
	case v := <-verdicts:
		return v
	case <-time.After(within):
		l.t.Fatal("no verdict on the upstream")
		return verdict{}
	}
}

// TestProbe: at the start every upstream is asked, and any final answer counts.
func TestProbe(t *testing.T) {
	for _, status := range []string{"200 OK", "401 Unauthorized", "404 Not Found"} {
		l := preparedLab(t)
		verdicts := answered(l)
		l.start()
		req := l.pbx.next()
		if req.uri() != "sip:"+l.pbx.addr() || req.method() != "OPTIONS" {
			t.Errorf("asked %q", req.start())
		}
		l.pbx.send(req.reply(status))
		if v := l.await(verdicts, patience); v != (verdict{"sip:" + l.pbx.addr(), status, nil}) {
			t.Errorf("verdict %+v", v)
		}
		p := l.phone("alice")
		l.pbx.send(req.reply(status)) // once more, to nobody
		l.expectReached(p, l.registered(p))
	}
}

// TestProbeOverTCP: a PBX that refuses connections is told from one that answers.
func TestProbeOverTCP(t *testing.T) {
	l := &tcpLab{lab: preparedLab(t)}
	l.server = l.listenTCP("127.0.0.1:0")
	dead := l.listenTCP("127.0.0.1:0")
	_ = dead.Close()
	l.cfg.Upstreams = upstreams(t, "sip:"+l.server.Addr().String()+";transport=tcp", "sip:"+dead.Addr().String()+";transport=tcp", "sip:no..where")
	verdicts := answered(l.lab)
	l.start()
	pbx := l.accept(l.server)
	pbx.send(pbx.next().reply("200 OK"))
	for range l.cfg.Upstreams {
		v := l.await(verdicts, patience)
		switch {
		case strings.Contains(v.upstream, "no..where"):
			if v.err == nil || !strings.Contains(v.err.Error(), "does not resolve") {
				t.Errorf("verdict %+v", v)
			}
		case strings.Contains(v.upstream, dead.Addr().String()):
			if !errors.Is(v.err, syscall.ECONNREFUSED) {
				t.Errorf("verdict %+v", v)
			}
		case v.answer != "200 OK" || v.err != nil:
			t.Errorf("verdict %+v", v)
		}
	}
}

// TestProbeUnanswered: silence is a verdict too, after a few repetitions.
func TestProbeUnanswered(t *testing.T) {
	t.Parallel() // it waits for seconds
	l := preparedLab(t)
	l.cfg.HealthInterval = 4 * time.Second
	verdicts := answered(l)
	l.start()
	first := l.pbx.next()
	for range 2 {
		if again := l.pbx.datagram(); again != first {
			t.Errorf("repeated\n%s\nas\n%s", first, again)
		}
	}
	l.pbx.send(first.reply("100 Trying").set("Call-ID", "forged"))
	if v := l.await(verdicts, patience); !errors.Is(v.err, errNoAnswer) {
		t.Errorf("verdict %+v", v)
	}
}
