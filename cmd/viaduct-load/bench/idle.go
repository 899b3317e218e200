//go:build linux

package bench

import (
	"context"
	"fmt"
	"slices"
	"time"

	"viaduct/cmd/viaduct-load/drive"
	"viaduct/cmd/viaduct-load/proc"
)

const (
	risingAtOnce = 64              // connections on their way, where no storm is wanted
	settling     = time.Second     // after connections were opened
	returning    = 5 * time.Second // after a collection, for the runtime to give back what it freed
)

// idle measures the memory of connections that do nothing.
func (b *bench) idle(ctx context.Context) error {
	sizes, err := sizes()
	if err != nil {
		return err
	}
	heading := []string{"server"}
	for _, n := range sizes {
		heading = append(heading, fmt.Sprintf("%d connections", n))
	}
	heading = append(heading, fmt.Sprintf("%d, after a collection", sizes[len(sizes)-1]), "heap in use each after a collection", "RSS of all")
	t := b.report.table("Bytes of an idle connection: PSS of the server's processes, less that without connections", heading...)
	for _, kind := range []kind{{"null", "", false, false, 0}, {"viaduct", "plain", false, false, 1 << 10}, {"viaduct", "plain, registered", true, false, 3 << 9},
		{"viaduct", "TLS", false, true, 8 << 10}, {"kamailio", "plain", false, false, 0}} {
		if !b.measured(kind.server) {
			continue
		}
		row, err := b.idleOf(ctx, kind, sizes)
		if err != nil {
			return fmt.Errorf("%s %s: %w", kind.server, kind.name, err)
		}
		t.row(row...)
	}
	t.print()
	return nil
}

// kind is what connections are.
type kind struct {
	server   string
	name     string
	register bool
	tls      bool
	aim      int // bytes of each at the most connections, 0 for none
}

// crowd is browsers that do nothing.
type crowd interface {
	Rise(context.Context, drive.Rise) (*drive.Risen, error)
	Errors() drive.Errors
	Close()
}

func (b *bench) idleOf(ctx context.Context, k kind, sizes []int) ([]string, error) {
	s, err := b.start(ctx, k.server, setting{leg: udp, tls: k.tls})
	if err != nil {
		return nil, err
	}
	defer s.process.stop()
	cfg := drive.Config{To: s.addr, Path: s.path, Answerer: b.answerer, Threads: 1, Loose: s.loose}
	var browsers crowd
	if k.tls {
		browsers = drive.AssembleTLS(cfg)
	} else if browsers, err = drive.Assemble(ctx, cfg); err != nil {
		return nil, err
	}
	defer browsers.Close()
	if err := wait(ctx, settling); err != nil {
		return nil, err
	}
	empty, heapEmpty, _, err := b.memory(s)
	if err != nil {
		return nil, err
	}
	row := []string{k.server}
	if k.name != "" {
		row[0] += ", " + k.name
	}
	var heap float64
	var last proc.Memory
	most := sizes[len(sizes)-1]
	collected := false
	for _, n := range sizes {
		risen, err := browsers.Rise(ctx, drive.Rise{To: n, AtOnce: risingAtOnce, Register: k.register})
		if err != nil {
			return nil, err
		}
		if err := wait(ctx, settling); err != nil {
			return nil, err
		}
		if last, err = proc.MemoryOf(s.process.pid()); err != nil {
			return nil, err
		}
		b.report.say("%s: %d there after %v, PSS %d kB", row[0], n, risen.Time, last.PSS>>10)
		row = append(row, fmt.Sprint((last.PSS-empty.PSS)/n))
	}
	if _, heap, collected, err = b.memory(s); err != nil {
		return nil, err
	}
	// Connections that are idle for minutes have seen one: the runtime collects
	// every two even if nothing is allocated.
	if err := wait(ctx, returning); err != nil {
		return nil, err
	}
	if last, err = proc.MemoryOf(s.process.pid()); err != nil {
		return nil, err
	}
	row = append(row, fmt.Sprint((last.PSS-empty.PSS)/most))
	if errors := browsers.Errors(); errors.Total() > 0 {
		return nil, fmt.Errorf("idle connections: %v", errors)
	}
	if k.aim > 0 {
		b.report.atMost(fmt.Sprintf("%s: bytes of each of %d idle connections, PSS after a collection", row[0], most), float64((last.PSS-empty.PSS)/most), float64(k.aim), 0)
	}
	each := ""
	if s.admin.IsValid() {
		each = fmt.Sprintf("%.0f", (heap-heapEmpty)/float64(most))
		if !collected {
			each += " (not collected)"
		}
	}
	return append(row, each, fmt.Sprintf("%d MB", last.RSS>>20)), nil
}

// memory is what a server holds; of viaduct its heap too, after a collection
// where it can be asked for one.
func (b *bench) memory(s *server) (m proc.Memory, heap float64, collected bool, err error) {
	if m, err = proc.MemoryOf(s.process.pid()); err != nil || !s.admin.IsValid() {
		return m, 0, false, err
	}
	if collected, err = b.collect(s); err != nil {
		return m, 0, false, err
	}
	all, err := s.metrics()
	return m, all[heapInUse], collected, err
}

// measured tells whether a server is among those that are measured.
func (b *bench) measured(name string) bool { return slices.Contains(b.cfg.Servers, name) }
