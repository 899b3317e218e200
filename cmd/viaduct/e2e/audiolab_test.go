package e2e

import (
	"slices"
	"testing"
)

// An AudioLab is a lab in which viaduct bridges media through engines, and
// browsers sound like tones. When the test ends no engine that lives has a call.
type AudioLab struct {
	*Lab
	Engines []*MediaEngine
}

// newAudioLab is newLab with one engine.
func newAudioLab(t testing.TB, stack Stack, leg Leg, flags ...string) *AudioLab {
	t.Helper()
	return newAudioLabWith(t, stack, leg, []*MediaEngine{startMediaEngine(t)}, flags...)
}

// newAudioLabWith is newLab with these engines.
func newAudioLabWith(t testing.TB, stack Stack, leg Leg, engines []*MediaEngine, flags ...string) *AudioLab {
	t.Helper()
	for _, engine := range engines {
		flags = append(flags, "--rtpengine="+engine.Commands.String())
	}
	lab := &AudioLab{Lab: newLab(t, stack, leg, flags...), Engines: engines}
	lab.bridged = true
	return lab
}

// Talker makes a registered phone in a page of its own, whose microphone hears a
// tone of that frequency in Hz.
func (lab *AudioLab) Talker(stack Stack, user string, tone int) *Phone {
	lab.t.Helper()
	phone := lab.PhoneIn(lab.PageWith(stack, PageOptions{RealMedia: true, Tone: tone}), user, PhoneOptions{})
	phone.Register(lab.t)
	return phone
}

// WaitNoSession waits until no engine has a call.
func (lab *AudioLab) WaitNoSession(t testing.TB) {
	t.Helper()
	for _, engine := range lab.Engines {
		engine.WaitEmpty(t)
	}
}

// Listen has the page report what it hears in the call from now on. It needs the
// peer's description.
func (c *Call) Listen(t testing.TB) { t.Helper(); c.Page.do(t, "listen", c.id) }

// WaitHeard waits until a tone of that frequency is heard after mark, 0 for
// silence.
func (c *Call) WaitHeard(t testing.TB, mark, frequency int) {
	t.Helper()
	waitHeard(t, c.Page.Events, mark, c.Page.name, frequency, func(e Event) int {
		if e.Name != "heard" || e.Call != c.id {
			return -1000
		}
		return e.Status
	})
}

// Hold puts the call on hold: the page sends nothing, and wants nothing sent.
func (c *Call) Hold(t testing.TB) { t.Helper(); c.Page.do(t, "hold", c.id) }

// Resume takes the call back.
func (c *Call) Resume(t testing.TB) { t.Helper(); c.Page.do(t, "resume", c.id) }

// Dial sends digits in the audio, by RFC 4733.
func (c *Call) Dial(t testing.TB, digits string) { t.Helper(); c.Page.do(t, "dial", c.id, digits) }

// withoutMedia takes out what differs on the two sides of viaduct when media is
// bridged.
func withoutMedia(frames []Frame, messages []PBXMessage) ([]Frame, []PBXMessage) {
	for i := range frames {
		frames[i].Message = frames[i].withoutMedia()
	}
	for i := range messages {
		messages[i].Message = messages[i].withoutMedia()
	}
	return frames, messages
}

// withoutMedia takes a description out, and the reliable provisional responses
// that viaduct does without.
func (m Message) withoutMedia() Message {
	if m.Header("Content-Type") == "application/sdp" {
		m.Body = ""
	}
	m.headers = slices.DeleteFunc(slices.Clone(m.headers), func(line headerLine) bool { return line.name == "supported" })
	return m
}
