//go:build linux

package bench

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"viaduct/cmd/viaduct-load/drive"
)

//go:embed kamailio.cfg
var kamailioConfig []byte

// kamailioMemory is what all its processes share, in MB.
const kamailioMemory = "3072"

// startKamailio starts Kamailio with its fast allocator; that of the Debian
// package's default is one for debugging.
func (b *bench) startKamailio(ctx context.Context, name string, how setting, more ...string) (*server, error) {
	if how.processes == (processes{}) {
		var err error
		if how.processes, err = b.best(ctx, name, how.leg); err != nil {
			return nil, err
		}
	}
	listen, err := freePort()
	if err != nil {
		return nil, err
	}
	config := filepath.Join(b.dir, "kamailio.cfg")
	if err := os.WriteFile(config, kamailioConfig, 0o600); err != nil {
		return nil, err
	}
	p, err := start(ctx, name, "kamailio", append([]string{
		"-f", config, "-DD", "-E", "-w", b.dir, "-Y", b.dir,
		"-x", "fm", "-X", "fm", "-m", kamailioMemory, "-M", "32", "-b", "4194304",
		"-A", "LISTEN=" + listen.String(),
		"-A", fmt.Sprintf("CHILDREN=%d", how.processes.udp), "-A", fmt.Sprintf("TCP_CHILDREN=%d", how.processes.tcp),
		"-A", fmt.Sprintf("UPSTREAM=%q", fmt.Sprintf("sip:%s;transport=%s", b.answerer, how.leg)),
	}, more...)...)
	if err != nil {
		return nil, err
	}
	s := &server{name: name, process: p, addr: listen, path: "/", loose: true}
	return s, s.wait(ctx, false)
}

// processes are how many of Kamailio's work on each kind of socket.
type processes struct{ udp, tcp int }

const (
	trials    = 2 // of each
	trialTime = time.Second
)

// best finds the processes with which a pair costs Kamailio least; it costs more
// with more of them than there is work for.
func (b *bench) best(ctx context.Context, name string, leg leg) (processes, error) {
	key := name + " by " + upper(leg)
	if known, ok := b.processes[key]; ok {
		return known, nil
	}
	var best processes
	var least float64
	for range trials {
		for _, p := range []processes{{1, 1}, {2, 1}, {2, 2}} {
			cost, err := b.trial(ctx, name, setting{leg: leg, processes: p})
			if err != nil {
				return best, err
			}
			if least == 0 || cost < least {
				best, least = p, cost
			}
		}
	}
	b.processes[key] = best
	b.report.note("%s ran with children=%d and tcp_children=%d, where a pair cost it least (%.1f µs).", key, best.udp, best.tcp, least)
	return best, nil
}

// trial is a short run.
func (b *bench) trial(ctx context.Context, name string, how setting) (float64, error) {
	e, err := b.enter(ctx, name, how, connections)
	if err != nil {
		return 0, err
	}
	defer e.close()
	result, _, err := b.try(ctx, e, drive.Run{Method: drive.Options, AtOnce: atOnce, WarmUp: warmUp, Time: trialTime})
	if err != nil {
		return 0, err
	}
	return micros(result), nil
}
