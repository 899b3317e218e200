package rewrite

import "testing"

func TestParseURI(t *testing.T) {
	for _, test := range []struct {
		text, user, host string
		port             uint16
		secure           bool
		params           string
	}{
		{"sip:b", "", "b", 0, false, ""},
		{"sip:a@b", "a", "b", 0, false, ""},
		{"SIPS:a:pw@B.example:5061;transport=ws;lr?x=y", "a:pw", "B.example", 5061, true, ";transport=ws;lr"},
		{"sip:a;b?c@d?x=y;z", "a;b?c", "d", 0, false, ""},
		{"sip:a@[2001:db8::1]:5060;x", "a", "[2001:db8::1]", 5060, false, ";x"},
		{"sip:[::1]", "", "[::1]", 0, false, ""},
		{"sip:%00@h", "%00", "h", 0, false, ""},
		{"sip:@h", "", "h", 0, false, ""},
	} {
		u, ok := ParseURI([]byte(test.text))
		if !ok || string(u.User) != test.user || string(u.Host) != test.host || u.Port != test.port || u.Secure != test.secure || string(u.Params) != test.params {
			t.Errorf("%s: %q %q %d %v %q, %v", test.text, u.User, u.Host, u.Port, u.Secure, u.Params, ok)
		}
	}
}

func TestParseURIRefuses(t *testing.T) {
	for _, text := range []string{
		"", "sip:", "sips:", "sip", "a@b", "tel:+1", "sipx:a@b", "sip:a@", "sip:a@b@c", "sip:a@b?x=c@d",
		"sip:a@:5060", "sip:a@b:", "sip:a@b:0", "sip:a@b:65536", "sip:a@b:5060x", "sip:a@b c", "sip:a@[::1", "sip:a@[::1]5060", "sip:a@;x",
	} {
		if u, ok := ParseURI([]byte(text)); ok {
			t.Errorf("%s: %q %q %d", text, u.User, u.Host, u.Port)
		}
	}
}

func TestAppendAoR(t *testing.T) {
	for uri, want := range map[string]string{
		"sip:Alice@PBX.Example:5060;x=y?z": "Alice@pbx.example",
		"sips:Alice@pbx.example":           "Alice@pbx.example",
		"sip:pbx.example":                  "@pbx.example",
		"tel:+1":                           "tel:+1",
		"not a URI":                        "not a URI",
	} {
		if got := string(AppendAoR([]byte("<"), []byte(uri))); got != "<"+want {
			t.Errorf("%s: %s", uri, got)
		}
	}
}

func TestSameAoR(t *testing.T) {
	for _, test := range []struct {
		a, b string
		same bool
	}{
		{"sip:alice@pbx.example", "sip:alice@pbx.example", true},
		{"sip:alice@pbx.example", "SIPS:alice@PBX.Example:5061;transport=tls?Subject=x", true},
		{"sip:alice@pbx.example", "sip:%61l%69ce@pbx.example", true},
		{"sip:a%2fb@pbx.example", "sip:a%2Fb@pbx.example", true},
		{"sip:alice@a.host.whose.name.is.longer.than.32.characters.example", "sip:alice@A.host.whose.name.is.longer.than.32.characters.example", true},
		{"sip:alice@[2001:DB8::1]", "sip:alice@[2001:db8::1]", true},

		{"sip:alice@pbx.example", "sip:Alice@pbx.example", false},
		{"sip:alice@pbx.example", "sip:alic@pbx.example", false},
		{"sip:alice@pbx.example", "sip:alice2@pbx.example", false},
		{"sip:alice@pbx.example", "sip:alice@pbx.example.evil.example", false},
		{"sip:alice@pbx.example", "sip:alice:secret@pbx.example", false},
		{"sip:alice@pbx.example", "sip:pbx.example", false},
		{"sip:a/b@pbx.example", "sip:a%2Fb@pbx.example", false}, // reserved
		{"sip:a%41@pbx.example", "sip:a%2541@pbx.example", false},
		{"sip:alice%@pbx.example", "sip:alice%25@pbx.example", false},
		{"sip:alice%4@pbx.example", "sip:alice@pbx.example", false},
		{"sip:alice%00@pbx.example", "sip:alice@pbx.example", false},
		{"sip:\u017f@pbx.example", "sip:s@pbx.example", false},
		{"sip:s@\u017f.example", "sip:s@s.example", false},
	} {
		a, okA := ParseURI([]byte(test.a))
		b, okB := ParseURI([]byte(test.b))
		if !okA || !okB {
			t.Fatalf("%s, %s cannot be read", test.a, test.b)
		}
		if a.SameAoR(&b) != test.same || b.SameAoR(&a) != test.same {
			t.Errorf("%s and %s: the same is %v", test.a, test.b, !test.same)
		}
		if n := testing.AllocsPerRun(10, func() { a.SameAoR(&b) }); n > 0 {
			t.Errorf("%s and %s: %v allocations", test.a, test.b, n)
		}
	}
}
