//go:build !race

// The race detector makes sync.Pool drop some of what it is given.

package gateway

import "testing"

// TestRelayDoesNotAllocate: a message in steady state leaves no garbage.
func TestRelayDoesNotAllocate(t *testing.T) {
	for name, lay := range lay {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			tr := lay(l, l.phone("alice"))
			if n := testing.AllocsPerRun(1000, tr.relay); n != 0 {
				t.Errorf("%v allocations a message", n)
			}
		})
	}
}
