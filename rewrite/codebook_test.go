package rewrite

import (
	"encoding/hex"
	"strings"
	"testing"
)

func decode(coded []byte) (string, bool) {
	text, ok := appendDecoded([]byte("<"), bitReader{in: coded})
	return strings.TrimPrefix(string(text), "<"), ok
}

// Every symbol in its order: tokens in PBX databases depend on each.
func TestCodebookGolden(t *testing.T) {
	if n := len(codeChars) + len(codePhrases); n != codeFlip {
		t.Fatalf("%d symbols below the flip, want %d", n, codeFlip)
	}
	text := codeChars + strings.Join(codePhrases[:], "0") + "Az\x00"
	const want = "00108310518720928b30d38f41149351559761969b71d79f8218a39259a7a29aabb2dbafc31cb303403503603703803903a03b03cf4af63f803f"
	if got := hex.EncodeToString(code(bitWriter{}, []byte(text))); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestCodebook(t *testing.T) {
	for _, test := range []struct {
		text string
		size int
	}{
		{"", 0},
		{"a", 1},
		{"abc", 3}, // 6 bits to spare are the end
		{"abcd", 3},
		{"SIP/2.0/WSS abcdefghijkl.invalid;branch=z9hG4bK1234567", 16},
		{"SIP/2.0/WS 192.0.2.1:5060;branch=z9hG4bK1234567;rport", 22},
		{"SIP/2.0/TCP a.b", 14},
		{"ABCdef", 6},
		{"\xff\xff", 4},
		{".invalid;transport=w", 10},
		{".Invalid", 8},
	} {
		coded := code(bitWriter{}, []byte(test.text))
		if len(coded) != test.size {
			t.Errorf("%q takes %d bytes, want %d", test.text, len(coded), test.size)
		}
		if text, ok := decode(coded); !ok || text != test.text {
			t.Errorf("%q decodes as %q, %v", test.text, text, ok)
		}
	}
}

func TestCodebookRefuses(t *testing.T) {
	for _, coded := range []string{
		"fc0000",   // the end before the end
		"f8",       // a byte announced, none there
		"03e0",     // the same, a symbol later
		"ffffffff", // the end, then more
	} {
		b, err := hex.DecodeString(coded)
		if err != nil {
			t.Fatal(err)
		}
		if text, ok := decode(b); ok {
			t.Errorf("%s decodes as %q", coded, text)
		}
	}
}
