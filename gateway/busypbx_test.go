package gateway

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

// busyPBX answers everything by itself, and repeats what it asks.
type busyPBX struct {
	*pbx
	mu     sync.Mutex
	sent   int
	tokens map[string]string // the URI by which a user is reached
	calls  map[string]sip    // the INVITEs that have no final response, by Call-ID
	open   map[string]sip    // what is repeated: requests without response by transaction, refusals without ACK
}

func (b *busyPBX) serve() {
	buf := make([]byte, 65536)
	for repeated := time.Now(); ; {
		_ = b.conn.SetReadDeadline(repeated.Add(timerT1))
		n, err := b.conn.Read(buf)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			b.repeat()
			repeated = time.Now()
		case err != nil:
			return
		default:
			b.take(sip(buf[:n]))
		}
	}
}

// idle reports whether all that was asked is answered.
func (b *busyPBX) idle() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.open) == 0
}

// forget begins anew.
func (b *busyPBX) forget() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tokens, b.calls, b.open = make(map[string]string), make(map[string]sip), make(map[string]sip)
}

func (b *busyPBX) repeat() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range b.open {
		b.send(m)
	}
}

// transactionOf names the transaction of a request or of the response to one.
func transactionOf(m sip) string { return m.get("Call-ID") + " " + m.get("CSeq") }

// ask sends a request until there is a response to it.
func (b *busyPBX) ask(req sip) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.open[transactionOf(req)] = req
	if req.method() == "INVITE" {
		b.calls[req.get("Call-ID")] = req
	}
	b.send(req)
}

func (b *busyPBX) take(m sip) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch m.method() {
	case "SIP/2.0":
		delete(b.open, transactionOf(m))
		b.acknowledge(m)
	case "ACK":
		delete(b.open, refused(m))
	case "REGISTER":
		b.tokens[userOf(m)] = m.contactURI()
		b.send(m.reply("200 OK", "Contact: "+m.get("Contact"), "Expires: 600"))
	case "INVITE":
		if strings.HasPrefix(m.uri(), "sip:rings@") {
			b.calls[m.get("Call-ID")] = m
			b.send(m.reply("180 Ringing"))
		} else {
			b.send(m.reply("200 OK", "Contact: <sip:bob@"+b.addr()+">"))
		}
	default:
		b.send(m.reply("200 OK"))
	}
}

// acknowledge sends the ACK of a final response to an INVITE.
func (b *busyPBX) acknowledge(m sip) {
	invite, ok := b.calls[m.get("Call-ID")]
	if !ok || !strings.HasSuffix(m.get("CSeq"), "INVITE") || strings.HasPrefix(m.start(), "SIP/2.0 1") {
		return
	}
	ack := invite.as("ACK").set("To", m.get("To"))
	if strings.HasPrefix(m.start(), "SIP/2.0 2") {
		ack = ack.set("Via", invite.get("Via")+"ack")
	}
	b.send(ack)
}

func userOf(m sip) string { return between(m.get("From"), "sip:", "@") }

// request makes a request to a phone that has registered.
func (b *busyPBX) request(method string, p *phone) sip {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.sent++
	uri := b.tokens[p.user]
	return newRequest(method, uri,
		fmt.Sprintf("Via: SIP/2.0/UDP %s;rport;branch=z9hG4bKpbx%d", b.addr(), b.sent),
		"From: <sip:bob@pbx.example>;tag=bob", "To: <"+uri+">", fmt.Sprintf("Call-ID: pbx%d", b.sent), "CSeq: 7 "+method)
}

// refuse ends a call that rings, until that is acknowledged.
func (b *busyPBX) refuse(callID string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	refusal := b.calls[callID].reply("486 Busy Here")
	b.open[refused(refusal)] = refusal
	b.send(refusal)
}

// refused names a refusal, and its ACK.
func refused(m sip) string { return m.get("Call-ID") + " refused" }
