package rewrite

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// generator makes valid SIP messages, as odd as RFC 3261 lets them be: folds,
// white space, compact names, names in any case, joined values, quoted strings
// that hold every separator, and bodies of any bytes.
type generator struct {
	*rand.Rand
	// tame leaves out what gosip misreads:
	//   - it drops a Contact that is a tel URI or has `\"` in its display name;
	//   - it drops a Via with white space around the colon of its port, and
	//     splits one at a comma in a quoted string;
	//   - it takes the last group of an IPv6 address for a port if there is none;
	//   - it drops an address with white space between it and its parameters, or
	//     behind one that is quoted.
	tame bool
}

// generated is a message, with what its maker knows of it.
type generated struct {
	text     string
	trailing string // CR and LF behind it in its frame
	method   string
	vias     []hopFacts
	contacts []string // URIs; "*" for that
	routes   int
	callID   string
	cseq     uint32
	tame     bool
}

// hopFacts are what a Via value says.
type hopFacts struct{ value, transport, host, port, branch string }

// part is one header line; the facts that it states are noted once its place
// in the message is known.
type part struct {
	text string
	note func(*generated)
}

var generatedMethods = []string{"INVITE", "REGISTER", "REGISTER", "ACK", "BYE", "CANCEL", "MESSAGE", "OPTIONS", "SUBSCRIBE", "x-!%*_+`'~.Y"}

func (g *generator) message(request bool) *generated {
	m := &generated{method: g.pick(generatedMethods...), tame: g.tame}
	m.cseq = g.Uint32() >> 1
	if g.IntN(4) > 0 {
		m.cseq %= 10000
	}
	body := g.body()
	lines := g.lines(m, len(body))
	g.Shuffle(len(lines), func(i, j int) { lines[i], lines[j] = lines[j], lines[i] })
	var text strings.Builder
	if request {
		text.WriteString(m.method + " " + g.requestURI() + " SIP/2.0\r\n")
	} else {
		fmt.Fprintf(&text, "SIP/2.0 %d %s\r\n", 100+g.IntN(600), g.pick("OK", "", "Ringing", "Non  \tsense \"ü\"", "<,;>"))
	}
	withLength := false
	for _, l := range lines {
		text.WriteString(l.text + "\r\n")
		if l.note != nil {
			l.note(m)
		}
		withLength = withLength || l.isLength()
	}
	text.WriteString("\r\n" + body)
	m.text = text.String()
	if withLength && g.IntN(4) == 0 {
		m.trailing = g.pick("\r\n", "\n", "\r\n\r\n")
	}
	return m
}

func (p part) isLength() bool {
	name, _, _ := strings.Cut(p.text, ":")
	name = strings.ToLower(strings.TrimSpace(name))
	return name == "content-length" || name == "l"
}

func (g *generator) lines(m *generated, length int) (lines []part) {
	add := func(p part) { lines = append(lines, p) }
	text := func(s string) { add(part{text: s}) }
	for range 1 + g.IntN(3) {
		add(g.viaLine())
	}
	if g.IntN(8) > 0 {
		text(g.header("Max-Forwards", "", fmt.Sprintf(g.pick("%d", "%03d"), 1+g.IntN(255))))
	}
	text(g.header("From", "f", g.address(nil)+g.semi()+"tag"+g.equal()+g.digits(8)))
	text(g.header("To", "t", g.address(nil)))
	m.callID = g.pick(g.digits(22), g.digits(8)+"@"+g.digits(6)+".invalid", "<\"(:)>?{}"+g.digits(4))
	if g.tame {
		m.callID = g.digits(22)
	}
	text(g.header("Call-ID", "i", m.callID))
	text(g.header("CSeq", "", fmt.Sprintf("%d%s%s", m.cseq, g.pick(" ", "  ", "\t", "\r\n ", " \r\n\t "), m.method)))
	g.contactLines(add)
	for range g.IntN(3) {
		add(g.routeLine())
	}
	for range g.IntN(3) {
		text(g.namedHeader())
	}
	for range g.IntN(3) {
		text(g.header("Supported", "k", g.tags()))
	}
	if g.IntN(4) > 0 {
		text(g.lengthLine(length))
	}
	if g.IntN(3) == 0 {
		text(g.header("Expires", "", g.pick("60", "0", "600", "soon")))
	}
	for range g.IntN(6) {
		text(g.otherHeader())
	}
	return lines
}

func (g *generator) pick(texts ...string) string { return texts[g.IntN(len(texts))] }

func (g *generator) digits(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = shortDigits[g.IntN(len(shortDigits))]
	}
	return string(b)
}

// space is optional white space, mostly none.
func (g *generator) space() string {
	if g.IntN(6) > 0 {
		return ""
	}
	return g.pick(" ", "  ", "\t", "\r\n ", " \r\n\t", "\r\n \r\n ")
}

func (g *generator) comma() string { return g.space() + "," + g.pick(" ", g.space()) }
func (g *generator) semi() string  { return g.space() + ";" + g.space() }
func (g *generator) equal() string { return g.space() + "=" + g.space() }
func (g *generator) slash() string { return g.space() + "/" + g.space() }

// header writes one line without its end. The compact form may be "".
func (g *generator) header(name, compact, value string) string {
	if compact != "" && g.IntN(4) == 0 {
		name = compact
	}
	switch g.IntN(6) {
	case 0:
		name = strings.ToLower(name)
	case 1:
		name = strings.ToUpper(name)
	case 2:
		mixed := []byte(name)
		for i := range mixed {
			if c := mixed[i]; isLetter(c) && g.IntN(2) == 0 {
				mixed[i] = c ^ 0x20
			}
		}
		name = string(mixed)
	}
	colon := ": "
	if g.IntN(4) == 0 {
		colon = g.pick(":", " :", " : ", "\t:\t", ":\r\n ", ":   \r\n\t", " \t:  ")
	}
	return name + colon + value + g.pick("", "", "", "", " ", "\t ", "\r\n ")
}

// lengthLine is a Content-Length, of which a frame has none on several lines.
func (g *generator) lengthLine(length int) string {
	for {
		line := g.header("Content-Length", "l", fmt.Sprintf(g.pick("%d", "%05d"), length))
		if !strings.Contains(strings.TrimRight(line, oracleSpace), "\r\n") {
			return line
		}
	}
}

func (g *generator) viaLine() part {
	var hops []hopFacts
	var text string
	for i := range 1 + g.IntN(3) {
		if i > 0 {
			text += g.comma()
		}
		h := g.via()
		hops = append(hops, h)
		text += h.value
	}
	return part{g.header("Via", "v", text), func(m *generated) { m.vias = append(m.vias, hops...) }}
}

func (g *generator) via() (h hopFacts) {
	h.transport = g.pick("WSS", "WS", "UDP", "TCP", "TLS", "wss", "X-y")
	h.host = g.pick(g.digits(12)+".invalid", "192.0.2.9", "10.1.2.3", "[2001:db8::9]", "pbx.example", "[::1]")
	if g.IntN(2) == 0 || g.tame && h.host[0] == '[' {
		h.port = g.pick("5060", "1", "65535", "61234")
	}
	h.value = "SIP" + g.slash() + "2.0" + g.slash() + h.transport + g.pick(" ", "  ", " \r\n ", "\t") + h.host
	if h.port != "" {
		colon := ":"
		if !g.tame {
			colon = g.space() + ":" + g.space()
		}
		h.value += colon + h.port
	}
	params := []string{"rport", "RPORT", "rport" + g.equal() + "5060", "alias", "received" + g.equal() + "10.9.8.7", "X-1" + g.equal() + "abc"}
	if !g.tame {
		params = append(params, `x="a, ;rport \" <,"`, `y=";branch=no"`)
	}
	g.Shuffle(len(params), func(i, j int) { params[i], params[j] = params[j], params[i] })
	params = params[:g.IntN(3)]
	if g.IntN(8) > 0 {
		h.branch = branchCookie + g.digits(7)
		at := g.IntN(len(params) + 1)
		params = append(params[:at:at], append([]string{g.pick("branch", "Branch") + g.equal() + h.branch}, params[at:]...)...)
	}
	for _, p := range params {
		h.value += g.semi() + p
	}
	return h
}

// uri makes a URI that fits in a token.
func (g *generator) uri() string {
	uris := []string{
		"sip:" + g.digits(8) + "@" + g.digits(12) + ".invalid;transport=ws",
		"sip:" + g.digits(8) + "@" + g.digits(12) + ".invalid;transport=ws;ob",
		"sips:" + g.digits(4) + "@phone.example:5061",
		"sip:alice@[2001:db8::9:1]:5062;transport=wss",
		"sip:alice:secret@192.0.2.17:54321;lr",
		"sip:192.0.2.17:5060",
		"SIP:Bob@Phone.Example;reg-id=1;expires=9",
		"sip:a,b;c@h.invalid;x=1",
	}
	if g.tame {
		return g.pick(uris[:4]...)
	}
	return g.pick(append(uris, "tel:+442071838750;phone-context=x", "sip:[::1];transport=ws")...)
}

// address makes a name-addr or addr-spec, with parameters of its own, and
// returns its URI in uri if that is not nil.
func (g *generator) address(uri *string, params ...string) string {
	u := g.uri()
	text := "<" + u + ">"
	switch {
	case g.IntN(4) == 0 && !strings.ContainsAny(u, ",?;"):
		text = u
	case g.IntN(3) == 0:
		text = g.pick(`"Alice" `, `"A;B, <c>" `, "Alice", "Alice from  work ", `"" `, "\"folded\r\n name\" ") + text
	case g.IntN(3) == 0 && !g.tame:
		text = g.pick(`"\"," `, `"A \"quoted>\" \\" `, "\"\"\r\n ") + g.pick("<"+u+">", "< "+u+"\t>")
	}
	if uri != nil {
		*uri = u
	}
	for i, p := range params {
		if g.tame && i == 0 {
			text += ";" + p
			continue
		}
		text += g.semi() + p
	}
	return text
}

// contactLines adds Contacts, eight at most.
func (g *generator) contactLines(add func(part)) {
	if g.IntN(10) == 0 {
		add(part{g.header("Contact", "m", "*"), func(m *generated) { m.contacts = append(m.contacts, "*") }})
		return
	}
	for range g.IntN(3) {
		var uris []string
		var text string
		for i := range 1 + g.IntN(4) {
			if i > 0 {
				text += g.comma()
			}
			var uri string
			text += g.address(&uri, g.contactParams()...)
			uris = append(uris, uri)
		}
		add(part{g.header("Contact", "m", text), func(m *generated) { m.contacts = append(m.contacts, uris...) }})
	}
}

func (g *generator) contactParams() []string {
	params := []string{
		"expires" + g.equal() + "600", "reg-id" + g.equal() + "1", "Reg-Id=2", "q=0.5", "+sip.ice", "x-reg-id=3",
		`+sip.instance="<urn:uuid:8a5b1f6e-2f0e-4a0c-9a0b-0a1f1e1d1c1b>"`,
	}
	if g.tame {
		params = params[:6]
	} else {
		params = append(params, `x=";reg-id=1,\">"`, "EXPIRES"+g.equal()+"1")
	}
	g.Shuffle(len(params), func(i, j int) { params[i], params[j] = params[j], params[i] })
	return params[:g.IntN(5)]
}

func (g *generator) routeLine() part {
	n := 1 + g.IntN(3)
	var text string
	for i := range n {
		if i > 0 {
			text += g.comma()
		}
		text += g.pick("<sip:pbx.example;lr>", "<sip:gw.example:8080;transport=ws;lr>", `"R, <1>" <sip:[2001:db8::9]:5060;lr>;x="1,2"`)
	}
	return part{g.header("Route", "", text), func(m *generated) { m.routes += n }}
}

// namedHeader is one that the table deletes in a request up.
func (g *generator) namedHeader() string {
	name := g.pick("Record-Route", "Path", "P-Asserted-Identity", "P-Preferred-Identity", "P-Served-User", "Remote-Party-ID",
		"P-Charge-Info", "P-Charging-Vector", "P-Charging-Function-Addresses")
	return g.header(name, "", g.address(nil))
}

func (g *generator) tags() string {
	var tags []string
	for range 1 + g.IntN(4) {
		tags = append(tags, g.pick("path", "gruu", "outbound", "Outbound", "timer", "100rel", "ice", "pathology"))
	}
	return strings.Join(tags, g.comma())
}

// otherHeader is one that no row names, or one that configuration does.
func (g *generator) otherHeader() string {
	switch g.IntN(8) {
	case 0:
		return g.header("X-Account", "", g.digits(4))
	case 1:
		return g.header("Referred-By", "b", "<sip:a@b>")
	case 2:
		return g.header("X-Real-IP", "", "127.0.0.1")
	case 3:
		return g.header("Subject", "s", g.pick("", "Via: x", "\"unclosed, <quote", "a\r\n Contact: <sip:x@y>\r\n\tb", "Grüße ✓ \xff\x01"))
	case 4:
		return g.header("Authorization", "", `Digest username="1001", realm="a, \"b\"",`+"\r\n "+`response="0"`)
	case 5:
		return g.header("Contact-Hint", "", "<sip:x@y>, ;")
	case 6:
		return g.header("z", "", g.digits(3))
	default:
		return g.header("X-"+g.digits(1+g.IntN(30)), "", g.pick("1", ",,;", "v: 1", "<", "()"))
	}
}

func (g *generator) requestURI() string {
	if g.tame {
		return "sip:" + g.digits(4) + "@pbx.example"
	}
	return g.pick("sip:1002@pbx.example", "sips:[2001:db8::9];transport=tcp", "tel:+1", "urn:service:sos", "sip:a%20b@c?d=e", "sip:*!,;@h")
}

// body is empty or ends in something else than CR or LF.
func (g *generator) body() string {
	switch g.IntN(4) {
	case 0:
		return ""
	case 1:
		return "v=0\r\n\r\ns=\x00-\r\nVia: x\r\n\n\r."
	case 2:
		return strings.Repeat("a=candidate\r\n", g.IntN(100)) + "a"
	default:
		b := make([]byte, g.IntN(300))
		for i := range b {
			b[i] = byte(g.Uint32())
		}
		return string(b) + "\x00"
	}
}
