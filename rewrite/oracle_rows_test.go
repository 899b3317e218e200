package rewrite

import (
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// The rows of the transformation, as the oracle has them.

func (o *oracle) requestUp(r *RequestUp) string {
	seen, popped, contacts := false, 0, 0
	register := strings.HasPrefix(o.start, "REGISTER ")
	return o.put(o.start, func(l oracleLine) string {
		switch l.name {
		case "via":
			if seen {
				return l.raw
			}
			seen = true
			v := l.values()[0]
			return apply(l.raw, edit{v.lo, v.hi, string(r.Via)}) + o.addedUp(r)
		case "max-forwards":
			n, _ := strconv.Atoi(l.value())
			at := strings.Index(l.raw[l.at:], l.value()) + l.at
			return apply(l.raw, edit{at, at + len(l.value()), strconv.Itoa(n - 1)})
		case "route":
			if popped == r.OwnRoutes {
				return l.raw
			}
			n := min(r.OwnRoutes-popped, len(l.values()))
			popped += n
			return l.pop(n)
		case "record-route", "path", "p-asserted-identity", "p-preferred-identity", "p-served-user", "remote-party-id",
			"p-charge-info", "p-charging-vector", "p-charging-function-addresses":
			return ""
		case "contact":
			var edits []edit
			for _, v := range l.values() {
				edits = append(edits, l.contactEdits(v, string(r.Contacts[contacts]))...)
				contacts++
			}
			return apply(l.raw, edits...)
		case "supported":
			if register {
				return l.withoutTags("path", "gruu", "outbound")
			}
			return l.raw
		}
		if l.name == strings.ToLower(r.ClientIPHeader) || l.isOneOf(r.Strip) {
			return ""
		}
		return l.raw
	}, o.contentLength())
}

// addedUp is what stands below our Via.
func (o *oracle) addedUp(r *RequestUp) (lines string) {
	if _, ok := o.line("max-forwards"); !ok {
		lines = "Max-Forwards: 70\r\n"
	}
	if r.ClientIPHeader != "" {
		lines += r.ClientIPHeader + ": " + string(r.ClientIP) + "\r\n"
	}
	return lines
}

func (l *oracleLine) isOneOf(names []string) bool {
	return slices.ContainsFunc(names, func(name string) bool { return strings.ToLower(name) == l.name })
}

// pop is the line without its first n values.
func (l *oracleLine) pop(n int) string {
	values := l.values()
	if n >= len(values) {
		return ""
	}
	lo := l.at + len(l.raw[l.at:]) - len(strings.TrimLeft(l.raw[l.at:], oracleSpace))
	return apply(l.raw, edit{lo, values[n].lo, ""})
}

// contactEdits put target in the place of one Contact's URI and its brackets,
// and leave its reg-id out.
func (l *oracleLine) contactEdits(v piece, target string) []edit {
	if v.of(l.raw) == "*" {
		return nil
	}
	lo, hi := l.addressTarget(v)
	edits := []edit{{lo, hi, target}}
	for _, p := range l.params(piece{hi, v.hi}) {
		name, _, _ := strings.Cut(p.of(l.raw), "=")
		if strings.EqualFold(strings.TrimRight(name, oracleSpace), "reg-id") {
			next := p.hi // up to the next semicolon
			for next < v.hi && l.raw[next] != ';' {
				next++
			}
			edits = append(edits, edit{strings.LastIndexByte(l.raw[:p.lo], ';'), next, ""})
		}
	}
	return edits
}

// addressTarget returns where the URI of an address is, with its brackets.
func (l *oracleLine) addressTarget(v piece) (lo, hi int) {
	lo = v.lo
	if before := pieces(l.raw, v.lo, v.hi, '<', ""); len(before) > 1 && l.raw[lo] != '<' {
		lo = before[0].hi + strings.IndexByte(l.raw[before[0].hi:], '<')
	}
	if l.raw[lo] == '<' {
		return lo, lo + strings.IndexByte(l.raw[lo:], '>') + 1
	}
	n := strings.IndexAny(l.raw[v.lo:v.hi], ";"+oracleSpace)
	if n < 0 {
		return v.lo, v.hi
	}
	return v.lo, v.lo + n
}

// uri is the URI of an address.
func (l *oracleLine) uri(v piece) string {
	lo, hi := l.addressTarget(v)
	return strings.Trim(l.raw[lo:hi], "<>"+oracleSpace)
}

// params are the parameters in a part of a line, without their semicolons.
func (l *oracleLine) params(in piece) []piece {
	at := strings.IndexByte(in.of(l.raw), ';')
	if at < 0 {
		return nil
	}
	return pieces(l.raw, in.lo+at+1, in.hi, ';', "")
}

// withoutTags is the line without some of its values. One that stays keeps the
// text between the value before it and itself.
func (l *oracleLine) withoutTags(tags ...string) string {
	values, untouched := l.values(), true
	rest := strings.TrimLeft(l.raw[l.at:], oracleSpace)
	begin := len(l.raw) - len(rest)
	var text string
	for i, v := range values {
		if slices.Contains(tags, strings.ToLower(v.of(l.raw))) {
			untouched = false
			continue
		}
		switch {
		case i == 0:
			text += l.raw[begin:v.lo] // commas, if any
		case text != "":
			text += l.raw[values[i-1].hi:v.lo]
		}
		text += v.of(l.raw)
	}
	switch {
	case untouched:
		return l.raw
	case text == "":
		return ""
	}
	return l.raw[:begin] + text + l.raw[values[len(values)-1].hi:]
}

func (o *oracle) responseUp(r *ResponseUp) string {
	seen := false
	return o.put(o.start, func(l oracleLine) string {
		switch l.name {
		case "via":
			if seen {
				return l.raw
			}
			seen = true
			return l.pop(1)
		case "record-route":
			if r.Routes {
				return l.raw
			}
			return ""
		case "p-asserted-identity", "p-preferred-identity", "p-served-user", "remote-party-id",
			"p-charge-info", "p-charging-vector", "p-charging-function-addresses":
			return ""
		case "contact":
			if len(r.Contact) == 0 {
				return l.raw
			}
			var edits []edit
			for _, v := range l.values() {
				edits = append(edits, l.contactEdits(v, string(r.Contact))...)
			}
			return apply(l.raw, edits...)
		}
		if l.isOneOf(r.Strip) {
			return ""
		}
		return l.raw
	}, o.contentLength())
}

func (o *oracle) requestDown(r *RequestDown) string {
	parts := strings.Split(o.start, " ")
	seen := false
	return o.put(parts[0]+" "+string(r.URI)+" "+parts[2], func(l oracleLine) string {
		if l.name != "via" || seen {
			return l.raw
		}
		seen = true
		return "Via: " + string(r.Via) + "\r\n" + l.received(r.Source)
	}, "")
}

// received is a Via line whose top value says where the message came from.
func (l *oracleLine) received(source netip.AddrPort) string {
	addr := source.Addr().Unmap().WithZone("")
	top := l.values()[0]
	var edits []edit
	for _, p := range l.params(top) {
		if strings.EqualFold(p.of(l.raw), "rport") && edits == nil {
			edits = append(edits, edit{p.hi, p.hi, "=" + strconv.Itoa(int(source.Port()))})
		}
	}
	host, _ := splitSentBy(viaSentBy(top.of(l.raw)))
	if edits == nil && strings.Trim(host, "[]") == addr.String() {
		return l.raw
	}
	return apply(l.raw, append(edits, edit{top.hi, top.hi, ";received=" + addr.String()})...)
}

// viaSentBy is the sent-by of a Via value, its white space made one space.
func viaSentBy(via string) string {
	protocol, _, _ := strings.Cut(via, ";")
	_, sentBy, _ := strings.Cut(strings.Join(strings.Fields(strings.SplitN(protocol, "/", 3)[2]), " "), " ")
	return sentBy
}

// splitSentBy returns a sent-by's host, IPv6 with its brackets, and port, empty
// if absent.
func splitSentBy(sentBy string) (host, port string) {
	at := strings.LastIndexByte(sentBy, ':')
	if at < 0 || strings.HasSuffix(sentBy, "]") {
		return sentBy, ""
	}
	return strings.TrimRight(sentBy[:at], oracleSpace), strings.TrimLeft(sentBy[at+1:], oracleSpace)
}

// viaBranch is the branch of a Via value, empty if absent.
func viaBranch(via string) string {
	l := oracleLine{raw: via}
	for _, p := range l.params(piece{0, len(via)}) {
		name, value, _ := strings.Cut(p.of(via), "=")
		if strings.EqualFold(strings.TrimRight(name, oracleSpace), "branch") {
			return strings.TrimLeft(value, oracleSpace)
		}
	}
	return ""
}

func (o *oracle) responseDown(r *ResponseDown) string {
	seen := false
	return o.put(o.start, func(l oracleLine) string {
		switch l.name {
		case "via":
			if seen {
				return l.raw
			}
			seen = true
			v := l.values()[0]
			return apply(l.raw, edit{v.lo, v.hi, string(r.Via)})
		case "contact":
			if r.Restore == nil {
				return l.raw
			}
			var edits []edit
			for _, v := range l.values() {
				edits = append(edits, o.restoreEdits(l, v, r.Restore)...)
			}
			return apply(l.raw, edits...)
		}
		return l.raw
	}, "")
}

// oracleURI is a SIP URI, with its user and port.
var oracleURI = regexp.MustCompile(`(?is)^sips?:(?:([^@]*)@)?(?:\[[^];? @]*\]|[^][:;? @][^:;? @]*)(?::(\d+))?(?:[;?][^@]*)?$`)

// restoreEdits give one Contact its own URI back, and an expiry.
func (o *oracle) restoreEdits(l oracleLine, v piece, restore func([]byte) []byte) []edit {
	parts := oracleURI.FindStringSubmatch(l.uri(v))
	if parts == nil {
		return nil
	}
	if port, err := strconv.ParseUint(parts[2], 10, 16); parts[2] != "" && (err != nil || port == 0) {
		return nil
	}
	original := restore([]byte(parts[1]))
	if original == nil {
		return nil
	}
	lo, hi := l.addressTarget(v)
	edits := []edit{{lo, hi, "<" + string(original) + ">"}}
	for _, p := range l.params(piece{hi, v.hi}) {
		name, _, _ := strings.Cut(p.of(l.raw), "=")
		if strings.EqualFold(strings.TrimRight(name, oracleSpace), "expires") {
			return edits
		}
	}
	return append(edits, edit{v.hi, v.hi, ";expires=" + o.defaultExpires()})
}

func (o *oracle) defaultExpires() string {
	l, ok := o.line("expires")
	if ok {
		if n, err := strconv.ParseUint(l.value(), 10, 31); err == nil {
			return strconv.FormatUint(n, 10)
		}
	}
	return "3600"
}
