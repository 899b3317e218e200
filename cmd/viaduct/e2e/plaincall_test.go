package e2e

import (
	"crypto/rand"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
)

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
