package gateway

import (
	"slices"
	"testing"

	"viaduct/rewrite"
)

// TestMethodOf: every method of the list counts as itself, all else as one.
func TestMethodOf(t *testing.T) {
	for i, name := range methods {
		for _, text := range []string{
			name + " sip:bob@example.org SIP/2.0\r\nCSeq: 1 " + name + "\r\n\r\n",
			"SIP/2.0 200 OK\r\nCSeq: 1 " + name + "\r\n\r\n",
		} {
			var m rewrite.Message
			m.Scan([]byte(text))
			if got := methodOf(&m); int(got) != i {
				t.Errorf("%q counts as %s", text, methods[got])
			}
		}
	}
	if !slices.IsSorted(methods[1:]) {
		t.Error("the methods are not in order")
	}
}

// TestRelayedIsCounted: a message has one counter, by direction, method and class.
func TestRelayedIsCounted(t *testing.T) {
	tests := []struct {
		direction             Direction
		start, method         string
		wantMethod, wantClass int
	}{
		{Up, "INVITE sip:bob@example.org SIP/2.0", "INVITE", 5, 0},
		{Down, "SIP/2.0 180 Ringing", "INVITE", 5, 1},
		{Down, "SIP/2.0 606 Not Acceptable", "BYE", 2, 6},
		{Up, "SIP/2.0 404 Not Found", "CHAT", 0, 4},
	}
	for _, tt := range tests {
		t.Run(tt.start, func(t *testing.T) {
			var s stats
			var m rewrite.Message
			m.Scan([]byte(tt.start + "\r\nCSeq: 1 " + tt.method + "\r\n\r\n"))
			s.relayed(tt.direction, &m)
			s.relayed(tt.direction, &m)
			total := uint64(0)
			for d := range s.sent {
				for method := range s.sent[d] {
					for class := range s.sent[d][method] {
						total += s.sent[d][method][class].Load()
					}
				}
			}
			if got := s.sent[tt.direction.index()][tt.wantMethod][tt.wantClass].Load(); got != 2 || total != 2 {
				t.Errorf("counted %d, want 2; %d in all", got, total)
			}
		})
	}
}
