package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// A Verdict says how much a finding matters.
type Verdict int

const (
	// OK is as it should be.
	OK Verdict = iota
	// Note is good to know, or could not be tried.
	Note
	// Warning costs some calls, or some users.
	Warning
	// Blocker is what viaduct must not be switched on with.
	Blocker
)

// String returns the verdict as the table shows it.
func (v Verdict) String() string {
	return [...]string{"ok", "note", "warning", "BLOCKER"}[v]
}

// A Finding is what one check found.
type Finding struct {
	Verdict Verdict
	Check   string // what was tried
	Found   string
	Set     string // what to set or do; nothing only where all is as it should be
}

// A Report is what was found about one upstream or all rtpengines, in the order of
// the checks.
type Report struct {
	Subject  string
	Findings []Finding
}

func (r *Report) ok(check, format string, args ...any) {
	r.Findings = append(r.Findings, Finding{OK, check, fmt.Sprintf(format, args...), ""})
}

func (r *Report) add(v Verdict, check, found, set string) {
	r.Findings = append(r.Findings, Finding{v, check, found, set})
}

// fail adds what a request that was not answered means, unless it is only that
// the doctor had to go.
func (r *Report) fail(v Verdict, check string, err error, set string) {
	if errors.Is(err, errTimeOver) || errors.Is(err, context.Canceled) {
		r.add(Note, check, "skipped: "+reason(err), "nothing: run this again")
		return
	}
	r.add(v, check, reason(err), set)
}

// Blocked reports whether there is a Blocker.
func (r *Report) Blocked() bool {
	return slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.Verdict == Blocker })
}

// Print writes the report as a table: a row for each finding, below it what to set.
func (r *Report) Print(w io.Writer) error {
	if _, err := fmt.Fprintf(w, "%s\n", r.Subject); err != nil {
		return err
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, f := range r.Findings {
		fmt.Fprintf(table, "%s\t%s\t%s\n", f.Verdict, f.Check, printable(f.Found))
		if f.Set != "" {
			fmt.Fprintf(table, "\t\t→ %s\n", printable(f.Set))
		}
	}
	return table.Flush()
}

// printable keeps what a SIP server said from steering a terminal or the table.
func printable(text string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return '?'
		}
		return c
	}, text)
}
