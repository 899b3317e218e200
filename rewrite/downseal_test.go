package rewrite

import (
	"bytes"
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

var testHop = Hop{
	SentBy: []byte("192.0.2.9:5060"),
	Branch: []byte("z9hG4bKPj5c8e"),
	CallID: []byte(testCallID),
	CSeq:   testCSeq,
}

const testToken = "noc256nq7hc7d36aim32d3edckycu54pzeajsbr2"

// Down seals, likewise.
var downSeals = []struct {
	name   string
	seal   DownSeal
	golden string
}{
	{"IPv4", DownSeal{Proto: 1, Source: netip.MustParseAddrPort("192.0.2.9:5060"), Upstream: 0xdeadbeef, Token: []byte(testToken)},
		"unhudj7rteiejsvv4hteqngri3op22wf6npyllmmxavvm6prmehjyzd2gyzgqmrutuklrgh4"},
	{"IPv6", DownSeal{Proto: 2, Source: netip.MustParseAddrPort("[2001:db8::9]:5061"), Upstream: 1, Token: []byte(testToken)},
		"5pnekyea24brcori3oavq3jg6dzhw2fn7djsmgrjez5rurmfoa2eegu54skotfz6zad2gzqw2vcmw3dxddmfk5jsvupa"},
	{"link-local", DownSeal{Proto: 255, Source: netip.MustParseAddrPort("[fe80::1%enp0s31f6]:5060"), Upstream: 2, Token: []byte(strings.Repeat(testToken, 2))},
		"n2zc4xe62zkghmbt4chj5iimyzrzbhyqm6vy5xxbos2rqu3a7pzhugsgagl5dgub7mrpfbcnulgfeygghs37kigyqhyignnmzylqi3r4evjzsy65auee3vr6setbkblxetdi2cajezh3h67pju"},
	{"IPv4 in IPv6", DownSeal{Source: netip.MustParseAddrPort("[::ffff:192.0.2.9]:5060"), Upstream: 1, Token: []byte("noc256nq7hc7d36aim32d3edckycu54pzeajsbq")},
		"ed5obgaho5uswb7phols4cqphtcihpg3o5yvkr3m2ehj6z7xnqbf7vfm5377t5c7oeabopj7csjiuil7j4rji4x2si"},
	{"media", DownSeal{Proto: 1, Source: netip.MustParseAddrPort("192.0.2.9:5060"), Media: Media{Late: true, Engine: 1}, Token: []byte(testToken)},
		"p7ygf2hreavpleumngy6n43yfb77xbwa2cx4zy52lwcvpxzsspo4qbat2tvnfqfx6b2ha5yy2eez2"},
	{"media of a dialog", DownSeal{Source: netip.MustParseAddrPort("[fe80::1%enp0s31f6]:5060"), Media: Media{InDialog: true}},
		"4bflo2hfrriau4tgceuyx2oywzfptfx3sbbjtpfgwcaap3paxldyaw3zi2lg57w3elaa"},
	{"routes", DownSeal{Proto: 1, Source: netip.MustParseAddrPort("192.0.2.9:5060"), Routes: 0xfedcba987654, Token: []byte(testToken)},
		"2hrg5zidbsic7ljdmcphikean76fvjzfzq6r2t6fx3qmeguopgizwqujwobgivlzwbxescamc5wqasg2hm"},
	{"routes and media", DownSeal{Source: netip.MustParseAddrPort("[2001:db8::9]:5061"), Media: Media{Late: true}, Routes: 1},
		"xcs6povijttfpjorrzvlikpvy35a2svhnwqosmnr3wwpgxwceynbjs62bk5xw7y"},
	{"no token", DownSeal{Source: netip.MustParseAddrPort("192.0.2.9:5060")},
		"j5f3w3vh36gqr7wxwc3gjmyrhjdhcqys"},
	{"no address", DownSeal{},
		"j2vpmjt43aqusg522eaqzxm5ye"},
}

// checkDownSeal seals and opens s and returns the seal.
func checkDownSeal(tb testing.TB, r *Keyring, s DownSeal, h *Hop) string {
	tb.Helper()
	seal := r.First().AppendDownSeal(nil, &s, h)
	var buf [MaxToken]byte
	var got DownSeal
	if !r.OpenDownSeal(&got, buf[:], seal, h) || got.Key != r.First() || !bytes.Equal(got.Token, s.Token) {
		tb.Fatalf("%+v became %s, which opens as %+v", s, seal, got)
	}
	if len(s.Token) > 0 && &got.Token[0] != &buf[0] {
		tb.Fatalf("%q is not in the caller's buffer", got.Token)
	}
	s.Key, s.Token, got.Token = got.Key, nil, nil
	if !reflect.DeepEqual(got, s) {
		tb.Fatalf("%+v became %s, which opens as %+v", s, seal, got)
	}
	return string(seal)
}

func TestDownSeal(t *testing.T) {
	r := keyring(t, 0)
	for _, test := range downSeals {
		t.Run(test.name, func(t *testing.T) {
			if seal := checkDownSeal(t, r, test.seal, &testHop); seal != test.golden {
				t.Errorf("got %s, want %s", seal, test.golden)
			}
		})
	}
}

func TestDownSealLeavesOutWhatIsNoToken(t *testing.T) {
	r := keyring(t, 0)
	s := DownSeal{Source: netip.MustParseAddrPort("192.0.2.9:5060"), Token: []byte("bob")}
	var got DownSeal
	if !r.OpenDownSeal(&got, nil, r.First().AppendDownSeal(nil, &s, &testHop), &testHop) || len(got.Token) != 0 || got.Source != s.Source {
		t.Errorf("opens as %+v", got)
	}
}

func TestDownSealMutations(t *testing.T) {
	r := keyring(t, 0, 1)
	for _, test := range downSeals {
		seal := r.First().AppendDownSeal(nil, &test.seal, &testHop)
		mutations(string(seal), func(bad string) {
			got := DownSeal{Upstream: 99}
			if r.OpenDownSeal(&got, nil, []byte(bad), &testHop) || got.Upstream != 99 || got.Key != nil {
				t.Fatalf("%s: %s made from %s opens as %+v", test.name, bad, seal, got)
			}
		})
	}
}

// otherHops are those that differ from testHop, each by its difference. The
// last two have the same bytes in other fields.
var otherHops = map[string]Hop{
	"sent-by":            {[]byte("192.0.2.9:5061"), testHop.Branch, testHop.CallID, testHop.CSeq},
	"branch":             {testHop.SentBy, []byte("z9hG4bKPj5c8f"), testHop.CallID, testHop.CSeq},
	"Call-ID":            {testHop.SentBy, testHop.Branch, []byte("x"), testHop.CSeq},
	"CSeq":               {testHop.SentBy, testHop.Branch, testHop.CallID, testHop.CSeq + 1},
	"nothing":            {},
	"sent-by and branch": {append(bytes.Clone(testHop.SentBy), 'z'), testHop.Branch[1:], testHop.CallID, testHop.CSeq},
	"branch and Call-ID": {testHop.SentBy, testHop.Branch[:12], append([]byte("e"), testCallID...), testHop.CSeq},
}

func TestDownSealIsBoundToItsHop(t *testing.T) {
	r := keyring(t, 0)
	seal := r.First().AppendDownSeal(nil, &downSeals[0].seal, &testHop)
	var got DownSeal
	for what, h := range otherHops {
		if r.OpenDownSeal(&got, nil, seal, &h) {
			t.Errorf("other %s: opens as %+v", what, got)
		}
	}
	if keyring(t, 1).OpenDownSeal(&got, nil, seal, &testHop) {
		t.Errorf("other key: opens as %+v", got)
	}
	if rotated := keyring(t, 2, 0); !rotated.OpenDownSeal(&got, nil, seal, &testHop) || got.Key != rotated.Keys()[1] {
		t.Errorf("by its second key: %+v", got)
	}
}

func TestDownSealRefusesOtherLayouts(t *testing.T) {
	r := keyring(t, 0)
	for _, test := range []struct{ name, plaintext string }{
		{"nothing", ""},
		{"no length", "\x01"},
		{"source cut", "\x01\xff12345678901234567890"},
		{"source of an odd length", "\x01\x0512345upst"},
		{"upstream cut", "\x01\x06123456ups"},
		{"media cut", "\x01\x86123456upst"},
		{"media of no meaning", "\x01\x86123456upst\x00"},
		{"spare flag of the media", "\x01\x86123456upst\x20"},
		{"routes cut", "\x01\x46123456upst12345"},
		{"routes of no meaning", "\x01\x46123456upst\x00\x00\x00\x00\x00\x00"},
	} {
		s := r.First().hopSealer(domainDownSeal, &testHop)
		from := len(s.msg)
		s.msg = append(s.msg, test.plaintext...)
		seal := s.seal(nil, from, sealTagSize)
		r.First().release(s)
		var got DownSeal
		if r.OpenDownSeal(&got, nil, seal, &testHop) || !reflect.DeepEqual(got, DownSeal{}) {
			t.Errorf("%s: opens as %+v", test.name, got)
		}
	}
}

func TestBranchAndTag(t *testing.T) {
	k := keyring(t, 0).First()
	branch, tag := string(k.AppendBranch([]byte("branch="), &testHop)), string(k.AppendTag([]byte("tag="), &testHop))
	if want := "branch=z9hG4bK3i7djinlamkfj522"; branch != want {
		t.Errorf("got %s, want %s", branch, want)
	}
	if want := "tag=53zslo2mju"; tag != want {
		t.Errorf("got %s, want %s", tag, want)
	}
	for what, h := range otherHops {
		if string(k.AppendBranch([]byte("branch="), &h)) == branch {
			t.Errorf("other %s: the same branch", what)
		}
		if string(k.AppendTag([]byte("tag="), &h)) == tag {
			t.Errorf("other %s: the same tag", what)
		}
	}
	if other := keyring(t, 1).First(); string(other.AppendBranch([]byte("branch="), &testHop)) == branch {
		t.Error("other key: the same branch")
	}
}

// TestRoutes: the same routes in another spelling are the same, and others are not.
func TestRoutes(t *testing.T) {
	k := keyring(t, 0).First()
	routes := func(lines string) Routes { return k.Routes(field(t, lines)) }
	want := routes("Record-Route: <sip:a;lr>, \"A, B\" <sip:b;lr>;x=1\r\n")
	for lines, same := range map[string]bool{
		"Record-Route: <sip:a;lr>\r\nX: 1\r\nrecord-route :\"A, B\" <sip:b;lr>;x=1\r\n": true,
		"Record-Route: <sip:a;lr>,\r\n \"A,\r\n B\"<sip:b;lr> ; x = 1\r\n":              true,
		"Record-Route: \"A, B\" <sip:b;lr>;x=1, <sip:a;lr>\r\n":                         false,
		"Record-Route: <sip:a;lr>\r\n":                                                  false,
		"Record-Route: <sip:a;lr>, \"A, B\" <sip:b;lr>;x=1, <sip:c;lr>\r\n":             false,
		"Record-Route: <sip:a;lr>, \"A, B\" <sip:b;lr>;x=1, \"<sip:c;lr>\r\n":           false,
		"Record-Route: <sip:a;lr>\"A, B\" <sip:b;lr>;x=1\r\n":                           false,
		"Record-Route: <sip:A;lr>, \"A, B\" <sip:b;lr>;x=1\r\n":                         false,
	} {
		if got := routes(lines); want == 0 || (got == want) != same {
			t.Errorf("%q: %x, of before %x", lines, got, want)
		}
	}
	if routes("X: 1\r\n") != 0 || keyring(t, 1).First().Routes(field(t, "Record-Route: <sip:a;lr>\r\n")) == routes("Record-Route: <sip:a;lr>\r\n") {
		t.Error("none, and those of another key")
	}
}

func FuzzDownSeal(f *testing.F) {
	r := keyring(f, 0)
	for _, test := range downSeals {
		source, err := test.seal.Source.MarshalBinary()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(test.seal.Proto, source, test.seal.Upstream, string(test.seal.Token), string(testHop.SentBy), string(testHop.Branch), testCallID, uint32(testCSeq))
	}
	f.Fuzz(func(t *testing.T, proto uint8, source []byte, upstream uint32, token, sentBy, branch, callID string, cseq uint32) {
		var addr netip.AddrPort
		if len(source) > 63 || addr.UnmarshalBinary(source) != nil {
			return
		}
		if _, ok := appendFromBase32(nil, []byte(token)); !ok || len(token) > MaxToken {
			return
		}
		h := Hop{[]byte(sentBy), []byte(branch), []byte(callID), cseq}
		seal := checkDownSeal(t, r, DownSeal{Proto: proto, Source: addr, Upstream: upstream, Token: []byte(token)}, &h)
		h.CSeq++
		var got DownSeal
		if r.OpenDownSeal(&got, nil, []byte(seal), &h) {
			t.Fatalf("%s opens with another CSeq number", seal)
		}
	})
}
