package rewrite

import "testing"

// What a browser's request says must be read in one way.
func TestCheckAddresses(t *testing.T) {
	for _, test := range []struct {
		name, old, text string
		want            Defect
	}{
		{"sound", "", "", Sound},
		{"a target that is no SIP URI", "sip:1002@pbx.example SIP", "tel:+1;x=?@ SIP", Sound},
		{"a ? in the user", "sip:1002@pbx.example SIP", "sip:10?02@pbx.example SIP", Sound},
		{"headers", "sip:1002@pbx.example SIP", "sip:1002@pbx.example;x?Route=y SIP", BadStartLine},
		{"headers of a host", "sip:1002@pbx.example SIP", "SIPS:pbx.example?Route=y SIP", BadStartLine},
		{"IPv6 without brackets", "sip:1002@pbx.example SIP", "sip:2001:db8::10 SIP", BadStartLine},
		{"nobody's password", "sip:1002@pbx.example SIP", "sip::1002@pbx.example SIP", BadStartLine},
		{"nobody", "sip:1002@pbx.example SIP", "sip:@pbx.example SIP", BadStartLine},
		{"a second Via of no address", "To: ", "v: SIP/2.0/UDP [::g]\r\nTo: ", BadVia},
		{"no host", "sip:1002@pbx.example SIP", "sip:1002@ SIP", BadStartLine},
		{"two hosts", "sip:1002@pbx.example SIP", "sip:1002@pbx.example@x SIP", BadStartLine},
		{"a second Via", "To: ", "Via: SIP/2.0/UDP a;branch=b, SIP/2.0/UDP c\r\nTo: ", Sound},
		{"a second Via that is none", "To: ", "Via: SIP/2.0/UDP a, b\r\nTo: ", BadVia},
		{"a second Via without a branch's value", "To: ", "v: SIP/2.0/UDP a;branch\r\nTo: ", BadVia},
		{"a second Via of another version", "To: ", "v: SIP/2.0-/UDP a\r\nTo: ", BadVia},
		{"a second Via of another protocol", "To: ", "v: S%00P/2.0/UDP a\r\nTo: ", BadVia},
		{"a second Via, spaced", "To: ", "v: sip \r\n / 2.0/ UDP [::1] : 5060 ; x = \"a b\"\r\nTo: ", Sound},
		{"a second Via without a host name", "To: ", "v: SIP/2.0/UDP a[b\r\nTo: ", BadVia},
		{"a second Via with an empty parameter", "To: ", "v: SIP/2.0/UDP a;x=\r\nTo: ", BadVia},
		{"a second Via with two equals signs", "To: ", "v: SIP/2.0/UDP a;b=c=d\r\nTo: ", BadVia},
		{"a second Via that was received", "To: ", "v: SIP/2.0/UDP a;received=[::1];x=::1;rport=1\r\nTo: ", Sound},
		{"a second Via with white space in its branch", "To: ", "v: SIP/2.0/UDP a;branch=b c\r\nTo: ", BadVia},
		{"a comma in quotes", "<sip:1002@pbx.example>\r\nFrom", "\"a, b\" <sip:a,b@c;x=,>;x=\",\";tag=y\r\nFrom", Sound},
		{"a comma in a name", "<sip:1002@pbx.example>\r\nFrom", "a, b <sip:a@c>\r\nFrom", BadAddress},
		{"a comma behind a parameter", "<sip:1002@pbx.example>\r\nFrom", "<sip:a@c>;x,<sip:d@e>\r\nFrom", BadAddress},
		{"two tags", "<sip:1002@pbx.example>\r\nFrom", "<sip:a@c>;tag=1;x; Tag = 1\r\nFrom", BadAddress},
		{"a tag that is no token", "<sip:1002@pbx.example>\r\nFrom", "<sip:a@c>;tag=1@2\r\nFrom", BadAddress},
		{"a tag without a value", "<sip:1002@pbx.example>\r\nFrom", "<sip:a@c>;tag\r\nFrom", Sound},
		{"parameters without an end", "<sip:1002@pbx.example>\r\nFrom", "<sip:a@c>;x=\"y\r\nFrom", BadAddress},
		{"a control character in a URI", "<sip:1002@pbx.example>\r\nFrom", "<sip:a\v@c>\r\nFrom", BadAddress},
		{"a fold in a URI", "<sip:1002@pbx.example>\r\nFrom", "<sip:a\r\n @c>\r\nFrom", BadAddress},
		{"a To with headers", "<sip:1002@pbx.example>\r\nFrom", "<sip:a@c?Route=x>\r\nFrom", BadAddress},
		{"nobody's password in From", "<sip:1001@pbx.example>;", "<sip::a@b>;", BadAddress},
		{"a From of two", "<sip:1001@pbx.example>;", "<sip:a@b>, <sip:c@d>;", BadAddress},
		{"white space in the Call-ID", "3obngeemfdp1a46q9t25", "3obngeemfdp1a46q9t25 x", BadCallID},
		{"a comma in the Call-ID", "3obngeemfdp1a46q9t25", "a,b", BadCallID},
		{"a parameter of the Call-ID", "3obngeemfdp1a46q9t25", "a;b=c", BadCallID},
		{"every character of a word", "3obngeemfdp1a46q9t25", "-.!%*_+`'~()<>:\\\"/[]?{}@=", Sound},
		{"a no-break space in the Call-ID", "3obngeemfdp1a46q9t25", "a\u00a0", BadCallID},
		{"a fold in a parameter's name", "<sip:1002@pbx.example>\r\nFrom", "<sip:a@c>;ta\r\n g=1\r\nFrom", BadAddress},
		{"DEL in the Call-ID", "3obngeemfdp1a46q9t25", "3obngeemfdp\x7f1a46q9t25", BadCallID},
	} {
		var m Message
		if d := m.Scan(spoilt(t, test.old, test.text)); d != Sound {
			t.Errorf("%s: %v", test.name, d)
		} else if d := m.CheckAddresses(); d != test.want {
			t.Errorf("%s: %v, want %v", test.name, d, test.want)
		}
	}
}
