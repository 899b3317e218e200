package rewrite

import "encoding/binary"

// digits32 are the digits of everything we put into a message. All of them are
// unreserved in a user part and legal in a token (RFC 3261 25.1).
const digits32 = "abcdefghijklmnopqrstuvwxyz234567"

var values32 = reverse(digits32)

// none stands in a reverse table for a byte that is no digit.
const none = 0xff

func reverse(digits string) (values [256]byte) {
	for i := range values {
		values[i] = none
	}
	for i := range len(digits) {
		values[digits[i]] = byte(i)
	}
	return values
}

// base32Len returns the number of digits for n bytes.
func base32Len(n int) int { return (n*8 + 4) / 5 }

// appendBase32 appends the digits of src; spare bits of the last are zero.
func appendBase32(dst, src []byte) []byte {
	for ; len(src) >= 5; src = src[5:] {
		v := uint64(src[0])<<32 | uint64(binary.BigEndian.Uint32(src[1:]))
		dst = append(dst,
			digits32[v>>35&31], digits32[v>>30&31], digits32[v>>25&31], digits32[v>>20&31],
			digits32[v>>15&31], digits32[v>>10&31], digits32[v>>5&31], digits32[v&31])
	}
	if len(src) == 0 {
		return dst
	}
	var last [8]byte
	copy(last[:], src)
	v := binary.BigEndian.Uint64(last[:])
	for i := range base32Len(len(src)) {
		dst = append(dst, digits32[v>>(59-5*i)&31])
	}
	return dst
}

// appendFromBase32 appends the bytes that text stands for; false unless it is
// exactly what appendBase32 writes for them.
func appendFromBase32(dst, text []byte) ([]byte, bool) {
	out := dst
	for ; len(text) >= 8; text = text[8:] {
		var v uint64
		var all byte
		for _, c := range text[:8] {
			d := values32[c]
			v, all = v<<5|uint64(d), all|d
		}
		if all == none {
			return dst, false
		}
		out = append(out, byte(v>>32), byte(v>>24), byte(v>>16), byte(v>>8), byte(v))
	}
	w := bitWriter{out: out}
	for _, c := range text {
		v := values32[c]
		if v == none {
			return dst, false
		}
		w.put(v, 5)
	}
	// A whole digit to spare is one that no byte asked for.
	return w.out, w.n < 5 && w.acc&(1<<w.n-1) == 0
}

// bitWriter packs values of a few bits each into bytes, high bits first.
type bitWriter struct {
	out []byte
	acc uint32
	n   uint32 // bits in acc that are not out yet, fewer than 8
}

func (w *bitWriter) put(value byte, bits uint32) {
	w.acc, w.n = w.acc<<bits|uint32(value), w.n+bits
	if w.n >= 8 {
		w.n -= 8
		w.out = append(w.out, byte(w.acc>>w.n))
	}
}

// bitReader takes apart what a bitWriter packed.
type bitReader struct {
	in  []byte
	acc uint32
	n   uint32 // bits in acc that are not taken yet
}

// left returns the number of bits that can be taken.
func (r *bitReader) left() int { return len(r.in)*8 + int(r.n) }

// take returns the next 8 bits or fewer; there must be as many left.
func (r *bitReader) take(bits uint32) byte {
	if r.n < bits {
		r.acc, r.n, r.in = r.acc<<8|uint32(r.in[0]), r.n+8, r.in[1:]
	}
	r.n -= bits
	return byte(r.acc >> r.n & (1<<bits - 1))
}
