package e2e

import (
	"slices"
	"strings"
	"testing"
)

// hijacks are what a second client does to get the calls of a living one, whose
// Via host, Contact and address-of-record it claims.
var hijacks = []struct {
	name   string
	absent bool // tried against an absent client too
	try    func(t *testing.T, thief *WebClient, claimed Identity)
}{
	{"bare INVITE", true, func(t *testing.T, thief *WebClient, claimed Identity) {
		wantStatus(t, thief.Do(t, newRequest("INVITE", "sip:bob@"+domain, claimed)), 407)
	}},
	{"unauthenticated REGISTER", true, func(t *testing.T, thief *WebClient, claimed Identity) {
		wantStatus(t, thief.Do(t, newRequest("REGISTER", "sip:"+domain, claimed)), 401)
	}},
	{"REGISTER with another account's credentials", false, func(t *testing.T, thief *WebClient, claimed Identity) {
		claimed.User, claimed.Password = "bob", passwordOf("bob")
		wantStatus(t, thief.Do(t, newRequest("REGISTER", "sip:"+domain, claimed)), 401)
	}},
	{"2xx to another account", false, func(t *testing.T, thief *WebClient, claimed Identity) {
		thief.Register(t, asBob(claimed))
	}},
	{"2xx to another account, then INVITE", true, func(t *testing.T, thief *WebClient, claimed Identity) {
		thief.Register(t, asBob(claimed))
		wantStatus(t, thief.Do(t, newRequest("INVITE", "sip:nobody@"+domain, claimed)), 407)
		wantStatus(t, thief.Do(t, newRequest("INVITE", "sip:nobody@"+domain, asBob(claimed))), 404)
	}},
	{"2xx to another account with both Contacts", false, func(t *testing.T, thief *WebClient, claimed Identity) {
		bob := account("bob")
		bob.ViaHost = claimed.ViaHost
		register := newRequest("REGISTER", "sip:"+domain, bob)
		register.Headers = append(register.Headers, "Contact: <"+claimed.Contact+">;expires=600")
		wantStatus(t, thief.Do(t, register), 200)
	}},
}

// asBob is bob, with everything but the account of another.
func asBob(claimed Identity) Identity {
	bob := account("bob")
	bob.ViaHost, bob.Contact = claimed.ViaHost, claimed.Contact
	return bob
}

func wantStatus(t *testing.T, response Message, status int) {
	t.Helper()
	if response.Status() != status {
		t.Fatalf("%s, want %d", response, status)
	}
}

// TestHijack: alice is in a call when a thief tries. Her call goes on, and the
// next one rings in her browser. The thief gets nothing but answers to what it
// asked.
func TestHijack(t *testing.T) {
	for i, hijack := range hijacks {
		stack := []Stack{JsSIP, SIPJS}[i%2]
		leg := legs[i%len(legs)]
		t.Run(hijack.name+"/"+string(stack)+"/"+leg.String(), func(t *testing.T) {
			t.Parallel()
			lab := newLab(t, stack, leg)
			alice := lab.Registered("alice")
			inCall := lab.Caller("alice", "send-invite", "recv-200", "send-ack", "wait", "send-bye")
			call := alice.WaitCall(t, 1)
			call.Answer(t)
			call.Wait(t, "confirmed")

			thief := lab.newWebClient()
			hijack.try(t, thief, nameOf(t, alice))

			wantCallable(t, lab, alice, 2)
			inCall.Continue(t, callIDFrom(t, lab.PBX, inCall))
			call.Wait(t, "ended")
			inCall.Wait(t)
			wantNothing(t, thief)
			t.Logf("attack: a thief of a client in a call at Kamailio tries a %s | the call goes on, the next comes to the client, the thief is asked nothing | viaduct_rebinds_total 0", hijack.name)
		})
	}
}

// TestHijackOfAbsentClient: the thief tries while alice's browser is on its way
// back from a lost connection. Nobody is alice then, and once she is back she can
// be called.
func TestHijackOfAbsentClient(t *testing.T) {
	for i, hijack := range hijacks {
		if !hijack.absent {
			continue
		}
		stack := []Stack{SIPJS, JsSIP}[i%2]
		leg := legs[(i+3)%len(legs)]
		t.Run(hijack.name+"/"+string(stack)+"/"+leg.String(), func(t *testing.T) {
			t.Parallel()
			lab := newLab(t, stack, leg)
			wire := startWire(t, lab.Via.Listen())
			alice := lab.PhoneIn(lab.Page(), "alice", PhoneOptions{WebSocket: lab.Via.WebSocketAt(wire.Addr)})
			alice.Register(t)
			mark := alice.Mark()
			wire.Freeze()
			wire.Cut()
			alice.WaitAfter(t, mark, "disconnected")
			lab.Via.WaitLog(t, "browser gone")

			thief := lab.newWebClient()
			hijack.try(t, thief, nameOf(t, alice))
			lab.Caller("alice", "send-options-480").Wait(t)
			wantNothing(t, thief)

			wire.Thaw()
			alice.WaitAfter(t, mark, "registered")
			wantCallable(t, lab, alice, 1)
			wantNothing(t, thief)
			t.Logf("attack: a thief of a client that is away tries a %s at Kamailio | nobody is reached, then the client that is back | viaduct_dropped_total{reason=\"no_connection\"} 1", hijack.name)
		})
	}
}

// nameOf is what a phone calls itself, without its password.
func nameOf(t *testing.T, phone *Phone) Identity {
	t.Helper()
	register := phone.Page.SentFrame(t, "REGISTER", func(m Message) bool { return m.Request("REGISTER") })
	return Identity{AoR: phone.URI(), ViaHost: viaHostOf(t, phone), Contact: uriOf(register.Header("Contact"))}
}

// wantCallable calls the phone from behind the PBX and wants the call to come to
// it as its nth.
func wantCallable(t *testing.T, lab *Lab, phone *Phone, nth int) {
	t.Helper()
	caller := lab.Caller(phone.User, "send-invite", "recv-180", "recv-200", "send-ack", "send-bye")
	call := phone.WaitCall(t, nth)
	call.Answer(t)
	call.Wait(t, "ended")
	caller.Wait(t)
}

// wantNothing wants the client to have been asked for nothing at all.
func wantNothing(t *testing.T, client *WebClient) {
	t.Helper()
	if requests := client.Requests(t); len(requests) > 0 {
		t.Errorf("the thief received %q", requests)
	}
}

// TestSameContactTwoAccounts: bob registers, rightly, with alice's Contact and
// Via host. Each gets the calls of the own account.
func TestSameContactTwoAccounts(t *testing.T) {
	t.Parallel()
	lab := newLab(t, JsSIP, Leg{"udp", "ws"})
	alice := lab.Registered("alice")
	bob := lab.newWebClient()
	claimed := asBob(nameOf(t, alice))
	bob.Register(t, claimed)
	caller := lab.Caller("bob", "send-message")
	message := bob.ReceivedFrame(t, "MESSAGE", func(m Message) bool { return m.Request("MESSAGE") })
	if message.RequestURI() != claimed.Contact {
		t.Errorf("the R-URI is %s, the Contact %s", message.RequestURI(), claimed.Contact)
	}
	bob.Send(t, responseTo(message, "200 OK"))
	caller.Wait(t)
	wantCallable(t, lab, alice, 1)
	if requests := bob.Requests(t); !slices.Equal(requests, []string{"MESSAGE"}) {
		t.Errorf("bob received %q", requests)
	}
	t.Logf("attack: %s | %s | %s", "another account registered with the Contact of a user, at Kamailio", "each gets the calls of the own account", "viaduct_rebinds_total 0")
}

// TestAnonymousCallers: two pages call as sip:anonymous@anonymous.invalid, which
// is address-of-record, From and Contact of both. Each gets the BYE of its own
// call.
func TestAnonymousCallers(t *testing.T) {
	for i, stack := range []Stack{JsSIP, SIPJS} {
		leg := legs[3*i]
		t.Run(string(stack)+"/"+leg.String(), func(t *testing.T) {
			t.Parallel()
			lab := newLab(t, stack, leg)
			var calls [2]*Call
			var callees [2]*Sipp
			for i := range calls {
				callees[i] = lab.Callee("recv-invite", "send-200", "recv-ack", "wait", "send-bye")
				phone := lab.PhoneIn(lab.Page(), "caller", PhoneOptions{URI: "sip:" + anonymous})
				calls[i] = phone.Call(t, callees[i].URI(), map[string]any{"anonymous": true})
				calls[i].Wait(t, "confirmed")
				callees[i].WaitStep(t, "recv-ack")
				invite := phone.Page.SentFrame(t, "INVITE", func(m Message) bool { return m.Request("INVITE") })
				for _, name := range []string{"From", "Contact"} {
					if !strings.Contains(invite.Header(name), "sip:"+anonymous) {
						t.Errorf("%s: %s, want %s", name, invite.Header(name), anonymous)
					}
				}
			}
			for i, callee := range callees {
				callee.Continue(t, callIDTo(t, calls[i].Page, callee))
				calls[i].Wait(t, "ended")
				callee.Wait(t)
			}
		})
	}
}

const anonymous = "anonymous@anonymous.invalid"

// TestAnonymousAccounts: two registered clients with one Via host, as two UAs in
// one page are, hide behind the same From and Contact when they call. Each gets
// the BYE of its own call. (The browsers' stacks would answer it 404: its
// Request-URI is what they sent as their Contact, and not what they go by.)
func TestAnonymousAccounts(t *testing.T) {
	t.Parallel()
	lab := newLab(t, "", Leg{"udp", "ws"})
	viaHost := account("").ViaHost
	type call struct {
		client *WebClient
		callee *Sipp
		invite *WebRequest
	}
	var calls []call
	for _, user := range []string{"alice", "bob"} {
		registered := account(user)
		registered.ViaHost = viaHost
		hidden := registered
		hidden.AoR, hidden.Contact = "sip:"+anonymous, "sip:"+anonymous+";transport=ws"

		c := call{client: lab.newWebClient(), callee: lab.Callee("recv-invite", "send-200", "recv-ack", "wait", "send-bye")}
		c.client.Register(t, registered)
		c.invite = newRequest("INVITE", c.callee.URI(), hidden)
		answer := c.client.Do(t, c.invite)
		wantStatus(t, answer, 200)
		c.client.Send(t, c.invite.AckAnswer(answer))
		c.callee.WaitStep(t, "recv-ack")
		calls = append(calls, c)
	}
	for _, c := range calls {
		c.callee.Continue(t, c.invite.CallID)
		bye := c.client.ReceivedFrame(t, "BYE", func(m Message) bool {
			return m.Request("BYE") && m.Header("Call-ID") == c.invite.CallID
		})
		c.client.Send(t, responseTo(bye, "200 OK"))
		c.callee.Wait(t)
	}
	for _, c := range calls {
		if requests := c.client.Requests(t); !slices.Equal(requests, []string{"BYE"}) {
			t.Errorf("%s received %q, want one BYE", c.invite.from.User, requests)
		}
	}
}
