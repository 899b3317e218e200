package e2e

import (
	"strings"
	"testing"
)

var registration = []Scenario{
	{Name: "REGISTER, refresh, unregister", Play: func(t *testing.T, lab *Lab) {
		phone := lab.Phone("alice")
		phone.Register(t)
		ok := phone.Page.ReceivedFrame(t, "200 to REGISTER", func(m Message) bool { return m.Response(200, "REGISTER") })
		sent := phone.Page.SentFrame(t, "REGISTER", func(m Message) bool { return m.Request("REGISTER") })
		if got, want := uriOf(ok.Header("Contact")), uriOf(sent.Header("Contact")); got != want {
			t.Errorf("the 200 shows the binding %q, want %q", got, want)
		}
		phone.Refresh(t)
		registers := lab.PBX.Messages.WaitCount(t, 3, "REGISTERs at the PBX", func(m PBXMessage) bool {
			return !m.Sent && m.Request("REGISTER")
		})
		if registers[0].Header("Contact") != registers[2].Header("Contact") {
			t.Errorf("the refresh has the Contact %q, the first had %q",
				registers[2].Header("Contact"), registers[0].Header("Contact"))
		}
		phone.Unregister(t)
		lab.Caller("alice", "send-options-404").Wait(t)
	}},
	{Name: "unregister *", Play: func(t *testing.T, lab *Lab) {
		elsewhere, phone := lab.Registered("alice"), lab.Registered("alice")
		phone.UnregisterAll(t)
		lab.PBX.WaitReceived(t, "Contact: *", func(m Message) bool {
			return m.Request("REGISTER") && m.Header("Contact") == "*"
		})
		lab.Caller(elsewhere.User, "send-options-404").Wait(t)
	}},
	{Name: "wrong password", Play: func(t *testing.T, lab *Lab) {
		phone := lab.PhoneIn(lab.Page(), "alice", PhoneOptions{Password: "guess"})
		phone.StartRegister(t)
		if failed := phone.Wait(t, "registrationFailed"); failed.Status != 401 && failed.Status != 403 {
			t.Errorf("the client reports %d %s, want 401 or 403", failed.Status, failed.Cause)
		}
		for _, m := range lab.PBX.Messages.All() {
			if !m.Sent && strings.Contains(m.Raw, "guess") {
				t.Errorf("the password itself is in %s", m.Raw)
			}
		}
	}},
}
