//go:build linux

package bench

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// report is what was measured, for the terminal and for a page.
type report struct {
	out   io.Writer
	body  bytes.Buffer // tables
	notes []string
	aims  []aim
	took  time.Duration
}

func newReport(out io.Writer) *report { return &report{out: out} }

// say tells the terminal how it goes.
func (r *report) say(format string, args ...any) { fmt.Fprintf(r.out, format+"\n", args...) }

// note is something to be said beside the tables.
func (r *report) note(format string, args ...any) {
	r.notes = append(r.notes, fmt.Sprintf(format, args...))
	r.say(format, args...)
}

// A table is printed when it is whole.
type table struct {
	report *report
	title  string
	rows   [][]string // the first is the heading
}

func (r *report) table(title string, heading ...string) *table {
	return &table{r, title, [][]string{heading}}
}

func (t *table) row(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) print() {
	var text strings.Builder
	fmt.Fprintf(&text, "\n### %s\n\n", t.title)
	for i, row := range t.rows {
		fmt.Fprintf(&text, "| %s |\n", strings.Join(row, " | "))
		if i == 0 {
			fmt.Fprintf(&text, "|---|%s\n", strings.Repeat("--:|", len(row)-1))
		}
	}
	t.report.body.WriteString(text.String())
	t.report.say("%s", text.String())
}

// notQuiet is said where more than a tenth of the runs were disturbed.
const notQuiet = "**The machine was not quiet.** Other processes took CPU during these runs (see the notes): the figures are rough, " +
	"those of latency most, and `make bench` on a quiet machine replaces them.\n\n"

// page is the report as deploy/BENCHMARKS.md has it.
func (r *report) page(b *bench) []byte {
	var page bytes.Buffer
	fmt.Fprintf(&page, `# Benchmarks

This page is written by `+"`make bench`"+`, which measures on the machine it runs on. Everything is on loopback: the load and
the answering end (viaduct-load) share the cores with the server, so a server that needs less CPU also gets more load.

- **null** is a relay in Go that does only what no relay can leave out: one read, one Via spliced in, one write, and back.
  It holds no SIP state and checks nothing. Where it cost more than %.1f of Kamailio's stateless forward, the round is void.
- **viaduct** runs as it does in service: tokens, retransmission state, metrics; its log is at warn.
- **kamailio** forwards statelessly, **kamailio-tm** with its transaction module; both with its fast allocator (`+"`-x fm -X fm`"+`)
  and [a configuration](../cmd/viaduct-load/bench/kamailio.cfg) that does nothing else.
- Figures are medians of %d alternating runs of %v, with the least and the most in parentheses. CPU is that of the server's
  processes, user and system, as the kernel counts it. %d connections, unless it says otherwise.

| | |
|---|---|
| date | %s |
| machine | %s |
| kernel | %s |
| Go | %s |
| Kamailio | %s |
| command | %s |
| it took | %v |

`, voidAbove, b.cfg.Rounds, b.cfg.Time, connections,
		time.Now().UTC().Format("2006-01-02 15:04 MST"), machine(), kernel(), runtime.Version(),
		firstLine("kamailio", "-v"), "`"+strings.Join(os.Args, " ")+"`", r.took)
	if 10*b.disturbed > b.runs {
		page.WriteString(notQuiet)
	}
	page.WriteString("## What was measured\n")
	page.Write(r.body.Bytes())
	page.WriteString("\n## Notes\n\n")
	for _, note := range r.notes {
		fmt.Fprintf(&page, "- %s\n", note)
	}
	return page.Bytes()
}

func machine() string {
	info, _ := os.ReadFile("/proc/cpuinfo")
	model := "CPU unknown"
	for line := range strings.Lines(string(info)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			model = strings.TrimSpace(value)
			break
		}
	}
	var memory unix.Sysinfo_t
	_ = unix.Sysinfo(&memory)
	return fmt.Sprintf("%s, %d cores, %d GB", model, runtime.NumCPU(), memory.Totalram*uint64(memory.Unit)>>30)
}

func kernel() string {
	var name unix.Utsname
	_ = unix.Uname(&name)
	return unix.ByteSliceToString(name.Sysname[:]) + " " + unix.ByteSliceToString(name.Release[:])
}

// firstLine is what a program says about its version.
func firstLine(program string, args ...string) string {
	out, err := exec.Command(program, args...).CombinedOutput()
	if err != nil && len(out) == 0 {
		return "none"
	}
	line, _, _ := strings.Cut(string(out), "\n")
	return line
}
