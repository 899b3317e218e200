package e2e

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// A PlainPhone is a phone behind the PBX that knows RTP/AVP and PCMU alone: an
// offer of anything else gets 488. It answers re-INVITE, UPDATE and BYE by
// itself; calls are taken as the test says.
type PlainPhone struct {
	RTP *RTPEnd

	// Messages has every message that reached the phone.
	Messages *Stream[Message]

	conn    *net.UDPConn
	addr    netip.AddrPort
	pbx     netip.AddrPort
	running sync.WaitGroup

	mu       sync.Mutex
	sessions map[string]*plainSession // by Call-ID
	answered map[string]string        // final responses, by the branch of the request
}

// plainSession is what a phone has agreed on in one call.
type plainSession struct {
	version   int    // of our descriptions
	direction string // ours: sendrecv, sendonly, recvonly, inactive
	events    string // payload type of RFC 4733
}

// PlainPhone starts a phone behind the PBX, whose audio is a tone of that
// frequency in Hz.
func (lab *Lab) PlainPhone(tone int) *PlainPhone {
	t := lab.t
	t.Helper()
	p := &PlainPhone{
		RTP: newRTPEnd(t, lab.Host, tone), Messages: NewStream[Message](), pbx: lab.PBX.UDP,
		sessions: map[string]*plainSession{}, answered: map[string]string{},
	}
	var err error
	if p.conn, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(lab.Host.IP, 0))); err != nil {
		t.Fatalf("plain phone: %v", err)
	}
	p.addr = addrOf(p.conn)
	lab.behind = append(lab.behind, p.addr)
	p.running.Go(p.receive)
	t.Cleanup(func() {
		_ = p.conn.Close()
		p.running.Wait()
		if t.Failed() {
			for _, m := range p.Messages.All() {
				t.Logf("→ plain phone  %s\n%s", m, m.Body)
			}
		}
	})
	return p
}

// URI is where the PBX finds the phone.
func (p *PlainPhone) URI() string { return fmt.Sprintf("sip:%s@%s", p.user(), domain) }

func (p *PlainPhone) user() string { return fmt.Sprintf("9%05d", p.addr.Port()) }

func (p *PlainPhone) contact() string { return fmt.Sprintf("Contact: <sip:%s@%s>", p.user(), p.addr) }

func (p *PlainPhone) write(message string) {
	// What is lost is sent again by who misses it.
	_, _ = p.conn.WriteToUDPAddrPort([]byte(message), p.pbx)
}

func (p *PlainPhone) receive() {
	buffer := make([]byte, 1<<16)
	for {
		n, err := p.conn.Read(buffer)
		if err != nil {
			return
		}
		m := newMessage(string(buffer[:n]))
		if m.IsRequest() && p.repeats(m) {
			continue
		}
		p.react(m)
		p.Messages.Add(m)
	}
}

// repeats answers a request that came before as it was answered then.
func (p *PlainPhone) repeats(m Message) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	response, known := p.answered[m.Method()+m.Header("Via")]
	if known {
		p.write(response)
	}
	return known
}

// react does what needs no test: requests within a dialog are answered, but for
// an INVITE whose ACK is to have the answer, and what the peer agreed on is done.
func (p *PlainPhone) react(m Message) {
	switch {
	case m.Request("ACK"):
		p.agree(m)
	case m.Request("CANCEL"):
		p.respond(m, "200 OK", "")
		p.cancelled(m.Header("Call-ID"))
	case m.IsRequest() && strings.Contains(m.Header("To"), "tag="):
		p.reactInDialog(m)
	case m.Request("INVITE") && m.Body != "" && !isPlain(m.Body):
		p.respond(m, "488 Not Acceptable Here", "")
	case m.Status()/100 == 2, m.Status() == 183:
		p.agree(m)
	}
}

// cancelled ends the INVITE of a call that rings.
func (p *PlainPhone) cancelled(callID string) {
	for _, m := range p.Messages.All() {
		if m.Request("INVITE") && m.Header("Call-ID") == callID {
			p.respond(m, "487 Request Terminated", "")
		}
	}
}

func (p *PlainPhone) reactInDialog(m Message) {
	switch {
	case m.Request("BYE"):
		p.RTP.SendTo(netip.AddrPort{})
		p.respond(m, "200 OK", "")
	case m.Body != "" && !isPlain(m.Body):
		p.respond(m, "488 Not Acceptable Here", "")
	case m.Request("INVITE"), m.Body != "":
		p.agree(m)
		p.respond(m, "200 OK", p.description(m.Header("Call-ID")))
	default:
		p.respond(m, "200 OK", "")
	}
}

// isPlain reports whether the phone can take a description.
func isPlain(description string) bool {
	media := mediaLine.FindStringSubmatch(description)
	return media != nil && media[2] == "RTP/AVP" && slices.Contains(strings.Fields(media[3]), "0") &&
		!strings.Contains(description, "a=fingerprint") && !strings.Contains(description, "a=candidate")
}

var (
	mediaLine      = regexp.MustCompile(`(?m)^m=audio (\d+) (\S+)((?: \d+)+)`)
	addressLine    = regexp.MustCompile(`(?m)^c=IN IP4 (\S+)`)
	directionLine  = regexp.MustCompile(`(?m)^a=(sendrecv|sendonly|recvonly|inactive)`)
	telephoneEvent = regexp.MustCompile(`(?m)^a=rtpmap:(\d+) telephone-event/8000`)
)

// agree does what the peer's description says, if there is one.
func (p *PlainPhone) agree(m Message) {
	media, address := mediaLine.FindStringSubmatch(m.Body), addressLine.FindStringSubmatch(m.Body)
	if media == nil || address == nil {
		return
	}
	session := p.session(m.Header("Call-ID"))
	theirs := "sendrecv"
	if match := directionLine.FindStringSubmatch(m.Body); match != nil {
		theirs = match[1]
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	session.events = ""
	if match := telephoneEvent.FindStringSubmatch(m.Body); match != nil {
		session.events = match[1]
		payloadType, _ := strconv.Atoi(match[1])
		p.RTP.ExpectDigits(byte(payloadType))
	}
	if m.IsRequest() && !m.Request("ACK") {
		session.direction = map[string]string{
			"sendrecv": "sendrecv", "sendonly": "recvonly", "recvonly": "sendonly", "inactive": "inactive",
		}[theirs]
	}
	peer, err := netip.ParseAddrPort(address[1] + ":" + media[1])
	if err != nil || peer.Port() == 0 || slices.Contains([]string{"sendonly", "inactive"}, theirs) ||
		slices.Contains([]string{"recvonly", "inactive"}, session.direction) {
		peer = netip.AddrPort{} // who is on hold hears nothing
	}
	p.RTP.SendTo(peer)
}

func (p *PlainPhone) session(callID string) *plainSession {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.sessions[callID] == nil {
		p.sessions[callID] = &plainSession{direction: "sendrecv"}
	}
	return p.sessions[callID]
}

// description is the phone's own of that call, the next version.
func (p *PlainPhone) description(callID string) string {
	session := p.session(callID)
	p.mu.Lock()
	defer p.mu.Unlock()
	session.version++
	events := cmp.Or(session.events, "101")
	return strings.Join([]string{
		"v=0", fmt.Sprintf("o=plain 1 %d IN IP4 %s", session.version, p.RTP.Addr.Addr()), "s=-",
		fmt.Sprintf("c=IN IP4 %s", p.RTP.Addr.Addr()), "t=0 0",
		fmt.Sprintf("m=audio %d RTP/AVP 0 %s", p.RTP.Addr.Port(), events), "a=rtpmap:0 PCMU/8000",
		fmt.Sprintf("a=rtpmap:%s telephone-event/8000", events), fmt.Sprintf("a=fmtp:%s 0-15", events), "a=" + session.direction, "",
	}, "\r\n")
}

// respond answers a request; a final response is kept for when it comes again.
func (p *PlainPhone) respond(request Message, status, body string) {
	headers := []string{p.contact()}
	for _, route := range request.Headers("Record-Route") {
		headers = append(headers, "Record-Route: "+route)
	}
	response := withBody(responseTo(tagged(request), status, headers...), body)
	if status[0] != '1' {
		p.mu.Lock()
		p.answered[request.Method()+request.Header("Via")] = response
		p.mu.Unlock()
	}
	p.write(response)
}

// tagged is a request with a To tag, which is the same for the whole call.
func tagged(request Message) Message {
	if strings.Contains(request.Header("To"), "tag=") {
		return request
	}
	request.headers = slices.Clone(request.headers)
	for i, line := range request.headers {
		if line.name == "to" {
			request.headers[i].value += fmt.Sprintf(";tag=plain%.8s", request.Header("Call-ID"))
		}
	}
	return request
}

// withBody gives a message without a body one.
func withBody(message, sdp string) string {
	if sdp == "" {
		return message
	}
	return strings.Replace(message, "Content-Length: 0\r\n",
		fmt.Sprintf("Content-Type: application/sdp\r\nContent-Length: %d\r\n", len(sdp)), 1) + sdp
}

// A PlainCall is one call of a plain phone.
type PlainCall struct {
	phone         *PlainPhone
	invite        Message // that came, where the phone was called
	id            string
	local, remote string // From and To of the phone's own requests
	target        string
	routes        []string
	cseq          int
}

// WaitCall waits for the phone's nth call, counted from 1.
func (p *PlainPhone) WaitCall(t testing.TB, nth int) *PlainCall {
	t.Helper()
	invite := p.Messages.WaitCount(t, nth, "INVITEs to the plain phone", func(m Message) bool {
		return m.Request("INVITE") && !strings.Contains(m.Header("To"), "tag=")
	})[nth-1]
	return &PlainCall{
		phone: p, invite: invite, id: invite.Header("Call-ID"), cseq: 1,
		local: tagged(invite).Header("To"), remote: invite.Header("From"),
		target: uriOf(invite.Header("Contact")), routes: invite.Values("Record-Route"),
	}
}

// Progress sends a provisional response, with a description and its tone if
// early is set.
func (c *PlainCall) Progress(t testing.TB, status string, early bool) {
	t.Helper()
	if !early {
		c.phone.respond(c.invite, status, "")
		return
	}
	c.phone.agree(c.invite)
	c.phone.respond(c.invite, status, c.phone.description(c.id))
}

// Answer takes a call that came. It does not wait for the ACK.
func (c *PlainCall) Answer(t testing.TB) {
	t.Helper()
	c.phone.agree(c.invite)
	c.phone.respond(c.invite, "200 OK", c.phone.description(c.id))
}

// Refuse refuses a call that came.
func (c *PlainCall) Refuse(t testing.TB, status string) {
	t.Helper()
	c.phone.respond(c.invite, status, "")
}

// WaitRequest waits for a request of the peer in the call.
func (c *PlainCall) WaitRequest(t testing.TB, method string) Message {
	t.Helper()
	return c.phone.Messages.WaitFor(t, method+" to the plain phone", func(m Message) bool {
		return m.Request(method) && m.Header("Call-ID") == c.id
	})
}

// Call calls an account of the PBX, with an offer. It does not wait.
func (p *PlainPhone) Call(t testing.TB, user string) *PlainCall {
	t.Helper()
	return p.call(user, true)
}

// CallLate is Call without an offer: the 200 is to have it, the ACK the answer.
func (p *PlainPhone) CallLate(t testing.TB, user string) *PlainCall {
	t.Helper()
	return p.call(user, false)
}

func (p *PlainPhone) call(user string, offer bool) *PlainCall {
	c := &PlainCall{
		phone: p, id: rand.Text(), local: fmt.Sprintf("<%s>;tag=%.8s", p.URI(), rand.Text()),
		remote: fmt.Sprintf("<sip:%s@%s>", user, domain), target: fmt.Sprintf("sip:%s@%s", user, domain),
	}
	body := ""
	if offer {
		body = p.description(c.id)
	}
	c.request("INVITE", body)
	return c
}

// request sends a request of the call.
func (c *PlainCall) request(method, body string) {
	if method != "ACK" {
		c.cseq++
	}
	lines := []string{
		fmt.Sprintf("%s %s SIP/2.0", method, c.target),
		fmt.Sprintf("Via: SIP/2.0/UDP %s;branch=z9hG4bK%s", c.phone.addr, rand.Text()),
		"Max-Forwards: 70", "From: " + c.local, "To: " + c.remote, "Call-ID: " + c.id,
		fmt.Sprintf("CSeq: %d %s", c.cseq, method), c.phone.contact(),
	}
	for _, route := range c.routes {
		lines = append(lines, "Route: "+route)
	}
	c.phone.write(withBody(strings.Join(append(lines, "Content-Length: 0", "", ""), "\r\n"), body))
}

// WaitAnswer waits for the 200 of a call that the phone made, and acknowledges it.
func (c *PlainCall) WaitAnswer(t testing.TB) {
	t.Helper()
	ok := c.waitResponse(t, "INVITE", 200)
	c.remote, c.target, c.routes = ok.Header("To"), uriOf(ok.Header("Contact")), ok.Values("Record-Route")
	slices.Reverse(c.routes)
	body := ""
	if c.phone.session(c.id).version == 0 {
		body = c.phone.description(c.id) // of the offer in the 200
	}
	c.request("ACK", body)
}

func (c *PlainCall) waitResponse(t testing.TB, method string, status int) Message {
	t.Helper()
	cseq := fmt.Sprintf("%d %s", c.cseq, method)
	response := c.phone.Messages.WaitFor(t, "answer to "+cseq+" of the plain phone", func(m Message) bool {
		return m.Status() >= 200 && m.Header("Call-ID") == c.id && m.Header("CSeq") == cseq
	})
	if response.Status() != status {
		t.Fatalf("%s of the plain phone: %s, want %d", cseq, response.Start, status)
	}
	return response
}

// Renegotiate offers by a re-INVITE what the phone sends and takes from now on:
// sendrecv, sendonly or inactive.
func (c *PlainCall) Renegotiate(t testing.TB, direction string) {
	t.Helper()
	session := c.phone.session(c.id)
	c.phone.mu.Lock()
	session.direction = direction
	c.phone.mu.Unlock()
	c.request("INVITE", c.phone.description(c.id))
	c.waitResponse(t, "INVITE", 200)
	c.request("ACK", "")
}

// RenegotiateLate has the peer offer, by a re-INVITE without a body.
func (c *PlainCall) RenegotiateLate(t testing.TB) {
	t.Helper()
	c.request("INVITE", "")
	c.waitResponse(t, "INVITE", 200)
	c.request("ACK", c.phone.description(c.id))
}

// Update is Renegotiate by UPDATE.
func (c *PlainCall) Update(t testing.TB, direction string) {
	t.Helper()
	session := c.phone.session(c.id)
	c.phone.mu.Lock()
	session.direction = direction
	c.phone.mu.Unlock()
	c.request("UPDATE", c.phone.description(c.id))
	c.waitResponse(t, "UPDATE", 200)
}

// Bye hangs up and waits for the 200.
func (c *PlainCall) Bye(t testing.TB) {
	t.Helper()
	c.phone.RTP.SendTo(netip.AddrPort{})
	c.request("BYE", "")
	c.waitResponse(t, "BYE", 200)
}
