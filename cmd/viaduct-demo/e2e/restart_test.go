package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
)

// TestRestart kills viaduct in the middle of two calls and starts it again,
// with the PBX in a process of its own. Each page says that the connection is
// gone and comes back by itself, and the calls end properly from both sides.
func TestRestart(t *testing.T) {
	pbx := startDemo(t)
	flags := []string{
		"--upstream=" + pbx.PBX,
		"--sip-listen=" + freePort(t),
		"--token-key-file=" + filepath.Join(t.TempDir(), "token.key"),
	}
	viaduct := startDemo(t, flags...)
	listen := strings.Trim(strings.TrimPrefix(viaduct.Page, "http://"), "/")
	flags = append(flags, "--listen="+listen)

	alice, bob := openPage(t, viaduct.Page, nil), openPage(t, viaduct.Page, nil)
	alice.tolerate, bob.tolerate = "ERR_", "ERR_" // Chromium's word for every refused connection
	alice.SignIn(t, "1001", pbx.WaitLine(t, "1001   password "))
	bob.SignIn(t, "1002", pbx.WaitLine(t, "1002   password "))

	restart := func() {
		viaduct.Kill()
		for _, p := range []*Page{alice, bob} {
			p.WaitText(t, "#line", "Connection to viaduct lost")
			p.WaitText(t, "#line", "You can go on talking")
		}
		viaduct = startDemo(t, flags...)
		alice.WaitRegistered(t)
		bob.WaitRegistered(t)
		alice.WaitHears(t)
		bob.WaitHears(t)
	}

	Connect(t, alice, bob, "1002")
	restart()
	alice.Click(t, "#hold") // the dialog works on, not only its end
	bob.WaitText(t, "#state", "put you on hold")
	alice.Click(t, "#hang-up")
	alice.WaitOutcome(t, "You hung up")
	bob.WaitOutcome(t, "The other side hung up")

	Connect(t, alice, bob, "1002")
	restart()
	bob.Click(t, "#hang-up")
	bob.WaitOutcome(t, "You hung up")
	alice.WaitOutcome(t, "The other side hung up")

	// Hung up while the PBX cannot be told: it is told later. Carol's phone is
	// in front of the PBX's own viaduct, which goes on.
	carol := openPhone(t, pbx)
	carol.act(t, "selectOption", "#account-choice", "1003")
	carol.WaitText(t, "#line", "Registered as 1003")
	Connect(t, carol, alice, "1001")
	viaduct.Kill()
	alice.WaitText(t, "#line", "Connection to viaduct lost")
	alice.Click(t, "#hang-up")
	alice.WaitText(t, "#state", "as soon as the connection is back")
	viaduct = startDemo(t, flags...)
	alice.WaitOutcome(t, "You hung up")
	carol.WaitOutcome(t, "The other side hung up")

	// And the phones are as good as new.
	alice.WaitRegistered(t)
	bob.WaitRegistered(t)
	Connect(t, bob, alice, "1001")
	alice.WaitHears(t)
	alice.Click(t, "#hang-up")
	bob.WaitOutcome(t, "The other side hung up")
}

// TestKamailio: the phone in front of a real PBX, by UDP and by TCP, with
// accounts that are typed.
func TestKamailio(t *testing.T) {
	for _, transport := range []string{"udp", "tcp"} {
		t.Run(transport, func(t *testing.T) {
			d := startDemo(t, fmt.Sprintf("--upstream=sip:%s;transport=%s", startKamailio(t), transport))
			alice, bob := openPage(t, d.Page, nil), openPage(t, d.Page, nil)

			alice.SignInAs(t, "alice@pbx.test", "wrong")
			alice.WaitText(t, "#line", "refused the account or its password")
			alice.SignIn(t, "alice@pbx.test", "secret-alice")
			bob.SignIn(t, "bob@pbx.test", "secret-bob")

			Connect(t, alice, bob, "bob")
			alice.WaitHears(t)
			bob.WaitHears(t)
			bob.Click(t, "#hang-up")
			alice.WaitOutcome(t, "The other side hung up")

			bob.Dial(t, "nobody")
			bob.WaitOutcome(t, "Nobody has this number (404)")
			Connect(t, bob, alice, "alice@pbx.test")
			bob.Click(t, "#hang-up")
			alice.WaitOutcome(t, "The other side hung up")
		})
	}
}

// SignInAs types an account and its password.
func (p *Page) SignInAs(t testing.TB, account, password string) {
	t.Helper()
	p.Fill(t, "#user", account)
	p.Fill(t, "#password", password)
	p.Press(t, "#password", "Enter")
}

// SignIn is SignInAs, and waits until the account is registered.
func (p *Page) SignIn(t testing.TB, account, password string) {
	t.Helper()
	p.SignInAs(t, account, password)
	p.WaitRegistered(t)
}
