package e2e

import (
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"testing"
	"text/tabwriter"
)

// A Leg is the pair of transports around viaduct.
type Leg struct {
	Proto     string // towards the PBX: udp, tcp or tls
	WebSocket string // towards the browser: ws or wss
}

func (l Leg) String() string { return l.Proto + "-" + l.WebSocket }

// legs are all of them, in the order in which the default run deals them out.
var legs = []Leg{{"udp", "ws"}, {"tcp", "wss"}, {"tls", "ws"}, {"udp", "wss"}, {"tcp", "ws"}, {"tls", "wss"}}

// flags are viaduct's flags for the leg.
func (l Leg) flags(t testing.TB, host Host, pbx *Kamailio) []string {
	t.Helper()
	return append(l.certificates(t, host), "--upstream="+pbx.Upstream(l.Proto))
}

// certificates are the flags for the leg's TLS.
func (l Leg) certificates(t testing.TB, host Host) (flags []string) {
	t.Helper()
	if l.Proto != "tls" && l.WebSocket != "wss" {
		return nil
	}
	certFile, keyFile := issue(t, "viaduct", host.IP.String())
	if l.Proto == "tls" {
		flags = append(flags, "--upstream-ca="+authority.File, "--sip-tls-cert="+certFile, "--sip-tls-key="+keyFile)
	}
	if l.WebSocket == "wss" {
		flags = append(flags, "--tls-cert="+certFile, "--tls-key="+keyFile)
	}
	return flags
}

// A Scenario is one row of the matrix. It is played by each of its stacks: on
// one leg in the default run, so dealt out that every leg meets every stack,
// and on all six with VIADUCT_E2E_FULL=1.
type Scenario struct {
	Name   string
	Stacks []Stack // default: both
	Play   func(t *testing.T, lab *Lab)
}

// scenarios are the rows of the matrix.
var scenarios = slices.Concat(registration, calling, messaging, several, between)

// TestMatrix plays every scenario as TestMatrix/SCENARIO/STACK/LEG.
func TestMatrix(t *testing.T) {
	for row, scenario := range scenarios {
		stacks := scenario.Stacks
		if stacks == nil {
			stacks = []Stack{JsSIP, SIPJS}
		}
		for _, stack := range stacks {
			for _, leg := range legsFor(row, stack) {
				t.Run(fmt.Sprintf("%s/%s/%s", scenario.Name, stack, leg), func(t *testing.T) {
					t.Parallel()
					t.Cleanup(func() { results.record(row, stack, leg, !t.Failed()) })
					scenario.Play(t, newLab(t, stack, leg))
				})
			}
		}
	}
}

// legsFor deals the legs out: the stacks get different ones in the same row.
func legsFor(row int, stack Stack) []Leg {
	if os.Getenv("VIADUCT_E2E_FULL") == "1" {
		return legs
	}
	if stack == SIPJS {
		row += len(legs) / 2
	}
	return []Leg{legs[row%len(legs)]}
}

// results is what the matrix of this run came to.
var results matrix

type matrix struct {
	mu    sync.Mutex
	cells map[cell]bool // whether a cell that was played has passed
}

type cell struct {
	row   int
	stack Stack
	leg   Leg
}

func (m *matrix) record(row int, stack Stack, leg Leg, passed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cells == nil {
		m.cells = map[cell]bool{}
	}
	m.cells[cell{row, stack, leg}] = passed
}

// print writes the matrix as a table, without the rows that were not
// played at all. A cell that was not played is a dot.
func (m *matrix) print(w io.Writer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.cells) == 0 {
		return
	}
	table := tabwriter.NewWriter(w, 0, 0, 1, ' ', 0)
	fmt.Fprint(table, "\nscenario")
	for _, stack := range []Stack{JsSIP, SIPJS} {
		for _, leg := range legs {
			fmt.Fprintf(table, "\t%s %s", stack, leg)
		}
	}
	fmt.Fprintln(table)
	for row, scenario := range scenarios {
		if !m.played(row) {
			continue
		}
		fmt.Fprint(table, scenario.Name)
		for _, stack := range []Stack{JsSIP, SIPJS} {
			for _, leg := range legs {
				fmt.Fprintf(table, "\t%s", m.mark(cell{row, stack, leg}))
			}
		}
		fmt.Fprintln(table)
	}
	_ = table.Flush()
}

func (m *matrix) played(row int) bool {
	for c := range m.cells {
		if c.row == row {
			return true
		}
	}
	return false
}

func (m *matrix) mark(c cell) string {
	passed, played := m.cells[c]
	switch {
	case !played:
		return "·"
	case passed:
		return "ok"
	default:
		return "FAIL"
	}
}
