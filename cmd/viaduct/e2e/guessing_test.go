package e2e

import (
	"testing"

	"github.com/gobwas/ws"
)

// TestGuessedPasswords: who guesses alice's password at a SIP server with digest
// authentication is slowed, then closed, and on the next connection sooner. Alice,
// whose address is the same, registers and calls meanwhile.
func TestGuessedPasswords(t *testing.T) {
	t.Parallel()
	const slowed, closed = 5, 10
	lab := newLab(t, JsSIP, Leg{"udp", "ws"})
	wrong := account("alice")
	wrong.Password = "wrong"
	guess := func() *WebRequest { return newRequest("REGISTER", "sip:"+domain, wrong) }

	guesser := lab.newWebClient()
	for range slowed {
		wantStatus(t, guesser.Do(t, guess()), 401)
	}
	for range closed - slowed - 1 {
		answer := guesser.Do(t, guess())
		wantStatus(t, answer, 503)
		if answer.Header("Retry-After") == "" {
			t.Errorf("no Retry-After in %s", answer)
		}
	}
	last := func(client *WebClient) {
		t.Helper()
		request := guess()
		client.Send(t, request.Text())
		challenge := client.ReceivedFrame(t, "challenge", request.answered)
		client.Send(t, request.answering(t, challenge).Text())
		if code := client.WaitClosed(t); code != ws.StatusPolicyViolation {
			t.Errorf("closed with %d", code)
		}
	}
	last(guesser)

	alice := lab.Registered("alice")
	callee := lab.Callee("recv-invite", "send-180", "send-200", "recv-ack", "recv-bye")
	call := alice.Call(t, callee.URI(), nil)
	call.Wait(t, "confirmed")

	again := guesser.Again(t)
	for range 2 {
		wantStatus(t, again.Do(t, guess()), 401)
	}
	for range closed - slowed - 3 {
		wantStatus(t, again.Do(t, guess()), 503)
	}
	last(again)

	call.Bye(t)
	call.Wait(t, "ended")
	callee.Wait(t)
	metrics := lab.Via.Metrics(t)
	if n := metrics[`viaduct_connections_closed_total{cause="guessing"}`]; n != 2 {
		t.Errorf("%v connections are counted as closed for it", n)
	}
	t.Logf("attack: %s | %s | %s", "passwords guessed at Kamailio, from the address of a user in a call",
		"503 after five, closed 1008 after ten, after fewer on the next connection; the user registered and called", "viaduct_authentication_failures_total")
}
