package gateway

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestLongHeaders: no header that a message has room for takes long to read, however
// many parameters, values, quotes, brackets, comments or folds are in it. Who read
// one again for each would take half a second and more.
func TestLongHeaders(t *testing.T) {
	l := newLab(t, stateless)
	p := l.phone("mallory")
	l.registered(p)
	conn := l.onlyConn()
	const n = 30_000
	long := strings.Repeat
	worst, of := time.Duration(0), ""
	for name, make := range map[string]func(sip) sip{
		"parameters of From":         func(m sip) sip { return m.set("From", "<sip:a@b>;tag=x"+long(";a", n)) },
		"parameters of To":           func(m sip) sip { return m.set("To", "<sip:a@b>"+long(";a", n)) },
		"quotes in To":               func(m sip) sip { return m.set("To", "<sip:a@b>"+long(`;"`, n)) },
		"parameters of Contact":      func(m sip) sip { return m.add("Contact: <sip:a@b.invalid>" + long(";a", n)) },
		"empty Contacts":             func(m sip) sip { return m.add("Contact: " + long(",", n) + "<sip:a@b.invalid>") },
		"quotes in Contact":          func(m sip) sip { return m.add("Contact: " + long(`""`, n) + "<sip:a@b.invalid>") },
		"brackets in Contact":        func(m sip) sip { return m.add("Contact: " + long("<>", n) + "<sip:a@b.invalid>") },
		"parameters of Route":        func(m sip) sip { return m.add("Route: <sip:" + l.webAddr() + ";lr>" + long(";a", n)) },
		"empty Routes":               func(m sip) sip { return m.add("Route: " + long(",", n) + "<sip:" + l.webAddr() + ";lr>") },
		"parameters of a lower Via":  func(m sip) sip { return m.add("Via: SIP/2.0/WS x" + long(";a", n)) },
		"comments in a lower Via":    func(m sip) sip { return m.add("Via: SIP/2.0/WS x " + long("(", n) + long(")", n)) },
		"values of Supported":        func(m sip) sip { return m.add("Supported: " + long("a,", n)) },
		"values of Proxy-Require":    func(m sip) sip { return m.add("Proxy-Require: " + long("a,", n)) },
		"folds":                      func(m sip) sip { return m.add("X: " + long("\r\n ", n/2)) },
		"folds in To":                func(m sip) sip { return m.set("To", "<sip:a@b>"+long("\r\n ", n/2)) },
		"bare CRs":                   func(m sip) sip { return m.add("X: " + long("\r", 2*n)) },
		"parameters of Request-URI":  func(m sip) sip { return replace(m, "sip:bob@", "sip:"+long(";a", n)+"@") },
		"a user part":                func(m sip) sip { return m.set("From", "<sip:"+long("a", 2*n)+"@b>;tag=x") },
		"parameters of Content-Type": func(m sip) sip { return m.add("Content-Type: text/plain" + long(";a", n)) },
	} {
		best := time.Hour
		for range 5 {
			msg := []byte(make(p.request("MESSAGE", "sip:bob@pbx.example")))
			begun := time.Now()
			l.gw.fromBrowser(conn, nil, msg)
			best = min(best, time.Since(begun))
		}
		if best > worst {
			worst, of = best, name
		}
		if best > 200*time.Millisecond {
			t.Errorf("%s: %v", name, best)
		}
	}
	t.Logf("attack: %s | %s | %s", "headers of 60,000 bytes", fmt.Sprintf("each is read once, the worst (%s) in %v", of, worst.Round(100*time.Microsecond)),
		"viaduct_relay_duration_seconds")
}

// TestLongNamesAreNotKept: what a browser goes by is kept only where it is short, and
// relayed all the same.
func TestLongNamesAreNotKept(t *testing.T) {
	l := newLab(t)
	p := l.phone("mallory")
	for i := range maxSeen {
		from := fmt.Sprintf("<sip:%s%d@pbx.example>;tag=x", strings.Repeat("a", 60_000), i)
		l.up(p, p.request("MESSAGE", "sip:bob@pbx.example").set("From", from).add("Contact: <"+p.contact()+">"))
	}
	f := l.onlyConn().Tag.(*flow)
	kept := 0
	for _, c := range f.seen {
		kept += len(c.aor()) + len(c.uri()) + len(c.viaHost())
	}
	if kept > maxSeen*1024 {
		t.Errorf("%d bytes are kept", kept)
	}
	t.Logf("attack: %s | %s | %s", "names of 60,000 bytes, many on each connection", "relayed, and not kept: a megabyte less for each connection", "process_resident_memory_bytes")
}
