//go:build !race

// The race detector makes sync.Pool drop some of what it is given.

package rewrite

import "testing"

func TestSealedRelayingDoesNotAllocate(t *testing.T) {
	raw := jsSIPInvite(t)
	w := newRelay(t)
	n := testing.AllocsPerRun(1000, func() {
		if !w.requestUp(raw, true) {
			t.Fatal("not relayed")
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}
