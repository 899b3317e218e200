//go:build linux

package bench

import (
	"fmt"

	"viaduct/cmd/viaduct-load/drive"
)

// An aim is what a figure is to be, and what it was.
type aim struct {
	what    string
	got     float64
	limit   float64
	atLeast bool // otherwise at most
	digits  int
}

func (a aim) met() bool {
	if a.atLeast {
		return a.got >= a.limit
	}
	return a.got <= a.limit
}

func (r *report) atMost(what string, got, limit float64, digits int) {
	r.aims = append(r.aims, aim{what, got, limit, false, digits})
}

func (r *report) atLeast(what string, got, limit float64, digits int) {
	r.aims = append(r.aims, aim{what, got, limit, true, digits})
}

// aimTable says which aims the figures meet.
func (r *report) aimTable() {
	t := r.table("Aims", "aim", "measured", "to be", "")
	for _, a := range r.aims {
		bound, verdict := "at most", "met"
		if a.atLeast {
			bound = "at least"
		}
		if !a.met() {
			verdict = "**missed**"
		}
		t.row(a.what, fmt.Sprintf("%.*f", a.digits, a.got), fmt.Sprintf("%s %.*f", bound, a.digits, a.limit), verdict)
	}
	t.print()
}

// costAims compares the cost of a pair, within the same rounds.
func (b *bench) costAims(leg leg, method drive.Method, valid rounds) {
	viaduct := valid.of("viaduct", orNothing(micros)).median
	if viaduct == 0 {
		return
	}
	what := fmt.Sprintf("%s by %s: CPU of a pair, ", method, upper(leg))
	for _, other := range []struct {
		name, text string
		limit      float64
		less       bool // how many times less than the other
	}{
		{"null", "viaduct over null", 1.2, false},
		{"kamailio", "kamailio over viaduct", 2.2, true},
		{"kamailio-tm", "kamailio-tm over viaduct", 4, true},
	} {
		cost := valid.of(other.name, orNothing(micros)).median
		switch {
		case cost == 0:
		case other.less:
			b.report.atLeast(what+other.text, cost/viaduct, other.limit, 2)
		default:
			b.report.atMost(what+other.text, viaduct/cost, other.limit, 2)
		}
	}
}
