package gateway

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"viaduct/rewrite"
)

// passing is a message on its way, as a test of activity names it: the way, what
// it is, and its CSeq; "up INVITE 1", "down 200 INVITE 1".
type passing string

func (p passing) message(t *testing.T) (*rewrite.Message, Direction) {
	t.Helper()
	way, rest, _ := strings.Cut(string(p), " ")
	words := strings.Fields(rest)
	start := words[0] + " sip:bob@pbx.example SIP/2.0"
	cseq := words[len(words)-1] + " " + words[len(words)-2]
	if len(words) == 3 {
		start = "SIP/2.0 " + words[0] + " Whatever"
	}
	m := new(rewrite.Message)
	text := start + "\r\nVia: SIP/2.0/WSS a.invalid;branch=z9hG4bK1\r\nFrom: <sip:a@b>;tag=1\r\nTo: <sip:c@d>;tag=2\r\n" +
		"Call-ID: call\r\nCSeq: " + cseq + "\r\nMax-Forwards: 70\r\n\r\n"
	if defect := m.Scan([]byte(text)); defect != rewrite.Sound {
		t.Fatalf("%s: %v", p, defect)
	}
	return m, Direction(way)
}

func (a *activity) pass(t *testing.T, p passing) {
	t.Helper()
	m, way := p.message(t)
	a.opens(m, way)
	a.passed(m, way)
}

// TestActivity: a connection is busy from a request to its final response, from
// an INVITE to its ACK, and from a call's answer to its BYE's response. Each
// script is busy after every message but the last.
func TestActivity(t *testing.T) {
	for name, script := range map[string][]passing{
		"REGISTER":      {"up REGISTER 1", "down 100 REGISTER 1", "down 200 REGISTER 1"},
		"challenge":     {"up REGISTER 1", "down 401 REGISTER 1", "up REGISTER 2", "down 200 REGISTER 2"},
		"OPTIONS down":  {"down OPTIONS 1", "up 404 OPTIONS 1"},
		"repeated":      {"down MESSAGE 1", "down MESSAGE 1", "up 200 MESSAGE 1"},
		"two at once":   {"up MESSAGE 1", "down MESSAGE 1", "down 200 MESSAGE 1", "up 200 MESSAGE 1"},
		"refused call":  {"up INVITE 1", "down 180 INVITE 1", "down 486 INVITE 1", "up ACK 1"},
		"refusing":      {"down INVITE 1", "up 180 INVITE 1", "up 486 INVITE 1", "down ACK 1"},
		"call":          {"up INVITE 1", "down 200 INVITE 1", "up ACK 1", "up BYE 2", "down 200 BYE 2"},
		"call down":     {"down INVITE 1", "up 200 INVITE 1", "down ACK 1", "up BYE 2", "down 481 BYE 2"},
		"BYE first":     {"down INVITE 1", "up 200 INVITE 1", "down BYE 2", "up 200 BYE 2", "down ACK 1"},
		"CANCEL":        {"up INVITE 1", "down 180 INVITE 1", "up CANCEL 1", "down 200 CANCEL 1", "down 487 INVITE 1", "up ACK 1"},
		"CANCEL alone":  {"down INVITE 1", "up 486 INVITE 1", "down CANCEL 1", "down ACK 1", "up 200 CANCEL 1"},
		"re-INVITE":     {"up INVITE 1", "down 200 INVITE 1", "up ACK 1", "down INVITE 1", "up 200 INVITE 1", "down ACK 1", "up BYE 2", "down 200 BYE 2"},
		"several 2xx":   {"up INVITE 1", "down 200 INVITE 1", "up ACK 1", "down 200 INVITE 1", "up ACK 1", "up BYE 2", "down 200 BYE 2"},
		"hanging up":    {"up INVITE 1", "down 200 INVITE 1", "up ACK 1", "down BYE 9", "up BYE 2", "down 200 BYE 2", "up 200 BYE 9"},
		"an INFO":       {"up INVITE 1", "down 200 INVITE 1", "up ACK 1", "up INFO 2", "down 200 INFO 2", "up BYE 3", "down 200 BYE 3"},
		"moved in call": {"down 200 INVITE 1", "up ACK 1", "up BYE 2", "down 200 BYE 2"}, // the INVITE was on the connection before
	} {
		t.Run(name, func(t *testing.T) {
			var a activity
			for i, p := range script {
				a.pass(t, p)
				if want := i < len(script)-1; a.busy(time.Now()) != want {
					t.Fatalf("after %q: busy %v", script[:i+1], !want)
				}
			}
		})
	}
}

// TestActivityRefused: what could not be sent is not waited for.
func TestActivityRefused(t *testing.T) {
	var a activity
	m, way := passing("up INVITE 1").message(t)
	a.opens(m, way)
	a.refused(m, way)
	if a.busy(time.Now()) {
		t.Error("busy with a request that was not sent")
	}
}

// TestActivityEndsByItself: what nobody answers, acknowledges or repeats with
// credentials is over after a while; a call only by its BYE.
func TestActivityEndsByItself(t *testing.T) {
	for name, tt := range map[string]struct {
		script []passing
		after  time.Duration // 0: never
	}{
		"request":             {[]passing{"up MESSAGE 1"}, 32 * time.Second},
		"INVITE":              {[]passing{"down INVITE 1", "up 180 INVITE 1"}, 4 * time.Minute},
		"refusal without ACK": {[]passing{"down INVITE 1", "up 486 INVITE 1"}, 32 * time.Second},
		"challenge":           {[]passing{"up REGISTER 1", "down 401 REGISTER 1"}, 2 * time.Second},
		"INVITE's challenge":  {[]passing{"up INVITE 1", "down 407 INVITE 1", "up ACK 1"}, 2 * time.Second},
		"BYE":                 {[]passing{"up INVITE 1", "down 200 INVITE 1", "up ACK 1", "up BYE 2"}, 32 * time.Second},
		"call":                {[]passing{"up INVITE 1", "down 200 INVITE 1", "up ACK 1"}, 0},
		"call without ACK":    {[]passing{"up INVITE 1", "down 200 INVITE 1"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var a activity
				for _, p := range tt.script {
					a.pass(t, p)
				}
				begun := time.Now()
				last := begun.Add(tt.after - 1)
				if tt.after == 0 {
					last = begun.Add(24 * time.Hour)
				}
				if !a.busy(last) {
					t.Errorf("not busy after %v", last.Sub(begun))
				}
				if tt.after > 0 && a.busy(begun.Add(tt.after)) {
					t.Errorf("busy after %v", tt.after)
				}
			})
		})
	}
}

// TestActivityBounds: past the bounds the oldest is forgotten, and memory is
// that of the most there was at once.
func TestActivityBounds(t *testing.T) {
	var a activity
	for n := range 10 * maxOpen {
		a.pass(t, passing(fmt.Sprintf("up MESSAGE %d", n)))
	}
	for n := range uint64(10 * maxCalls) {
		a.dialog(n)
	}
	if len(a.open) != maxOpen || len(a.calls) != maxCalls || cap(a.open) > 2*maxOpen || cap(a.calls) > 2*maxCalls {
		t.Errorf("%d transactions in %d, %d calls in %d", len(a.open), cap(a.open), len(a.calls), cap(a.calls))
	}
	for n := range 10 * maxOpen {
		a.pass(t, passing(fmt.Sprintf("down 200 MESSAGE %d", n)))
	}
	if len(a.open) != 0 {
		t.Errorf("%d transactions are open after all were answered", len(a.open))
	}
	for n := range uint64(10 * maxCalls) {
		a.hungUp(n)
	}
	if a.busy(time.Now()) {
		t.Error("busy after all calls were hung up")
	}
}
