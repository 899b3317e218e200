package rewrite

// The 6-bit code writes Contact URIs and Via values in two thirds of their
// length and any other text at all: a symbol a character for what SIP addresses
// are made of, a symbol for each phrase that browsers' SIP stacks repeat.
//
// Tokens live in PBX databases: a symbol never changes its meaning.
const (
	codeChars = "0123456789abcdefghijklmnopqrstuvwxyz-._@:;=+%*~&/[]"

	codeFlip = 61 // letters change case, from here to the next flip
	codeByte = 62 // the next 8 bits are the character
	codeEnd  = 63 // so that 6 or 7 spare bits, all ones, are no symbol
	codeBits = 6
)

// codePhrases have the symbols after codeChars. Where one begins another, the
// longer comes first.
var codePhrases = [...]string{
	".invalid;transport=ws;ob",
	".invalid;transport=wss",
	".invalid;transport=ws",
	".invalid;branch=z9hG4bK",
	".invalid",
	";transport=ws",
	";branch=z9hG4bK",
	";ob",
	"SIP/2.0/WSS ",
	"SIP/2.0/WS ",
}

var codeValues = reverse(codeChars)

// code writes the 6-bit code of text. What follows in w must start a byte.
func code(w bitWriter, text []byte) []byte {
	upper := false
	for len(text) > 0 {
		if symbol, n := phrase(text); n > 0 {
			w.put(symbol, codeBits)
			text = text[n:]
			continue
		}
		c := text[0]
		text = text[1:]
		if isLetter(c) {
			if isUpper := c&0x20 == 0; isUpper != upper {
				w.put(codeFlip, codeBits)
				upper = isUpper
			}
			c |= 0x20
		}
		if v := codeValues[c]; v != none {
			w.put(v, codeBits)
		} else {
			w.put(codeByte, codeBits)
			w.put(c, 8)
		}
	}
	if w.n > 0 {
		spare := 8 - w.n
		w.put(1<<spare-1, spare)
	}
	return w.out
}

// phrase returns the symbol and length of the phrase that text starts with, or
// length 0.
func phrase(text []byte) (symbol byte, length int) {
	if c := text[0]; c != '.' && c != ';' && c != 'S' {
		return 0, 0
	}
	for i, p := range &codePhrases {
		if len(text) >= len(p) && string(text[:len(p)]) == p {
			return byte(len(codeChars) + i), len(p)
		}
	}
	return 0, 0
}

// appendDecoded appends the text that r holds in the 6-bit code; false if code
// writes no such symbols.
func appendDecoded(dst []byte, r bitReader) ([]byte, bool) {
	var flip byte
	for r.left() >= codeBits {
		switch symbol := int(r.take(codeBits)); {
		case symbol < len(codeChars):
			c := codeChars[symbol]
			if isLetter(c) {
				c ^= flip
			}
			dst = append(dst, c)
		case symbol < len(codeChars)+len(codePhrases):
			dst = append(dst, codePhrases[symbol-len(codeChars)]...)
		case symbol == codeFlip:
			flip ^= 0x20
		case symbol == codeByte && r.left() >= 8:
			dst = append(dst, r.take(8))
		default:
			return dst, symbol == codeEnd && r.left() < codeBits
		}
	}
	return dst, true
}

func isLetter(c byte) bool { c |= 0x20; return 'a' <= c && c <= 'z' }
