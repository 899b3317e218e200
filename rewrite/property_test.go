package rewrite

import (
	"bytes"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/ghettovoice/gosip/log"
	"github.com/ghettovoice/gosip/sip/parser"
)

var propertySeed = flag.Uint64("seed", 0, "seed of the random messages; 0 is a new one each time")

// TestRandomMessages sends random messages up and down and there and back. The
// oracle says what each row of the transformation may change: all else must
// come out byte for byte.
func TestRandomMessages(t *testing.T) {
	seed := *propertySeed
	if seed == 0 {
		seed = rand.Uint64()
	}
	t.Logf("-seed=%d", seed)
	p := newProperty(t)
	for i := range uint64(10_000) {
		p.random = rand.New(rand.NewPCG(seed, i))
		g := &generator{Rand: p.random, tame: i%4 < 2}
		request := i%2 == 0
		p.m = g.message(request)
		p.check(request)
		if t.Failed() {
			t.Fatalf("message %d", i)
		}
	}
}

type property struct {
	*testing.T
	random *rand.Rand
	m      *generated
	keys   *Keyring
	gosip  *parser.PacketParser
}

func newProperty(t *testing.T) *property {
	const silent = 0 // gosip warns of each header that it drops
	logger := log.NewDefaultLogrusLogger()
	logger.SetLevel(silent)
	return &property{T: t, keys: keyring(t, 0, 1), gosip: parser.NewPacketParser(logger)}
}

func (p *property) check(request bool) {
	m, o := p.scan(p.m.text+p.m.trailing), readOracle(p.m.text)
	p.facts(m, &o)
	if request {
		p.requestUp(m, &o)
		p.requestDown(m, &o)
	} else {
		p.responseUp(m, &o)
		p.responseDown(m, &o)
	}
}

// scan reads a message that must be sound.
func (p *property) scan(text string) *Message {
	p.Helper()
	m := new(Message)
	defect := m.Scan([]byte(text))
	if defect == Sound {
		defect = m.CheckFrame()
	}
	if defect != Sound {
		p.Fatalf("%v: %q", defect, text)
	}
	return m
}

// facts compares what was scanned with what the generator made.
func (p *property) facts(m *Message, o *oracle) {
	if got := string(m.Text(m.CallID)); got != p.m.callID {
		p.Errorf("Call-ID %q of %q", got, p.m.text)
	}
	if got := string(m.Text(m.CSeqMethod)); m.CSeq != p.m.cseq || got != p.m.method || !m.Is(p.m.method) {
		p.Errorf("CSeq %d %q of %q", m.CSeq, got, p.m.text)
	}
	if got := string(m.Text(m.Body)); got != o.body[len("\r\n"):] {
		p.Errorf("body %q of %q", got, p.m.text)
	}
	if got := len(all(m, Route)); got != p.m.routes {
		p.Errorf("%d Routes in %q", got, p.m.text)
	}
	if m.Vias() != len(p.m.vias) {
		p.Fatalf("%d Vias in %q", m.Vias(), p.m.text)
	}
	for i, want := range p.m.vias {
		h, ok := m.Via(i)
		got := hopFacts{string(m.Text(h.Value)), string(m.Text(h.Transport)), string(m.Text(h.Host)), "", string(m.Text(h.Branch))}
		if h.Port != 0 {
			got.port = fmt.Sprint(h.Port)
		}
		if !ok || got != want {
			p.Errorf("Via %+v, want %+v, in %q", got, want, p.m.text)
		}
	}
	var contacts []string
	for _, s := range all(m, Contact) {
		a, ok := m.ParseAddress(s)
		uri := string(m.Text(a.URI))
		if a.Star {
			uri = "*"
		}
		if contacts = append(contacts, uri); !ok {
			p.Errorf("Contact %q is none", m.Text(s))
		}
	}
	if !slices.Equal(contacts, p.m.contacts) {
		p.Errorf("Contacts %q, want %q, in %q", contacts, p.m.contacts, p.m.text)
	}
}

// all returns every value of a field.
func all(m *Message, h Header) (values []Span) {
	for walk := m.Values(h); ; {
		v, ok := walk.Next()
		if !ok {
			return values
		}
		values = append(values, v)
	}
}

// emitted checks a rewritten message: it is what the oracle made, it is sound,
// and other readers read the same in it.
func (p *property) emitted(what, got, want string) *Message {
	p.Helper()
	if got != want {
		p.Fatalf("%s of %q\n got %q\nwant %q", what, p.m.text, got, want)
	}
	m := p.scan(got)
	p.readersAgree(m, got)
	return m
}

const (
	testAdvertised = "192.0.2.1:5060"
	testOurVia     = "SIP/2.0/UDP " + testAdvertised + ";rport;branch=" + branchCookie
	testDownVia    = "SIP/2.0/WSS " + testAdvertised + ";branch="
)

// token makes the `<sip:token@GW>` of a Contact URI.
func (p *property) token(uri string) string {
	token, _, err := p.keys.First().AppendToken(nil, goldenOrigin, []byte(uri))
	if err != nil {
		p.Fatalf("%s: %v", uri, err)
	}
	return "<sip:" + string(token) + "@" + testAdvertised + ">"
}

func (p *property) requestUp(m *Message, o *oracle) {
	top, _ := m.Via(0)
	seal := p.keys.First().AppendUpSeal(nil, &UpSeal{HasClient: true, Client: 7, Via: m.Text(top.Value)}, m.Text(m.CallID), m.CSeq)
	r := &RequestUp{Via: append([]byte(testOurVia), seal...), OwnRoutes: p.random.IntN(p.m.routes + 1)}
	for _, uri := range p.m.contacts {
		r.Contacts = append(r.Contacts, []byte(p.token(uri)))
	}
	if p.random.IntN(2) == 0 {
		r.Strip = []string{"X-Account", "Referred-By"}
	}
	if p.random.IntN(2) == 0 {
		r.ClientIPHeader, r.ClientIP = "X-Real-IP", []byte("2001:db8::7")
	}
	out := p.emitted("request up", string(r.Append(nil, m)), o.requestUp(r))
	p.backDown(out)
}

// backDown answers a request as a PBX does and sends the response down: the
// browser's Via and Contacts must be what they were.
func (p *property) backDown(req *Message) {
	response := p.scan(p.pbxAnswer(req))
	top, _ := response.Via(0)
	seal, _ := bytes.CutPrefix(response.Text(top.Branch), []byte(branchCookie))
	var opened UpSeal
	if !p.keys.OpenUpSeal(&opened, nil, seal, response.Text(response.CallID), response.CSeq) {
		p.Fatalf("the seal does not open: %q", response.Raw)
	}
	r := &ResponseDown{Via: opened.Via, Restore: func(user []byte) []byte {
		uri, _, ok := p.keys.OpenToken(nil, user)
		if !ok {
			return nil
		}
		return uri
	}}
	o := readOracle(string(response.Raw))
	out := p.emitted("response down", string(r.Append(nil, response)), o.responseDown(r))
	for i, want := range p.m.vias {
		if h, _ := out.Via(i); string(out.Text(h.Value)) != want.value {
			p.Errorf("Via %q came back as %q", want.value, out.Text(h.Value))
		}
	}
	for i, s := range all(out, Contact) {
		a, _ := out.ParseAddress(s)
		_, expires := out.Param(a.Params, "expires")
		if uri := string(out.Text(a.URI)); uri != p.m.contacts[i] || !expires {
			p.Errorf("Contact %q came back as %q", p.m.contacts[i], out.Text(s))
		}
	}
}

// pbxAnswer repeats what a response must (RFC 3261 8.2.6.2) in a PBX's own
// spelling, with the parameters of the top Via in another order, and lists the
// bindings.
func (p *property) pbxAnswer(req *Message) string {
	o := readOracle(string(req.Raw))
	var text strings.Builder
	text.WriteString("SIP/2.0 200 OK\r\n")
	for i, via := range o.all("via") {
		if i == 0 {
			protocol, _, _ := strings.Cut(via, ";")
			via = protocol + ";received=192.0.2.1;branch=" + viaBranch(via) + ";rport=5060"
		}
		text.WriteString("v: " + via + "\r\n")
	}
	for _, name := range []string{"from", "to", "call-id", "cseq"} {
		l, _ := o.line(name)
		text.WriteString(name + ": " + l.value() + "\r\n")
	}
	for i, s := range all(req, Contact) {
		if a, _ := req.ParseAddress(s); !a.Star {
			fmt.Fprintf(&text, "Contact: <%s>%s\r\n", req.Text(a.URI), []string{"", ";expires=60"}[i%2])
		}
	}
	text.WriteString("Expires: 60\r\nContent-Length: 0\r\n\r\n")
	return text.String()
}

var testSources = []netip.AddrPort{
	netip.MustParseAddrPort("192.0.2.9:5060"), netip.MustParseAddrPort("[2001:db8::9]:61234"),
	netip.MustParseAddrPort("[::ffff:10.1.2.3]:5060"), netip.MustParseAddrPort("[fe80::1%eth0]:1"),
}

func (p *property) requestDown(m *Message, o *oracle) {
	const contact = "sip:4lmb1q2n@a1b2c3d4e5f6.invalid;transport=ws"
	key := p.keys.First()
	top, _ := m.Via(0)
	hop := hopOf(m, &top)
	down := DownSeal{Proto: 1, Source: testSources[p.random.IntN(len(testSources))], Upstream: 7}
	down.Token, _, _ = key.AppendToken(nil, goldenOrigin, []byte(contact))
	via := key.AppendBranch([]byte(testDownVia), &hop)
	via = key.AppendDownSeal(append(via, ";seal="...), &down, &hop)
	r := &RequestDown{URI: []byte(contact), Via: via, Source: down.Source}
	out := p.emitted("request down", string(r.Append(nil, m)), o.requestDown(r))
	p.backUp(out, &down)
}

func hopOf(m *Message, via *ViaHop) Hop {
	return Hop{SentBy: m.Text(via.SentBy), Branch: m.Text(via.Branch), CallID: m.Text(m.CallID), CSeq: m.CSeq}
}

// backUp answers a request as a browser does and sends the response up: the
// seal must open, and the PBX must get its own Vias back.
func (p *property) backUp(req *Message, sent *DownSeal) {
	o := readOracle(string(req.Raw))
	vias := o.all("via")
	response := p.scan(browserAnswer(&o, vias))
	ours, _ := response.Via(0)
	next, _ := response.Via(1)
	seal, _ := response.Param(ours.Params, "seal")
	hop := hopOf(response, &next)
	var opened DownSeal
	if !p.keys.OpenDownSeal(&opened, nil, response.Text(seal.Value), &hop) || opened.Source != sent.Source {
		p.Fatalf("the seal does not open: %q", response.Raw)
	}
	r := &ResponseUp{Contact: []byte("<sip:" + string(opened.Token) + "@" + testAdvertised + ">")}
	o = readOracle(string(response.Raw))
	out := p.emitted("response up", string(r.Append(nil, response)), o.responseUp(r))
	o = readOracle(string(out.Raw))
	if got := o.all("via"); !slices.Equal(got, vias[1:]) {
		p.Errorf("Vias %q came back as %q", vias[1:], got)
	}
}

// browserAnswer is a response as JsSIP writes it: a line for each Via.
func browserAnswer(o *oracle, vias []string) string {
	text := "SIP/2.0 200 OK\r\n"
	for _, via := range vias {
		text += "Via: " + via + "\r\n"
	}
	for _, name := range []string{"to", "from", "call-id", "cseq"} {
		l, _ := o.line(name)
		text += name + ": " + l.value() + "\r\n"
	}
	return text + "Contact: <sip:4lmb1q2n@a1b2c3d4e5f6.invalid;transport=ws;ob>\r\n" +
		"P-Preferred-Identity: <sip:1@x>\r\nContent-Type: text/plain\r\n\r\nbody"
}

func (p *property) responseUp(m *Message, o *oracle) {
	if len(p.m.vias) == 1 {
		return // what is left has no Via, and is never sent
	}
	r := &ResponseUp{Strip: []string{"x-account", "REFERRED-BY"}, Routes: p.random.IntN(2) == 0}
	if p.random.IntN(2) == 0 {
		r.Contact = []byte(p.token("sip:a@b.invalid"))
	}
	p.emitted("response up", string(r.Append(nil, m)), o.responseUp(r))
}

func (p *property) responseDown(m *Message, o *oracle) {
	r := &ResponseDown{Via: []byte("SIP / 2.0 / wss a1b2.invalid : 443 ;Branch = z9hG4bK1;x=\"a, b\"")}
	if p.m.tame {
		r.Via = []byte(testVia)
	}
	if p.random.IntN(2) == 0 {
		r.Restore = func(user []byte) []byte {
			if len(user) == shortUserLen {
				return []byte("sip:own@own.invalid;transport=ws")
			}
			return nil
		}
	}
	p.emitted("response down", string(r.Append(nil, m)), o.responseDown(r))
}
