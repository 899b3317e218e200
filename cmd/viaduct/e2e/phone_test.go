package e2e

import (
	"fmt"
	"testing"
)

// A Phone is one user agent in a page.
type Phone struct {
	Page *Page
	User string // the account at the PBX
	name string // within the page
}

// PhoneOptions change how a user agent is set up. The zero value is the usual phone.
type PhoneOptions struct {
	Password    string // instead of the account's own
	URI         string // instead of sip:USER@pbx.test
	Expires     int    // seconds of a registration; 0 for 600
	ContactURI  string // JsSIP: a Contact instead of the generated one
	ContactName string // SIP.js: the user part of the Contact
	ViaHost     string // SIP.js: the Via host, which JsSIP shares between the UAs of a page
	Silent      bool   // SIP.js: no 180 for an incoming call
	WebSocket   string // instead of the lab's viaduct, such as Viaduct.WebSocketAt a Wire
}

// newPhone makes a user agent that connects to the WebSocket URL ws, and waits
// until it has.
func (p *Page) newPhone(t testing.TB, ws, user string, options PhoneOptions) *Phone {
	t.Helper()
	phone := &Phone{Page: p, User: user, name: fmt.Sprintf("%s-%d", user, p.Events.Mark())}
	config := map[string]any{
		"ws": ws, "uri": phone.URI(), "user": user, "password": passwordOf(user), "silent": options.Silent,
	}
	if options.Password != "" {
		config["password"] = options.Password
	}
	if options.Expires != 0 {
		config["expires"] = options.Expires
	}
	for key, value := range map[string]string{
		"uri": options.URI, "contactURI": options.ContactURI, "contactName": options.ContactName, "viaHost": options.ViaHost,
	} {
		if value != "" {
			config[key] = value
		}
	}
	p.do(t, "newUA", phone.name, config)
	phone.Wait(t, "connected")
	return phone
}

// URI is the account's address-of-record.
func (ph *Phone) URI() string { return fmt.Sprintf("sip:%s@%s", ph.User, domain) }

// Mark is a position in the page's events, for WaitAfter.
func (ph *Phone) Mark() int { return ph.Page.Events.Mark() }

// Wait waits for an event of this user agent outside calls, an earlier one too.
func (ph *Phone) Wait(t testing.TB, event string) Event {
	t.Helper()
	return ph.WaitAfter(t, 0, event)
}

// WaitAfter is Wait without the events before mark.
func (ph *Phone) WaitAfter(t testing.TB, mark int, event string) Event {
	t.Helper()
	return ph.Page.Events.WaitAfter(t, mark, ph.name+" to report "+event, func(e Event) bool {
		return e.UA == ph.name && e.Name == event
	})
}

// WaitRequest waits for a request with that method to this user agent outside calls.
func (ph *Phone) WaitRequest(t testing.TB, method string) Event {
	t.Helper()
	return ph.Page.Events.WaitFor(t, method+" to "+ph.name, func(e Event) bool {
		return e.UA == ph.name && e.Name == "request" && e.Method == method
	})
}

// WaitResponse waits for the final response to a request of this user agent
// outside calls and wants it to have that status.
func (ph *Phone) WaitResponse(t testing.TB, method string, status int) {
	t.Helper()
	got := ph.Page.Events.WaitFor(t, "response to the "+method+" of "+ph.name, func(e Event) bool {
		return e.UA == ph.name && e.Name == "response" && e.Method == method
	})
	if got.Status != status {
		t.Fatalf("response to %s's %s: %d %s, want %d", ph.name, method, got.Status, got.Cause, status)
	}
}

// Register registers and waits for the 200.
func (ph *Phone) Register(t testing.TB) {
	t.Helper()
	mark := ph.Mark()
	ph.Page.do(t, "register", ph.name)
	ph.WaitAfter(t, mark, "registered")
}

// Refresh registers once more and waits for the 200, of which the stacks do
// not all tell.
func (ph *Phone) Refresh(t testing.TB) {
	t.Helper()
	mark := ph.Page.Frames.Mark()
	ph.Page.do(t, "register", ph.name)
	ph.Page.Frames.WaitAfter(t, mark, "200 to the refresh of "+ph.name, func(f Frame) bool {
		return !f.Sent && f.Response(200, "REGISTER") && uriOf(f.Header("To")) == ph.URI()
	})
}

// StartRegister registers without waiting for an outcome.
func (ph *Phone) StartRegister(t testing.TB) {
	t.Helper()
	ph.Page.do(t, "register", ph.name)
}

// Unregister ends this phone's registration and waits for the 200.
func (ph *Phone) Unregister(t testing.TB) {
	t.Helper()
	mark := ph.Mark()
	ph.Page.do(t, "unregister", ph.name)
	ph.WaitAfter(t, mark, "unregistered")
}

// UnregisterAll ends every registration of the account (Contact: *) and waits
// for the 200.
func (ph *Phone) UnregisterAll(t testing.TB) {
	t.Helper()
	mark := ph.Mark()
	ph.Page.do(t, "unregisterAll", ph.name)
	ph.WaitAfter(t, mark, "unregistered")
}

// CloseSocket closes the phone's WebSocket from below, properly: the stack
// reconnects and registers again. On a silent path Chromium waits a minute for
// the other end's close frame before the stack hears of it.
func (ph *Phone) CloseSocket(t testing.TB) {
	t.Helper()
	ph.Page.do(t, "closeSocket", ph.name)
}

// LoseSocket takes the phone's WebSocket away, as when the browser's network
// changes: the stack hears of it at once (1006), reconnects and registers
// again, and viaduct is told nothing. The TCP connection stays up.
func (ph *Phone) LoseSocket(t testing.TB) {
	t.Helper()
	ph.Page.do(t, "loseSocket", ph.name)
}

// Stop ends the user agent, with its registration and its WebSocket.
func (ph *Phone) Stop(t testing.TB) {
	t.Helper()
	ph.Page.do(t, "stop", ph.name)
}

// Message sends a MESSAGE to a SIP URI.
func (ph *Phone) Message(t testing.TB, target, body string) {
	t.Helper()
	ph.Page.do(t, "message", ph.name, target, body)
}

// Options sends an OPTIONS to a SIP URI.
func (ph *Phone) Options(t testing.TB, target string) {
	t.Helper()
	ph.Page.do(t, "options", ph.name, target)
}

// Subscribe subscribes to message-summary at a SIP URI and returns the
// subscription, for Unsubscribe.
func (ph *Phone) Subscribe(t testing.TB, target string) string {
	t.Helper()
	return ph.Page.do(t, "subscribe", ph.name, target, "message-summary", "application/simple-message-summary")
}

// Unsubscribe ends a subscription.
func (ph *Phone) Unsubscribe(t testing.TB, subscription string) {
	t.Helper()
	ph.Page.do(t, "unsubscribe", subscription)
}

// A Call is one session of a page.
type Call struct {
	Page *Page
	id   string
}

// Call calls a SIP URI. CallOptions of the stack, such as extraHeaders or
// anonymous, may be given.
func (ph *Phone) Call(t testing.TB, target string, options ...map[string]any) *Call {
	t.Helper()
	args := []any{ph.name, target}
	for _, option := range options {
		args = append(args, option)
	}
	return &Call{Page: ph.Page, id: ph.Page.do(t, "call", args...)}
}

// WaitCall waits for an incoming call, the nth of this phone counted from 1.
func (ph *Phone) WaitCall(t testing.TB, nth int) *Call {
	t.Helper()
	incoming := ph.Page.Events.WaitCount(t, nth, "incoming calls of "+ph.name, func(e Event) bool {
		return e.UA == ph.name && e.Name == "incoming"
	})
	return &Call{Page: ph.Page, id: incoming[nth-1].Call}
}

// Wait waits for an event of the call: progress, accepted, confirmed, ended,
// failed, …
func (c *Call) Wait(t testing.TB, event string) Event {
	t.Helper()
	return c.Page.Events.WaitFor(t, fmt.Sprintf("call %s to report %s", c.id, event), func(e Event) bool {
		return e.Call == c.id && e.Name == event
	})
}

// WaitRequest waits for a request with that method in the call.
func (c *Call) WaitRequest(t testing.TB, method string) Event {
	t.Helper()
	return c.Page.Events.WaitFor(t, fmt.Sprintf("%s in call %s", method, c.id), func(e Event) bool {
		return e.Call == c.id && e.Name == "request" && e.Method == method
	})
}

// WaitResponse waits for the final response to a request in the call and wants
// it to have that status.
func (c *Call) WaitResponse(t testing.TB, method string, status int) {
	t.Helper()
	got := c.Page.Events.WaitFor(t, fmt.Sprintf("response to %s in call %s", method, c.id), func(e Event) bool {
		return e.Call == c.id && e.Name == "response" && e.Method == method
	})
	if got.Status != status {
		t.Fatalf("response to %s in call %s: %d %s, want %d", method, c.id, got.Status, got.Cause, status)
	}
}

// Answer accepts an incoming call.
func (c *Call) Answer(t testing.TB) { t.Helper(); c.Page.do(t, "answer", c.id) }

// Reject refuses an incoming call.
func (c *Call) Reject(t testing.TB, status int) { t.Helper(); c.Page.do(t, "reject", c.id, status) }

// Cancel gives an outgoing call up.
func (c *Call) Cancel(t testing.TB) { t.Helper(); c.Page.do(t, "cancel", c.id) }

// Bye hangs up.
func (c *Call) Bye(t testing.TB) { t.Helper(); c.Page.do(t, "bye", c.id) }

// Reinvite negotiates the session anew.
func (c *Call) Reinvite(t testing.TB) { t.Helper(); c.Page.do(t, "reinvite", c.id) }

// Update does the same by UPDATE; JsSIP only.
func (c *Call) Update(t testing.TB) { t.Helper(); c.Page.do(t, "update", c.id) }

// ProgressReliably answers an incoming call with a 183 that wants a PRACK, and
// returns without waiting for it; SIP.js only.
func (c *Call) ProgressReliably(t testing.TB) { t.Helper(); c.Page.do(t, "progressReliably", c.id) }

// Info sends an INFO.
func (c *Call) Info(t testing.TB, body string) {
	t.Helper()
	c.Page.do(t, "info", c.id, "application/x-e2e", body)
}

// Refer transfers the peer to a SIP URI.
func (c *Call) Refer(t testing.TB, target string) { t.Helper(); c.Page.do(t, "refer", c.id, target) }
