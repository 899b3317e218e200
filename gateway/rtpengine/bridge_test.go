package rtpengine

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"
)

var (
	webRTC = []string{"m=audio ", "a=ice-ufrag:", "a=candidate:", "a=fingerprint:", "a=setup:", "a=rtcp-mux"}
	noRTP  = []string{"a=ice-ufrag:", "a=candidate:", "a=fingerprint:", "a=setup:", "a=rtcp-mux", "a=crypto:"}
)

// TestBrowserCalls: a browser's offer becomes plain RTP, the answer to it
// WebRTC, and nothing is left after the call.
func TestBrowserCalls(t *testing.T) {
	d := newDaemon(t)
	l := newLab(t, Config{Engines: []string{d.addr}})
	e := l.ForNewCall([]byte("call"))
	call := Command{CallID: []byte("call"), FromTag: []byte("alice")}

	offer := call
	offer.Kind, offer.SDP, offer.Profile = KindOffer, chromium(t), TowardsPBX(KindOffer)
	toPBX := l.must(e, offer).SDP
	expectLines(t, toPBX, []string{"m=audio ", "c=IN IP4 127.0.0.1", "a=rtpmap:8 PCMA/8000"}, noRTP)
	if m := line(toPBX, "m="); !strings.Contains(m, " RTP/AVP ") {
		t.Error(m)
	}

	answer := call
	answer.Kind, answer.ToTag, answer.SDP, answer.Profile = KindAnswer, []byte("bob"), plain(126), TowardsBrowser(KindAnswer)
	toBrowser := l.must(e, answer).SDP
	expectLines(t, toBrowser, append([]string{"a=mid:0"}, webRTC...), []string{"a=crypto:"})
	if m := line(toBrowser, "m="); !strings.HasSuffix(m, " UDP/TLS/RTP/SAVPF 8 126") {
		t.Error(m)
	}

	l.expectDeleted(e, call, "bob")
	d.expectUnderstood()
}

// TestPhoneCalls is the other way round.
func TestPhoneCalls(t *testing.T) {
	d := newDaemon(t)
	l := newLab(t, Config{Engines: []string{d.addr}})
	e := l.ForNewCall([]byte("call"))
	call := Command{CallID: []byte("call"), FromTag: []byte("bob")}

	offer := call
	offer.Kind, offer.SDP, offer.Profile = KindOffer, plain(101), TowardsBrowser(KindOffer)
	toBrowser := l.must(e, offer).SDP
	expectLines(t, toBrowser, append([]string{"a=mid:", "a=rtpmap:8 PCMA/8000"}, webRTC...), []string{"a=crypto:"})

	answer := call
	answer.Kind, answer.ToTag, answer.Profile = KindAnswer, []byte("alice"), TowardsPBX(KindAnswer)
	answer.SDP = chromiumAnswer(strings.TrimPrefix(line(toBrowser, "a=mid:"), "a=mid:"))
	toPBX := l.must(e, answer).SDP
	expectLines(t, toPBX, []string{"m=audio ", "a=rtpmap:101 telephone-event/8000"}, noRTP)

	l.expectDeleted(e, call, "alice")
	d.expectUnderstood()
}

// TestSameAgain: what is asked again with a new cookie, as after a 401 or for a
// 200 after a 183, has the same ports and keys; so has the answer of another
// fork, on the side of who offered.
func TestSameAgain(t *testing.T) {
	d := newDaemon(t)
	l := newLab(t, Config{Engines: []string{d.addr}})
	e := l.engines[0]
	call := Command{CallID: []byte("call"), FromTag: []byte("alice"), ViaBranch: []byte("z9hG4bK1")}

	offer := call
	offer.Kind, offer.SDP, offer.Profile = KindOffer, chromium(t), TowardsPBX(KindOffer)
	if first, second := l.must(e, offer).SDP, l.must(e, offer).SDP; !bytes.Equal(first, second) {
		t.Errorf("offered twice:\n%s\n%s", first, second)
	}
	answer := call
	answer.Kind, answer.SDP, answer.Profile = KindAnswer, plain(126), TowardsBrowser(KindAnswer)
	var answers [][]byte
	for _, tag := range []string{"bob", "bob", "carol", "bob"} {
		answer.ToTag = []byte(tag)
		answers = append(answers, l.must(e, answer).SDP)
	}
	if len(slices.CompactFunc(answers, bytes.Equal)) != 1 {
		t.Errorf("answered:\n%s", bytes.Join(answers, []byte("\n")))
	}
	l.expectDeleted(e, call, "bob")
}

// expectDeleted deletes a call that the engine has, after which it has not.
func (l *lab) expectDeleted(e *Engine, call Command, toTag string) {
	l.Helper()
	query, end := call, call
	query.Kind, end.Kind, end.ToTag = KindQuery, KindDelete, []byte(toTag)
	l.must(e, query)
	if a := l.must(e, end); a.Warning != "" {
		l.Errorf("delete: %s", a.Warning)
	}
	refused, isRefused := errors.AsType[*Refused](l.ask(e, query).err)
	if !isRefused || refused.Reason != "Unknown call-id" {
		l.Errorf("after the delete: %v", refused)
	}
	if a := l.must(e, end); a.Warning == "" {
		l.Error("deleted twice")
	}
}

// expectUnderstood checks that the engine knew every key and flag.
func (d *daemon) expectUnderstood() {
	d.t.Helper()
	d.kill() // its log is whole
	if d.said("Unknown") > d.said("Unknown call-id") || d.said("encountered") > 0 {
		d.t.Errorf("not understood:\n%s", d.text())
	}
}
