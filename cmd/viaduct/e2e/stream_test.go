package e2e

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"
)

// patience is how long a test waits for one event before it fails. It is far
// above what any event takes (a retransmission of T2 included) and far below
// the timeout of the test binary.
const patience = 15 * time.Second

// A Stream records what one peer reported, in order, and lets tests wait for
// an entry. Any number of goroutines may use it at once.
type Stream[T any] struct {
	mu      sync.Mutex
	entries []T
	changed chan struct{} // closed and replaced with every entry
	ended   error         // why no entry will follow; nil while there may be one
}

// NewStream returns an empty stream.
func NewStream[T any]() *Stream[T] {
	return &Stream[T]{changed: make(chan struct{})}
}

// Add appends one entry and wakes the waiters.
func (s *Stream[T]) Add(entry T) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entries = append(s.entries, entry)
	s.wake()
}

// End tells the waiters that nothing will follow, and why.
func (s *Stream[T]) End(why error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = why
	s.wake()
}

func (s *Stream[T]) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// All returns a copy of every entry so far.
func (s *Stream[T]) All() []T {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.entries)
}

// Mark is the position after the newest entry, for WaitAfter.
func (s *Stream[T]) Mark() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.entries)
}

// WaitFor returns the first entry that matches, an earlier one too. It fails
// the test when none comes within patience; what names the expectation.
func (s *Stream[T]) WaitFor(t testing.TB, what string, match func(T) bool) T {
	t.Helper()
	return s.WaitAfter(t, 0, what, match)
}

// WaitAfter is WaitFor without the entries before mark.
func (s *Stream[T]) WaitAfter(t testing.TB, mark int, what string, match func(T) bool) T {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	entry, err := s.next(ctx, mark, match)
	if err != nil {
		t.Fatalf("waiting for %s: %v", what, err)
	}
	return entry
}

// WaitCount waits until n entries match and returns them.
func (s *Stream[T]) WaitCount(t testing.TB, n int, what string, match func(T) bool) []T {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var found []T
	_, err := s.next(ctx, 0, func(entry T) bool {
		if match(entry) {
			found = append(found, entry)
		}
		return len(found) == n
	})
	if err != nil {
		t.Fatalf("waiting for %d of %s, have %d: %v", n, what, len(found), err)
	}
	return found
}

// next shows each entry from position on to match, once and in order, until it
// says yes.
func (s *Stream[T]) next(ctx context.Context, position int, match func(T) bool) (T, error) {
	for {
		s.mu.Lock()
		fresh, changed, ended := s.entries[position:], s.changed, s.ended
		s.mu.Unlock()
		for _, entry := range fresh {
			position++
			if match(entry) {
				return entry, nil
			}
		}
		var none T
		if ended != nil {
			return none, ended
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return none, ctx.Err()
		}
	}
}
