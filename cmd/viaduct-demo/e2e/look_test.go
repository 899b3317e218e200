package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// TestLook has axe-core judge the page in each of its states, in light and
// dark, on a desktop and on a phone, and takes a picture of each. The pictures
// go to the folder that VIADUCT_DEMO_PICTURES names, if one is wanted.
func TestLook(t *testing.T) {
	pictures := os.Getenv("VIADUCT_DEMO_PICTURES")
	if pictures == "" {
		pictures = t.TempDir()
	}
	d := startDemo(t)
	for _, scheme := range []string{"light", "dark"} {
		for _, screen := range []struct {
			name          string
			width, height int
			mobile        bool
		}{{"desktop", 1360, 880, false}, {"phone", 390, 844, true}} {
			t.Run(screen.name+" "+scheme, func(t *testing.T) {
				p := openPage(t, d.Page, Options{
					"viewport":    map[string]int{"width": screen.width, "height": screen.height},
					"colorScheme": scheme, "isMobile": screen.mobile, "hasTouch": screen.mobile,
				})
				look := func(state string) {
					t.Helper()
					p.Screenshot(t, filepath.Join(pictures, fmt.Sprintf("%s-%s-%s.png", screen.name, scheme, state)))
					p.Audit(t, state)
					p.checkFits(t, state)
				}
				p.WaitRegistered(t)
				p.Click(t, "#devices summary")
				look("idle")
				p.Click(t, "#devices summary")

				p.Click(t, "#contacts button[value='602']")
				p.WaitOutcome(t, "Busy")
				look("refused")

				p.Click(t, "#contacts button[value='604']")
				p.WaitFor(t, "#answer")
				look("incoming")
				p.Click(t, "#reject")
				p.WaitOutcome(t, "declined")

				p.act(t, "evaluate", "document.querySelector('sip-ladder').clear()")
				p.Click(t, "#contacts button[value='600']")
				p.WaitTalking(t)
				p.Press(t, "body", "4")
				p.Press(t, "body", "2")
				p.waitLoud(t)
				look("talking")

				showMessages(t, p, screen.mobile)
				p.Click(t, `sip-ladder .message:has-text("INVITE 600") >> nth=-1`)
				p.WaitFor(t, "sip-ladder .detail")
				p.waitLoud(t)
				look("messages")

				showPhone(t, p, screen.mobile)
				p.Click(t, "#mute")
				p.Click(t, "#hold")
				p.WaitText(t, "#state", "On hold")
				look("held")
			})
		}
	}
}

// showMessages and showPhone switch between the two on a small screen.
func showMessages(t testing.TB, p *Page, small bool) {
	if small {
		p.Click(t, ".views button[data-view=messages]")
	}
}

func showPhone(t testing.TB, p *Page, small bool) {
	if small {
		p.Click(t, ".views button[data-view=phone]")
	}
}

// waitLoud waits until both level meters show a good deal.
func (p *Page) waitLoud(t testing.TB) {
	t.Helper()
	p.Evaluate(t, `new Promise((done) => {
	  const level = (id) => Number(document.getElementById(id).getAttribute('aria-valuenow'));
	  const timer = setInterval(() => {
	    if (level('meter-me') < 5 || level('meter-peer') < 4) return;
	    clearInterval(timer);
	    done(true);
	  }, 20);
	})`, new(bool))
}

// checkFits: nothing makes the page scroll sideways.
func (p *Page) checkFits(t testing.TB, when string) {
	t.Helper()
	var over int
	p.Evaluate(t, "document.documentElement.scrollWidth - innerWidth", &over)
	if over > 0 {
		t.Errorf("%s: the page is %d pixels too wide", when, over)
	}
}
