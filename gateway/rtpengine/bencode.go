package rtpengine

import (
	"bytes"
	"strconv"
)

// Bencode is written here, for little of it is needed. JSON would damage bodies
// that are not UTF-8.

// maxDepth bounds how deep an answer is nested; a query's is some 10.
const maxDepth = 32

func appendText[T ~string | ~[]byte](buf []byte, text T) []byte {
	buf = strconv.AppendInt(buf, int64(len(text)), 10)
	buf = append(buf, ':')
	return append(buf, text...)
}

func appendInt(buf []byte, i int) []byte {
	buf = strconv.AppendInt(append(buf, 'i'), int64(i), 10)
	return append(buf, 'e')
}

// appendEntry appends a key and its text, nothing if that is empty.
func appendEntry[T ~string | ~[]byte](buf []byte, key string, text T) []byte {
	if len(text) == 0 {
		return buf
	}
	return appendText(appendText(buf, key), text)
}

// appendList does the same with a list of texts.
func appendList(buf []byte, key string, texts []string) []byte {
	if len(texts) == 0 {
		return buf
	}
	buf = append(appendText(buf, key), 'l')
	for _, text := range texts {
		buf = appendText(buf, text)
	}
	return append(buf, 'e')
}

// parseDictionary calls entry with each key of a dictionary whose value is a
// text. It reports whether text is a dictionary and nothing else. Keys come in
// any order, for engines do not sort them.
func parseDictionary(text []byte, entry func(key, value []byte)) bool {
	p := parser{rest: text}
	if !p.takes('d') {
		return false
	}
	for !p.takes('e') {
		key, ok := p.text()
		if !ok {
			return false
		}
		if !p.isText() {
			if !p.skip(1) {
				return false
			}
			continue
		}
		value, ok := p.text()
		if !ok {
			return false
		}
		entry(key, value)
	}
	return len(p.rest) == 0
}

// parser reads values off the beginning of rest.
type parser struct{ rest []byte }

func (p *parser) takes(c byte) bool {
	if len(p.rest) == 0 || p.rest[0] != c {
		return false
	}
	p.rest = p.rest[1:]
	return true
}

func (p *parser) isText() bool {
	return len(p.rest) > 0 && p.rest[0] >= '0' && p.rest[0] <= '9'
}

// text takes a text.
func (p *parser) text() (text []byte, ok bool) {
	digits, rest, ok := bytes.Cut(p.rest, []byte{':'})
	if !ok || !isNumber(digits) {
		return nil, false
	}
	length, err := strconv.ParseUint(string(digits), 10, 31)
	if err != nil || length > uint64(len(rest)) {
		return nil, false
	}
	p.rest = rest[length:]
	return rest[:length:length], true
}

// skip takes any value, which is inside as many others as depth says.
func (p *parser) skip(depth int) bool {
	switch {
	case depth > maxDepth:
		return false
	case p.takes('i'):
		return p.skipInt()
	case p.takes('l'):
		return p.skipAll(depth, false)
	case p.takes('d'):
		return p.skipAll(depth, true)
	}
	_, ok := p.text()
	return ok
}

// skipInt takes an integer after its i.
func (p *parser) skipInt() bool {
	digits, rest, ok := bytes.Cut(p.rest, []byte{'e'})
	p.rest = rest
	negative := bytes.HasPrefix(digits, []byte{'-'})
	if negative {
		digits = digits[1:]
	}
	return ok && isNumber(digits) && !(negative && digits[0] == '0')
}

// skipAll takes the values of a list or dictionary, and its end.
func (p *parser) skipAll(depth int, keyed bool) bool {
	for !p.takes('e') {
		if keyed {
			if _, ok := p.text(); !ok {
				return false
			}
		}
		if !p.skip(depth + 1) {
			return false
		}
	}
	return true
}

// isNumber reports whether text is a decimal number, without leading zeros.
func isNumber(text []byte) bool {
	for _, c := range text {
		if c < '0' || c > '9' {
			return false
		}
	}
	return len(text) == 1 || len(text) > 1 && text[0] != '0'
}
