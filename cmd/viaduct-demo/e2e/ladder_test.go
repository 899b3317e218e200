package e2e

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A frame is one WebSocket message of a page.
type frame struct {
	Sent bool   `json:"sent"`
	Text string `json:"text"`
}

// title is what the ladder calls the message: its method, or status and phrase.
func (f frame) title() string {
	line, _, _ := strings.Cut(f.Text, "\r\n")
	if status, found := strings.CutPrefix(line, "SIP/2.0 "); found {
		return status
	}
	method, _, _ := strings.Cut(line, " ")
	return method
}

// Frames are the messages that passed the page's sockets so far.
func (p *Page) Frames(t testing.TB) []frame {
	t.Helper()
	result, err := browser.command("frames", map[string]any{"page": p.name})
	var frames []frame
	if err == nil {
		err = json.Unmarshal(result, &frames)
	}
	if err != nil {
		t.Fatalf("%s: %v", p.name, err)
	}
	return slices.DeleteFunc(frames, func(f frame) bool { return strings.TrimSpace(f.Text) == "" })
}

// rungs are the ladder's rows, as a screen reader has them.
func (p *Page) rungs(t testing.TB) (rungs []string) {
	t.Helper()
	p.Evaluate(t, `[...document.querySelector('sip-ladder').shadowRoot.querySelectorAll('.row:not([hidden]) .label')].map((e) => e.textContent)`, &rungs)
	return rungs
}

// TestLadder: every message of a call is on the ladder, in order, with what
// viaduct changed in it and why, and without credentials.
func TestLadder(t *testing.T) {
	d := startDemo(t)
	p := openPage(t, d.Page, nil)
	p.WaitText(t, ".status", "Live")
	p.WaitRegistered(t)
	p.Dial(t, "600")
	p.WaitTalking(t)
	p.Click(t, "#keys button[value='7']")
	p.WaitText(t, "sip-ladder .label", "INFO")
	p.Click(t, "#hang-up")
	p.WaitOutcome(t, "You hung up")
	p.WaitFor(t, `sip-ladder .message:has-text("200 OK BYE")`)

	frames := p.Frames(t)
	invite := frames[slices.IndexFunc(frames, func(f frame) bool { return f.title() == "INVITE" })]
	callID := regexp.MustCompile(`(?m)^Call-ID: (.*?)\r?$`).FindStringSubmatch(invite.Text)[1]
	frames = slices.DeleteFunc(frames, func(f frame) bool { return !strings.Contains(f.Text, callID) })
	p.act(t, "evaluate", fmt.Sprintf("document.querySelector('sip-ladder').setAttribute('call-id', %q)", callID))

	for _, way := range []struct {
		sent bool
		name string
	}{{true, "from browser to PBX"}, {false, "from PBX to browser"}} {
		var want, got []string
		for _, f := range frames {
			if f.Sent == way.sent {
				want = append(want, f.title())
			}
		}
		for _, rung := range p.rungs(t) {
			if what, _, found := strings.Cut(rung, ", "+way.name); found {
				got = append(got, what)
			}
		}
		if len(got) != len(want) {
			t.Fatalf("%s: the ladder has %q, the socket had %q", way.name, got, want)
		}
		for i := range got {
			if !strings.HasPrefix(got[i]+" ", want[i]+" ") {
				t.Errorf("%s: message %d is %q, want %q", way.name, i, got[i], want[i])
			}
		}
	}

	order := strings.Join(p.rungs(t), "\n")
	story := regexp.MustCompile(`(?s)^INVITE 600, .*\n407 .*\nACK .*\nINVITE 600, .*\n200 OK INVITE, .*\nACK .*\nINFO .*\n200 OK INFO, .*\nBYE .*\n200 OK BYE, `)
	if !story.MatchString(order) {
		t.Errorf("the call's story is\n%s", order)
	}
	for _, want := range []string{
		"INVITE 600, from browser to PBX, changed: Via, Max-Forwards, Contact",
		"200 OK INVITE, from PBX to browser, changed: Via",
		"BYE 600, from browser to PBX, changed: Via, Max-Forwards",
	} {
		if !regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(want) + `$`).MatchString(order) {
			t.Errorf("no %q in\n%s", want, order)
		}
	}

	p.Click(t, "sip-ladder .row:not([hidden]) .message >> nth=0")
	p.WaitText(t, "sip-ladder .whys", "The PBX must be able to call this address")
	p.WaitFor(t, "sip-ladder .pane del")
	p.WaitFor(t, "sip-ladder .pane ins")
	checkMasked(t, p, frames)
}

// checkMasked: no digest of the call's credentials is in what the ladder has.
func checkMasked(t *testing.T, p *Page, frames []frame) {
	t.Helper()
	var text string
	p.Evaluate(t, "document.querySelector('sip-ladder').text()", &text)
	credentials := 0
	for _, f := range frames {
		for _, found := range regexp.MustCompile(`response="([0-9a-f]{32})"`).FindAllStringSubmatch(f.Text, -1) {
			credentials++
			if strings.Contains(text, found[1]) {
				t.Error("the ladder shows a digest response")
			}
		}
	}
	if credentials == 0 {
		t.Error("no message had credentials: nothing was checked")
	}
}
