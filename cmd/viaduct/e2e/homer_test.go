package e2e

import (
	"errors"
	"net"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// startCollector has sngrep receive HEP on a port of its own and write what it
// decodes to a capture. The process ends by SIGTERM, and the capture is whole then.
func startCollector(t testing.TB) (at netip.AddrPort, capture string, sngrep *Process) {
	t.Helper()
	at = loopback.freePort(t)
	capture = filepath.Join(tempDir(t), "homer.pcap")
	sngrep = startProcess(t, "sngrep", loopback.command("sngrep", "-F", "-N", "-q", "-L", "udp:"+at.String(), "-O", capture))
	for deadline := time.Now().Add(patience); ; <-time.After(10 * time.Millisecond) {
		conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
		if errors.Is(err, syscall.EADDRINUSE) {
			return at, capture, sngrep
		}
		if err == nil {
			_ = conn.Close()
		}
		if time.Now().After(deadline) {
			t.Fatalf("sngrep does not listen at %s: %v", at, err)
		}
	}
}

// TestHomer: a decoder that is not ours gets a call of a browser through Kamailio
// on both sides, with the addresses of each, and nobody's digest.
func TestHomer(t *testing.T) {
	t.Parallel()
	at, capture, sngrep := startCollector(t)
	pbx := startKamailio(t, loopback)
	via := startViaduct(t, loopback, legs[0], pbx, "--hep="+at.String())
	callee := startSipp(t, loopback, pbx, []string{"recv-invite", "send-180", "send-200", "recv-ack", "recv-bye"})
	page := openPage(t, JsSIP, PageOptions{})
	alice := page.newPhone(t, via.WebSocket, "alice", PhoneOptions{})
	alice.Register(t)
	call := alice.Call(t, callee.URI())
	call.Wait(t, "confirmed")
	call.Bye(t)
	callee.Wait(t)
	call.Wait(t, "ended")
	page.ReceivedFrame(t, "200 to BYE", func(m Message) bool { return m.Response(200, "BYE") })

	messages := 0
	for _, frame := range page.Frames.All() {
		if strings.TrimSpace(frame.Raw) != "" {
			messages++
		}
	}
	const sent = `viaduct_hep_copies_total{outcome="sent"}`
	for deadline := time.Now().Add(patience); via.Metrics(t)[sent] < float64(2*messages); <-time.After(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%v copies of %d messages", via.Metrics(t)[sent], messages)
		}
	}
	sngrep.Signal(syscall.SIGTERM)
	<-sngrep.exited

	web, sip, peer := via.Listen().String(), via.SIP.String(), pbx.UDP.String()
	var wires []string
	for _, line := range tshark(t, capture, "sip", "ip.src", "udp.srcport", "ip.dst", "udp.dstport", "sip.CSeq.method", "sip.Status-Code") {
		f := append(strings.Fields(line), "request")
		wires = append(wires, f[0]+":"+f[1]+" > "+f[2]+":"+f[3]+" "+f[4]+" "+f[5])
	}
	if len(wires) != 2*messages {
		t.Errorf("sngrep decodes %d messages, want two for each of %d:\n%s", len(wires), messages, strings.Join(wires, "\n"))
	}
	for _, want := range []string{
		sip + " > " + peer + " INVITE request", peer + " > " + sip + " INVITE 180", peer + " > " + sip + " INVITE 407",
		sip + " > " + peer + " BYE request", peer + " > " + sip + " BYE 200",
	} {
		if !slices.Contains(wires, want) {
			t.Errorf("no %q in\n%s", want, strings.Join(wires, "\n"))
		}
	}
	for _, want := range []string{" > " + web + " INVITE request", " > " + web + " BYE request"} {
		if !slices.ContainsFunc(wires, func(w string) bool { return strings.HasSuffix(w, want) }) {
			t.Errorf("no %q in\n%s", want, strings.Join(wires, "\n"))
		}
	}
	if bad := tshark(t, capture, "_ws.malformed", "frame.number"); len(bad) != 0 {
		t.Errorf("tshark finds packets %q malformed", bad)
	}
	if masked := tshark(t, capture, `sip contains "Authorization: Digest ***"`, "frame.number"); len(masked) == 0 {
		t.Error("no message had credentials: nothing was checked")
	}
	if secret := tshark(t, capture, `sip matches "response=.[0-9a-f]{32}"`, "frame.number"); len(secret) != 0 {
		t.Errorf("packets %q have a digest response", secret)
	}
}
