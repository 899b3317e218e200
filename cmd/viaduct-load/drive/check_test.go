//go:build linux

package drive

import (
	"errors"
	"strings"
	"testing"
)

// response is one to a REGISTER of connection 7 as it should be.
const response = "SIP/2.0 200 OK\r\n" +
	"Via: SIP/2.0/WS l0000007oad.invalid;branch=z9hG4bK1000008\r\n" +
	"From: <sip:0000007@pbx.test>;tag=gub7a6v7sj\r\n" +
	"To: <sip:0000007@pbx.test>;tag=answer\r\n" +
	"Call-ID: 3obng00000071000008\r\n" +
	"CSeq: 1000008 REGISTER\r\n" +
	"Contact: <sip:u0000007@l0000007oad.invalid;transport=ws>;+sip.ice;expires=600\r\n" +
	"Content-Length: 0\r\n\r\n"

// TestReply alters the response as a relay may not.
func TestReply(t *testing.T) {
	for _, test := range []struct {
		name     string
		old, new string
		want     error
	}{
		{"as it should be", "", "", nil},
		{"a parameter more in Via", ".invalid;", ".invalid;received=127.0.0.1;", errVia},
		{"a parameter more behind the branch", "z9hG4bK1000008", "z9hG4bK1000008;rport", errVia},
		{"no Via", "Via: SIP/2.0/WS l0000007oad.invalid;branch=z9hG4bK1000008\r\n", "", errVia},
		{"two Vias", "From:", "Via: SIP/2.0/WS l0000007oad.invalid;branch=z9hG4bK1000008\r\nFrom:", errVia},
		{"the Via of another connection", "l0000007oad.invalid;branch", "l0000008oad.invalid;branch", errVia},
		{"another Call-ID", "3obng00000071000008", "3obng00000081000008", errCallID},
		{"no Call-ID", "Call-ID: 3obng00000071000008\r\n", "", errCallID},
		{"no CSeq", "CSeq: 1000008 REGISTER\r\n", "", errCSeq},
		{"a CSeq that is no number", "CSeq: 1000008", "CSeq: x", errCSeq},
		{"the Contact that the SIP server saw", "<sip:u0000007@l0000007oad.invalid;transport=ws>", "<sip:token@127.0.0.1:5070>", errContact},
		{"no expires", ";expires=600", "", errContact},
		{"no Contact", "Contact", "Kontact", errContact},
		{"a body that is longer", "\r\n\r\n", "\r\n\r\nx", errLength},
		{"no end of the headers", "\r\n\r\n", "\r\n", errStatus},
		{"a request", "SIP/2.0 200 OK", "BYE sip:x SIP/2.0", errStatus},
		{"a status that is no number", "200", "2x0", errStatus},
	} {
		t.Run(test.name, func(t *testing.T) {
			var r reply
			err := r.read([]byte(strings.Replace(response, test.old, test.new, 1)), 7, false)
			if !errors.Is(err, test.want) {
				t.Errorf("%v instead of %v", err, test.want)
			}
		})
	}
}

func TestReplySays(t *testing.T) {
	var r reply
	if err := r.read([]byte(response), 7, false); err != nil {
		t.Fatal(err)
	}
	if r.status != 200 || r.branch != 1000008 || r.call != 1000008 || r.cseq != 1000008 || string(r.method) != "REGISTER" || !r.tagged {
		t.Errorf("%+v", r)
	}
}

// TestReplyLoose is what Kamailio does to a browser's Via.
func TestReplyLoose(t *testing.T) {
	var r reply
	altered := strings.Replace(response, ".invalid;branch", ".invalid;rport=53282;received=127.1.0.1;branch", 1)
	if err := r.read([]byte(altered), 7, true); err != nil || r.branch != 1000008 {
		t.Errorf("branch %d, %v", r.branch, err)
	}
}
