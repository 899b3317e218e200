package gateway

import (
	"bytes"
	"io"
	"testing"
	"time"

	"go.uber.org/zap"

	"viaduct/rewrite"
)

// unlogged keeps nothing of the many messages that are refused.
func unlogged(c *Config) { c.Log = zap.NewNop() }

// FuzzFromBrowser: whatever a browser sends is refused for one reason, or
// arrives at the PBX as one sound message that comes back to that browser.
func FuzzFromBrowser(f *testing.F) {
	l := newLab(f, unlogged, stateless, undisturbed)
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

// FuzzFromSIP: whatever comes from the PBX is refused for one reason, or goes to
// a browser.
func FuzzFromSIP(f *testing.F) {
	l := newLab(f, unlogged, stateless, undisturbed)
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
		if got := p.read(); out.Scan([]byte(got)) != rewrite.Sound {
			t.Fatalf("%q\nbecame\n%q", msg, got)
		}
	})
}

// stateless switches resending off: what comes twice is relayed twice.
func stateless(c *Config) { c.MaxTransactions = -1 }

// sum is how many messages were dropped at all.
func sum(counts [numReasons]uint64) (total uint64) {
	for _, n := range counts {
		total += n
	}
	return total
}
