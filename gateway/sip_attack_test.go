package gateway

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"viaduct/transport"
)

// hostileMessages are what somebody sends to the SIP side who wants an answer for
// himself, or one for somebody else. The victim's address stands wherever a SIP
// stack might take it from.
func hostileMessages(l *lab, token, victim string) map[string]sip {
	host, port, _ := net.SplitHostPort(victim)
	via := fmt.Sprintf("SIP/2.0/UDP %s;maddr=%s;received=%s;rport=%s;branch=z9hG4bKvictim", victim, host, host, port)
	steer := func(m sip) sip { return m.set("Via", via).add("Contact: <sip:" + victim + ">") }
	forged := replace(l.pbx.request("OPTIONS", token), tokenOf(token), flip(tokenOf(token)))
	tiny := sip("A sip:a SIP/2.0\r\nv:SIP/2.0/UDP a\r\nf:b\r\nt:c\r\ni:d\r\nCSeq:1 A\r\nl:0\r\n\r\n")
	return map[string]sip{
		"a made up token":                         steer(forged),
		"a request for the gateway itself":        steer(l.pbx.request("OPTIONS", "sip:"+l.bound.SIP.String())),
		"the smallest request there is":           tiny,
		"a request with 64 Vias":                  steer(forged).add(repeat("Via: SIP/2.0/UDP "+victim+";branch=z9hG4bKx", 63)...),
		"a request of 4 kB":                       steer(forged).add("X: " + strings.Repeat("x", 4000)),
		"a response to nothing":                   steer(forged).reply("200 OK"),
		"a response whose seal is made up":        forged.set("Via", "SIP/2.0/UDP "+l.bound.SIP.String()+";branch=z9hG4bK"+strings.Repeat("a", 80)).add("Via: " + via).reply("200 OK"),
		"a response whose seal is of another key": steer(foreignResponse(l)).reply("200 OK"),
		"an ACK":                                     steer(forged.as("ACK")),
		"a request that can be read in two ways":     steer(forged).add("Content-Length: 3"),
		"a request with a Route and a Record-Route":  steer(forged).add("Route: <sip:"+victim+";lr>", "Record-Route: <sip:"+victim+";lr>"),
		"a request whose Request-URI names a victim": replace(steer(forged), forged.uri(), "sip:"+tokenOf(token)+"x@"+victim),
	}
}

// foreignResponse has the Via of some other gateway of the same address.
func foreignResponse(l *lab) sip {
	m := l.pbx.request("OPTIONS", "sip:x@y")
	return m.set("Via", "SIP/2.0/UDP "+l.bound.SIP.String()+";branch=z9hG4bK"+foreignToken(l.t, "sip:x@y"))
}

// Nobody but the upstreams and their peers gets a byte, whatever he sends and
// by whatever transport: not of SIP, and not of TLS.
func TestAttackStrangers(t *testing.T) {
	const from = "127.0.0.9:0"
	l := newTLSLab(t, func(l *tlsLab) {
		l.cfg.Upstreams = append(l.cfg.Upstreams, upstreams(t, "sip:"+l.pbx.addr())...)
	}).lab
	alice := l.phone("alice")
	token := l.up(alice, alice.request("INVITE", "sip:b@"+l.pbx.addr()).set("To", "<sip:b@b>;tag=1").add("Contact: <"+alice.contact()+">")).contactURI()
	victim := l.newPBXAt("127.0.0.10:0")
	stranger := l.newPBXAt(from)
	for name, msg := range hostileMessages(l, token, victim.addr()) {
		for _, proto := range []transport.Proto{transport.ProtoUDP, transport.ProtoTCP, transport.ProtoTLS} {
			l.run(name+" by "+proto.String(), func() {
				before, refused := l.dropped(), l.log.count("refused")
				sent, got := len(msg), 0
				if proto == transport.ProtoUDP {
					stranger.send(msg)
				} else {
					sent, got = l.knock(proto, from, msg)
				}
				l.log.await("refused", refused+1)
				l.expectReached(alice, token)
				if proto == transport.ProtoUDP {
					got = l.receivedBy(stranger)
				}
				got += l.receivedBy(victim)
				if got != 0 {
					l.t.Errorf("%d bytes for %d", got, sent)
				}
				l.expectDropped(before, ReasonStranger)
				l.t.Logf("attack: a stranger sends %s by %s | %d bytes in, none out to anybody | viaduct_dropped_total{reason=\"%s\"} 1", name, proto, sent, ReasonStranger)
			})
		}
	}
}

// knock sends a message by a connection from an address, and returns what went
// in and what came out. By TLS it is a whole handshake that is tried.
func (l *lab) knock(proto transport.Proto, from string, msg sip) (sent, got int) {
	l.t.Helper()
	to := l.bound.SIP
	if proto == transport.ProtoTLS {
		to = l.bound.SIPTLS
	}
	local, err := net.ResolveTCPAddr("tcp", from)
	if err != nil {
		l.t.Fatal(err)
	}
	conn, err := (&net.Dialer{LocalAddr: local, Timeout: patience}).Dial("tcp", to.String())
	if err != nil {
		l.t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(patience))
	counted := &countingConn{Conn: conn}
	var over net.Conn = counted
	if proto == transport.ProtoTLS {
		over = tls.Client(counted, &tls.Config{InsecureSkipVerify: true})
	}
	_, _ = io.WriteString(over, string(msg)) // it may find the connection closed
	if _, err := io.Copy(io.Discard, over); errors.Is(err, os.ErrDeadlineExceeded) {
		l.t.Errorf("the connection is left open: %v", err)
	}
	return max(counted.out, len(msg)), counted.in
}

// countingConn counts bytes.
type countingConn struct {
	net.Conn
	in, out int
}

func (c *countingConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.in += n
	return n, err
}

func (c *countingConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.out += n
	return n, err
}

// receivedBy returns how many bytes a UDP socket has been sent by anybody else
// than the test.
func (l *lab) receivedBy(p *pbx) (bytes int) {
	l.t.Helper()
	const sentinel = "nothing came before"
	if _, err := l.pbx.conn.WriteTo([]byte(sentinel), p.conn.LocalAddr()); err != nil {
		l.t.Fatal(err)
	}
	for msg := p.datagram(); msg != sentinel; msg = p.datagram() {
		bytes += len(msg)
	}
	return bytes
}

// maxAmplification is what an upstream's own request may bring it in bytes, for
// each of its own: an answer repeats what RFC 3261 8.2.6.2 names, and adds a status
// line, a tag and the source. The smallest request that there is gets the most.
const maxAmplification = 3

// An upstream that is made to send what somebody else wants is no amplifier: what
// comes back is one answer, to itself, and none to a response.
func TestAttackAmplification(t *testing.T) {
	l := newLab(t)
	alice := l.phone("alice")
	token := l.registered(alice)
	victim := l.newPBXAt("127.0.0.10:0")
	for name, msg := range hostileMessages(l, token, victim.addr()) {
		l.run(name, func() {
			const times = 10 // a repetition gets no more than the first
			l.pbx.seen = nil
			before := l.dropped()
			var got int
			for range times {
				l.pbx.send(msg)
			}
			req := l.pbx.request("OPTIONS", token)
			l.pbx.send(req)
			alice.send(alice.read().reply("200 OK"))
			answers := 0
			for answer := l.pbx.read(); answer.get("Call-ID") != req.get("Call-ID"); answer = l.pbx.read() {
				got += len(answer)
				answers++
			}
			sent := times * len(msg)
			if got > maxAmplification*sent || answers > times || got > 0 && !isAnswerable(msg) {
				l.t.Errorf("%d bytes in, %d out in %d answers", sent, got, answers)
			}
			if astray := l.receivedBy(victim); astray > 0 {
				l.t.Errorf("%d bytes went to an address that the message names", astray)
			}
			l.expectAlive(alice)
			l.t.Logf("attack: an upstream sends %s, %d times | %d bytes in, %d out (%.2f a byte), none to the address that it names | viaduct_dropped_total{reason=\"%s\"} %d",
				name, times, sent, got, float64(got)/float64(sent), l.refusedFor(before, times), times)
		})
	}
}

func isAnswerable(m sip) bool {
	return !strings.HasPrefix(m.start(), "SIP/2.0 ") && m.method() != "ACK"
}

// A connection of an upstream gets no more bytes than it sends, however it sends
// keepalives.
func TestAttackKeepalives(t *testing.T) {
	l := newLab(t)
	alice := l.phone("alice")
	token := l.registered(alice)
	for _, test := range []struct{ name, sent, want string }{
		{"double CRLF", strings.Repeat("\r\n\r\n", 1000), strings.Repeat("\r\n", 1000)},
		{"single CRLF", "\r\n\n" + strings.Repeat("\r\n\n", 1000), ""},
		{"CR alone", strings.Repeat("\r", 4000) + "\n", ""},
		{"LF alone", strings.Repeat("\n", 4000), ""},
	} {
		l.run(test.name, func() {
			s := l.dialTCP("127.0.0.1:0")
			s.send(sip(test.sent))
			s.send(l.pbx.request("OPTIONS", token))
			alice.send(alice.read().reply("200 OK"))
			got := make([]byte, len(test.want))
			if _, err := io.ReadFull(s.in, got); err != nil || string(got) != test.want {
				l.t.Errorf("read %q, %v", got, err)
			}
			if answer := s.next(); answer.start() != "SIP/2.0 200 OK" {
				l.t.Errorf("read %s", answer)
			}
			l.t.Logf("attack: keepalives of %s by the thousand, by TCP | %d bytes in, %d out | viaduct_dropped_total 0", test.name, len(test.sent), len(test.want))
		})
	}
	before := l.dropped()
	for _, datagram := range []string{"\r\n\r\n", "\x00\x00\x00\x00"} {
		l.pbx.send(sip(datagram))
	}
	l.expectReached(alice, token) // no byte came before
	l.expectDropped(before, 0)
}

// A request of which a byte of the token is wrong gets the same answer whichever
// byte it is, so that bytes cannot be tried one after the other.
func TestAttackTokenByteByByte(t *testing.T) {
	l := newLab(t)
	alice := l.phone("alice")
	token := l.registered(alice)
	user := tokenOf(token)
	req := l.pbx.request("INVITE", token).set("To", "<sip:someone@pbx.example>")
	before := l.dropped()
	var want sip
	for i := range user {
		l.pbx.send(replace(req, user+"@", user[:i]+flip(user[i:])+"@"))
		got := l.pbx.read()
		if want == "" {
			want = got
			expectAnswer(t, req.receivedFrom(l.pbx.conn.LocalAddr()), got, 403)
		}
		if got != want {
			t.Errorf("byte %d: answered\n%s, others\n%s", i, got, want)
		}
	}
	if n := l.gw.Dropped(ReasonForgedToken) - before[ReasonForgedToken]; n != uint64(len(user)) {
		t.Errorf("%s counts %d, want %d", ReasonForgedToken, n, len(user))
	}
	l.expectReached(alice, token)
	t.Logf("attack: a token with one byte wrong, for each byte | the same 403 to the last byte, %d times | viaduct_dropped_total{reason=\"%s\"} %d",
		len(user), ReasonForgedToken, len(user))
}

// The same for the seals of both directions: nothing comes back at all.
func TestAttackSealByteByByte(t *testing.T) {
	l := newLab(t)
	alice := l.phone("alice")
	token := l.registered(alice)
	up := l.up(alice, alice.request("MESSAGE", "sip:bob@pbx.example"))
	down := l.down(alice, l.pbx.request("MESSAGE", token))
	before := l.dropped()
	branch := strings.TrimPrefix(up.branch(), branchCookie)
	for i := range branch {
		l.pbx.send(replace(up.reply("200 OK"), branch, branch[:i]+flip(branch[i:])))
	}
	l.expectReached(alice, token) // nothing came to her before
	seal := param(down.get("Via"), sealParam)
	for i := range seal {
		alice.send(replace(down.reply("200 OK"), seal, seal[:i]+flip(seal[i:])))
	}
	l.expectAlive(alice) // nothing came to the SIP server before
	before[ReasonForgedSeal] += uint64(len(branch))
	before[ReasonForgedResponse] += uint64(len(seal))
	l.expectDropped(before, 0)
	t.Logf("attack: a seal with one byte wrong, for each byte, from the SIP side | no answer to anybody, %d times | viaduct_dropped_total{reason=\"%s\"} %d",
		len(branch), ReasonForgedSeal, len(branch))
	t.Logf("attack: a seal with one byte wrong, for each byte, from a browser | no answer to anybody, %d times | viaduct_dropped_total{reason=\"%s\"} %d",
		len(seal), ReasonForgedResponse, len(seal))
}

// refusedFor is the one reason for which so many messages were dropped since before.
func (l *lab) refusedFor(before [numReasons]uint64, times uint64) (why Reason) {
	l.t.Helper()
	for r, n := range l.dropped() {
		switch n - before[r] {
		case 0:
		case times:
			why = Reason(r)
		default:
			l.t.Errorf("%s counts %d more, want %d", Reason(r), n-before[r], times)
		}
	}
	return why
}
