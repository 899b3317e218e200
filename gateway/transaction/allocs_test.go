//go:build !race

// The race detector makes sync.Pool drop some of what it is given.

package transaction

import "testing"

// TestAllocs: a message in steady state leaves no garbage, and neither does one
// that comes again.
func TestAllocs(t *testing.T) {
	for name, kind := range loads {
		t.Run(name, func(t *testing.T) {
			_, one := steady(t, kind.perTick, kind.of)
			if n := testing.AllocsPerRun(10_000, one); n != 0 {
				t.Errorf("%v allocations", n)
			}
		})
	}
}
