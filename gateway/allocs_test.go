//go:build !race

// The race detector makes sync.Pool drop some of what it is given.

package gateway

import "testing"

// TestRelayDoesNotAllocate: a message in steady state leaves no garbage.
func TestRelayDoesNotAllocate(t *testing.T) {
	for name, lay := range lay {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, stateless)
			tr := lay(l, l.phone("alice"))
			if n := testing.AllocsPerRun(1000, tr.relay); n != 0 {
				t.Errorf("%v allocations a message", n)
			}
		})
	}
}

// TestExchangeDoesNotAllocate: nor does what is kept to send messages again.
func TestExchangeDoesNotAllocate(t *testing.T) {
	for name, make := range exchange {
		t.Run(name, func(t *testing.T) {
			// What is kept for half a minute grows until then, or to its bound.
			l := newLab(t, undisturbed, func(c *Config) { c.MaxTransactions = 1000 })
			do := make(l, l.phone("alice"))
			for range 2000 {
				do()
			}
			if n := testing.AllocsPerRun(1000, do); n != 0 {
				t.Errorf("%v allocations a transaction", n)
			}
		})
	}
}
