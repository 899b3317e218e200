//go:build linux

package drive

import (
	"fmt"
	"strings"
	"time"
)

// Errors counts what was not as it should be.
type Errors struct {
	Missing    int // no answer
	Unexpected int // an answer too many
	Bad        int // an answer that the relay has altered where it may not
	Refused    int // an answer other than 200
	Closed     int // connections that the server closed
	Late       int // provisional responses after the final one: datagrams may overtake each other

	First string // what the first of them was
}

// Total counts all that is an error; what came late is none.
func (e *Errors) Total() int {
	return e.Missing + e.Unexpected + e.Bad + e.Refused + e.Closed
}

// add keeps the first error in words.
func (e *Errors) add(err error, msg []byte) {
	if e.First == "" {
		e.First = err.Error()
		if msg != nil {
			e.First += ": " + first(msg)
		}
	}
}

func (e *Errors) join(other Errors) {
	e.Missing += other.Missing
	e.Unexpected += other.Unexpected
	e.Bad += other.Bad
	e.Refused += other.Refused
	e.Closed += other.Closed
	e.Late += other.Late
	if e.First == "" {
		e.First = other.First
	}
}

func (e Errors) String() string {
	if e == (Errors{}) {
		return "none"
	}
	var text strings.Builder
	for _, part := range []struct {
		name  string
		count int
	}{
		{"missing", e.Missing}, {"unexpected", e.Unexpected}, {"bad", e.Bad},
		{"refused", e.Refused}, {"closed", e.Closed}, {"late", e.Late},
	} {
		if part.count > 0 {
			fmt.Fprintf(&text, "%d %s, ", part.count, part.name)
		}
	}
	if e.First == "" {
		return strings.TrimSuffix(text.String(), ", ")
	}
	return text.String() + "first: " + e.First
}

// A Result is what a run measured.
type Result struct {
	Run   Run
	Time  time.Duration // that was measured
	Pairs int           // of messages: a request and its response, or as many bytes of work
	CPU   time.Duration // of the server

	P50, P90, P99, P999, Max time.Duration // from when a request was due to the end of its transaction

	Errors Errors
}

// Rate is pairs a second.
func (r *Result) Rate() float64 { return float64(r.Pairs) / r.Time.Seconds() }

// CPUPerPair is the server's time for a pair.
func (r *Result) CPUPerPair() time.Duration {
	if r.Pairs == 0 {
		return 0
	}
	return r.CPU / time.Duration(r.Pairs)
}

func (r *Result) String() string {
	return fmt.Sprintf("%s: %.0f pairs/s, server CPU %.2f µs a pair, p50 %v, p90 %v, p99 %v, p99.9 %v, max %v, errors: %v",
		r.Run.Method, r.Rate(), float64(r.CPUPerPair().Nanoseconds())/1000, r.P50, r.P90, r.P99, r.P999, r.Max, r.Errors)
}

// result puts together what the workers counted.
func (f *Fleet) result(r Run, start, end sample) *Result {
	result := &Result{
		Run:   r,
		Time:  end.at.Sub(start.at),
		Pairs: int(end.done-start.done) * r.Method.Pairs(),
		CPU:   end.cpu - start.cpu,
	}
	latencies := newHistogram()
	for _, w := range f.workers {
		latencies.Merge(w.latencies)
		result.Errors.join(w.errors)
	}
	quantile := func(percent float64) time.Duration {
		return time.Duration(latencies.ValueAtQuantile(percent)) * time.Microsecond
	}
	result.P50, result.P90, result.P99, result.P999 = quantile(50), quantile(90), quantile(99), quantile(99.9)
	result.Max = time.Duration(latencies.Max()) * time.Microsecond
	return result
}
