//go:build linux

package bench

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"viaduct/cmd/viaduct-load/drive"
)

// result is a run in which a pair cost so many microseconds.
func result(micros int) *drive.Result {
	return &drive.Result{Pairs: 100, CPU: time.Duration(100*micros) * time.Microsecond, Time: time.Second}
}

func TestVoid(t *testing.T) {
	all := rounds{
		{"null": result(12), "viaduct": result(14), "kamailio": result(35)},
		{"null": result(12), "viaduct": result(40), "kamailio": result(20)}, // something has disturbed it
		{"null": result(13), "viaduct": result(16), "kamailio": result(36)},
	}
	valid := all.valid()
	if len(valid) != 2 || len(all) != 3 {
		t.Fatalf("%d of %d rounds are valid", len(valid), len(all))
	}
	if got := valid.of("viaduct", micros).show(1); got != "15.0 (14.0–16.0)" {
		t.Errorf("viaduct: %s", got)
	}
}

// TestFleetLeavesProcesses closes fleets after a process was started: threads
// that end would end it.
func TestFleetLeavesProcesses(t *testing.T) {
	var started []*process
	for range 20 {
		p, err := start(t.Context(), "sleep", "sleep", "60")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(p.stop)
		started = append(started, p)
		f, err := drive.Assemble(t.Context(), drive.Config{Threads: 8})
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	for _, p := range started {
		select {
		case <-p.ended:
			t.Fatal(p.alive())
		case <-time.After(20 * time.Millisecond): // a signal would have come
		}
	}
}

func TestSpread(t *testing.T) {
	for _, test := range []struct {
		values []float64
		want   spread
	}{
		{nil, spread{}},
		{[]float64{3}, spread{3, 3, 3}},
		{[]float64{4, 1, 2}, spread{2, 1, 4}},
		{[]float64{4, 1, 2, 3}, spread{2.5, 1, 4}},
	} {
		if got := spreadOf(test.values); got != test.want {
			t.Errorf("%v: %v", test.values, got)
		}
	}
}

// TestVoidIsSaid has all rounds void: the page must not look as if they counted.
func TestVoidIsSaid(t *testing.T) {
	var out bytes.Buffer
	b := &bench{cfg: Config{Servers: []string{"null", "viaduct", "kamailio"}}, report: newReport(&out), saturation: map[string]float64{}}
	b.costTable(udp, drive.Options, rounds{{"null": result(12), "viaduct": result(14), "kamailio": result(20)}})
	b.runs, b.disturbed = 3, 1
	b.close(time.Second)
	page := string(b.report.page(b))
	for _, want := range []string{"The machine was not quiet", "(1 of 1 rounds void)", "1 of 1 rounds are **void**", "viaduct over null | 1.17 | at most 1.20 | met", "kamailio over viaduct | 1.43 | at least 2.20 | **missed**"} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q in\n%s", want, page)
		}
	}
}
