package e2e

import (
	"crypto/tls"
	"errors"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gobwas/ws"
)

// TestDrain: viaduct is told to end while phones ring and clients register. All
// of that comes to its end, and so does viaduct then.
func TestDrain(t *testing.T) {
	for i, first := range []Stack{JsSIP, SIPJS} {
		t.Run(string(first), func(t *testing.T) {
			t.Parallel()
			lab := newLab(t, first, legs[i], "--drain-timeout=5m")
			alice := lab.Registered("alice")
			callee := lab.Callee("recv-invite", "send-180", "wait", "send-200", "recv-ack", "recv-bye")
			out := ringOut(t, alice, callee)
			bob := lab.PhoneIn(lab.PageWith(otherStack(first), PageOptions{}), "bob", PhoneOptions{})
			bob.Register(t)
			caller := lab.Caller("bob", "send-invite", "recv-180", "recv-200", "send-ack", "recv-bye")
			in := bob.WaitCall(t, 1)
			caller.WaitStep(t, "recv-180")
			idle := lab.newWebClient()
			idle.Fence(t)
			late := lab.newWebClient()
			register := newRequest("REGISTER", "sip:"+domain, account("carol"))
			late.Send(t, register.Text())
			challenge := late.ReceivedFrame(t, "the challenge", register.answered)

			lab.Via.process.Signal(syscall.SIGTERM)
			lab.Via.WaitLog(t, "draining")
			late.Send(t, register.answering(t, challenge).Text())
			if answer := late.ReceivedFrame(t, "answer to the REGISTER", register.answered); answer.Status() != 200 {
				t.Errorf("who was registering is answered %s", answer)
			}
			wantDraining(t, lab.Via)
			wantClosed(t, idle, late)

			callee.Continue(t, callIDTo(t, alice.Page, callee))
			in.Answer(t)
			out.Wait(t, "confirmed")
			in.Wait(t, "confirmed")
			out.Bye(t)
			callee.Wait(t)
			in.Bye(t)
			caller.Wait(t)
			wantSentAway(t, alice, bob)
			lab.Via.WaitExit(t)
			if waited := lab.Via.logged("not waiting any longer"); waited {
				t.Error("the log says that calls were cut")
			}
		})
	}
}

// TestDrainTimeout: a call that does not end is not waited for any longer. It
// lives on, for a viaduct that is started again.
func TestDrainTimeout(t *testing.T) {
	t.Parallel()
	lab := newLab(t, JsSIP, legs[0], "--drain-timeout=1s")
	alice := lab.Registered("alice")
	callee := lab.Callee("recv-invite", "send-200", "recv-ack", "wait", "send-bye")
	call := alice.Call(t, callee.URI())
	call.Wait(t, "confirmed")
	callee.WaitStep(t, "recv-ack")
	mark := alice.Mark()

	begun := time.Now()
	lab.Via.process.Signal(syscall.SIGTERM)
	wantSentAway(t, alice)
	if after := time.Since(begun); after < time.Second {
		t.Errorf("the call is cut after %v", after)
	}
	lab.Via.WaitExit(t)
	if !lab.Via.logged("not waiting any longer") {
		t.Error("the log does not say that calls were cut")
	}

	lab.Via.Restart(t)
	alice.WaitAfter(t, mark, "registered")
	callee.Continue(t, callIDTo(t, alice.Page, callee))
	call.Wait(t, "ended")
	callee.Wait(t)
}

func otherStack(s Stack) Stack {
	if s == JsSIP {
		return SIPJS
	}
	return JsSIP
}

// wantDraining wants viaduct to take no new browsers, and to say so.
func wantDraining(t *testing.T, via *Viaduct) {
	t.Helper()
	if ready, text := via.Ready(t); ready || !strings.Contains(text, "drain") {
		t.Errorf("/readyz: %t, %q", ready, text)
	}
	dialer := ws.Dialer{Protocols: []string{"sip"}, Timeout: patience, TLSConfig: &tls.Config{RootCAs: authority.Pool()}}
	_, _, _, err := dialer.Dial(t.Context(), via.WebSocket)
	var refused ws.StatusError
	if !errors.As(err, &refused) || refused != http.StatusServiceUnavailable {
		t.Errorf("a new browser gets %v, want 503", err)
	}
}

func wantClosed(t *testing.T, clients ...*WebClient) {
	t.Helper()
	for _, client := range clients {
		if code := client.WaitClosed(t); code != ws.StatusGoingAway {
			t.Errorf("closed with %d, want %d", code, ws.StatusGoingAway)
		}
	}
}

// wantSentAway wants the phones to report that they lost their connection by a
// close frame: JsSIP reports the code as a number, SIP.js within its error.
func wantSentAway(t *testing.T, phones ...*Phone) {
	t.Helper()
	for _, phone := range phones {
		lost := phone.Wait(t, "disconnected")
		if lost.Status != int(ws.StatusGoingAway) && !strings.Contains(lost.Cause, "1001") {
			t.Errorf("%s reports %d %s, want 1001", phone.Page.Stack, lost.Status, lost.Cause)
		}
	}
}

// logged reports whether the log of the running process has an entry with that message.
func (v *Viaduct) logged(message string) bool {
	for _, line := range v.process.Output.All() {
		if entry, ok := parseLog(line); ok && entry.Message == message {
			return true
		}
	}
	return false
}
