package e2e

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
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

// react does what needs no test: a CANCEL and requests within a dialog are
// answered, and what the peer's description says is done.
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
