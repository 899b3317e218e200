package rewrite

import (
	"net/netip"
	"testing"
)

// Without seals nothing is pooled, so that this holds under the race detector
// too; what seals cost is a test of its own.
func TestRelayingDoesNotAllocate(t *testing.T) {
	invite := jsSIPInvite(t)
	w := newRelay(t)
	if !w.requestUp(invite, true) {
		t.Fatal("not relayed")
	}
	request, response := []byte(soundRequest), []byte(soundResponse)
	register := spoilt(t, "\r\nCSeq: 9195 INVITE\r\n\r\n", "\r\nCSeq: 1 REGISTER\r\nContact: <sip:token@192.0.2.1>, <sip:x@y>\r\nVia: SIP/2.0/UDP a\r\n\r\n")
	var m Message
	up := RequestUp{Via: []byte(testVia), Contacts: w.contacts[:], Strip: []string{"X-Account"}, ClientIPHeader: "X-Real-IP", ClientIP: []byte("::1")}
	responseUp := ResponseUp{Contact: w.contacts[0], Strip: up.Strip}
	requestDown := RequestDown{URI: []byte("sip:a@b"), Via: up.Via, Source: netip.MustParseAddrPort("[2001:db8::9]:5060")}
	restored := []byte("sip:a@b.invalid;transport=ws")
	responseDown := ResponseDown{Via: up.Via, Restore: func([]byte) []byte { return restored }}
	answer := Answer{Status: 480, Phrase: "Not Connected", Tag: []byte("ours"), RetryAfter: 5, Source: requestDown.Source}
	for _, test := range []struct {
		name   string
		raw    []byte
		append func([]byte, *Message) []byte
	}{
		{"INVITE up", invite, up.Append},
		{"request up", request, up.Append},
		{"response up", register, responseUp.Append},
		{"request down", request, requestDown.Append},
		{"response down", response, responseDown.Append},
		{"REGISTER's response down", register, responseDown.Append},
		{"answer", request, answer.Append},
	} {
		n := testing.AllocsPerRun(1000, func() {
			if m.Scan(test.raw) != Sound || m.CheckFrame() != Sound {
				t.Fatal("not sound")
			}
			w.out = test.append(w.out[:0], &m)
		})
		if n != 0 {
			t.Errorf("%s: %v allocations", test.name, n)
		}
	}
}

// What is refused costs no more.
func TestRefusingDoesNotAllocate(t *testing.T) {
	var m Message
	out := make([]byte, 0, MaxLength)
	answer := Answer{Status: 400, Phrase: "Bad", Tag: []byte("ours"), Source: testSources[0]}
	for _, test := range defectCases {
		raw := spoilt(t, test.old, test.text)
		n := testing.AllocsPerRun(10, func() {
			if m.Scan(raw); m.Answerable() {
				out = answer.Append(out[:0], &m)
			}
		})
		if n != 0 {
			t.Errorf("%s: %v allocations", test.name, n)
		}
	}
}
