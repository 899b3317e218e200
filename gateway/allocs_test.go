//go:build !race

// The race detector makes sync.Pool drop some of what it is given.

package gateway

import (
	"runtime"
	"testing"
)

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

// TestMediaDoesNotAllocate: with an rtpengine neither does what has no session
// description.
func TestMediaDoesNotAllocate(t *testing.T) {
	withEngine := func(c *Config) { c.RTPEngines = []string{"127.0.0.1:9"} }
	for name, make := range exchange {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, undisturbed, withEngine, func(c *Config) { c.MaxTransactions = 1000 })
			do := make(l, l.phone("alice"))
			for range 2000 {
				do()
			}
			if n := testing.AllocsPerRun(1000, do); n != 0 {
				t.Errorf("%v allocations a transaction", n)
			}
		})
	}
	for _, name := range []string{"RegisterUp", "RegisterDown"} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, stateless, withEngine)
			tr := lay[name](l, l.phone("alice"))
			if n := testing.AllocsPerRun(1000, tr.relay); n != 0 {
				t.Errorf("%v allocations a message", n)
			}
		})
	}
	t.Run("InviteUp", func(t *testing.T) {
		l := newLab(t, stateless, withEngine, func(c *Config) { c.RTPEngineOptional = true })
		p := l.phone("alice")
		l.registered(p)
		invite := []byte(p.invite("sip:bob@pbx.example"))
		conn := l.onlyConn()
		tr := l.toPBX(len(invite), func() { l.gw.fromBrowser(conn, nil, invite) })
		if n := testing.AllocsPerRun(1000, tr.relay); n != 0 {
			t.Errorf("%v allocations a message", n)
		}
	})
}

// TestTraceDoesNotAllocate: a message that no viewer of the trace has asked for
// leaves no garbage either.
func TestTraceDoesNotAllocate(t *testing.T) {
	for name, filter := range map[string]TraceFilter{
		"call":       {CallID: "another"},
		"user":       {User: "nobody-that-is-here@pbx.example.with.a.long.name"},
		"connection": {Connection: 1},
	} {
		for way, lay := range lay {
			t.Run(name+" "+way, func(t *testing.T) {
				l := newLab(t, stateless)
				tr := lay(l, l.phone("alice"))
				trace, err := l.gw.Trace(filter)
				if err != nil {
					t.Fatal(err)
				}
				defer trace.Close()
				if n := testing.AllocsPerRun(1000, tr.relay); n != 0 {
					t.Errorf("%v allocations a message", n)
				}
			})
		}
	}
}

// TestHEPDoesNotAllocate: copies for a collector are made in memory that there is.
func TestHEPDoesNotAllocate(t *testing.T) {
	for name, lay := range lay {
		t.Run(name, func(t *testing.T) {
			l := preparedLab(t)
			stateless(&l.cfg)
			homer := l.newHomer()
			_ = homer.conn.SetReadBuffer(1 << 10) // it need not read
			l.start()
			tr := lay(l, l.phone("alice"))
			for range 5000 { // until every buffer is as large as it gets
				tr.relay()
			}
			if n := testing.AllocsPerRun(1000, tr.relay); n != 0 {
				t.Errorf("%v allocations a message", n)
			}
		})
	}
}

// TestBoundDoesNotAllocate: nor does it to see that a browser speaks for itself.
func TestBoundDoesNotAllocate(t *testing.T) {
	for name, lay := range lay {
		t.Run(name, func(t *testing.T) {
			l, a := authLab(t, stateless, func(c *Config) { c.AuthAoRHeader = "X-Aor" })
			a.binds("sip:alice@pbx.example")
			tr := lay(l, l.phone("alice"))
			if n := testing.AllocsPerRun(1000, tr.relay); n != 0 {
				t.Errorf("%v allocations a message", n)
			}
		})
	}
}

// TestStrangersDoNotAllocate: what a stranger sends costs a lookup of its address.
func TestStrangersDoNotAllocate(t *testing.T) {
	l := newLab(t, unlogged, undisturbed)
	stranger := l.newPBXAt("127.0.0.9:0")
	msg := []byte(stranger.request("OPTIONS", "sip:x@y"))
	counted := l.gw.Dropped(ReasonStranger)
	n := testing.AllocsPerRun(10, func() {
		for range 100 { // as many as are read before anybody waits for them
			if _, err := stranger.conn.WriteToUDPAddrPort(msg, l.bound.SIP); err != nil {
				t.Fatal(err)
			}
			counted++
		}
		for l.gw.Dropped(ReasonStranger) != counted {
			runtime.Gosched()
		}
	})
	if n != 0 {
		t.Errorf("%v allocations for 100 datagrams", n)
	}
	t.Logf("attack: a flood of a stranger's datagrams | %v allocations for each, no answer | viaduct_dropped_total{reason=%q} %d",
		n, ReasonStranger.String(), counted)
}
