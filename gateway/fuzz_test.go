package gateway

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/ghettovoice/gosip/log"
	"github.com/ghettovoice/gosip/sip/parser"
	"github.com/gobwas/ws/wsutil"
	"go.uber.org/zap"

	"viaduct/rewrite"
)

// unlogged keeps nothing of the many messages that are refused.
func unlogged(c *Config) { c.Log = zap.NewNop() }

// FuzzFromBrowser: whatever a browser sends is refused for one reason, or
// arrives at the PBX as one sound message that comes back to that browser.
func FuzzFromBrowser(f *testing.F) {
	l := newLab(f, unlogged, stateless, undisturbed, unhurried)
	p := l.phone("alice")
	token := l.registered(p)
	asked := l.down(p, l.pbx.request("INVITE", token))
	for _, seed := range []sip{
		p.register(), p.invite("sip:bob@pbx.example"), p.invite("sip:bob@pbx.example").as("CANCEL"), jsSIPInvite(p),
		p.registerContact("*").add("Expires: 0"), p.request("BYE", token).add("Route: <sip:" + l.pbx.addr() + ";lr>"),
		asked.reply("200 OK", "Contact: <"+p.contact()+">"), asked.reply("486 Busy Here"), "\r\n\r\n", "",
	} {
		f.Add([]byte(seed))
	}
	for _, m := range tortures(f) {
		f.Add([]byte(m.msg))
	}
	for _, test := range smuggled {
		f.Add([]byte(test.make(p.request("MESSAGE", "sip:bob@pbx.example").withBody("hello"))))
	}
	conn := l.onlyConn()
	_ = p.conn.SetReadDeadline(time.Time{})
	go func() { _, _ = io.Copy(io.Discard, p.conn) }()
	f.Fuzz(func(t *testing.T, msg []byte) {
		l.t.TB = t
		before := sum(l.dropped())
		l.gw.fromBrowser(conn, nil, bytes.Clone(msg))
		switch refused := sum(l.dropped()) - before; {
		case refused > 1:
			t.Fatalf("refused for %d reasons", refused)
		case refused == 1:
			return
		}
		sent := l.pbx.datagram() // the same message may come twice
		for sent.isProbe() {
			l.pbx.send(sent.reply("200 OK"))
			sent = l.pbx.datagram()
		}
		var out rewrite.Message
		if defect := out.Scan([]byte(sent)); defect != rewrite.Sound {
			t.Fatalf("%s:\n%q\nbecame\n%q", defect, msg, sent)
		}
		if out.Request {
			expectOurs(t, l.gw, msg, sent)
			expectGosipAgrees(t, &out, sent)
		}
	})
}

// expectOurs checks that the response to a request that was sent finds its way
// back, with the browser's own Via.
func expectOurs(t *testing.T, g *Gateway, msg []byte, sent sip) {
	t.Helper()
	in, w := rewrite.Message{}, g.works.get()
	defer g.works.put(w)
	in.Scan(msg)
	via, _ := in.Via(0)
	w.msg.Scan([]byte(sent))
	if _, ok := g.openUp(w); !ok || !bytes.Equal(w.up.Via, in.Text(via.Value)) || g.flowOf(&w.up) == nil {
		t.Fatalf("nothing would come back of\n%q\nseal %+v\nof\n%q", sent, w.up, msg)
	}
}

// expectGosipAgrees checks that gosip, if it reads what was sent at all, reads it as
// the gateway does. It cuts line ends around bodies, and leaves out Call-IDs that it
// cannot read; what it reads otherwise in lower Vias and addresses is the business
// of the end-to-end tests.
func expectGosipAgrees(t *testing.T, m *rewrite.Message, sent sip) {
	t.Helper()
	parsed, err := parser.ParseMessage([]byte(sent), unheard)
	if err != nil {
		return
	}
	want, got := map[string]string{}, map[string]string{}
	if h, ok := parsed.CallID(); ok {
		want["Call-ID"], got["Call-ID"] = string(m.Text(m.CallID)), h.Value()
	}
	if h, ok := parsed.CSeq(); ok {
		want["CSeq"], got["CSeq"] = fmt.Sprint(m.CSeq, " ", string(m.Text(m.CSeqMethod))), h.Value()
	}
	if h, ok := parsed.ContentLength(); ok {
		want["Content-Length"], got["Content-Length"] = fmt.Sprint(m.ContentLength), h.Value()
	}
	if via, ok := parsed.Via(); ok && len(via) > 0 {
		ours, _ := m.Via(0)
		branch, _ := via[0].Params.Get("branch")
		want["branch"], got["branch"] = string(m.Text(ours.Branch)), fmt.Sprint(branch)
	}
	want["body"], got["body"] = strings.Trim(string(m.Text(m.Body)), "\r\n"), strings.Trim(parsed.Body(), "\r\n")
	if !maps.Equal(want, got) {
		t.Fatalf("gosip reads %q, the gateway %q, in\n%q", got, want, sent)
	}
}

// unheard keeps nothing of what gosip warns of.
var unheard = func() log.Logger {
	logger := log.NewDefaultLogrusLogger()
	logger.SetLevel(0)
	return logger
}()

// FuzzFromSIP: whatever comes from the PBX is refused for one reason, or goes to
// a browser.
func FuzzFromSIP(f *testing.F) {
	l := newLab(f, unlogged, stateless, undisturbed, unhurried)
	p := l.phone("alice")
	req := l.up(p, p.register())
	ok := req.reply("200 OK", "Contact: "+req.get("Contact"))
	l.down(p, ok)
	invite := l.pbx.request("INVITE", req.contactURI()).add("Contact: <sip:bob@pbx.example>")
	for _, seed := range []sip{
		ok, invite, invite.as("CANCEL"), invite.withBody("body"), l.up(p, p.invite("sip:bob@pbx.example")).reply("180 Ringing"), "\r\n", "\x00",
	} {
		f.Add([]byte(seed))
	}
	for _, m := range tortures(f) {
		f.Add([]byte(m.msg))
		f.Add([]byte(replace(m.msg, m.msg.uri(), req.contactURI())))
	}
	from := l.fromPBX()
	f.Fuzz(func(t *testing.T, msg []byte) {
		l.t.TB = t
		before := sum(l.dropped())
		l.gw.fromSIP(from, bytes.Clone(msg))
		switch refused := sum(l.dropped()) - before; {
		case refused > 1:
			t.Fatalf("refused for %d reasons", refused)
		case refused == 1:
			return
		}
		var out rewrite.Message
		_ = p.conn.SetReadDeadline(time.Now().Add(patience))
		got, _, err := wsutil.ReadServerData(p.conn) // a binary frame, if it is no UTF-8
		if err != nil || out.Scan(got) != rewrite.Sound {
			t.Fatalf("%v: %q\nbecame\n%q", err, msg, got)
		}
	})
}

// stateless switches resending off: what comes twice is relayed twice.
func stateless(c *Config) { c.MaxTransactions = -1 }

// unhurried bounds no rate: a fuzzer asks more than any browser.
func unhurried(c *Config) { c.Rate = -1 }

// sum is how many messages were dropped at all.
func sum(counts [numReasons]uint64) (total uint64) {
	for _, n := range counts {
		total += n
	}
	return total
}
