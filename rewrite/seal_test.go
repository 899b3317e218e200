package rewrite

import (
	"bytes"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
)

const (
	testCallID = "q7abcdefghijklmnopqrst"
	testCSeq   = 4711
	testVia    = "SIP/2.0/WSS abcdefghijkl.invalid;branch=z9hG4bK1234567"
)

// Up seals, and their text by the first key of the tests: responses to what the
// gateway sent before an upgrade come back after it.
var upSeals = []struct {
	name   string
	seal   UpSeal
	golden string
}{
	{"client", UpSeal{HasClient: true, Client: 0x64e7df56bb4b2f9a, Via: []byte(testVia)},
		"hnbdtvx63dzopm5buqoj7qh2dlc5radvxp2spde2u3nhgh3wkqb2w"},
	{"flow", UpSeal{HasFlow: true, Flow: 0xfedcba9876543210, Via: []byte(testVia)},
		"5rjanhz2kkxqbxfzs3ldkmkdgkk6epd6zzuqspqkxp27u5utjrvk4"},
	{"REGISTER", UpSeal{HasClient: true, Client: 0x64e7df56bb4b2f9a, Register: RegisterBind, Origin: goldenOrigin, Via: []byte(testVia)},
		"d3zmkz364ah43g5olk3gumgzf7c6fe4an4jeacshrzilftz5zav7rtorc6cmaoa"},
	{"fetch over a flow", UpSeal{HasFlow: true, Flow: 1, Register: RegisterFetch, Origin: goldenOrigin, Via: []byte(testVia)},
		"7tthtc5od7z2ibfhqcgp4e5str3i7y66rgjj7uwjxogfgbxsm3eodbmhlyzyxiy"},
	{"everything", UpSeal{HasClient: true, Client: 1, HasFlow: true, Flow: 2, Register: RegisterWildcard, Origin: 3, Via: []byte("SIP/2.0/TCP [2001:db8::1]:5060 ;BRANCH=Z9hG4bK\xe9")},
		"6uz7prcpkpqvo5547d4twi4qexkxqeugtog24ekcbrubel7ooagoarwzijcqktqyjdfwtsrwuf7zsao2h35o4456l2dg352frweul5g4ysfb4ymfum6xy6xp"},
	{"unbind, no Via", UpSeal{HasClient: true, Client: 1, Register: RegisterUnbind, Origin: 3},
		"qpobmb4awwnqzxofpsofgw2kbivamae5ix7dq"},
	{"late", UpSeal{HasClient: true, Client: 1, Media: Media{Late: true}, Via: []byte(testVia)},
		"hbj4ligwvgvxvairjgc64i3ysgvhve33pr5vf4naakmbkeuats3ku6q"},
	{"media", UpSeal{HasFlow: true, Flow: 1, Media: Media{InDialog: true, Untouched: true, Engine: 0xbeef}, Via: []byte(testVia)},
		"dndya7v75fs3pu2o65xz4ivezuaqa5fsm4jz53z4lg7k2f7gamqoecy4yq"},
	{"own", UpSeal{Own: true},
		"gl5cbgyf2k4apka"},
}

func TestUpSeal(t *testing.T) {
	r := keyring(t, 0)
	for _, test := range upSeals {
		t.Run(test.name, func(t *testing.T) {
			seal := checkUpSeal(t, r, test.seal, testCallID, testCSeq)
			if seal != test.golden {
				t.Errorf("got %s, want %s", seal, test.golden)
			}
		})
	}
}

// checkUpSeal seals and opens s and returns the seal.
func checkUpSeal(tb testing.TB, r *Keyring, s UpSeal, callID string, cseq uint32) string {
	tb.Helper()
	seal := r.First().AppendUpSeal(nil, &s, []byte(callID), cseq)
	var buf [MaxVia]byte
	var got UpSeal
	if !r.OpenUpSeal(&got, buf[:], seal, []byte(callID), cseq) || got.Key != r.First() || !bytes.Equal(got.Via, s.Via) {
		tb.Fatalf("%+v became %s, which opens as %+v", s, seal, got)
	}
	if len(s.Via) > 0 && len(s.Via) <= MaxVia && &got.Via[0] != &buf[0] {
		tb.Fatalf("%q is not in the caller's buffer", got.Via)
	}
	s.Key, s.Via, got.Via = got.Key, nil, nil
	if !reflect.DeepEqual(got, s) {
		tb.Fatalf("%+v became %s, which opens as %+v", s, seal, got)
	}
	return string(seal)
}

func TestUpSealViaRandom(t *testing.T) {
	r := keyring(t, 0)
	random := rand.New(rand.NewPCG(3, 4))
	for range 20_000 {
		via := []byte("SIP/2.0/WSS " + randomURI(random) + ";branch=z9hG4bK" + randomURI(random))
		via = via[random.IntN(len(via)):]
		checkUpSeal(t, r, UpSeal{HasClient: true, Via: via}, testCallID, random.Uint32())
	}
}

// chan_sip reads 511 bytes of a Via.
func TestUpSealOfLongestViaFits(t *testing.T) {
	s := UpSeal{HasClient: true, Register: RegisterBind, Via: []byte(testVia)}
	s.Via = append(s.Via, strings.Repeat(";x=abc", MaxVia)[:MaxVia-len(testVia)]...)
	seal := checkUpSeal(t, keyring(t, 0), s, testCallID, testCSeq)
	via := "SIP/2.0/UDP [2001:db8:1234:5678:9abc:def0:1234:5678]:65535;rport;branch=z9hG4bK" + seal
	if len(via) > 511 {
		t.Errorf("a Via of %d bytes", len(via))
	}
}

func TestUpSealMutations(t *testing.T) {
	r := keyring(t, 0, 1)
	for _, test := range upSeals {
		seal := r.First().AppendUpSeal(nil, &test.seal, []byte(testCallID), testCSeq)
		mutations(string(seal), func(bad string) {
			got := UpSeal{Flow: 99}
			if r.OpenUpSeal(&got, nil, []byte(bad), []byte(testCallID), testCSeq) || got.Flow != 99 || got.Key != nil {
				t.Fatalf("%s: %s made from %s opens as %+v", test.name, bad, seal, got)
			}
		})
	}
}

func TestUpSealIsBoundToItsRequest(t *testing.T) {
	r := keyring(t, 0)
	seal := r.First().AppendUpSeal(nil, &upSeals[0].seal, []byte(testCallID), testCSeq)
	for _, other := range []struct {
		what   string
		keys   *Keyring
		callID string
		cseq   uint32
	}{
		{"other Call-ID", r, testCallID + "x", testCSeq},
		{"shorter Call-ID", r, testCallID[1:], testCSeq},
		{"no Call-ID", r, "", testCSeq},
		{"other CSeq", r, testCallID, testCSeq + 1},
		{"other key", keyring(t, 1), testCallID, testCSeq},
	} {
		var got UpSeal
		if other.keys.OpenUpSeal(&got, nil, seal, []byte(other.callID), other.cseq) {
			t.Errorf("%s: opens as %+v", other.what, got)
		}
	}
	var got UpSeal
	if rotated := keyring(t, 2, 0); !rotated.OpenUpSeal(&got, nil, seal, []byte(testCallID), testCSeq) || got.Key != rotated.Keys()[1] {
		t.Errorf("by its second key: %+v", got)
	}
}

// What a key sealed, in a layout that this version does not write.
func TestUpSealRefusesOtherLayouts(t *testing.T) {
	r := keyring(t, 0)
	for _, test := range []struct{ name, plaintext string }{
		{"nothing", ""},
		{"media of no meaning", "\x40\x00"},
		{"spare flag of the media", "\x40\x10"},
		{"media cut", "\x40"},
		{"engine cut", "\x40\x08\x01"},
		{"no engine", "\x40\x08\x00\x00"},
		{"spare flag 7", "\x80"},
		{"unknown register", "\x14"},
		{"client cut", "\x011234567"},
		{"flow cut", "\x0312345678"},
		{"origin cut", "\x0412345"},
		{"own with a Via", "\x20via"},
		{"bad code", "\x00\xfc\x00\x00"},
	} {
		s := r.First().upSealer([]byte(testCallID), testCSeq)
		from := len(s.msg)
		s.msg = append(s.msg, test.plaintext...)
		seal := s.seal(nil, from, sealTagSize)
		r.First().release(s)
		var got UpSeal
		if r.OpenUpSeal(&got, nil, seal, []byte(testCallID), testCSeq) {
			t.Errorf("%s: opens as %+v", test.name, got)
		}
		if !reflect.DeepEqual(got, UpSeal{}) {
			t.Errorf("%s: changed to %+v", test.name, got)
		}
	}
}

// One domain's text, with a context as like as can be, does not open in another.
func TestDomainsAreApart(t *testing.T) {
	r := keyring(t, 0)
	k := r.First()
	token, _ := appendToken(t, k, goldenOrigin, contacts[0].uri)
	texts := map[domain][]byte{
		domainToken:    []byte(token),
		domainUpSeal:   k.AppendUpSeal(nil, &UpSeal{}, nil, 0),
		domainDownSeal: k.AppendDownSeal(nil, &DownSeal{}, &Hop{}),
		domainBranch:   k.AppendBranch(nil, &Hop{})[len(branchCookie):],
		domainTag:      k.AppendTag(nil, &Hop{}),
	}
	for from, text := range texts {
		if _, opened, ok := r.OpenToken(nil, text); ok != (from == domainToken) {
			t.Errorf("domain %d as a token: %v", from, opened)
		}
		var up UpSeal
		if r.OpenUpSeal(&up, nil, text, nil, 0) != (from == domainUpSeal) {
			t.Errorf("domain %d as an up seal: %+v", from, up)
		}
		var down DownSeal
		if r.OpenDownSeal(&down, nil, text, &Hop{}) != (from == domainDownSeal) {
			t.Errorf("domain %d as a down seal: %+v", from, down)
		}
	}
}

func FuzzOpenUpSeal(f *testing.F) {
	r := keyring(f, 0)
	k := r.First()
	for _, test := range upSeals {
		f.Add(k.AppendUpSeal(nil, &test.seal, []byte(testCallID), testCSeq), testCallID, uint32(testCSeq))
		f.Add(code(bitWriter{out: []byte{0}}, test.seal.Via), testCallID, uint32(testCSeq))
	}
	f.Fuzz(func(t *testing.T, text []byte, callID string, cseq uint32) {
		// As it came, and as if its bytes had been sealed.
		s := k.upSealer([]byte(callID), cseq)
		from := len(s.msg)
		s.msg = append(s.msg, text...)
		sealed := s.seal(nil, from, sealTagSize)
		k.release(s)
		for _, seal := range [][]byte{text, sealed} {
			var got UpSeal
			if r.OpenUpSeal(&got, nil, seal, []byte(callID), cseq) {
				checkUpSeal(t, r, got, callID, cseq)
			}
		}
	})
}
