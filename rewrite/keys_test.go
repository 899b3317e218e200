package rewrite

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
)

// master returns the n-th key of the tests as the key file's 32 bytes.
func master(n byte) []byte {
	b := make([]byte, keySize)
	for i := range b {
		b[i] = byte(i) + n*keySize
	}
	return b
}

func keyLine(n byte) string { return base64.StdEncoding.EncodeToString(master(n)) + "\n" }

// keyring returns the keys of the tests with those numbers.
func keyring(tb testing.TB, numbers ...byte) *Keyring {
	tb.Helper()
	var text strings.Builder
	for _, n := range numbers {
		text.WriteString(keyLine(n))
	}
	r, err := ParseKeyring([]byte(text.String()), nil)
	if err != nil {
		tb.Fatal(err)
	}
	return r
}

func TestParseKeyring(t *testing.T) {
	text := "# made by hand\n\n" + keyLine(1) + "  \t\r\n" + strings.TrimSpace(keyLine(0)) + "\r\n# and the oldest\n" + strings.TrimSpace(keyLine(2))
	r, err := ParseKeyring([]byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Keys()) != 3 || r.First() != r.Keys()[0] {
		t.Fatalf("%d keys, first %v of %v", len(r.Keys()), r.First(), r.Keys())
	}
	for i, want := range keyring(t, 1, 0, 2).Keys() {
		if got := r.Keys()[i]; got.String() != want.String() {
			t.Errorf("key %d is %v, want %v", i, got, want)
		}
	}
}

func TestParseKeyringErrors(t *testing.T) {
	short := base64.StdEncoding.EncodeToString(master(0)[:31])
	for _, test := range []struct{ name, text, want string }{
		{"nothing", "", "no key in it"},
		{"comments only", "# a\n\n", "no key in it"},
		{"short", keyLine(1) + short + "\n", "line 2: not the base64 of 32 bytes"},
		{"no padding", "\n" + strings.TrimRight(keyLine(0), "=\n"), "line 2: not the base64 of 32 bytes"},
		{"spare bits", strings.Replace(keyLine(0), "8=", "9=", 1), "line 1: not the base64 of 32 bytes"},
		{"hex", fmt.Sprintf("%x", master(0)), "line 1: not the base64 of 32 bytes"},
		{"two on a line", strings.TrimSpace(keyLine(0)) + " " + keyLine(1), "line 1: not the base64 of 32 bytes"},
		{"twice", keyLine(0) + keyLine(1) + "#\n" + keyLine(0), "line 4: the same key as line 1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			r, err := ParseKeyring([]byte(test.text), nil)
			if r != nil || err == nil || err.Error() != test.want {
				t.Errorf("got %v, %v; want %s", r, err, test.want)
			}
		})
	}
}

func TestParseKeyringKeepsKeys(t *testing.T) {
	before := keyring(t, 0, 1)
	after, err := ParseKeyring([]byte(keyLine(2)+keyLine(1)), before)
	if err != nil {
		t.Fatal(err)
	}
	if after.Keys()[1] != before.Keys()[1] {
		t.Error("the unchanged key is another *Key after the reload")
	}
	if after.First() == before.First() {
		t.Error("the new key is the old *Key")
	}
}

func TestNewKeyLine(t *testing.T) {
	first, second := NewKeyLine(), NewKeyLine()
	r, err := ParseKeyring([]byte(first+second), nil)
	if err != nil || len(r.Keys()) != 2 {
		t.Fatalf("%q and %q: %v, %v", first, second, r, err)
	}
}

func TestKeyKeepsItsSecret(t *testing.T) {
	k := keyring(t, 0).First()
	for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q"} {
		if got := fmt.Sprintf(format, k); !strings.Contains(got, k.String()) || len(got) > 20 {
			t.Errorf("%s prints %s", format, got)
		}
	}
	if mac := fmt.Sprintf("%x", k.mac); strings.Contains(mac, k.String()[len("key "):]) {
		t.Error("the name is a piece of the key")
	}
}

// The package comment's formulas, written down a second time with other
// functions of the standard library.
func TestSealIsAsDocumented(t *testing.T) {
	sub := func(label string) []byte {
		mac := hmac.New(sha256.New, master(0))
		mac.Write([]byte(label))
		return mac.Sum(nil)
	}
	k := keyring(t, 0).First()
	for size := range 100 {
		plaintext := bytes.Repeat([]byte{'p'}, size)

		mac := hmac.New(sha256.New, sub("viaduct mac"))
		mac.Write([]byte("\x03\x07context"))
		mac.Write(plaintext)
		tag := mac.Sum(nil)[:sealTagSize]
		block, err := aes.NewCipher(sub("viaduct enc"))
		if err != nil {
			t.Fatal(err)
		}
		ciphertext := make([]byte, size)
		first := make([]byte, aes.BlockSize)
		copy(first[copy(first, "\x03"):], tag)
		cipher.NewCTR(block, first).XORKeyStream(ciphertext, plaintext)
		want := base32.NewEncoding(digits32).WithPadding(base32.NoPadding).EncodeToString(append(tag, ciphertext...))

		s := k.sealer(domainDownSeal)
		s.field([]byte("context"))
		from := len(s.msg)
		s.msg = append(s.msg, plaintext...)
		if got := string(s.seal(nil, from, sealTagSize)); got != want {
			t.Fatalf("%d bytes: sealed %s, want %s", size, got, want)
		}
		k.release(s)

		s = k.sealer(domainDownSeal)
		s.field([]byte("context"))
		if got, ok := s.open([]byte(want), sealTagSize); !ok || !bytes.Equal(got, plaintext) {
			t.Fatalf("%d bytes: opened %q, %v", size, got, ok)
		}
		k.release(s)
	}
}

func TestBase32(t *testing.T) {
	std := base32.NewEncoding(digits32).WithPadding(base32.NoPadding)
	for size := range 41 {
		src := bytes.Repeat([]byte{0xa5, 0x3c, 0x01}, 14)[:size]
		text := appendBase32(nil, src)
		if want := std.EncodeToString(src); string(text) != want {
			t.Fatalf("%d bytes: %s, want %s", size, text, want)
		}
		if len(text) != base32Len(size) {
			t.Errorf("%d bytes: base32Len says %d, not %d", size, base32Len(size), len(text))
		}
		if got, ok := appendFromBase32([]byte("x"), text); !ok || string(got) != "x"+string(src) {
			t.Errorf("%s: got %q, %v", text, got, ok)
		}
	}
}

func TestBase32HasOneSpelling(t *testing.T) {
	for _, text := range []string{
		"a", "aaa", "aaaaaa", "aaaaaaaaa", // no number of bytes has so many digits
		"ab", "aaab", "aaaab", "aaaaaab", // spare bits
		"AA", "a=", "aa======", "a1", "a8", "a0", "aa\n", "\naa", " aa", "aa\x00", "a\xff",
		"aaaaaaaA", "aaaaaaa=", "aaaaaaa1", "\xffaaaaaaa",
	} {
		if got, ok := appendFromBase32([]byte("x"), []byte(text)); ok {
			t.Errorf("%q: got %q", text, got)
		}
	}
}
