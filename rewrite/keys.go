package rewrite

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"slices"
	"sync"
)

// keySize is the size of a key in the key file, in bytes before base64.
const keySize = 32

// Key seals and hashes. It is immutable, safe for concurrent use and must not
// be copied.
type Key struct {
	mac     [sha256.Size]byte
	name    [4]byte
	sealers sync.Pool // *sealer
}

func newKey(master []byte) *Key {
	k := &Key{mac: subkey(master, "viaduct mac")}
	name := subkey(master, "viaduct name")
	copy(k.name[:], name[:])
	enc := subkey(master, "viaduct enc")
	block, err := aes.NewCipher(enc[:])
	if err != nil {
		panic(err) // only for a key of a wrong size
	}
	k.sealers.New = func() any {
		return &sealer{mac: hmac.New(sha256.New, k.mac[:]), block: block}
	}
	return k
}

func subkey(master []byte, label string) (sub [sha256.Size]byte) {
	mac := hmac.New(sha256.New, master)
	mac.Write([]byte(label))
	mac.Sum(sub[:0])
	return sub
}

// String returns a short name for logs that gives nothing of the key away.
func (k *Key) String() string { return "key " + hex.EncodeToString(k.name[:]) }

// GoString is String, for %#v would print the fields.
func (k *Key) GoString() string { return k.String() }

// Keyring is an ordered set of keys: the first signs, all verify. It is
// immutable and never empty.
type Keyring struct{ keys []*Key }

// First returns the key that signs.
func (r *Keyring) First() *Key { return r.keys[0] }

// Keys returns all keys in the order of the file. The slice is the Keyring's.
func (r *Keyring) Keys() []*Key { return r.keys }

// ParseKeyring reads a key file: a key a line, base64 of 32 bytes; blank lines
// and lines that start with # are skipped. A key that old holds too keeps its
// *Key, so that pointers of before a reload still compare equal; old may be
// nil. The error names the line and shows nothing of it.
func ParseKeyring(text []byte, old *Keyring) (*Keyring, error) {
	r := &Keyring{}
	var lines []int
	number := 0
	for line := range bytes.Lines(text) {
		number++
		line = bytes.TrimSpace(line)
		if len(line) == 0 || line[0] == '#' {
			continue
		}
		master, err := base64.StdEncoding.Strict().AppendDecode(nil, line)
		if err != nil || len(master) != keySize {
			return nil, fmt.Errorf("line %d: not the base64 of %d bytes", number, keySize)
		}
		k := newKey(master)
		if i := r.index(k); i >= 0 {
			return nil, fmt.Errorf("line %d: the same key as line %d", number, lines[i])
		}
		if i := old.index(k); i >= 0 {
			k = old.keys[i]
		}
		r.keys = append(r.keys, k)
		lines = append(lines, number)
	}
	if len(r.keys) == 0 {
		return nil, errors.New("no key in it")
	}
	return r, nil
}

// index returns where r holds the key, or -1.
func (r *Keyring) index(k *Key) int {
	if r != nil {
		for i, have := range r.keys {
			if hmac.Equal(have.mac[:], k.mac[:]) {
				return i
			}
		}
	}
	return -1
}

// NewKeyLine returns a new random key as a line of a key file, with its line
// end.
func NewKeyLine() string {
	var master [keySize]byte
	rand.Read(master[:]) // never fails: crypto/rand ends the program instead
	return base64.StdEncoding.EncodeToString(master[:]) + "\n"
}

// A domain is the first byte of everything that is hashed or encrypted, so that
// what was made for one purpose verifies for no other.
type domain byte

const (
	domainToken domain = 1 + iota
	domainUpSeal
	domainDownSeal
	domainBranch
	domainTag
	domainOrigin
	domainClient
	domainRoutes
)

// sealer is the working memory of one operation under a key. All buffers that
// go into the hash and the cipher live in it: those are called through
// interfaces, which would move a caller's buffers to the heap.
type sealer struct {
	mac    hash.Hash
	block  cipher.Block
	msg    []byte // domain || context || plaintext
	sum    [sha256.Size]byte
	in     [aes.BlockSize]byte
	stream [aes.BlockSize]byte
}

func (k *Key) sealer(d domain) *sealer {
	s := k.sealers.Get().(*sealer)
	s.msg = append(s.msg[:0], byte(d))
	return s
}

func (k *Key) release(s *sealer) { k.sealers.Put(s) }

// field adds a part of a context, behind its length.
func (s *sealer) field(b []byte) {
	s.msg = binary.AppendUvarint(s.msg, uint64(len(b)))
	s.msg = append(s.msg, b...)
}

// hash returns the keyed hash of msg; it is valid until the next call.
func (s *sealer) hash() []byte {
	s.mac.Reset()
	s.mac.Write(s.msg)
	return s.mac.Sum(s.sum[:0])
}

// crypt encrypts or decrypts text, a part of msg, under the tag.
func (s *sealer) crypt(tag, text []byte) {
	s.in = [aes.BlockSize]byte{s.msg[0]}
	copy(s.in[1:], tag)
	for n := uint32(0); len(text) > 0; n++ {
		binary.BigEndian.PutUint32(s.in[aes.BlockSize-4:], n)
		s.block.Encrypt(s.stream[:], s.in[:])
		text = text[subtle.XORBytes(text, text, s.stream[:]):]
	}
}

// seal appends tag || ciphertext of the plaintext at msg[from:] in base 32.
func (s *sealer) seal(dst []byte, from, tagSize int) []byte {
	tag := s.hash()[:tagSize]
	s.crypt(tag, s.msg[from:])
	s.msg = slices.Insert(s.msg, from, tag...)
	return appendBase32(dst, s.msg[from:])
}

// open reverses seal: it leaves the plaintext at msg[len(msg):] of before and
// returns it, false if text was not sealed with this key, domain and context.
// The plaintext is valid until the sealer is released.
func (s *sealer) open(text []byte, tagSize int) ([]byte, bool) {
	from := len(s.msg)
	msg, ok := appendFromBase32(s.msg, text)
	if !ok || len(msg)-from < tagSize {
		return nil, false
	}
	var tag [sha256.Size]byte
	copy(tag[:tagSize], msg[from:])
	s.msg = slices.Delete(msg, from, from+tagSize)
	s.crypt(tag[:tagSize], s.msg[from:])
	return s.msg[from:], hmac.Equal(s.hash()[:tagSize], tag[:tagSize])
}
