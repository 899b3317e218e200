package e2e

import "testing"

// TestPeersAgree plays sipp against sipp through Kamailio, without viaduct: a
// scenario that fails through viaduct and not here is viaduct's fault.
func TestPeersAgree(t *testing.T) {
	for _, ladders := range []struct {
		name           string
		caller, callee []string
	}{
		{
			"BYE from the caller",
			[]string{"send-invite", "recv-200", "send-ack", "send-bye"},
			[]string{"recv-invite", "send-180", "send-200", "recv-ack", "recv-bye"},
		},
		{
			"BYE from the callee",
			[]string{"send-invite", "recv-180", "recv-200", "send-ack", "recv-bye"},
			[]string{"recv-invite", "send-180", "send-200", "recv-ack", "send-bye"},
		},
		{
			"an ACK too many",
			[]string{"send-invite", "recv-200", "send-ack", "send-ack-again", "send-ack-again", "send-reinvite", "send-bye"},
			[]string{"recv-invite", "send-200", "recv-ack", "recv-reinvite", "recv-bye"},
		},
		{
			"CANCEL",
			[]string{"send-invite", "recv-180", "send-cancel"},
			[]string{"recv-invite", "send-180", "recv-cancel"},
		},
		{
			"busy",
			[]string{"send-invite", "recv-486"},
			[]string{"recv-invite", "send-486", "recv-ack"},
		},
		{
			"PRACK",
			[]string{"send-invite", "recv-183-reliably", "recv-200", "send-ack", "recv-bye"},
			[]string{"recv-invite", "send-183-reliably", "recv-prack", "send-200", "recv-ack", "send-bye"},
		},
		{
			"requests in the dialog",
			[]string{"send-invite", "recv-200", "send-ack", "send-reinvite", "send-info", "send-update", "recv-info", "recv-reinvite", "send-bye"},
			[]string{"recv-invite", "send-200", "recv-ack", "recv-reinvite", "recv-info", "recv-update", "send-info", "send-reinvite", "recv-bye"},
		},
		{
			"REFER",
			[]string{"send-invite", "recv-200", "send-ack", "send-refer", "recv-notify", "recv-notify", "recv-bye"},
			[]string{"recv-invite", "send-200", "recv-ack", "recv-refer", "send-bye"},
		},
		{"MESSAGE", []string{"send-message"}, []string{"recv-message"}},
		{"OPTIONS", []string{"send-options"}, []string{"recv-options"}},
	} {
		t.Run(ladders.name, func(t *testing.T) {
			t.Parallel()
			pbx := startKamailio(t, loopback)
			callee := startSipp(t, loopback, pbx, ladders.callee)
			caller := startSipp(t, loopback, pbx, ladders.caller, To(callee.User()))
			caller.Wait(t)
			callee.Wait(t)
		})
	}
}
