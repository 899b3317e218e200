package e2e

import "testing"

// TestRestart: viaduct is killed and started again with the same keys. The phone
// comes back by itself, with the same token, and can be called.
func TestRestart(t *testing.T) {
	for i, stack := range []Stack{JsSIP, SIPJS} {
		t.Run(string(stack), func(t *testing.T) {
			t.Parallel()
			lab := newLab(t, stack, legs[i])
			phone := lab.Registered("alice")
			mark := phone.Mark()
			lab.Via.Kill(t)
			phone.WaitAfter(t, mark, "disconnected")
			lab.Via.Restart(t)
			phone.WaitAfter(t, mark, "registered")

			contacts := map[string]bool{}
			for _, m := range lab.PBX.Messages.All() {
				if !m.Sent && m.Request("REGISTER") {
					contacts[uriOf(m.Header("Contact"))] = true
				}
			}
			if len(contacts) != 1 {
				t.Errorf("the PBX was given the Contacts %v, want one", contacts)
			}
			sipp := lab.Caller("alice", "send-invite", "recv-200", "send-ack", "send-bye")
			call := phone.WaitCall(t, 1)
			call.Answer(t)
			call.Wait(t, "ended")
			sipp.Wait(t)
		})
	}
}

// TestWireReset: the browser's connection is reset in the middle of the way. The
// phone comes back by itself.
func TestWireReset(t *testing.T) {
	for i, stack := range []Stack{JsSIP, SIPJS} {
		t.Run(string(stack), func(t *testing.T) {
			t.Parallel()
			lab := newLab(t, stack, legs[len(legs)-1-i])
			wire := startWire(t, lab.Via.Listen())
			phone := lab.PhoneIn(lab.Page(), "alice", PhoneOptions{WebSocket: lab.Via.WebSocketAt(wire.Addr)})
			phone.Register(t)
			mark := phone.Mark()
			wire.Cut()
			phone.WaitAfter(t, mark, "disconnected")
			phone.WaitAfter(t, mark, "registered")
			lab.Caller("alice", "send-options").Wait(t)
		})
	}
}

// TestHalfOpenPhone: the browser's connection goes silent without a FIN. The
// phone that connects anew gets its calls on the new connection.
func TestHalfOpenPhone(t *testing.T) {
	for i, stack := range []Stack{JsSIP, SIPJS} {
		t.Run(string(stack), func(t *testing.T) {
			t.Parallel()
			lab := newLabOn(t, newNamespace(t), stack, legs[2+i])
			phone := lab.Registered("alice")
			if n := lab.Host.HalfOpen(t, lab.Via.Listen().Port()); n != 1 {
				t.Fatalf("%d connections were silenced, want 1", n)
			}
			mark := phone.Mark()
			phone.LoseSocket(t)
			phone.WaitAfter(t, mark, "disconnected")
			phone.WaitAfter(t, mark, "registered")
			lab.Caller("alice", "send-options").Wait(t)
		})
	}
}
