package e2e

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// webSocketTraces is what must not be seen on the PBX side in what messages
// are routed by.
var webSocketTraces = regexp.MustCompile(`(?i)\.invalid|transport=wss?|SIP\s*/\s*2\.0\s*/\s*WSS?\b`)

// invalidHost finds the hosts that browsers make up for themselves.
var invalidHost = regexp.MustCompile(`[A-Za-z0-9]+\.invalid`)

// tokenUser is the form of a token for a Contact of JsSIP or SIP.js.
var tokenUser = regexp.MustCompile(`^sip:[a-z0-9]{1,40}$`)

// checkPBXSide judges all that passed between the PBX and viaduct. What the PBX
// exchanged with the peers behind it need only be SIP.
func checkPBXSide(t testing.TB, pbx *Kamailio, via *Viaduct, behind []netip.AddrPort) {
	for _, m := range pbx.Messages.All() {
		if err := parseIndependently(m.Raw); err != nil {
			t.Errorf("gosip does not take this message: %v\n%s\n%s", err, m, m.Raw)
		}
		peer := m.peer()
		if slices.Contains(behind, peer) {
			continue
		}
		if peer != via.SIP && peer != via.SIPTLS {
			t.Errorf("the PBX talks with %s, which viaduct does not advertise\n%s", peer, m)
		}
		for _, complaint := range judgePBXSide(m, via) {
			t.Errorf("%s\n%s\n%s", complaint, m, m.Raw)
		}
	}
}

// judgePBXSide returns what is wrong with a message between viaduct and the PBX.
func judgePBXSide(m PBXMessage, via *Viaduct) []string {
	var complaints []string
	for _, value := range m.routing() {
		if trace := webSocketTraces.FindString(value); trace != "" {
			complaints = append(complaints, fmt.Sprintf("%q shows on the PBX side in %q", trace, value))
		}
	}
	for _, name := range stripped {
		if !m.Sent && m.IsRequest() && len(m.Headers(name)) > 0 {
			complaints = append(complaints, "a browser's "+name+" reached the PBX")
		}
	}
	if m.Sent || m.Status()/100 == 3 || m.Status() == 485 {
		return complaints // these name targets elsewhere
	}
	if m.Request("REGISTER") {
		complaints = append(complaints, judgeExtensions(m.Message)...)
	}
	for _, contact := range m.Values("Contact") {
		uri := uriOf(contact)
		token, hostport, _ := strings.Cut(uri, "@")
		hostport, _, _ = strings.Cut(hostport, ";")
		ours := hostport == via.SIP.String() || hostport == via.SIPTLS.String()
		if uri != "*" && (!tokenUser.MatchString(token) || !ours) {
			complaints = append(complaints, "the Contact is no token of viaduct: "+contact)
		}
	}
	return complaints
}

// judgeExtensions wants nothing in a REGISTER that would make the PBX do what
// only an edge proxy with Outbound, Path or GRUU lives with.
func judgeExtensions(m Message) []string {
	var complaints []string
	for _, tag := range m.Values("Supported") {
		if slices.Contains([]string{"path", "gruu", "outbound", ""}, tag) {
			complaints = append(complaints, fmt.Sprintf("the PBX sees the option tag %q", tag))
		}
	}
	if strings.Contains(m.Header("Contact"), "reg-id") {
		complaints = append(complaints, "the PBX sees a reg-id")
	}
	return complaints
}

// peer is the side of m that is not the PBX.
func (m PBXMessage) peer() netip.AddrPort {
	if m.Sent {
		return m.To
	}
	return m.From
}

// routing is everything in m that says where messages go.
func (m Message) routing() []string {
	values := []string{m.RequestURI()}
	for _, name := range []string{"Via", "Contact", "Route", "Record-Route", "Path"} {
		values = append(values, m.Headers(name)...)
	}
	return values
}

// checkBrowserSide judges all that one page was sent.
func checkBrowserSide(t testing.TB, page *Page) {
	seen := pageIdentity{vias: map[string]string{}}
	for _, frame := range page.Frames.All() {
		if strings.TrimSpace(frame.Raw) == "" {
			continue // a CRLF keep-alive
		}
		if frame.Sent {
			seen.learn(frame.Message)
			continue
		}
		if err := parseIndependently(frame.Raw); err != nil {
			t.Errorf("gosip does not take this frame: %v\n%s", err, frame.Raw)
		}
		for _, complaint := range seen.judge(frame.Message) {
			t.Errorf("%s: %s\n%s", page.name, complaint, frame.Raw)
		}
	}
}

// pageIdentity is what a page has told about itself: it must get that back,
// and nothing like it of anybody else.
type pageIdentity struct {
	vias     map[string]string // by transaction
	contacts []string          // every Contact URI it has sent
	bindings []string          // those of its REGISTERs
	hosts    []string          // the .invalid hosts it has sent
}

func transactionOf(m Message) string { return m.Header("Call-ID") + "\n" + m.Header("CSeq") }

func (p *pageIdentity) learn(m Message) {
	if m.IsRequest() {
		p.vias[transactionOf(m)] = m.Header("Via")
	}
	for _, contact := range m.Values("Contact") {
		if uri := uriOf(contact); uri != "*" {
			p.contacts = append(p.contacts, uri)
			if m.Request("REGISTER") {
				p.bindings = append(p.bindings, uri)
			}
		}
	}
	p.hosts = append(p.hosts, invalidHost.FindAllString(m.Raw, -1)...)
}

// judge returns what is wrong with a message that the page received.
func (p *pageIdentity) judge(m Message) []string {
	var complaints []string
	if m.IsRequest() {
		if !slices.Contains(p.contacts, m.RequestURI()) {
			complaints = append(complaints, "the R-URI is no Contact that this page has sent")
		}
		if !strings.HasPrefix(m.Header("Via"), "SIP/2.0/WS") {
			complaints = append(complaints, "the top Via is not viaduct's")
		}
	} else if vias := m.Headers("Via"); len(vias) != 1 || vias[0] != p.vias[transactionOf(m)] {
		complaints = append(complaints, "the response has another Via than the request had: "+p.vias[transactionOf(m)])
	}
	if m.Response(200, "REGISTER") {
		complaints = append(complaints, p.judgeBindings(m)...)
	}
	for _, host := range invalidHost.FindAllString(m.Raw, -1) {
		if host != "anonymous.invalid" && !slices.Contains(p.hosts, host) {
			complaints = append(complaints, "another client's host shows: "+host)
		}
	}
	return complaints
}

// judgeBindings wants the page's own bindings back as it registered them.
func (p *pageIdentity) judgeBindings(m Message) []string {
	var complaints []string
	for _, contact := range m.Values("Contact") {
		uri := uriOf(contact)
		if strings.Contains(uri, ".invalid") && !slices.Contains(p.bindings, uri) {
			complaints = append(complaints, "a binding that this page never made: "+contact)
		}
		if slices.Contains(p.bindings, uri) && !strings.Contains(contact, ";expires=") {
			complaints = append(complaints, "a binding without expires: "+contact)
		}
	}
	return complaints
}

// judgeRelay compares what a page sent and received with what the PBX received
// and sent: only the headers that viaduct is there to change may differ, and a
// request reaches the browser from the PBX alone. A 100 may be viaduct's own, and
// so may a further copy of the ACK of a refusal.
func judgeRelay(frames []Frame, messages []PBXMessage) []string {
	known := map[string][]PBXMessage{}
	for _, m := range messages {
		known[identityOf(m.Message)] = append(known[identityOf(m.Message)], m)
	}
	var complaints []string
	for _, frame := range frames {
		relayed, same, changed := false, false, ""
		for _, m := range known[identityOf(frame.Message)] {
			if m.Sent == frame.Sent {
				continue // not the other end of the same way
			}
			relayed = true
			names := changedNames(frame)
			at, inFrame := m.Without(names...), frame.Without(names...)
			if same = same || at == inFrame; at != inFrame {
				changed = fmt.Sprintf("%s was changed on its way\nat the PBX:\n%s\nat the browser:\n%s", frame.Message, at, inFrame)
			}
		}
		if changed != "" && frame.Status() != 100 && !(frame.Request("ACK") && same) {
			complaints = append(complaints, changed)
		}
		if !relayed && !frame.Sent && frame.IsRequest() && frame.headers != nil {
			complaints = append(complaints, fmt.Sprintf("the PBX never sent this\n%s", frame.Raw))
		}
	}
	return complaints
}

// identityOf is what nobody on the way may change and what tells messages
// apart, but for retransmissions.
func identityOf(m Message) string {
	return fmt.Sprintf("%s %d\n%s\n%s\n%s\n%s", m.Method(), m.Status(),
		m.Header("Call-ID"), m.Header("CSeq"), m.Header("From"), m.Header("To"))
}

// stripped are the headers that viaduct takes from no browser. JsSIP sends the
// P-Preferred-Identity of an anonymous caller.
var stripped = []string{
	"record-route", "path", "p-asserted-identity", "p-preferred-identity", "p-served-user", "remote-party-id",
}

// changedNames are the headers of a frame that viaduct changes.
func changedNames(f Frame) []string {
	names := []string{"via", "content-length"}
	switch {
	case f.Sent:
		names = append(append(names, "contact", "max-forwards", "route"), stripped...)
		if f.Request("REGISTER") {
			names = append(names, "supported")
		}
	case f.Response(200, "REGISTER"):
		names = append(names, "contact")
	}
	return names
}
