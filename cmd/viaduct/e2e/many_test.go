package e2e

import (
	"fmt"
	"strings"
	"testing"
)

var several = []Scenario{
	{Name: "two UAs in one page", Play: func(t *testing.T, lab *Lab) {
		page := lab.Page()
		// JsSIP shares its Via host between the UAs of a page; SIP.js is told to.
		options := PhoneOptions{ViaHost: "samehost1234.invalid"}
		alice, bob := lab.PhoneIn(page, "alice", options), lab.PhoneIn(page, "bob", options)
		alice.Register(t)
		bob.Register(t)
		if a, b := viaHostOf(t, alice), viaHostOf(t, bob); a != b {
			t.Fatalf("the UAs have the Via hosts %s and %s", a, b)
		}
		for _, phone := range []*Phone{alice, bob} {
			sipp := lab.Caller(phone.User, "send-invite", "recv-200", "send-ack", "send-bye")
			call := phone.WaitCall(t, 1)
			call.Answer(t)
			call.Wait(t, "ended")
			sipp.Wait(t)
		}
		alice.Unregister(t)
		lab.Caller("bob", "send-options").Wait(t)
		lab.Caller("alice", "send-options-404").Wait(t)
	}},
	{Name: "one account in two tabs", Play: func(t *testing.T, lab *Lab) {
		first, second := lab.Registered("alice"), lab.Registered("alice")
		sipp := lab.Caller("alice", "send-invite", "recv-180", "recv-200", "send-ack", "send-bye")
		ringing, answered := first.WaitCall(t, 1), second.WaitCall(t, 1)
		answered.Answer(t)
		ringing.Wait(t, "failed")
		answered.Wait(t, "ended")
		sipp.Wait(t)
	}},
	{Name: "20 at once", Play: func(t *testing.T, lab *Lab) {
		phones := twentyPhones(t, lab)
		calls := make(map[*Phone]*Call)
		for i, phone := range phones[:10] {
			calls[phone] = phone.Call(t, phones[10+i].URI())
		}
		for _, phone := range phones[10:] {
			calls[phone] = phone.WaitCall(t, 1)
			calls[phone].Answer(t)
		}
		for _, phone := range phones {
			calls[phone].Wait(t, "confirmed")
		}
		for i := range 10 { // every other call is ended by its callee
			calls[phones[i+10*(i%2)]].Bye(t)
		}
		for _, phone := range phones {
			calls[phone].Wait(t, "ended")
		}
	}},
}

// twentyPhones are u00 to u19, registered all at once from two pages.
func twentyPhones(t *testing.T, lab *Lab) []*Phone {
	t.Helper()
	pages := []*Page{lab.Page(), lab.Page()}
	var phones []*Phone
	for i := range 20 {
		phones = append(phones, lab.PhoneIn(pages[i%2], fmt.Sprintf("u%02d", i), PhoneOptions{}))
	}
	for _, phone := range phones {
		phone.StartRegister(t)
	}
	for _, phone := range phones {
		phone.Wait(t, "registered")
	}
	return phones
}

// viaHostOf is the sent-by of the phone's REGISTERs.
func viaHostOf(t *testing.T, phone *Phone) string {
	t.Helper()
	register := phone.Page.SentFrame(t, "REGISTER of "+phone.User, func(m Message) bool {
		return m.Request("REGISTER") && uriOf(m.Header("To")) == phone.URI()
	})
	_, sentBy, _ := strings.Cut(register.Header("Via"), " ")
	host, _, _ := strings.Cut(sentBy, ";")
	return host
}
