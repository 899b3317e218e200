package gateway

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
)

// masquerade is a page on another connection that uses all the names of a
// phone's page: its Via host, Contact and address-of-record.
func masquerade(l *lab, as *phone) *phone {
	l.t.Helper()
	p := as.again(l)
	p.sent = 500
	return p
}

// TestClaimByInvite: who calls with the Contact of a connected client gets the
// answers to its own call, and nothing else.
func TestClaimByInvite(t *testing.T) {
	l := newLab(t)
	alice := l.phone("alice")
	token := l.registered(alice)
	thief := masquerade(l, alice)
	invite := l.up(thief, thief.request("INVITE", "sip:bob@pbx.example").add("Contact: <"+alice.contact()+">"))
	if got := invite.contactURI(); got != token {
		t.Fatalf("the same names make another token: %s and %s", got, token)
	}
	if got := l.down(thief, invite.reply("180 Ringing")); got.start() != "SIP/2.0 180 Ringing" {
		t.Errorf("the caller gets %s", got)
	}
	l.expectReached(alice, token)
	l.down(thief, invite.reply("486 Busy Here"))
	l.expectAlive(alice)
	l.expectAlive(thief)
	t.Logf("attack: %s | %s | %s", "a call with the Contact of a connected client", "answered to who called; the client is reached", "viaduct_rebinds_total 0")
}

// TestClaimByRegister: a client moves when the PBX has accepted its REGISTER,
// neither before nor without that.
func TestClaimByRegister(t *testing.T) {
	l := newLab(t)
	alice := l.phone("alice")
	token := l.registered(alice)
	thief := masquerade(l, alice)
	for _, status := range []string{"100 Trying", "401 Unauthorized", "403 Forbidden", "500 Server Error"} {
		req := l.up(thief, thief.register())
		l.expectReached(alice, token)
		l.down(thief, req.reply(status))
		l.expectReached(alice, token)
	}
	req := l.up(thief, thief.registerContact("")) // a fetch
	if got := l.down(thief, req.reply("200 OK", "Contact: <"+token+">;expires=300")).contactURI(); got != alice.contact() {
		t.Errorf("a fetch shows %q, want %q", got, alice.contact())
	}
	l.expectReached(alice, token)

	if again := l.registered(thief); again != token {
		t.Errorf("registered as %s, want %s", again, token)
	}
	l.expectReached(thief, token) // it has proved to be alice
	l.expectAlive(alice)
	t.Logf("attack: %s | %s | %s", "REGISTER as a connected client, answered 100, 401, 403 or 500, and a fetch of its bindings", "nothing moves; only a 2xx with a Contact moves the client", "viaduct_rebinds_total 1")
}

// TestClaimByOtherAccount: another account's 2xx for the same Contact is
// another client's.
func TestClaimByOtherAccount(t *testing.T) {
	l := newLab(t)
	alice := l.phone("alice")
	token := l.registered(alice)
	mallory := masquerade(l, alice)
	mallory.user = "mallory"
	own := l.registered(mallory)
	if own == token {
		t.Fatalf("two accounts have one token: %s", token)
	}
	l.expectReached(alice, token)
	l.expectReached(mallory, own)

	// Nor is a binding of alice's restored for mallory.
	req := l.up(mallory, mallory.register())
	got := l.down(mallory, req.reply("200 OK", "Contact: "+req.get("Contact"), "Contact: <"+token+">;expires=60"))
	if c := got.all("Contact"); len(c) != 2 || c[1] != "<"+token+">;expires=60" {
		t.Errorf("Contacts %q, want alice's untouched", c)
	}
	t.Logf("attack: %s | %s | %s", "the Contact and Via host of another account, registered", "another token, and no binding of the other is shown", "viaduct_rebinds_total 0")
}

// TestClaimOfAbsent: while a registration lasts, its client is nobody else's,
// though its connection is gone.
func TestClaimOfAbsent(t *testing.T) {
	l := newLab(t)
	alice := l.phone("alice")
	token := l.registered(alice)
	l.hangUp(alice.browser)
	thief := masquerade(l, alice)
	invite := l.up(thief, thief.invite("sip:bob@pbx.example"))
	l.down(thief, invite.reply("180 Ringing"))
	l.expectNobody(token)

	back := alice.again(l)
	l.registered(back)
	l.expectReached(back, token)
	t.Logf("attack: %s | %s | %s", "a call with the Contact of a registered client that is away", "requests for the client reach nobody until it is back", "viaduct_dropped_total{reason=\"no_connection\"} 1")
}

// TestAnonymousCallers: callers who hide behind the same From each get their
// own BYE.
func TestAnonymousCallers(t *testing.T) {
	l := newLab(t)
	anonymous := func(m sip) sip { return m.set("From", "<sip:anonymous@anonymous.invalid>;tag=a") }
	var calls [2]struct {
		phone *phone
		token string
	}
	for i, name := range []string{"one", "two"} {
		p := l.phone(name)
		p.contactUser = "anonymous"
		calls[i].phone, calls[i].token = p, l.up(p, anonymous(p.invite("sip:bob@pbx.example"))).contactURI()
	}
	if calls[0].token == calls[1].token {
		t.Fatalf("two callers have one token: %s", calls[0].token)
	}
	for _, call := range calls {
		l.answered(call.phone, l.down(call.phone, l.pbx.request("BYE", call.token)), "200 OK")
	}
	registered := l.phone("alice")
	token := l.registered(registered)
	call := registered.request("INVITE", "sip:bob@pbx.example").add("Contact: <" + registered.contact() + ">")
	if got := l.up(registered, anonymous(call)).contactURI(); got != token {
		t.Errorf("an anonymous call of a registered client has token %s, want %s", got, token)
	}
	t.Logf("attack: %s | %s | %s", "two callers with one anonymous From and Contact", "each gets the BYE of its own call", "viaduct_rebinds_total 0")
}

// TestClaimPings: when a client is named on another connection, the one it is on
// has to prove that it lives.
func TestClaimPings(t *testing.T) {
	for name, claim := range map[string]func(l *lab, thief *phone, asked sip){
		"a call":         func(_ *lab, thief *phone, _ sip) { thief.send(thief.invite("sip:bob@pbx.example")) },
		"a registration": func(_ *lab, thief *phone, _ sip) { thief.send(thief.register()) },
		"a response":     func(_ *lab, thief *phone, asked sip) { thief.send(asked.reply("200 OK")) },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			alice := l.phone("alice")
			asked := l.down(alice, l.pbx.request("INFO", l.registered(alice)))
			claim(l, masquerade(l, alice), asked)
			_ = alice.conn.SetReadDeadline(time.Now().Add(patience))
			if frame, err := ws.ReadHeader(alice.conn); err != nil || frame.OpCode != ws.OpPing {
				t.Errorf("the connection gets %+v, %v, want a ping", frame, err)
			}
		})
	}
}

// TestTwoTabs: with one account and a fixed Contact the last REGISTER wins, as
// it does at the PBX, which cannot tell the tabs apart.
func TestTwoTabs(t *testing.T) {
	l := newLab(t)
	first := l.phone("alice")
	second := masquerade(l, first)
	token := l.registered(first)
	l.registered(second)
	l.expectReached(second, token)
	l.registered(first)
	l.expectReached(first, token)
	l.hangUp(second.browser)
	l.expectReached(first, token)
	t.Logf("attack: %s | %s | %s", "a fixed Contact, Via host and account on two connections", "the last REGISTER that was accepted wins, and it alone", "viaduct_rebinds_total 2")
}

// TestTwoTabsOfOwnNames: with names of their own, as JsSIP makes them, both are
// called.
func TestTwoTabsOfOwnNames(t *testing.T) {
	l := newLab(t, withKeyFile(t))
	first, second := l.phone("alice"), l.phone("alice")
	second.viaHost, second.contactUser = "another00000.invalid", "another0"
	one, two := l.registered(first), l.registered(second)
	l.expectReached(first, one)
	l.expectReached(second, two)
	req := l.up(first, first.register())
	got := l.down(first, req.reply("200 OK", "Contact: <"+two+">;expires=9, "+req.get("Contact")))
	if c := got.get("Contact"); !strings.HasPrefix(c, "<"+two+">;expires=9, <"+first.contact()+">") {
		t.Errorf("Contact %q, want the own binding restored and the other's not", c)
	}

	// Nor is the other's taken over while it is away, though nothing of it is
	// remembered.
	l.restart()
	first = first.again(l)
	req = l.up(first, first.register())
	l.down(first, req.reply("200 OK", "Contact: <"+two+">;expires=9, "+req.get("Contact")))
	l.expectReached(first, one)
	l.expectNobody(two)
}

// TestUnregister: however a client unregisters, its calls go on, and its names
// are free to whoever uses them once it is gone.
func TestUnregister(t *testing.T) {
	for name, unregister := range map[string]func(*phone) sip{
		"expires=0 in Contact": func(p *phone) sip { return p.registerContact("<" + p.contact() + ">;expires=0") },
		"Expires: 0":           func(p *phone) sip { return p.registerContact("<" + p.contact() + ">").add("Expires: 0") },
		"wildcard":             func(p *phone) sip { return p.registerContact("*").add("Expires: 0") },
	} {
		t.Run(name, func(t *testing.T) {
			l := newLab(t)
			alice := l.phone("alice")
			token := l.registered(alice)
			refused := l.up(alice, unregister(alice))
			l.down(alice, refused.reply("401 Unauthorized"))
			l.hangUp(alice.browser)
			thief := masquerade(l, alice)
			l.down(thief, l.up(thief, thief.invite("sip:bob@pbx.example")).reply("486 Busy Here"))
			l.expectNobody(token) // the 401 has changed nothing

			alice = alice.again(l)
			l.registered(alice)
			req := l.up(alice, unregister(alice))
			if strings.Contains(req.get("Contact"), ".invalid") {
				t.Errorf("Contact %q", req.get("Contact"))
			}
			l.down(alice, req.reply("200 OK"))
			l.expectReached(alice, token)
			l.hangUp(alice.browser)
			l.down(thief, l.up(thief, thief.invite("sip:bob@pbx.example")).reply("486 Busy Here"))
			l.expectReached(thief, token)
		})
		t.Run(name+" on a new connection", func(t *testing.T) {
			l := newLab(t)
			alice := l.phone("alice")
			token := l.registered(alice)
			l.hangUp(alice.browser)
			alice = alice.again(l)
			l.down(alice, l.up(alice, unregister(alice)).reply("200 OK"))
			l.down(alice, l.up(alice, alice.invite("sip:bob@pbx.example")).reply("200 OK"))
			l.expectReached(alice, token) // the call binds who is registered no more
		})
	}
}

// TestSeveralContacts: each Contact of one REGISTER is a client.
func TestSeveralContacts(t *testing.T) {
	l := newLab(t)
	p := l.phone("alice")
	second := *p
	second.contactUser = "second00"
	req := l.up(p, p.registerContact(fmt.Sprintf("<%s>;expires=600, \"B, c\" <%s>;q=0.5", p.contact(), second.contact())).add("Expires: 300"))
	tokens := contactURIs(req)
	if len(tokens) != 2 || tokens[0] == tokens[1] {
		t.Fatalf("Contacts %q", req.all("Contact"))
	}
	got := l.down(p, req.reply("200 OK", "Contact: "+req.get("Contact"), "Expires: 300"))
	if want := fmt.Sprintf("<%s>;expires=600, \"B, c\" <%s>;q=0.5;expires=300", p.contact(), second.contact()); got.get("Contact") != want {
		t.Errorf("Contact %q, want %q", got.get("Contact"), want)
	}
	l.expectReached(p, tokens[0])
	l.expectReached(&second, tokens[1])

	// One goes, the other stays.
	req = l.up(p, p.registerContact(fmt.Sprintf("<%s>;expires=0, <%s>;expires=300", p.contact(), second.contact())))
	l.down(p, req.reply("200 OK", "Contact: <"+tokens[1]+">;expires=300"))
	l.hangUp(p.browser)
	thief := masquerade(l, p)
	l.up(thief, thief.invite("sip:bob@pbx.example"))
	l.expectReached(thief, tokens[0])
	other := masquerade(l, &second)
	l.up(other, other.invite("sip:bob@pbx.example"))
	l.expectNobody(tokens[1])
}

// TestReplacedContact: one REGISTER may take one Contact away and bring another.
func TestReplacedContact(t *testing.T) {
	l := newLab(t)
	p := l.phone("alice")
	old := l.registered(p)
	second := *p
	second.contactUser = "second00"
	req := l.up(p, p.registerContact(fmt.Sprintf("<%s>;expires=0, <%s>;expires=300", p.contact(), second.contact())))
	tokens := contactURIs(req)
	l.down(p, req.reply("200 OK", "Contact: <"+tokens[1]+">;expires=300"))
	l.expectReached(&second, tokens[1])
	l.expectReached(p, old) // for the calls it has
}

func contactURIs(m sip) (uris []string) {
	for _, part := range strings.Split(m.get("Contact"), "<")[1:] {
		uri, _, _ := strings.Cut(part, ">")
		uris = append(uris, uri)
	}
	return uris
}

// TestTwoUAsOnOneConnection: JsSIP's UAs on one page share the Via host; here
// they share the connection too.
func TestTwoUAsOnOneConnection(t *testing.T) {
	l := newLab(t)
	alice := l.phone("alice")
	bob := *alice
	bob.user, bob.contactUser = "bob", "bob00000"
	one, two := l.registered(alice), l.registered(&bob)
	l.expectReached(alice, one)
	l.expectReached(&bob, two)
	for _, p := range []struct {
		*phone
		token string
	}{{alice, one}, {&bob, two}} {
		call := p.request("INVITE", "sip:x@pbx.example").add("Contact: <" + p.contact() + ">")
		if got := l.up(p.phone, call.set("From", "<sip:anonymous@anonymous.invalid>;tag=a")).contactURI(); got != p.token {
			t.Errorf("%s calls with token %s, want %s", p.user, got, p.token)
		}
		l.expectAlive(p.phone)
	}
	// One leaves, the other stays registered.
	l.down(&bob, l.up(&bob, bob.registerContact("*").add("Expires: 0")).reply("200 OK"))
	l.hangUp(alice.browser)
	thief := masquerade(l, alice)
	l.up(thief, thief.invite("sip:x@pbx.example"))
	l.expectNobody(one)
}

// TestManyAccounts: more accounts than a connection remembers Contacts of.
func TestManyAccounts(t *testing.T) {
	l := newLab(t)
	p := l.phone("alice")
	tokens := map[phone]string{}
	for i := range maxSeen + 4 {
		account := *p
		account.user, account.contactUser = fmt.Sprint("user", i), fmt.Sprintf("c%07d", i)
		tokens[account] = l.registered(&account)
	}
	for account, token := range tokens {
		l.expectReached(&account, token)
		if again := l.registered(&account); again != token {
			t.Errorf("%s is %s, was %s", account.user, again, token)
		}
	}
}

// TestSameClient: JsSIP calls with a Contact that it never registered as such.
func TestSameClient(t *testing.T) {
	l := newLab(t)
	p := l.phone("alice")
	token := l.registered(p)
	invite := p.invite("sip:bob@pbx.example")
	if !strings.Contains(invite.get("Contact"), ";ob>") {
		t.Fatal("not what JsSIP sends")
	}
	called := l.up(p, invite).contactURI()
	got := l.down(p, l.pbx.request("BYE", called))
	if got.uri() != p.contact()+";ob" {
		t.Errorf("Request-URI %q, want %q", got.uri(), p.contact()+";ob")
	}
	back := p.again(l)
	if again := l.registered(back); again != token {
		t.Errorf("registered as %s, want %s", again, token)
	}
	got = l.down(back, l.pbx.request("INFO", called)) // the registration moved the call too
	if got.uri() != p.contact()+";ob" {
		t.Errorf("Request-URI %q", got.uri())
	}
}
