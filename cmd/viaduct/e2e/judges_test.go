package e2e

import (
	"net/netip"
	"strings"
	"testing"
)

// TestJudges gives the invariants messages that break one each: a judge that
// cannot convict is worth nothing.
func TestJudges(t *testing.T) {
	via := &Viaduct{SIP: netip.MustParseAddrPort("127.0.0.1:5070")}
	for _, test := range []struct {
		name, bad, want string
		sent            bool
	}{
		{"Via", request("Via: SIP/2.0/WSS 127.0.0.1:5070;branch=z9hG4bK1"), `"SIP/2.0/WSS" shows`, false},
		{"R-URI", strings.Replace(request(), "sip:bob@pbx.test", "sip:x@abc.invalid", 1), `".invalid" shows`, true},
		{"Contact of a browser", request("Contact: <sip:x@127.0.0.1;transport=ws>"), `"transport=ws" shows`, false},
		{"Contact without token", request("Contact: <sip:x-y@127.0.0.1:5070>"), "no token", false},
		{"Contact elsewhere", request("Contact: <sip:token@10.0.0.1:5070>"), "no token", false},
		{"compact Contact", request("m: <sip:x@abc.invalid>"), `".invalid" shows`, false},
		{"Outbound", strings.Replace(request("k: ice,outbound"), "OPTIONS", "REGISTER", 2), `option tag "outbound"`, false},
		{"reg-id", strings.Replace(request("Contact: <sip:t@127.0.0.1:5070>;reg-id=1"), "OPTIONS", "REGISTER", 2), "reg-id", false},
		{"Route", request("Route: <sip:gw;transport=wss;lr>"), `"transport=wss" shows`, true},
	} {
		complaints := judgePBXSide(PBXMessage{Message: newMessage(test.bad), Sent: test.sent}, via)
		if !convicted(complaints, test.want) {
			t.Errorf("PBX side, %s: complaints %q, want %q", test.name, complaints, test.want)
		}
	}

	page := &pageIdentity{vias: map[string]string{}}
	page.learn(newMessage(request("Via: SIP/2.0/WSS own.invalid;branch=z9hG4bK1", "Contact: <sip:me@own.invalid;transport=ws>")))
	for _, test := range []struct{ name, bad, want string }{
		{"R-URI", request("Via: SIP/2.0/WSS gw;branch=z9hG4bK2"), "no Contact that this page"},
		{"Via of a request", request("Via: SIP/2.0/UDP gw;branch=z9hG4bK2"), "not viaduct's"},
		{"no Via", response(), "another Via"},
		{"changed Via", response("Via: SIP/2.0/WSS own.invalid;branch=z9hG4bK1;received=127.0.0.1"), "another Via"},
		{"two Vias", response("Via: SIP/2.0/WSS own.invalid;branch=z9hG4bK1", "Via: SIP/2.0/UDP gw;branch=z9hG4bK2"), "another Via"},
		{"other client", response("Via: SIP/2.0/WSS own.invalid;branch=z9hG4bK1", "Contact: <sip:x@other.invalid>"), "another client's host"},
	} {
		if complaints := page.judge(newMessage(test.bad)); !convicted(complaints, test.want) {
			t.Errorf("browser side, %s: complaints %q, want %q", test.name, complaints, test.want)
		}
	}
	own := response("Via: SIP/2.0/WSS own.invalid;branch=z9hG4bK1", "Contact: <sip:me@own.invalid;transport=ws>;expires=600")
	if complaints := page.judge(newMessage(own)); len(complaints) != 0 {
		t.Errorf("a message without fault: complaints %q", complaints)
	}
	if err := parseIndependently(request("Contact: sip:<>:")); err == nil {
		t.Error("gosip is said to take a Contact that it skips")
	}
}

func convicted(complaints []string, want string) bool {
	return strings.Contains(strings.Join(complaints, "\n"), want)
}

// request is an OPTIONS with further header lines, response the 200 to it.
func request(lines ...string) string {
	return strings.Join(append([]string{"OPTIONS sip:bob@pbx.test SIP/2.0"}, basis(lines)...), "\r\n")
}

func response(lines ...string) string {
	return strings.Join(append([]string{"SIP/2.0 200 OK"}, basis(lines)...), "\r\n")
}

func basis(lines []string) []string {
	return append(lines, "From: <sip:alice@pbx.test>;tag=1", "To: <sip:bob@pbx.test>", "Call-ID: 1", "CSeq: 1 OPTIONS",
		"Content-Length: 0", "", "")
}

// TestJudgeRelay: a header that viaduct has no business with, changed; the
// same order of the lines and the body; and a request that came from nowhere.
func TestJudgeRelay(t *testing.T) {
	sent := Frame{Message: newMessage(request("Via: SIP/2.0/WSS own.invalid;branch=z9hG4bK1", "X-One: 1", "x-two:  2")), Sent: true}
	arrived := func(lines ...string) []PBXMessage {
		return []PBXMessage{{Message: newMessage(request(lines...))}}
	}
	for _, test := range []struct {
		name     string
		frame    Frame
		messages []PBXMessage
		want     string
	}{
		{"as it should be", sent, arrived("Via: SIP/2.0/UDP gw", "X-One: 1", "x-two:  2"), ""},
		{"spacing", sent, arrived("Via: SIP/2.0/UDP gw", "X-One: 1", "x-two: 2"), "was changed"},
		{"order", sent, arrived("Via: SIP/2.0/UDP gw", "x-two:  2", "X-One: 1"), "was changed"},
		{"lost", sent, arrived("Via: SIP/2.0/UDP gw", "X-One: 1"), "was changed"},
		{"from nowhere", Frame{Message: sent.Message}, nil, "never sent"},
	} {
		complaints := judgeRelay([]Frame{test.frame}, test.messages)
		if (test.want == "") != (len(complaints) == 0) || !convicted(complaints, test.want) {
			t.Errorf("%s: complaints %q, want %q", test.name, complaints, test.want)
		}
	}
}
