package gateway

import (
	"fmt"
	"strings"
	"testing"

	"viaduct/rewrite"
)

// Attacks on who gets what: a thief who knows all the names of a client wants its
// calls. More of them, with other people's stacks, are TestHijack of the e2e tests.

// Those claims that bind a client which nobody knows.
const (
	callsAsHer      = "calls with her From and Contact"
	subscribesAsHer = "subscribes with her Contact"
)

// claims are what a thief does on a connection of his own that names alice. None
// of them has the SIP server accept him as alice.
var claims = map[string]func(l *lab, alice, thief *phone){
	callsAsHer: func(l *lab, _, thief *phone) {
		l.down(thief, l.up(thief, thief.invite("sip:bob@pbx.example")).reply("486 Busy Here"))
	},
	"registers and is challenged": func(l *lab, _, thief *phone) {
		l.down(thief, l.up(thief, thief.register()).reply("401 Unauthorized"))
	},
	"asks for her bindings and gets them": func(l *lab, _, thief *phone) {
		l.down(thief, l.up(thief, thief.registerContact("")).reply("200 OK"))
	},
	"registers her Contact for his own account": func(l *lab, _, thief *phone) {
		thief.user = "mallory"
		l.registered(thief)
	},
	"registers her Contact for his own account, then calls as her": func(l *lab, alice, thief *phone) {
		thief.user = "mallory"
		l.registered(thief)
		thief.user = alice.user
		l.down(thief, l.up(thief, thief.invite("sip:bob@pbx.example")).reply("486 Busy Here"))
	},
	subscribesAsHer: func(l *lab, alice, thief *phone) {
		req := thief.request("SUBSCRIBE", "sip:bob@pbx.example").add("Contact: <" + alice.contact() + ">")
		l.down(thief, l.up(thief, req).reply("489 Bad Event"))
	},
	"hides behind an anonymous From with her Contact": func(l *lab, _, thief *phone) {
		req := thief.invite("sip:bob@pbx.example").set("From", "<sip:anonymous@anonymous.invalid>;tag=a")
		l.down(thief, l.up(thief, req).reply("486 Busy Here"))
	},
}

// While alice is there, and while she is away with a registration that lasts, what
// is for her reaches nobody else.
func TestAttackClaims(t *testing.T) {
	for name, claim := range claims {
		t.Run("connected, "+name, func(t *testing.T) {
			l := newLab(t)
			alice := l.phone("alice")
			token := l.registered(alice)
			thief := masquerade(l, alice)
			claim(l, alice, thief)
			l.expectReached(alice, token)
			l.expectAlive(thief)
			t.Logf("attack: a thief %s, while she is connected | he gets the answers to his own, she is reached | viaduct_rebinds_total %d", name, l.gw.stats.rebinds.Load())
		})
		t.Run("held, "+name, func(t *testing.T) {
			l := newAway(t)
			invite := l.pbx.request("INVITE", l.token)
			l.hold(invite)
			thief := masquerade(l.lab, l.alice)
			claim(l.lab, l.alice, thief)
			l.expectHeld(1)
			l.back()
			if got := l.alice.read(); got.get("Call-ID") != invite.get("Call-ID") {
				t.Errorf("she gets\n%s", got)
			}
			l.expectAlive(thief)
			l.expectOutcomes(1, 0, 0)
			t.Logf("attack: a thief %s, while a call is held for her | she gets the call when she is back, he nothing | viaduct_held_total{outcome=\"delivered\"} 1", name)
		})
	}
}

// After a restart nobody is known. What names a client are its token, or all the
// names that it made up at random: a thief who has learned the former, which
// everybody sees whom it calls, has none of the latter.
func TestAttackTokenOfAnother(t *testing.T) {
	for _, restarted := range []bool{false, true} {
		t.Run(fmt.Sprint("restarted ", restarted), func(t *testing.T) {
			l := newLab(t, withKeyFile(t))
			alice := l.phone("alice")
			token := l.registered(alice)
			// The To of a request shows the token to all whom it passes.
			if got := l.down(alice, inDialog(l.pbx.request("INFO", token))); !strings.Contains(got.get("To"), tokenOf(token)) {
				t.Fatalf("To %q does not show the token", got.get("To"))
			}
			if restarted {
				l.restart()
				alice = alice.again(l)
				l.registered(alice)
			}
			for name, test := range map[string]struct {
				use    func(p *phone) sip
				status int // 0: relayed
			}{
				"in a Contact":  {func(p *phone) sip { return p.invite("sip:bob@pbx.example").set("Contact", "<"+token+">") }, 400},
				"in a REGISTER": {func(p *phone) sip { return p.registerContact("<" + token + ">;expires=600") }, 400},
				"in a From":     {func(p *phone) sip { return p.invite("sip:bob@pbx.example").set("From", "<"+token+">;tag=x") }, 0},
				"in a Via": {func(p *phone) sip {
					return p.invite("sip:bob@pbx.example").set("Via", "SIP/2.0/WSS "+tokenOf(token)+".invalid;branch=z9hG4bK1")
				}, 0},
				"in a Contact of that user alone": {func(p *phone) sip {
					return p.invite("sip:bob@pbx.example").set("Contact", "<sip:"+tokenOf(token)+"@x>")
				}, 0},
			} {
				mallory := l.phone("mallory")
				req := test.use(mallory)
				mallory.send(req)
				if test.status != 0 {
					expectAnswer(t, req, mallory.read(), test.status)
				} else {
					got := l.pbx.read()
					if tokenOf(got.contactURI()) == tokenOf(token) {
						t.Errorf("%s: his Contact is hers", name)
					}
					l.down(mallory, got.reply("200 OK", "Contact: "+got.get("Contact")))
				}
				l.expectReached(alice, token)
				t.Logf("attack: the token that a To shows, %s, restarted %v | it names nobody, its client is reached | viaduct_rebinds_total 0", name, restarted)
			}
			if n := l.gw.stats.rebinds.Load(); n != 0 {
				t.Errorf("%d clients have moved", n)
			}
		})
	}
}

// After a restart a client that has not come back can be called only by its
// names. Who knows all of them, of which two are random, is taken for it if he
// calls first, as a client that never registers is; its REGISTER ends that.
func TestAttackAfterRestart(t *testing.T) {
	for name, claim := range claims {
		t.Run(name, func(t *testing.T) {
			l := newLab(t, withKeyFile(t))
			alice := l.phone("alice")
			token := l.registered(alice)
			l.hangUp(alice.browser)
			l.restart()
			thief := masquerade(l, alice)
			claim(l, alice, thief)
			outcome := "nothing for her reaches him, and what is held she gets when she is back"
			taken := name == callsAsHer || name == subscribesAsHer
			if taken {
				outcome = "what is for her reaches him until she registers, which she does when she reconnects"
				l.expectReached(thief, token)
			} else {
				l.pbx.send(inDialog(l.pbx.request("BYE", token)))
				l.expectHeld(1)
			}
			alice = alice.again(l)
			l.registered(alice)
			if !taken {
				if got := alice.read(); got.method() != "BYE" {
					t.Errorf("she gets\n%s", got)
				}
			}
			l.expectReached(alice, token)
			l.expectAlive(thief)
			t.Logf("attack: a thief who knows all her names %s after a restart, before she is back | %s | viaduct_rebinds_total %d", name, outcome, l.gw.stats.rebinds.Load())
		})
	}
}

// What an answer of another client, or another call, says is no answer to one's own.
func TestAttackCutAndPaste(t *testing.T) {
	l := newLab(t)
	alice, mallory := l.phone("alice"), l.phone("mallory")
	hers, his := l.registered(alice), l.registered(mallory)
	asked, other := l.down(alice, l.pbx.request("INFO", hers)), l.down(mallory, l.pbx.request("INFO", his))
	for _, test := range []struct {
		name   string
		msg    sip
		reason Reason
	}{
		{"a response to her request, from his connection", asked.reply("200 OK"), ReasonNotTheClient},
		{"her Via on the response to his", other.reply("200 OK").set("Via", asked.get("Via")), ReasonForgedResponse},
		{"her seal in his Via", replace(other.reply("200 OK"), param(other.get("Via"), sealParam), param(asked.get("Via"), sealParam)), ReasonForgedResponse},
		{"her Vias on the response to his", other.reply("200 OK").without("Via").add("Via: "+asked.all("Via")[0], "Via: "+asked.all("Via")[1]), ReasonForgedResponse},
		{"her token for a seal", replace(other.reply("200 OK"), param(other.get("Via"), sealParam), tokenOf(hers)), ReasonForgedResponse},
		{"a branch of his own request for a seal", replace(other.reply("200 OK"), param(other.get("Via"), sealParam),
			strings.TrimPrefix(l.up(mallory, mallory.request("INFO", "sip:b@pbx.example")).branch(), branchCookie)), ReasonForgedResponse},
	} {
		before := l.dropped()
		mallory.send(test.msg)
		l.expectAlive(mallory) // nothing comes to the SIP server before
		l.expectDropped(before, test.reason)
		t.Logf("attack: cut and paste, %s | not relayed | viaduct_dropped_total{reason=\"%s\"} 1", test.name, test.reason)
	}
	l.answered(alice, asked, "200 OK")
	l.answered(mallory, other, "200 OK")

	call := l.up(alice, alice.request("MESSAGE", "sip:bob@pbx.example"))
	another := l.up(mallory, mallory.request("MESSAGE", "sip:bob@pbx.example"))
	for _, test := range []struct {
		name   string
		msg    sip
		reason Reason
	}{
		{"his seal on the answer to her", call.reply("200 OK").set("Via", another.get("Via")), ReasonForgedSeal},
		{"her seal on the answer to him", another.reply("200 OK").set("Via", call.get("Via")), ReasonForgedSeal},
		{"a token for a seal", replace(call.reply("200 OK"), call.branch(), branchCookie+tokenOf(hers)), ReasonForgedSeal},
		{"the seal of a request to a browser for that of one of a browser", replace(call.reply("200 OK"), call.branch(), branchCookie+param(asked.get("Via"), sealParam)), ReasonForgedSeal},
	} {
		before := l.dropped()
		l.pbx.send(test.msg)
		l.expectReached(alice, hers)
		l.expectReached(mallory, his)
		l.expectDropped(before, test.reason)
		t.Logf("attack: cut and paste by the SIP server, %s | not relayed | viaduct_dropped_total{reason=\"%s\"} 1", test.name, test.reason)
	}
	for name, forged := range map[string]string{
		"a seal of a request to a browser":            param(asked.get("Via"), sealParam),
		"a seal of a request of a browser":            strings.TrimPrefix(call.branch(), branchCookie),
		"the beginning of one and the end of another": tokenOf(hers)[:20] + tokenOf(his)[20:],
	} {
		before := l.dropped()
		req := replace(l.pbx.request("INFO", hers), tokenOf(hers)+"@", forged+"@")
		l.pbx.send(req)
		expectAnswer(t, req.receivedFrom(l.pbx.conn.LocalAddr()), l.pbx.read(), 403)
		l.expectReached(alice, hers)
		l.expectDropped(before, ReasonForgedToken)
		t.Logf("attack: cut and paste, for a token %s | answered 403 | viaduct_dropped_total{reason=\"%s\"} 1", name, ReasonForgedToken)
	}
}

// What was sealed with a key that is being rotated out works until it is removed,
// and to the last message of a call; then it is as forged as any other.
func TestAttackRotation(t *testing.T) {
	l := newKeyLab(t)
	alice := l.phone("alice")
	token := l.registered(alice)
	asked := l.down(alice, l.pbx.request("INFO", token))
	sent := l.up(alice, alice.invite("sip:bob@pbx.example"))
	l.rotate()
	l.answered(alice, asked, "200 OK")
	l.down(alice, sent.reply("180 Ringing"))
	l.expectReached(alice, token)

	again := l.down(alice, l.pbx.request("INFO", token))
	l.use(rewrite.NewKeyLine())
	before := l.dropped()
	alice.send(again.reply("200 OK"))
	l.pbx.send(sent.reply("200 OK"))
	l.expectAlive(alice)
	before[ReasonForgedResponse]++
	before[ReasonForgedSeal]++
	l.expectDropped(before, 0)
	req := l.pbx.request("INFO", token)
	l.pbx.send(req)
	expectAnswer(t, req.receivedFrom(l.pbx.conn.LocalAddr()), l.pbx.read(), 403)
	t.Logf("attack: tokens and seals of a key that was removed, during a call | of none any more: 403 or no answer; those of one that was only replaced were good | viaduct_token_failures_total 3")
}
