package rewrite

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/ghettovoice/gosip/sip"
)

// A reading is what one reader makes of a message. One that cannot read
// Contacts leaves them out.
type reading struct{ callID, cseq, length, vias, contacts string }

// readersAgree compares three readers of one message: the package, the oracle
// and, of what it does not misread, gosip.
func (p *property) readersAgree(m *Message, text string) {
	p.Helper()
	mine := readMessage(m)
	o := readOracle(text)
	if theirs := o.reading(); mine != theirs {
		p.Errorf("of %q\nrewrite reads    %+v\nthe oracle reads %+v", text, mine, theirs)
	}
	if !p.m.tame {
		return
	}
	parsed, err := p.gosip.ParseMessage([]byte(text))
	if err != nil {
		p.Errorf("gosip: %v: %q", err, text)
	} else if theirs := gosipReading(parsed); mine != theirs {
		p.Errorf("of %q\nrewrite reads %+v\ngosip reads   %+v", text, mine, theirs)
	}
}

func readMessage(m *Message) reading {
	r := reading{
		callID: string(m.Text(m.CallID)),
		cseq:   fmt.Sprint(m.CSeq, " ", string(m.Text(m.CSeqMethod))),
		length: fmt.Sprint(max(m.ContentLength, 0)),
	}
	for i := range m.Vias() {
		h, _ := m.Via(i)
		r.vias += fmt.Sprintf("%s:%d %s, ", m.Text(h.Host), h.Port, m.Text(h.Branch))
	}
	for _, s := range all(m, Contact) {
		a, _ := m.ParseAddress(s)
		if a.Star {
			a.URI = s
		}
		r.contacts += string(m.Text(a.URI)) + ", "
	}
	return r
}

func (o *oracle) reading() (r reading) {
	value := func(name string) string {
		l, _ := o.line(name)
		return l.value()
	}
	number := func(text string) string {
		n, _ := strconv.Atoi(text)
		return strconv.Itoa(n)
	}
	cseq := strings.Fields(value("cseq"))
	r = reading{callID: value("call-id"), cseq: number(cseq[0]) + " " + cseq[1], length: "0"}
	if l, ok := o.line("content-length"); ok {
		r.length = number(l.value())
	}
	for _, via := range o.all("via") {
		host, port := splitSentBy(viaSentBy(via))
		r.vias += host + ":" + number(port) + " " + viaBranch(via) + ", "
	}
	for _, l := range o.lines {
		if l.name == "contact" {
			for _, v := range l.values() {
				r.contacts += l.uri(v) + ", "
			}
		}
	}
	return r
}

func gosipReading(m sip.Message) reading {
	r := reading{length: "0"}
	if h, ok := m.CallID(); ok {
		r.callID = h.Value()
	}
	if h, ok := m.CSeq(); ok {
		r.cseq = h.Value()
	}
	if h, ok := m.ContentLength(); ok {
		r.length = h.Value()
	}
	for _, h := range m.GetHeaders("Via") {
		for _, hop := range h.(sip.ViaHeader) {
			r.vias += gosipHop(hop)
		}
	}
	for _, h := range m.GetHeaders("Contact") {
		r.contacts += h.(*sip.ContactHeader).Address.String() + ", "
	}
	return r
}

func gosipHop(hop *sip.ViaHop) string {
	port, branch := sip.Port(0), ""
	if hop.Port != nil {
		port = *hop.Port
	}
	for _, name := range []string{"branch", "Branch"} {
		if b, ok := hop.Params.Get(name); ok && b != nil {
			branch = b.String()
		}
	}
	return fmt.Sprintf("%s:%d %s, ", hop.Host, port, branch)
}
