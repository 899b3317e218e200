package e2e

import (
	"fmt"
	"testing"
)

// openPhone opens the demo's page and waits until it is registered.
func openPhone(t testing.TB, d *Demo) *Page {
	t.Helper()
	p := openPage(t, d.Page, nil)
	p.WaitRegistered(t)
	return p
}

// openPhones opens two tabs, which are Alice and Bob.
func openPhones(t testing.TB, d *Demo) (alice, bob *Page) {
	t.Helper()
	alice = openPhone(t, d)
	bob = alice.OpenTab(t, d.Page)
	bob.WaitRegistered(t)
	return alice, bob
}

// WaitRegistered waits until the page says that it is registered.
func (p *Page) WaitRegistered(t testing.TB) {
	t.Helper()
	p.WaitFor(t, "#line[data-state=registered]")
}

// Dial types number and presses Enter.
func (p *Page) Dial(t testing.TB, number string) {
	t.Helper()
	p.Fill(t, "#target", number)
	p.Press(t, "#target", "Enter")
}

// WaitTalking waits until the page says so.
func (p *Page) WaitTalking(t testing.TB) {
	t.Helper()
	p.WaitText(t, "#state", "Talking")
}

// WaitOutcome waits until there is no call any more and the page says why.
func (p *Page) WaitOutcome(t testing.TB, text string) {
	t.Helper()
	p.WaitText(t, "#outcome", text)
}

// Connect has caller dial number and callee answer it.
func Connect(t testing.TB, caller, callee *Page, number string) {
	t.Helper()
	caller.Dial(t, number)
	callee.Click(t, "#answer")
	caller.WaitTalking(t)
	callee.WaitTalking(t)
}

// heard is an expression for the energy of the sound that arrived in the
// latest call, as Chromium counts it (W3C webrtc-stats, totalAudioEnergy).
const heard = `(async () => {
  const stats = await window.connections.at(-1).getStats();
  return [...stats.values()].find((s) => s.type === 'inbound-rtp' && s.kind === 'audio')?.totalAudioEnergy ?? 0;
})()`

// WaitHears waits until sound arrives: the tone of the other side's fake
// microphone, a beep each second, which is above all comfort noise.
func (p *Page) WaitHears(t testing.TB) {
	t.Helper()
	p.act(t, "evaluate", fmt.Sprintf(`(async () => {
	  const before = await %[1]s;
	  while (await %[1]s < before + 1e-4) await new Promise((next) => setTimeout(next, 100));
	})()`, heard))
}

// WaitSilence waits until no sound has arrived for the time of two beeps.
func (p *Page) WaitSilence(t testing.TB) {
	t.Helper()
	p.act(t, "evaluate", fmt.Sprintf(`(async () => {
	  for (;;) {
	    const before = await %[1]s;
	    await new Promise((next) => setTimeout(next, 2500));
	    if (await %[1]s < before + 1e-5) return;
	  }
	})()`, heard))
}

// WaitMeter waits until a level meter moves.
func (p *Page) WaitMeter(t testing.TB, meter string) {
	t.Helper()
	p.WaitFor(t, meter+":not([aria-valuenow='0'])")
}
