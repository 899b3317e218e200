package e2e

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
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
	flags := []string{"--upstream=" + pbx.Upstream(l.Proto)}
	if l.Proto != "tls" && l.WebSocket != "wss" {
		return flags
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

// runMatrix plays scenarios as subtests SCENARIO/STACK/LEG.
func runMatrix(t *testing.T, scenarios []Scenario) {
	for row, scenario := range scenarios {
		stacks := scenario.Stacks
		if stacks == nil {
			stacks = []Stack{JsSIP, SIPJS}
		}
		t.Run(scenario.Name, func(t *testing.T) {
			t.Parallel()
			for _, stack := range stacks {
				t.Run(string(stack), func(t *testing.T) {
					t.Parallel()
					for _, leg := range legsFor(row, stack) {
						t.Run(leg.String(), func(t *testing.T) {
							t.Parallel()
							t.Cleanup(func() { results.record(scenario.Name, stack, leg, !t.Failed()) })
							scenario.Play(t, newLab(t, stack, leg))
						})
					}
				})
			}
		})
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
	rows  []string // scenarios in the order they finished
	cells map[string]map[string]bool
}

func (m *matrix) record(scenario string, stack Stack, leg Leg, passed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cells == nil {
		m.cells = map[string]map[string]bool{}
	}
	if m.cells[scenario] == nil {
		m.cells[scenario] = map[string]bool{}
		m.rows = append(m.rows, scenario)
	}
	m.cells[scenario][column(stack, leg)] = passed
}

func column(stack Stack, leg Leg) string { return fmt.Sprintf("%s %s", stack, leg) }

// print writes the matrix as a table; a cell that was not played is a dot.
func (m *matrix) print(w io.Writer) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.rows) == 0 {
		return
	}
	var columns []string
	for _, stack := range []Stack{JsSIP, SIPJS} {
		for _, leg := range legs {
			columns = append(columns, column(stack, leg))
		}
	}
	slices.Sort(columns)
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(table, "\nscenario\t%s\n", strings.Join(columns, "\t"))
	slices.Sort(m.rows)
	for _, row := range m.rows {
		marks := make([]string, len(columns))
		for i, name := range columns {
			switch passed, played := m.cells[row][name]; {
			case !played:
				marks[i] = "·"
			case passed:
				marks[i] = "ok"
			default:
				marks[i] = "FAIL"
			}
		}
		fmt.Fprintf(table, "%s\t%s\n", row, strings.Join(marks, "\t"))
	}
	_ = table.Flush()
}
