package e2e

import (
	"net/netip"
	"testing"
)

// A Lab is a PBX, viaduct in front of it, and the pages and sipps of one test.
// When the test ends every message that passed is held against the invariants.
type Lab struct {
	Stack Stack
	Leg   Leg
	Host  Host // of everything but the browser
	PBX   *Kamailio
	Via   *Viaduct

	t       testing.TB
	bridged bool // bodies are the media engine's
	pages   []*Page
	behind  []netip.AddrPort // the sipps and other peers behind the PBX
}

// newLab starts a PBX and a viaduct of its own for the test; flags are
// viaduct's besides those of the leg.
func newLab(t testing.TB, stack Stack, leg Leg, flags ...string) *Lab {
	t.Helper()
	return newLabOn(t, loopback, stack, leg, flags...)
}

// newLabOn is newLab with everything but the browser on host, which may be a
// namespace where packets can be dropped.
func newLabOn(t testing.TB, host Host, stack Stack, leg Leg, flags ...string) *Lab {
	t.Helper()
	lab := &Lab{Stack: stack, Leg: leg, t: t, Host: host}
	lab.PBX = startKamailio(t, host)
	lab.Via = startViaduct(t, host, leg, lab.PBX, flags...)
	t.Cleanup(lab.finish)
	return lab
}

// finish judges the traffic, and shows it when the test has failed.
func (lab *Lab) finish() {
	checkPBXSide(lab.t, lab.PBX, lab.Via, lab.behind)
	for _, page := range lab.pages {
		checkBrowserSide(lab.t, page)
		frames, messages := page.Frames.All(), lab.PBX.Messages.All()
		if lab.bridged {
			frames, messages = withoutMedia(frames, messages)
		}
		for _, complaint := range judgeRelay(frames, messages) {
			lab.t.Errorf("%s: %s", page.name, complaint)
		}
	}
	if !lab.t.Failed() {
		return
	}
	for _, message := range lab.PBX.Messages.All() {
		lab.t.Log(message)
	}
}

// Page opens a page of the lab's stack with fixed media.
func (lab *Lab) Page() *Page {
	lab.t.Helper()
	return lab.PageWith(lab.Stack, PageOptions{})
}

// PageWith opens a page of any stack.
func (lab *Lab) PageWith(stack Stack, options PageOptions) *Page {
	lab.t.Helper()
	page := openPage(lab.t, stack, options)
	lab.pages = append(lab.pages, page)
	return page
}

// Phone makes a user agent, in a page of its own, that is connected to viaduct
// and not yet registered.
func (lab *Lab) Phone(user string) *Phone {
	lab.t.Helper()
	return lab.PhoneIn(lab.Page(), user, PhoneOptions{})
}

// PhoneIn makes a user agent in a page of the lab.
func (lab *Lab) PhoneIn(page *Page, user string, options PhoneOptions) *Phone {
	lab.t.Helper()
	ws := lab.Via.WebSocket
	if options.WebSocket != "" {
		ws = options.WebSocket
	}
	return page.newPhone(lab.t, ws, user, options)
}

// Registered is Phone, registered.
func (lab *Lab) Registered(user string) *Phone {
	lab.t.Helper()
	phone := lab.Phone(user)
	phone.Register(lab.t)
	return phone
}

// Callee starts a sipp that waits behind the PBX for what its ladder begins with.
func (lab *Lab) Callee(ladder ...string) *Sipp {
	lab.t.Helper()
	return lab.Sipp(ladder)
}

// Caller starts a sipp that begins its ladder with the account user at once.
func (lab *Lab) Caller(user string, ladder ...string) *Sipp {
	lab.t.Helper()
	return lab.Sipp(ladder, To(user))
}

// Sipp starts a sipp with any options.
func (lab *Lab) Sipp(ladder []string, options ...SippOption) *Sipp {
	lab.t.Helper()
	sipp := startSipp(lab.t, lab.Host, lab.PBX, ladder, options...)
	lab.behind = append(lab.behind, sipp.addr)
	return sipp
}
