package rewrite

import (
	"slices"
	"strings"
	"testing"
)

// field scans a request with header lines in the place of its Route.
func field(t *testing.T, lines string) *Message {
	t.Helper()
	var m Message
	if d := m.Scan(spoilt(t, "Route: <sip:pbx.example;lr>\r\n", lines)); d != Sound {
		t.Fatalf("%v: %q", d, lines)
	}
	return &m
}

func texts(m *Message, spans []Span) (texts []string) {
	for _, s := range spans {
		texts = append(texts, string(m.Text(s)))
	}
	return texts
}

func TestValues(t *testing.T) {
	for _, test := range []struct {
		lines string
		want  []string
	}{
		{"", nil},
		{"Contact:\r\n", nil},
		{"Contact: ,\r\n , ,\r\n", nil},
		{"Contact: a\r\n", []string{"a"}},
		{"m: a,b\r\nX: no\r\nCONTACT : \r\n c , d\r\n\t,e,\r\n", []string{"a", "b", "c", "d", "e"}},
		{`Contact: "a,b\",c" <d,e>;x="f,g" , h` + "\r\n", []string{`"a,b\",c" <d,e>;x="f,g"`, "h"}},
		{"Contact: (a,b), <\",>,\"<,\"\r\n", []string{"(a", "b)", "<\",>", "\"<,\""}},
	} {
		m := field(t, test.lines)
		if got := texts(m, all(m, Contact)); !slices.Equal(got, test.want) {
			t.Errorf("%q: got %q", test.lines, got)
		}
	}
}

func TestValuesThatDoNotEnd(t *testing.T) {
	for _, lines := range []string{"Contact: a, \"b\r\n", "Contact: a, <b\r\n", "Contact: a, \"b\\\"\r\nContact: c\r\n"} {
		m := field(t, lines)
		walk := m.Values(Contact)
		if v, ok := walk.Next(); !ok || string(m.Text(v)) != "a" || walk.Bad() {
			t.Errorf("%q: first %q, %v", lines, m.Text(v), ok)
		}
		for range 2 {
			if v, ok := walk.Next(); ok || !walk.Bad() {
				t.Errorf("%q: then %q, bad %v", lines, m.Text(v), walk.Bad())
			}
		}
	}
}

func TestParseAddress(t *testing.T) {
	for _, test := range []struct{ text, uri, params string }{
		{"*", "*", ""},
		{"sip:a@b", "sip:a@b", ""},
		{"sip:a@b;x=1 ; y", "sip:a@b", ";x=1 ; y"},
		{"sip:a@b ;x=1", "sip:a@b", ";x=1"},
		{"tel:+1", "tel:+1", ""},
		{"<sip:a@b;x>", "sip:a@b;x", ""},
		{"< sip:a@b > ;x=1", "sip:a@b", ";x=1"},
		{"<sip:a@b?x=%3B>;x=1", "sip:a@b?x=%3B", ";x=1"},
		{"Alice at work <sip:a@b>", "sip:a@b", ""},
		{`"<sip:x@y>;:\"\\" <sip:a@b>;x=">"`, "sip:a@b", `;x=">"`},
		{"J\xc3\xbcrgen<sip:a@b>", "sip:a@b", ""},
		{"sip:a@b;x=\"<sip:c@d>\"", "sip:a@b", ";x=\"<sip:c@d>\""},
	} {
		m := Message{Raw: []byte("[" + test.text + "]")}
		s := Span{1, uint16(1 + len(test.text))}
		a, ok := m.ParseAddress(s)
		uri := string(m.Text(a.URI))
		if a.Star {
			uri = "*"
		}
		if !ok || a.Value != s || uri != test.uri || string(m.Text(a.Params)) != test.params {
			t.Errorf("%q: %q %q %v", test.text, uri, m.Text(a.Params), ok)
		}
	}
}

// What two readers could take for two addresses, or for none.
func TestParseAddressRefuses(t *testing.T) {
	for _, text := range []string{
		"", "<>", "< >", "<sip:a@b", "<sip:a@b<sip:c@d>", "<<sip:a@b>>", "<<>", "\"x <sip:a@b>", "\"x\\\" <sip:a@b>",
		"<sip:a@b>x", "<sip:a@b> x;y", "<sip:a@b>,<sip:c@d>",
		"sip:a@b?x=y", "sip:a@b x", "sip:a@b>", "sip:\"a\"@b", ";x=1",
		"sip:a@b;x=<sip:c@d>", "sip:a@b <sip:c@d>", "Alice;x <sip:a@b>", "tel:+1<sip:a@b>", "\"x\";y <sip:a@b>",
	} {
		m := Message{Raw: []byte(text)}
		if a, ok := m.ParseAddress(Span{0, uint16(len(text))}); ok {
			t.Errorf("%q: %q", text, m.Text(a.URI))
		}
	}
}

func TestParams(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"", ""},
		{";a", "[;a|a]"},
		{";a=1;B = \"x;\\\"=\" ; c=", "[;a=1|a|1][;B = \"x;\\\"=\" |B|\"x;\\\"=\"][; c=|c|]"},
		{" ;a=b=c\r\n ;d", "[;a=b=c\r\n |a|b=c][;d|d]"},
		{";;a", "[;|][;a|a]"},
		{"a;b", ""},
		{";a;b=\"", "[;a|a]"},
	} {
		m := Message{Raw: []byte("<>" + test.text)}
		var got strings.Builder
		for params := m.Params(Span{2, uint16(len(m.Raw))}); ; {
			p, ok := params.Next()
			if !ok {
				break
			}
			got.WriteString("[" + string(m.Text(p.All)) + "|" + string(m.Text(p.Name)))
			if p.HasValue {
				got.WriteString("|" + string(m.Text(p.Value)))
			}
			got.WriteString("]")
		}
		if got.String() != test.want {
			t.Errorf("%q: got %q, want %q", test.text, got.String(), test.want)
		}
	}
}

func TestVia(t *testing.T) {
	for _, test := range []struct{ text, host, port, branch string }{
		{"SIP/2.0/WSS a.invalid", "a.invalid", "", ""},
		{"SIP/2.0/WSS a.invalid:443;branch=b", "a.invalid", "443", "b"},
		{"SIP \r\n / 2.0\t/ X-y  a : 1 ; x ;\r\n BRANCH\r\n = b ;xbranch=c", "a", "1", "b"},
		{"SIP/2.0/UDP [2001:db8::1];branch", "[2001:db8::1]", "", ""},
		{"SIP/2.0/UDP [::1] :5060;x=\";branch=c\";branch=b", "[::1]", "5060", "b"},
		{"SIP/2.0/UDP a;branch=;x=b", "a", "", ""},
	} {
		m := field(t, "Via: "+test.text+"\r\n")
		h, ok := m.Via(1)
		port := test.port
		if h.Port != 0 {
			_, port = splitSentBy(string(m.Text(h.SentBy)))
		}
		if !ok || string(m.Text(h.Value)) != test.text || string(m.Text(h.Host)) != test.host || port != test.port || string(m.Text(h.Branch)) != test.branch {
			t.Errorf("%q: host %q, port %d, branch %q, %v", test.text, m.Text(h.Host), h.Port, m.Text(h.Branch), ok)
		}
	}
	m := field(t, "Via: SIP/2.0/UDP a\r\n")
	if _, ok := m.Via(2); ok || m.Vias() != 2 {
		t.Errorf("a third of %d Vias", m.Vias())
	}
}

func TestViaRefuses(t *testing.T) {
	for _, text := range []string{
		"a", "SIP/2.0", "SIP/2.0/", "SIP/2.0/UDP", "SIP//UDP a", "/2.0/UDP a", "SIP 2.0/UDP a", "SIP/2.0/UDP;branch=b", "SIP/2.0/UDP[::1]",
		"SIP/2.0/UDP a b", "SIP/2.0/UDP a:", "SIP/2.0/UDP a:0", "SIP/2.0/UDP a:65536", "SIP/2.0/UDP a:-1", "SIP/2.0/UDP :5060",
		"SIP/2.0/UDP [::1", "SIP/2.0/UDP [::1]5060", "SIP/2.0/UDP ::1", "SIP/2.0/UDP a (b);branch=c",
		"SIP/2.0/UDP a;branch=b;branch=c", "SIP/2.0/UDP a;branch=;branch=b", "SIP/2.0/UDP a;branch;BRANCH = b",
	} {
		m := field(t, "Via: "+text+"\r\n")
		if h, ok := m.Via(1); ok {
			t.Errorf("%q: host %q", text, m.Text(h.Host))
		}
	}
}

func TestTagged(t *testing.T) {
	for to, want := range map[string]bool{
		"<sip:a@b>;tag=x":               true,
		"<sip:a@b>;y;TAG = x":           true,
		"sip:a@b;tag=x":                 true,
		"<sip:a@b>;tag":                 false, // RFC 3261 25.1 wants a value
		"<sip:a@b>;tag=":                false,
		"<sip:a@b>;tag=;tag=x":          false,
		"<sip:a@b;tag=x>":               false,
		"\";tag=x\" <sip:a@b>":          false,
		"<sip:a@b>;x=\";tag=y\";tagx=z": false,
		"<sip:a@b":                      false,
	} {
		var m Message
		if d := m.Scan(spoilt(t, "<sip:1002@pbx.example>\r\nFrom", to+"\r\nFrom")); d != Sound || m.Tagged() != want {
			t.Errorf("%s: %v, %v", to, m.Tagged(), d)
		}
	}
}

func TestExpires(t *testing.T) {
	for _, test := range []struct {
		header, contact string
		want            int
	}{
		{"", "<sip:a@b>", 3600},
		{"Expires: 60\r\n", "<sip:a@b>", 60},
		{"Expires: 60\r\n", "<sip:a@b>;expires=7", 7},
		{"Expires: 60\r\n", "<sip:a@b;expires=7>", 60},
		{"Expires: 60\r\n", "sip:a@b;EXPIRES = 0", 0},
		{"Expires: 60\r\n", "<sip:a@b>;expires=soon", 3600},
		{"Expires: 60\r\n", "<sip:a@b>;expires", 3600},
		{"Expires: 99999999999999999999\r\n", "<sip:a@b>", 3600},
		{"Expires: -1\r\n", "<sip:a@b>", 3600},
		{"Expires: 60\r\nExpires: 61\r\n", "<sip:a@b>", 60},
	} {
		m := field(t, test.header+"Contact: "+test.contact+"\r\n")
		a, ok := m.ParseAddress(all(m, Contact)[0])
		if got := m.Expires(a); !ok || got != test.want {
			t.Errorf("%q %q: %d, want %d", test.header, test.contact, got, test.want)
		}
	}
}

func TestHeaderNames(t *testing.T) {
	for name, want := range map[string]Header{
		"Via": Via, "v": Via, "V": Via, "Route": Route, "Record-Route": RecordRoute, "Path": Path,
		"P-Asserted-Identity": PAssertedIdentity, "P-Preferred-Identity": PPreferredIdentity,
		"P-Served-User": PServedUser, "Remote-Party-ID": RemotePartyID, "Max-Forwards": MaxForwards,
		"Contact": Contact, "m": Contact, "Supported": Supported, "k": Supported,
		"Content-Length": ContentLength, "l": ContentLength, "Call-ID": CallID, "i": CallID,
		"CSeq": CSeq, "From": From, "f": From, "To": To, "t": To, "Proxy-Require": ProxyRequire, "Expires": Expires,
		"Content-Type": ContentType, "c": ContentType, "Require": Require,
		"": OtherHeader, "6": OtherHeader, "\x16": OtherHeader, "Vi": OtherHeader, "Vias": OtherHeader,
		"P-Preferred-Identity-": OtherHeader, "Call_ID": OtherHeader, "\u212a": OtherHeader, "Content-Lengt\u017f": OtherHeader,
	} {
		for _, spelling := range []string{name, strings.ToUpper(name), strings.ToLower(name)} {
			if len(spelling) == len(name) && headerOf([]byte(spelling)) != want {
				t.Errorf("%q is %d, want %d", spelling, headerOf([]byte(spelling)), want)
			}
		}
	}
}

// Every compact form that is registered with IANA has its full name.
func TestCompactForms(t *testing.T) {
	for compact, full := range oracleCompact {
		for _, c := range []string{compact, strings.ToUpper(compact)} {
			h, name := headerOf([]byte(c)), fullName([]byte(c))
			if h != headerOf([]byte(full)) || h == OtherHeader && !strings.EqualFold(string(name), full) {
				t.Errorf("%s is %q, header %d", c, name, h)
			}
		}
	}
	if got := string(fullName([]byte("z"))); got != "z" {
		t.Errorf("z is %s", got)
	}
}

func TestStrippable(t *testing.T) {
	for name, want := range map[string]bool{
		"X-Account": true, "Referred-By": true, "subject": true,
		"": false, "X Y": false, "X:": false, "Grüße": false, "b": false, "Content-Type": false, "content-TYPE": false,
		"Via": false, "contact": false, "Require": false, "CSeq": false, "Record-Route": false, "Authorization": false,
	} {
		if Strippable(name) != want {
			t.Errorf("%q: %v", name, !want)
		}
	}
}

func TestMessageTexts(t *testing.T) {
	m := field(t, "Proxy-Require: foo,\r\n bar \r\nProxy-Require: baz\r\n")
	if got := string(m.Joined(ProxyRequire)); got != "foo, bar, baz" {
		t.Errorf("Proxy-Require %q", got)
	}
	if len(m.Joined(Expires)) != 0 || m.Has(Expires) || !m.Has(ProxyRequire) {
		t.Error("an Expires header")
	}
	if !m.Is("INVITE") || m.Is("invite") {
		t.Error("methods have case")
	}
	for raw, want := range map[string]string{soundResponse: "200 OK", "SIP/2.0 404\r\n\r\n": "404", "SIP/2.0 180 Ring  ing \r\n\r\n": "180 Ring  ing", "S": ""} {
		if m.Scan([]byte(raw)); m.StatusLine() != want {
			t.Errorf("%q: %q", raw, m.StatusLine())
		}
	}
}
