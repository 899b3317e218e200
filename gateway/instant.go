package gateway

import "time"

// instant is a point in time in a third of a time.Time's memory, for what there
// is a million of: nanoseconds by the clock that never jumps. The zero value is
// long before the process began.
type instant int64

var epoch = time.Now().AddDate(-100, 0, 0)

func instantOf(t time.Time) instant { return instant(t.Sub(epoch)) }

func (i instant) time() time.Time { return epoch.Add(time.Duration(i)) }

func (i instant) add(d time.Duration) instant { return i + instant(d) }
