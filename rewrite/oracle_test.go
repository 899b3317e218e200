package rewrite

import (
	"slices"
	"strconv"
	"strings"
)

// The oracle is a second reader of SIP that shares nothing with the package: it
// is plain and slow, works on strings a line at a time, and knows of each row of
// the transformation only which header lines and values it names. All that it
// does not name it puts out as it found it. It expects a message that is Sound.
type oracle struct {
	start string // with its line end
	lines []oracleLine
	body  string // with the empty line before it
}

// oracleLine is one header line.
type oracleLine struct {
	name string // in full, in lower case
	raw  string // all of it, with folds and line end
	at   int    // of the text behind the colon
}

var oracleCompact = map[string]string{
	"a": "accept-contact", "b": "referred-by", "c": "content-type", "d": "request-disposition",
	"e": "content-encoding", "f": "from", "i": "call-id", "j": "reject-contact", "k": "supported",
	"l": "content-length", "m": "contact", "n": "identity-info", "o": "event", "r": "refer-to",
	"s": "subject", "t": "to", "u": "allow-events", "v": "via", "x": "session-expires", "y": "identity",
}

func readOracle(msg string) (o oracle) {
	all := strings.SplitAfter(msg, "\r\n")
	o.start = all[0]
	for i, raw := range all[1:] {
		if raw == "\r\n" {
			o.body = strings.Join(all[1+i:], "")
			break
		}
		if raw[0] == ' ' || raw[0] == '\t' {
			o.lines[len(o.lines)-1].raw += raw
			continue
		}
		name, _, _ := strings.Cut(raw, ":")
		l := oracleLine{raw: raw, at: len(name) + 1, name: strings.ToLower(strings.TrimSpace(name))}
		if full, ok := oracleCompact[l.name]; ok {
			l.name = full
		}
		o.lines = append(o.lines, l)
	}
	return o
}

// a piece is a part of a line's raw text, without the white space around it.
type piece struct{ lo, hi int }

func (p piece) of(raw string) string { return raw[p.lo:p.hi] }

const oracleSpace = " \t\r\n"

// pieces splits raw[lo:hi] at every separator that stands outside of quoted
// strings and, where brackets are given, of those. Empty pieces are left out.
func pieces(raw string, lo, hi int, separator byte, brackets string) (all []piece) {
	quoted, depth, from := false, 0, lo
	add := func(to int) {
		text := strings.TrimLeft(raw[from:to], oracleSpace)
		p := piece{lo: to - len(text)}
		p.hi = p.lo + len(strings.TrimRight(text, oracleSpace))
		if p.hi > p.lo {
			all = append(all, p)
		}
		from = to + 1
	}
	for i := lo; i < hi; i++ {
		c := raw[i]
		switch {
		case c == '\\' && (quoted || depth > 0 && brackets == "()"):
			i++
		case quoted:
			quoted = c != '"'
		case depth > 0 && c == brackets[1]:
			depth--
		case depth > 0 && brackets == "()" && c == '(':
			depth++
		case depth > 0:
		case c == '"':
			quoted = true
		case brackets != "" && c == brackets[0]:
			depth++
		case c == separator:
			add(i)
		}
	}
	add(hi)
	return all
}

// values are the comma-separated values of a line.
func (l *oracleLine) values() []piece {
	if l.name == "via" {
		return pieces(l.raw, l.at, len(l.raw), ',', "()")
	}
	return pieces(l.raw, l.at, len(l.raw), ',', "<>")
}

// value is the whole value of a line.
func (l *oracleLine) value() string { return strings.Trim(l.raw[l.at:], oracleSpace) }

// line returns the first line of that name.
func (o *oracle) line(name string) (l oracleLine, ok bool) {
	i := slices.IndexFunc(o.lines, func(l oracleLine) bool { return l.name == name })
	if i < 0 {
		return l, false
	}
	return o.lines[i], true
}

// all returns the values of all lines of that name.
func (o *oracle) all(name string) (values []string) {
	for _, l := range o.lines {
		if l.name == name {
			for _, v := range l.values() {
				values = append(values, v.of(l.raw))
			}
		}
	}
	return values
}

// An edit puts text in the place of raw[lo:hi].
type edit struct {
	lo, hi int
	text   string
}

// apply makes edits, which stand in order, to raw.
func apply(raw string, edits ...edit) string {
	for _, e := range slices.Backward(edits) {
		raw = raw[:e.lo] + e.text + raw[e.hi:]
	}
	return raw
}

// put writes the message with each line as rule makes it, and text above the
// empty line.
func (o *oracle) put(start string, rule func(oracleLine) string, text string) string {
	var out strings.Builder
	out.WriteString(start)
	for _, l := range o.lines {
		out.WriteString(rule(l))
	}
	out.WriteString(text + o.body)
	return out.String()
}

// contentLength is the header line that a message without one is given.
func (o *oracle) contentLength() string {
	if _, ok := o.line("content-length"); ok {
		return ""
	}
	return "Content-Length: " + strconv.Itoa(len(o.body)-2) + "\r\n"
}
