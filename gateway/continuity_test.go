package gateway

import (
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"viaduct/transport"
)

// TestRestartInCall: the gateway is stopped and another started with the same
// keys during a call: it can be ended from both sides.
func TestRestartInCall(t *testing.T) {
	l := newLab(t, withKeyFile(t))
	alice := l.phone("alice")
	token := l.registered(alice)
	invite := alice.invite("sip:bob@pbx.example")
	sent := l.up(alice, invite)
	ok := l.down(alice, sent.reply("200 OK", "Contact: <sip:bob@"+l.pbx.addr()+">"))
	l.up(alice, alice.request("ACK", ok.contactURI()).set("Call-ID", ok.get("Call-ID")).set("To", ok.get("To")))
	pending := l.down(alice, l.pbx.request("INFO", sent.contactURI())) // not answered yet

	l.restart()
	alice = alice.again(l)
	l.expectNobody(token)
	if again := l.registered(alice); again != token {
		t.Fatalf("registered as %s, was %s", again, token)
	}
	if got := l.answered(alice, pending, "200 OK"); got.start() != "SIP/2.0 200 OK" {
		t.Errorf("the PBX gets %s", got)
	}
	bye := l.down(alice, l.pbx.request("BYE", sent.contactURI()))
	if bye.uri() != alice.contact()+";ob" {
		t.Errorf("BYE to %q", bye.uri())
	}
	l.answered(alice, bye, "200 OK")
	own := l.up(alice, alice.request("BYE", ok.contactURI()).set("Call-ID", ok.get("Call-ID")).set("To", ok.get("To")))
	if own.uri() != "sip:bob@"+l.pbx.addr() {
		t.Errorf("BYE up to %q", own.uri())
	}
	l.down(alice, own.reply("200 OK"))
}

// TestCancelAfterReconnect: what ends an INVITE carries its branch, though it
// comes on a connection on which nobody has registered.
func TestCancelAfterReconnect(t *testing.T) {
	for _, registered := range []bool{true, false} {
		t.Run(fmt.Sprintf("registered %v", registered), func(t *testing.T) {
			l := newLab(t)
			alice := l.phone("alice")
			if registered {
				l.registered(alice)
			}
			invite := alice.invite("sip:bob@pbx.example")
			sent := l.up(alice, invite)
			l.hangUp(alice.browser)
			alice = alice.again(l)
			l.expectFollows(alice, invite, sent)
		})
	}
}

// TestCancelAfterRestart: when nothing is remembered, the message itself says it.
func TestCancelAfterRestart(t *testing.T) {
	l := newLab(t, withKeyFile(t))
	alice := l.phone("alice")
	l.registered(alice)
	invite := alice.invite("sip:bob@pbx.example")
	sent := l.up(alice, invite)
	l.restart()
	alice = alice.again(l)
	l.registered(alice)
	l.expectFollows(alice, invite, sent)
	l.down(alice, sent.reply("487 Request Terminated"))
}

// expectFollows sends the CANCEL of an INVITE and the ACK of its failure, and
// checks that the PBX takes them for that.
func (l *lab) expectFollows(p *phone, invite, sent sip) {
	l.t.Helper()
	for _, method := range []string{"CANCEL", "ACK"} {
		msg := invite.as(method)
		if method == "ACK" {
			msg = msg.set("To", invite.get("To")+";tag=callee")
		}
		if got := l.up(p, msg); got.get("Via") != sent.get("Via") {
			l.t.Errorf("%s has Via %q, its INVITE %q", method, got.get("Via"), sent.get("Via"))
		}
	}
}

// TestInviteIsNotMistaken: the record of INVITEs serves their CANCELs only.
func TestInviteIsNotMistaken(t *testing.T) {
	l := newLab(t)
	alice := l.phone("alice")
	invite := alice.invite("sip:bob@pbx.example")
	sent := l.up(alice, invite)
	for name, other := range map[string]sip{
		"another Call-ID": invite.as("CANCEL").set("Call-ID", "another"),
		"another CSeq":    invite.as("CANCEL").set("CSeq", "9 CANCEL"),
		"another branch":  invite.as("CANCEL").set("Via", "SIP/2.0/WSS "+alice.viaHost+";branch=z9hG4bKother"),
	} {
		if got := l.up(alice, other); got.branch() == sent.branch() {
			t.Errorf("%s: the branch is the INVITE's", name)
		}
	}
}

// TestDownBranch: a CANCEL of the PBX meets its INVITE at the browser by
// whatever port or connection it comes.
func TestDownBranch(t *testing.T) {
	l := newLab(t)
	alice := l.phone("alice")
	token := l.registered(alice)
	for name, send := range map[string]func(sip){
		"another port":           l.newPBX().send,
		"a TCP connection":       l.dialTCP("127.0.0.1:0").send,
		"another TCP connection": l.dialTCP("127.0.0.1:0").send,
		"the same port":          l.pbx.send,
	} {
		invite := l.pbx.request("INVITE", token)
		branch := l.down(alice, invite).branch()
		for _, method := range []string{"CANCEL", "ACK"} {
			send(invite.as(method))
			if got := alice.read(); got.method() != method || got.branch() != branch {
				t.Errorf("%s: %s has branch %q, the INVITE %q", name, got.method(), got.branch(), branch)
			}
		}
	}
	invite := l.pbx.request("INVITE", token)
	branch := l.down(alice, invite).branch()
	for name, other := range map[string]sip{
		"another branch":  invite.as("CANCEL").set("Via", "SIP/2.0/UDP "+l.pbx.addr()+";branch=z9hG4bKother"),
		"another sent-by": invite.as("CANCEL").set("Via", "SIP/2.0/UDP pbx.example;branch="+invite.branch()),
		"another Call-ID": invite.as("CANCEL").set("Call-ID", "another"),
	} {
		if got := l.down(alice, other); got.branch() == branch {
			t.Errorf("%s: the branch is the INVITE's", name)
		}
	}
}

// tcpLab is a gateway in front of a PBX on TCP.
type tcpLab struct {
	*lab
	server *net.TCPListener
}

func newTCPLab(t *testing.T, options ...func(*Config)) *tcpLab {
	t.Helper()
	l := &tcpLab{lab: preparedLab(t)}
	l.server = l.listenTCP("127.0.0.1:0")
	l.cfg.Upstreams = upstreams(t, "sip:"+l.server.Addr().String()+";transport=tcp")
	for _, option := range options {
		option(&l.cfg)
	}
	l.start()
	return l
}

// registered registers a phone by the connection that the gateway opens.
func (l *tcpLab) registered(p *phone) (token string, pbx *stream) {
	l.t.Helper()
	p.send(p.register())
	pbx = l.accept(l.server)
	req := pbx.read()
	pbx.send(req.reply("200 OK", "Contact: "+req.get("Contact")))
	p.read()
	return req.contactURI(), pbx
}

// request is one of the PBX by TCP, which can be answered at its listener.
func (l *tcpLab) request(method, uri string) sip {
	return l.pbx.request(method, uri).set("Via", fmt.Sprintf("SIP/2.0/TCP %s;branch=z9hG4bK%d", l.server.Addr(), l.pbx.sent))
}

// hangUp closes a connection of the PBX and waits until the gateway knows.
func (l *tcpLab) hangUp(s *stream) {
	l.t.Helper()
	remote := netip.MustParseAddrPort(s.conn.LocalAddr().String())
	_ = s.conn.Close()
	for deadline := time.Now().Add(patience); l.gw.sip.Stream(transport.ProtoTCP, remote) != nil; runtime.Gosched() {
		if time.Now().After(deadline) {
			l.t.Fatal("the gateway keeps a connection that is gone")
		}
	}
}

// TestResponseByConnection: a response goes back by the connection that its
// request came by, else by a new one to the sent-by (RFC 3261 18.2.2).
func TestResponseByConnection(t *testing.T) {
	l := newTCPLab(t, withKeyFile(t))
	alice := l.phone("alice")
	token, dialled := l.registered(alice)
	one, two := l.dialTCP("127.0.0.1:0"), l.dialTCP("127.0.0.1:0")
	var requests []sip
	for _, s := range []*stream{one, dialled, two} {
		s.send(l.request("INFO", token))
		requests = append(requests, alice.read())
	}
	alice.send(requests[1].reply("200 OK"))
	alice.send(requests[0].reply("200 OK"))
	expectResponse(t, dialled, requests[1])
	expectResponse(t, one, requests[0])

	l.hangUp(two)
	l.hangUp(dialled)
	alice.send(requests[2].reply("200 OK"))
	expectResponse(t, l.accept(l.server), requests[2])
}

func expectResponse(t *testing.T, s *stream, req sip) {
	t.Helper()
	got := s.read()
	if got.get("Call-ID") != req.get("Call-ID") || len(got.all("Via")) != 1 {
		t.Errorf("the PBX gets\n%s\nas the response to\n%s", got, req)
	}
}

// TestResponseToSentBy: the sent-by, not the upstream's own port, says where a
// lost connection's response goes; a restart loses every connection.
func TestResponseToSentBy(t *testing.T) {
	l := newTCPLab(t, withKeyFile(t))
	alice := l.phone("alice")
	token, _ := l.registered(alice)
	elsewhere := l.listenTCP("127.0.0.1:0")
	s := l.dialTCP("127.0.0.1:0")
	s.send(l.request("INFO", token).set("Via", "SIP/2.0/TCP "+elsewhere.Addr().String()+";branch=z9hG4bKelsewhere"))
	req := alice.read()
	l.restart()
	alice = alice.again(l.lab)
	alice.send(req.reply("200 OK"))
	expectResponse(t, l.accept(elsewhere), req)
}

// TestRedial: the PBX drops its TCP connection between an INVITE and its CANCEL.
func TestRedial(t *testing.T) {
	l := newTCPLab(t)
	alice := l.phone("alice")
	_, pbx := l.registered(alice)
	invite := alice.invite("sip:bob@pbx.example")
	alice.send(invite)
	sent := pbx.read()
	l.hangUp(pbx)
	alice.send(invite.as("CANCEL"))
	again := l.accept(l.server)
	if got := again.read(); got.method() != "CANCEL" || got.get("Via") != sent.get("Via") {
		t.Errorf("%s has Via %q, its INVITE %q", got.method(), got.get("Via"), sent.get("Via"))
	}
	again.send(sent.reply("487 Request Terminated"))
	if got := alice.read(); got.start() != "SIP/2.0 487 Request Terminated" || got.get("Via") != invite.get("Via") {
		t.Errorf("the browser gets %s", got)
	}
}
