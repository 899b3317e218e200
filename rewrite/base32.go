package rewrite

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

// appendBase32 appends the digits of head and body as of one run of bytes;
// spare bits of the last digit are zero.
func appendBase32(dst, head, body []byte) []byte {
	var acc, n uint
	for _, part := range [2][]byte{head, body} {
		for _, b := range part {
			acc, n = acc<<8|uint(b), n+8
			for n >= 5 {
				n -= 5
				dst = append(dst, digits32[acc>>n&31])
			}
		}
	}
	if n > 0 {
		dst = append(dst, digits32[acc<<(5-n)&31])
	}
	return dst
}

// appendFromBase32 appends the bytes that text stands for; false unless it is
// exactly what appendBase32 writes for them.
func appendFromBase32(dst, text []byte) ([]byte, bool) {
	w := bitWriter{out: dst}
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
	acc uint
	n   uint // bits in acc that are not out yet, fewer than 8
}

func (w *bitWriter) put(value byte, bits uint) {
	w.acc, w.n = w.acc<<bits|uint(value), w.n+bits
	if w.n >= 8 {
		w.n -= 8
		w.out = append(w.out, byte(w.acc>>w.n))
	}
}

// bitReader takes apart what a bitWriter packed.
type bitReader struct {
	in  []byte
	acc uint
	n   uint // bits in acc that are not taken yet
}

// left returns the number of bits that can be taken.
func (r *bitReader) left() int { return len(r.in)*8 + int(r.n) }

// take returns the next 8 bits or fewer; there must be as many left.
func (r *bitReader) take(bits uint) byte {
	if r.n < bits {
		r.acc, r.n, r.in = r.acc<<8|uint(r.in[0]), r.n+8, r.in[1:]
	}
	r.n -= bits
	return byte(r.acc >> r.n & (1<<bits - 1))
}
