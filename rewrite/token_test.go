package rewrite

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
)

// What SIP stacks in browsers put into a Contact, and the length of its token.
var contacts = []struct {
	name, uri string
	length    int
}{
	{"JsSIP REGISTER", "sip:4lmb1q2n@a1b2c3d4e5f6.invalid;transport=ws", 40},
	{"JsSIP INVITE", "sip:4lmb1q2n@a1b2c3d4e5f6.invalid;transport=ws;ob", 40},
	{"JsSIP, wss", "sip:4lmb1q2n@a1b2c3d4e5f6.invalid;transport=wss", 40},
	{"JsSIP INVITE, wss", "sip:4lmb1q2n@a1b2c3d4e5f6.invalid;transport=wss;ob", 40},
	{"SIP.js, no transport", "sip:4lmb1q2n@a1b2c3d4e5f6.invalid", 40},
	{"SIP.js, ob alone", "sip:4lmb1q2n@a1b2c3d4e5f6.invalid;ob", 40},
	{"a digit past 31", "sip:4lmb1q2w@a1b2c3d4e5f6.invalid;transport=ws", 47},
	{"sips", "sips:4lmb1q2n@a1b2c3d4e5f6.invalid;transport=ws", 47},
	{"anonymous", "sip:anonymous@anonymous.invalid;transport=ws", 21},
	{"named user", "sip:alice@a1b2c3d4e5f6.invalid;transport=ws", 44},
	{"UUID", "sip:0b0ad5ea-3a1f-4c9e-9d55-6a7c2f1e8b90@a1b2c3d4e5f6.invalid;transport=ws", 80},
	{"UUID, INVITE", "sip:0b0ad5ea-3a1f-4c9e-9d55-6a7c2f1e8b90@a1b2c3d4e5f6.invalid;transport=ws;ob", 80},
	{"UUID, wss", "sip:0b0ad5ea-3a1f-4c9e-9d55-6a7c2f1e8b90@a1b2c3d4e5f6.invalid;transport=wss", 80},
	{"UUID, upper case", "sip:0B0AD5EA-3A1F-4C9E-9D55-6A7C2F1E8B90@a1b2c3d4e5.invalid;transport=ws", 80},
	{"sipML5", "sip:1060@df7jal23ls0d.invalid;rtcweb-breaker=no;transport=ws", 66},
	{"real address", "sip:alice@192.0.2.17:54321;transport=ws", 48},
	{"no user", "sip:192.0.2.17;transport=ws", 34},
	{"IPv6", "sip:alice@[2001:db8::9:1]:5062;transport=wss", 55},
	{"E.164", "sip:+442071838750@a1b2c3d4e5f6.invalid;transport=ws", 53},
	{"escapes", "sip:J%C3%BCrgen@a1b2c3d4e5f6.invalid", 53},
	{"password and headers", "sip:a:b@c.example;lr?x=y", 47},
	{"upper-case scheme", "SIP:4lmb1q2n@a1b2c3d4e5f6.invalid;transport=ws", 55},
	{"other case of a phrase", "sip:4lmb1q2n@a1b2c3d4e5f6.invalid;Transport=WS", 66},
	{"another scheme", "tel:+442071838750", 42},
	{"no scheme", "alice", 28},
	{"two at signs", "sip:a@b@c", 28},
	{"bytes", "\x00\xff\r\n\" <>", 44},
	{"nothing", "", 21},
	{"anonymous INVITE", "sip:anonymous@anonymous.invalid;transport=ws;ob", 21},
	{"anonymous, nothing more", "sip:anonymous@anonymous.invalid", 21},
	{"anonymous, wss", "sip:anonymous@anonymous.invalid;transport=wss;ob", 21},
	{"anonymous elsewhere", "sip:anonymous@anonymous.example", 53},
}

func appendToken(tb testing.TB, k *Key, o Origin, uri string) (string, ClientID) {
	tb.Helper()
	token, id, err := k.AppendToken(nil, o, []byte(uri))
	if err != nil {
		tb.Fatalf("%q: %v", uri, err)
	}
	return string(token), id
}

// checkToken seals and opens a URI and returns its token, false if it is too
// long for one.
func checkToken(tb testing.TB, r *Keyring, o Origin, uri string) (token string, fits bool) {
	tb.Helper()
	text, id, err := r.First().AppendToken(nil, o, []byte(uri))
	if errors.Is(err, ErrContactTooLong) {
		return "", false
	}
	got, opened, ok := r.OpenToken([]byte("<"), text)
	want := Token{Key: r.First(), Origin: o, ID: id}
	if err != nil || !ok || string(got) != "<"+uri || opened != want {
		tb.Fatalf("%q became %s, %v, which opens as %q %v %v, want %v", uri, text, err, got, opened, ok, want)
	}
	token = string(text)
	if len(token) > MaxToken || strings.Trim(token, "abcdefghijklmnopqrstuvwxyz0123456789") != "" {
		tb.Fatalf("%q became %q", uri, token)
	}
	return token, true
}

func TestTokenRoundTrip(t *testing.T) {
	r := keyring(t, 0)
	for _, test := range contacts {
		t.Run(test.name, func(t *testing.T) {
			if token, _ := checkToken(t, r, 0x123456789abc, test.uri); len(token) != test.length {
				t.Errorf("%s is %d characters, want %d", token, len(token), test.length)
			}
		})
	}
}

func TestTokenRoundTripRandom(t *testing.T) {
	r := keyring(t, 0)
	random := rand.New(rand.NewPCG(1, 2))
	fit := 0
	for range 100_000 {
		uri := randomURI(random)
		token, fits := checkToken(t, r, Origin(random.Uint64()>>16), uri)
		if !fits {
			continue
		}
		fit++
		_, host := userAndHost([]byte(uri))
		if name, _ := bytes.CutSuffix(host, []byte(".invalid")); len(name) >= 6 && strings.Contains(token, string(name)) {
			t.Fatalf("%s shows the host of %s", token, uri)
		}
	}
	if fit < 50_000 {
		t.Errorf("only %d URIs fit", fit)
	}
}

// randomURI returns a URI of the usual shape, one put together from pieces of
// URIs, or random bytes.
func randomURI(r *rand.Rand) string {
	digits := func(digits string, n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = digits[r.IntN(len(digits))]
		}
		return string(b)
	}
	const letters = "abcdefghijklmnopqrstuvwxyz"
	switch r.IntN(4) {
	case 0:
		return "sip:" + digits(shortDigits, 8) + "@" + digits(shortDigits, 12) + shortEnds[r.IntN(len(shortEnds))]
	case 1:
		return "sip:" + digits(letters+strings.ToUpper(letters)+codeChars, r.IntN(24)) + "@" + digits(letters, 1+r.IntN(12)) + shortEnds[r.IntN(len(shortEnds))]
	case 2:
		pieces := append([]string{"sip:", "sips:", "@", ".", ";", "inv", "S", "SIP/2.0", "Ab", "é", "0"}, codePhrases[:]...)
		var uri strings.Builder
		for range r.IntN(12) {
			uri.WriteString(pieces[r.IntN(len(pieces))])
		}
		return uri.String()
	default:
		b := make([]byte, r.IntN(24))
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return string(b)
	}
}

func TestTokenTooLong(t *testing.T) {
	k := keyring(t, 0).First()
	fits := "sip:" + strings.Repeat("u", 49) + "@"
	if token, _ := appendToken(t, k, 0, fits); len(token) != MaxToken {
		t.Errorf("50 symbols make %d characters", len(token))
	}
	for _, uri := range []string{fits + "h", strings.Repeat("sip:", 5000)} {
		token, id, err := k.AppendToken([]byte("dst"), 0, []byte(uri))
		if !errors.Is(err, ErrContactTooLong) || string(token) != "dst" || id != 0 {
			t.Errorf("%d characters: %q, %v, %v", len(uri), token, id, err)
		}
	}
}

// Tokens live in PBX databases and dialogs: what fails here would cut off
// every registered browser at an upgrade.
func TestTokenGolden(t *testing.T) {
	k := keyring(t, 0).First()
	o := k.Origin([]byte("1001@pbx.example"), []byte("a1b2c3d4e5f6.invalid"))
	if o != goldenOrigin {
		t.Errorf("origin %#x, want %#x", uint64(o), uint64(goldenOrigin))
	}
	for _, golden := range goldenTokens {
		token, id := appendToken(t, k, goldenOrigin, golden.uri)
		if token != golden.token || id != golden.id {
			t.Errorf("%s\n got %s %#x\nwant %s %#x", golden.uri, token, uint64(id), golden.token, uint64(golden.id))
		}
	}
}

const goldenOrigin Origin = 0x4bc9fc2fa8f5

var goldenTokens = []struct {
	uri   string
	token string
	id    ClientID
}{
	{"sip:4lmb1q2n@a1b2c3d4e5f6.invalid;transport=ws",
		"noc256nq7hc7d36aim32d3edckycu54pzeajsbr2", 0x64e7df56bb4b2f9a},
	{"sip:4lmb1q2n@a1b2c3d4e5f6.invalid;transport=ws;ob",
		"fvxxjwi4jzflzftqvt3n53xagj7gm62fxvkzqp7x", 0x64e7df56bb4b2f9a},
	{"sip:4lmb1q2n@a1b2c3d4e5f6.invalid;transport=wss",
		"d2ge2o52kb3tklsgf325jt4yrtcaosgvmk4bglna", 0x64e7df56bb4b2f9a},
	{"sip:4lmb1q2n@a1b2c3d4e5f6.invalid;transport=wss;ob",
		"7ts4p2ep742aovjf3opssqxd5lt4njmwf2n5ymqf", 0x64e7df56bb4b2f9a},
	{"sip:4lmb1q2n@a1b2c3d4e5f6.invalid",
		"vrmri4lzcqsdmc5qyyk3fgb3rqutxgc7djsg34ui", 0x64e7df56bb4b2f9a},
	{"sip:4lmb1q2n@a1b2c3d4e5f6.invalid;ob",
		"lspq6hyjalfeslhkefw7vna4v7qcokujzgk6bk3k", 0x64e7df56bb4b2f9a},
	{"sips:4lmb1q2n@a1b2c3d4e5f6.invalid;transport=ws",
		"irwfsh2lvabjd33uxpmu7ek4pyvvxwuen7qclwz2hamgtpq", 0x64e7df56bb4b2f9a},
	{"sip:0b0ad5ea-3a1f-4c9e-9d55-6a7c2f1e8b90@a1b2c3d4e5f6.invalid;transport=ws",
		"jbla7zvf2u4pqnozwomvwjlnnvr7xjpcrjdjvhw6geb3thu7u5ejp62ejivgo5smkg64gdxxyiiafnxq", 0xb4bef9e42d8ed549},
	{"sip:0b0ad5ea-3a1f-4c9e-9d55-6a7c2f1e8b90@a1b2c3d4e5f6.invalid;transport=ws;ob",
		"5anecklxt2akplanm4nmlpqspdvedyio2qofjqjfiohd4hl3njrzorz5dnhglecku7icjubztewtsd5j", 0xb4bef9e42d8ed549},
	{"sip:0b0ad5ea-3a1f-4c9e-9d55-6a7c2f1e8b90@a1b2c3d4e5f6.invalid;transport=wss",
		"un7cumg5svookylfrnzkpuj5cob6xe34nvbf2o6fp757jghw655bizxjmixf3pcbamklwghvsoe2z4dw", 0xb4bef9e42d8ed549},
	{"sip:0B0AD5EA-3A1F-4C9E-9D55-6A7C2F1E8B90@a1b2c3d4e5.invalid;transport=ws",
		"tmh67segokywytz7i3xsuap4vpgoou2intok2yynribslpyyefzavjrz7ox5g677raxcxtdgetmlapzu", 0xda5a8872f27d6a09},
	{"sip:1060@df7jal23ls0d.invalid;rtcweb-breaker=no;transport=ws",
		"4dldgkjczbge23ht2kxhtpbwwynarskuxe3ymuxtg5xuqnx2t4l3pdgn7rteitzqwe", 0xc427230f9263ac7},
	{"sip:alice@192.0.2.17:54321;transport=ws",
		"kt2hp4dcueypqzlexm2o2grdhf5vwxwwaswqqg5diw4ba5fw", 0x241ba67f90c0b268},
	{"sip:J%C3%BCrgen@a1b2c3d4e5f6.invalid",
		"o2xcpkinqrdymd5nbzakrfjbhah4q7qkjoapixsbaz6schiganbk4", 0xbe571a53b4051791},
	{"tel:+442071838750",
		"dhmuepmbxu5sig5gdjfaiopynvvta6a53b6sckqcrq", 0xb50a9106c26db79e},
	{"\x00\xff\r\n\" <>",
		"jlfggna5eaz22o6pxteetngohpirtxqoj5vrlaouqaeq", 0x981a91fbf13807e5},
}

func TestTokenMutations(t *testing.T) {
	r := keyring(t, 0, 1)
	for _, test := range contacts {
		token, _ := appendToken(t, r.First(), 7, test.uri)
		mutations(token, func(bad string) {
			uri, opened, ok := r.OpenToken([]byte("dst"), []byte(bad))
			if ok || string(uri) != "dst" || opened != (Token{}) {
				t.Fatalf("%s: %s made from %s opens as %q", test.name, bad, token, uri)
			}
		})
	}
}

// mutations calls try with all that is one step away from text: every byte
// replaced by every other, cut off, doubled, left out or exchanged with the
// next, a byte added, other case.
func mutations(text string, try func(string)) {
	each := func(bad string) {
		if bad != text {
			try(bad)
		}
	}
	for i := range len(text) {
		for c := range 256 {
			each(text[:i] + string([]byte{byte(c)}) + text[i+1:])
		}
		each(text[:i])
		each(text[i+1:])
		each(text[:i] + text[i+1:])
		each(text[:i] + text[i:i+1] + text[i:])
		each(text[:i] + text[i+1:] + text[i:i+1])
	}
	for c := range 256 {
		each(text + string([]byte{byte(c)}))
		each(string([]byte{byte(c)}) + text)
	}
	each(strings.ToUpper(text))
	each(text + text)
	each(text + strings.Repeat("a", 8))
	each(text + "======")
}

func TestTokenKeys(t *testing.T) {
	token, id := appendToken(t, keyring(t, 1).First(), 7, contacts[0].uri)
	rotated := keyring(t, 0, 1)
	uri, opened, ok := rotated.OpenToken(nil, []byte(token))
	if !ok || string(uri) != contacts[0].uri || opened != (Token{Key: rotated.Keys()[1], Origin: 7, ID: id}) {
		t.Errorf("by its second key: %q %v %v", uri, opened, ok)
	}
	if uri, _, ok := keyring(t, 0, 2).OpenToken(nil, []byte(token)); ok {
		t.Errorf("by other keys: %q", uri)
	}
}

func TestTokenUnknownForms(t *testing.T) {
	k := keyring(t, 0).First()
	r := keyring(t, 0)
	for form := range byte(16) {
		for size := range 20 {
			contact := append([]byte{form << 4}, make([]byte, size)...)
			uri, ok := appendURI(nil, contact)
			short, anonymous := form < anonymousForm, anonymousForm <= form && form < 2*anonymousForm
			if known := form >= longForm || short && size == 12 || anonymous && size == 0; ok != known {
				t.Errorf("form %d of %d bytes: %q, %v", form, 1+size, uri, ok)
			}
		}
	}
	for _, plaintext := range []string{"", "origin", "origin\xc0"} {
		s := k.sealer(domainToken)
		s.msg = append(s.msg, plaintext...)
		token := s.seal(nil, 1, tokenTagSize)
		k.release(s)
		if uri, _, ok := r.OpenToken(nil, token); ok {
			t.Errorf("plaintext %q opens as %q", plaintext, uri)
		}
	}
}

func TestClientID(t *testing.T) {
	k := keyring(t, 0).First()
	origin := func(aor, via string) Origin { return k.Origin([]byte(aor), []byte(via)) }
	o := origin("1001@pbx.example", "a1b2c3d4e5f6.invalid")
	_, id := appendToken(t, k, o, "sip:4lmb1q2n@a1b2c3d4e5f6.invalid;transport=ws")

	for _, uri := range []string{
		"sip:4lmb1q2n@a1b2c3d4e5f6.invalid;transport=ws;ob",
		"sip:4lmb1q2n@a1b2c3d4e5f6.invalid",
		"sips:4lmb1q2n@a1b2c3d4e5f6.invalid?x=y",
	} {
		if _, same := appendToken(t, k, o, uri); same != id {
			t.Errorf("%s is another client", uri)
		}
	}

	seen := map[ClientID]string{id: "the client"}
	for _, other := range []struct {
		what   string
		key    *Key
		origin Origin
		uri    string
	}{
		{"other key", keyring(t, 1).First(), o, "sip:4lmb1q2n@a1b2c3d4e5f6.invalid"},
		{"other AoR", k, origin("1002@pbx.example", "a1b2c3d4e5f6.invalid"), "sip:4lmb1q2n@a1b2c3d4e5f6.invalid"},
		{"other Via host", k, origin("1001@pbx.example", "a1b2c3d4e5f7.invalid"), "sip:4lmb1q2n@a1b2c3d4e5f6.invalid"},
		{"other user", k, o, "sip:4lmb1q2o@a1b2c3d4e5f6.invalid"},
		{"other case of the user", k, o, "sip:4lmb1q2N@a1b2c3d4e5f6.invalid"},
		{"other host", k, o, "sip:4lmb1q2n@a1b2c3d4e5f7.invalid"},
		{"port", k, o, "sip:4lmb1q2n@a1b2c3d4e5f6.invalid:5060"},
		{"no user", k, o, "sip:a1b2c3d4e5f6.invalid"},
		{"user and host meet elsewhere", k, o, "sip:4lmb1q2@na1b2c3d4e5f6.invalid"},
		{"nothing", k, o, ""},
	} {
		_, id := appendToken(t, other.key, other.origin, other.uri)
		if same, ok := seen[id]; ok {
			t.Errorf("%s: the same client as %s", other.what, same)
		}
		seen[id] = other.what
	}
}

func TestOriginIsUnambiguous(t *testing.T) {
	k := keyring(t, 0).First()
	seen := map[Origin]string{}
	for _, parts := range [][2]string{{"ab", "c"}, {"a", "bc"}, {"abc", ""}, {"", "abc"}, {"", ""}, {"\x01a", ""}, {"", "\x01a"}} {
		o := k.Origin([]byte(parts[0]), []byte(parts[1]))
		if same, ok := seen[o]; ok || o >= 1<<48 {
			t.Errorf("%q: origin %#x, which is %s", parts, uint64(o), same)
		}
		seen[o] = fmt.Sprintf("%q", parts)
	}
}

func TestTokenIsPure(t *testing.T) {
	r := keyring(t, 0)
	want := map[string]string{}
	for _, test := range contacts {
		want[test.uri], _ = appendToken(t, r.First(), 7, test.uri)
	}
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 200 {
				for _, test := range contacts {
					token, id, err := r.First().AppendToken(nil, 7, []byte(test.uri))
					uri, opened, ok := r.OpenToken(nil, token)
					if err != nil || string(token) != want[test.uri] || !ok || string(uri) != test.uri || opened.ID != id {
						t.Errorf("%s: %s %v, opens as %q %v %v", test.name, token, err, uri, opened, ok)
						return
					}
				}
			}
		})
	}
	group.Wait()
}

func FuzzTokenRoundTrip(f *testing.F) {
	for _, test := range contacts {
		f.Add(uint64(7), test.uri)
	}
	r := keyring(f, 0)
	f.Fuzz(func(t *testing.T, origin uint64, uri string) {
		if _, fits := checkToken(t, r, Origin(origin>>16), uri); !fits && len(uri) <= 21 {
			t.Fatalf("%q is too long, but 21 raw bytes fit", uri)
		}
	})
}

func FuzzOpenToken(f *testing.F) {
	r := keyring(f, 0, 1)
	for _, test := range contacts {
		token, _ := appendToken(f, r.First(), 7, test.uri)
		f.Add([]byte(token))
	}
	f.Fuzz(func(t *testing.T, token []byte) {
		if contact := token; len(contact) > 0 {
			appendURI(nil, contact) // as if it had been sealed
		}
		uri, opened, ok := r.OpenToken(nil, token)
		if !ok {
			return
		}
		again, id, err := opened.Key.AppendToken(nil, opened.Origin, uri)
		if err != nil || !bytes.Equal(again, token) || id != opened.ID {
			t.Fatalf("%q opens as %q, which makes %q, %v", token, uri, again, err)
		}
	})
}
