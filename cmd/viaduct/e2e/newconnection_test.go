package e2e

import "testing"

// losses take a web client's connection away, so that viaduct hears of it or not.
var losses = []struct {
	name string
	host func(testing.TB) Host
	lose func(t *testing.T, lab *Lab, client *WebClient)
}{
	{
		"reset", func(testing.TB) Host { return loopback },
		func(t *testing.T, lab *Lab, client *WebClient) {
			client.Reset()
			lab.Via.WaitLog(t, "browser gone")
		},
	},
	{
		"half-open", newNamespace,
		func(t *testing.T, lab *Lab, _ *WebClient) {
			if n := lab.Host.HalfOpen(t, lab.Via.Listen().Port()); n != 1 {
				t.Fatalf("%d connections were silenced, want 1", n)
			}
		},
	},
}

// TestACKOnAnotherConnection: the ACK of a 486 that came by a connection which
// is lost since goes by a new one, before anything was registered there. The
// PBX takes it for what it is and repeats the 486 no more.
func TestACKOnAnotherConnection(t *testing.T) {
	for _, loss := range losses {
		t.Run(loss.name, func(t *testing.T) {
			t.Parallel()
			lab := newLabOn(t, loss.host(t), "", Leg{"udp", "ws"})
			callee := lab.Callee("recv-invite", "send-486", "recv-ack")
			alice := account("alice")
			before := lab.newWebClient()
			before.Register(t, alice)
			invite := newRequest("INVITE", callee.URI(), alice)
			refusal := before.Do(t, invite)
			if refusal.Status() != 486 {
				t.Fatalf("answer to the INVITE: %s", refusal)
			}
			loss.lose(t, lab, before)

			after := before.Again(t)
			after.Send(t, invite.Ack(refusal))
			callee.Wait(t)
			wantAbsorbed(t, lab, invite.CallID)
		})
	}
}

// TestCANCELOnAnotherConnection: a CANCEL is the first thing that comes by a new
// connection. It meets its INVITE at the PBX, and once the client has registered
// the 487 finds it there.
func TestCANCELOnAnotherConnection(t *testing.T) {
	for _, loss := range losses {
		t.Run(loss.name, func(t *testing.T) {
			t.Parallel()
			lab := newLabOn(t, loss.host(t), "", Leg{"udp", "ws"})
			callee := lab.Callee("recv-invite", "send-180", "recv-cancel")
			alice := account("alice")
			before := lab.newWebClient()
			before.Register(t, alice)
			invite := newRequest("INVITE", callee.URI(), alice)
			if ringing := before.Do(t, invite); ringing.Status() != 180 {
				t.Fatalf("answer to the INVITE: %s", ringing)
			}
			loss.lose(t, lab, before)

			after := before.Again(t)
			after.Send(t, invite.Cancel())
			lab.PBX.WaitSent(t, "200 to the CANCEL", inCall(invite.CallID, 200, "CANCEL"))
			callee.Wait(t)
			after.Register(t, alice)
			after.Send(t, invite.Ack(after.ReceivedFrame(t, "487", inCall(invite.CallID, 487, "INVITE"))))
			wantAbsorbed(t, lab, invite.CallID)
		})
	}
}

// TestHalfOpenConnectionIsFound: what viaduct believes to be the client's
// connection is pinged when the client shows elsewhere, and closed when nothing
// answers.
func TestHalfOpenConnectionIsFound(t *testing.T) {
	t.Parallel()
	lab := newLabOn(t, newNamespace(t), SIPJS, Leg{"udp", "ws"})
	phone := lab.Registered("alice")
	remote := lab.Via.WaitLog(t, "browser connected").Fields["remote"]
	if n := lab.Host.HalfOpen(t, lab.Via.Listen().Port()); n != 1 {
		t.Fatalf("%d connections were silenced, want 1", n)
	}
	mark := phone.Mark()
	phone.LoseSocket(t)
	phone.WaitAfter(t, mark, "registered")
	gone := lab.Via.WaitLog(t, "browser gone").Fields
	if gone["remote"] != remote || gone["cause"] != "silent" {
		t.Errorf("viaduct closed %v for cause %v, want %v for silence", gone["remote"], gone["cause"], remote)
	}
	lab.Caller("alice", "send-options").Wait(t)
}
