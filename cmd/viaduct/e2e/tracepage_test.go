package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// visitTrace opens the live trace of a viaduct in a page, which is closed when the
// test ends.
func visitTrace(t testing.TB, via *Viaduct) *Page {
	t.Helper()
	b := browser
	p := &Page{Events: NewStream[Event](), Frames: NewStream[Frame](), browser: b}
	b.mu.Lock()
	b.next++
	p.name = fmt.Sprintf("trace-%d", b.next)
	b.pages[p.name] = p
	b.mu.Unlock()
	t.Cleanup(func() {
		for _, trouble := range p.Events.All() {
			t.Errorf("the trace page: %s", trouble.Cause)
		}
		if t.Failed() {
			t.Logf("the trace page shows\n%s", strings.Join(p.rungs(t), "\n"))
		}
		_, _ = b.command(map[string]any{"op": "close", "page": p.name})
	})
	if _, err := b.command(map[string]any{"op": "visit", "page": p.name, "url": via.Admin + "/trace/"}); err != nil {
		t.Fatal(err)
	}
	p.waitText(t, ".status", "Live")
	return p
}

// act calls a method of playwright's Page.
func (p *Page) act(t testing.TB, method string, args ...any) string {
	t.Helper()
	result, err := p.browser.command(map[string]any{"op": "act", "page": p.name, "method": method, "args": args})
	if err != nil {
		t.Fatalf("%s: %s%q: %v", p.name, method, args, err)
	}
	return result
}

func (p *Page) waitText(t testing.TB, selector, text string) {
	t.Helper()
	p.act(t, "waitForSelector", fmt.Sprintf("sip-ladder %s:has-text(%q)", selector, text))
}

// rungs are the messages that the trace shows, as a screen reader has them.
func (p *Page) rungs(t testing.TB) (rungs []string) {
	t.Helper()
	text := p.act(t, "evaluate", `JSON.stringify([...document.querySelector('sip-ladder').shadowRoot`+
		`.querySelectorAll('.row:not([hidden]) .label')].map((e) => e.textContent))`)
	if err := json.Unmarshal([]byte(text), &rungs); err != nil {
		t.Fatal(err)
	}
	return rungs
}

// save downloads what is shown, and returns the file.
func (p *Page) save(t testing.TB, as string) (file string) {
	t.Helper()
	file = filepath.Join(tempDir(t), "call."+as)
	_, err := p.browser.command(map[string]any{
		"op": "save", "page": p.name, "selector": fmt.Sprintf("sip-ladder button[aria-label='Download as %s']", as), "path": file,
	})
	if err != nil {
		t.Fatalf("downloading as %s: %v", as, err)
	}
	return file
}

// TestTracePage: an operator sees a call of a browser through Kamailio while it
// passes, picks it, and downloads what other people's tools read; then a message
// that had to be sent again, and one that was not relayed.
func TestTracePage(t *testing.T) {
	t.Parallel()
	pbx := startKamailio(t, loopback)
	via := startViaduct(t, loopback, legs[0], pbx)
	trace := visitTrace(t, via)
	callee := startSipp(t, loopback, pbx, []string{"recv-invite", "send-180", "send-200", "recv-ack", "recv-bye"})
	page := openPage(t, JsSIP, PageOptions{})
	alice := page.newPhone(t, via.WebSocket, "alice", PhoneOptions{})
	alice.Register(t)
	call := alice.Call(t, callee.URI())
	call.Wait(t, "confirmed")
	call.Bye(t)
	callee.Wait(t)
	trace.waitText(t, ".label", "200 OK BYE, from PBX to browser")

	trace.act(t, "click", `sip-ladder .message:has-text("INVITE") >> nth=0`)
	trace.waitText(t, ".whys", "The PBX must be able to call this address")
	trace.act(t, "click", "sip-ladder .only[data-filter=call-id]")
	trace.waitText(t, ".gap", "Only what was chosen is asked for")
	rungs := trace.rungs(t)
	story := regexp.MustCompile(`(?s)^INVITE .*\n407 .*\nACK .*\nINVITE .*\n(100 .*\n)?180 .*\n200 OK INVITE.*\nACK .*\nBYE .*\n200 OK BYE, from PBX to browser, changed: Via$`)
	if got := strings.Join(rungs, "\n"); !story.MatchString(got) {
		t.Errorf("the call is shown as\n%s", got)
	}
	checkText(t, page, trace.save(t, "text"), len(rungs))
	checkCapture(t, trace.save(t, "pcap"), rungs)

	trace.act(t, "click", "#all")
	trace.waitText(t, ".gap", "More is shown from here on")
	pbx.process.Signal(syscall.SIGSTOP)
	alice.Message(t, callee.URI(), "are you there?")
	trace.waitText(t, ".label", "sent to the PBX again by Viaduct")
	pbx.process.Signal(syscall.SIGCONT)

	client := dialWebClient(t, via.WebSocket, newWebClientPage())
	client.Send(t, "OPTIONS sip:bob@pbx.test SIP/2.0\r\nVia: SIP/2.0/WS a.invalid;branch=z9hG4bK1\r\nMax-Forwards: 0\r\n"+
		"To: <sip:bob@pbx.test>\r\nFrom: <sip:eve@pbx.test>;tag=1\r\nCall-ID: no-hop-left\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n")
	trace.waitText(t, ".label", "OPTIONS bob, from the browser, answered by Viaduct: 483 Too Many Hops")
	trace.act(t, "click", `sip-ladder .message:has-text("483 Too Many Hops")`)
	trace.waitText(t, ".reason", "max_forwards")
}

// checkText: the text has every message, and nobody's digest.
func checkText(t *testing.T, page *Page, file string, messages int) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), "\n--- before\n"); n != messages {
		t.Errorf("the text has %d messages, want %d:\n%s", n, messages, text)
	}
	digests := 0
	for _, frame := range page.Frames.All() {
		for _, found := range regexp.MustCompile(`response="([0-9a-f]{32})"`).FindAllStringSubmatch(frame.Raw, -1) {
			digests++
			if strings.Contains(string(text), found[1]) {
				t.Error("the text has a digest response")
			}
		}
	}
	if digests == 0 {
		t.Error("no message had credentials: nothing was checked")
	}
}

// checkCapture has tshark and sngrep read a capture of one call: each message is
// there on both sides, whole.
func checkCapture(t *testing.T, file string, rungs []string) {
	t.Helper()
	packets := tshark(t, file, "sip", "sip.Method", "sip.Status-Code", "sip.CSeq.method", "ip.src", "udp.srcport")
	if len(packets) != 2*len(rungs) {
		t.Errorf("tshark finds %d SIP messages, want two for each of\n%s", len(packets), strings.Join(rungs, "\n"))
	}
	if all := tshark(t, file, "", "frame.number"); len(all) != len(packets) {
		t.Errorf("%d packets, %d of them SIP", len(all), len(packets))
	}
	if bad := tshark(t, file, "_ws.malformed || udp.checksum.status == 0 || ip.checksum.status == 0 || _ws.expert.severity >= 8388608", "frame.number", "_ws.expert.message"); len(bad) != 0 {
		t.Errorf("tshark finds wrong: %q", bad)
	}
	read, err := exec.Command("sngrep", "-F", "-N", "-I", file, "-O", file+".again").CombinedOutput()
	if err != nil || !strings.Contains(string(read), "Dialog count: 1") {
		t.Errorf("sngrep: %v\n%s", err, read)
	}
	if again := tshark(t, file+".again", "sip", "frame.number"); len(again) != len(packets) {
		t.Errorf("sngrep keeps %d messages of %d", len(again), len(packets))
	}
}

// tshark returns fields, joined by spaces, of each packet of a capture that a filter wants.
func tshark(t testing.TB, file, filter string, fields ...string) (packets []string) {
	t.Helper()
	// Ports of a test can be some other protocol's: what is in the packets decides.
	args := []string{"-r", file, "-Y", filter, "-o", "udp.try_heuristic_first:TRUE", "-o", "udp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE", "-T", "fields", "-E", "separator=/s"}
	for _, field := range fields {
		args = append(args, "-e", field)
	}
	cmd := exec.Command("tshark", args...)
	var said strings.Builder
	cmd.Stderr = &said
	output, err := cmd.Output()
	if err != nil {
		t.Fatalf("tshark: %v (has .ci/setup been run?)\n%s", err, said.String())
	}
	return slices.DeleteFunc(strings.Split(string(output), "\n"), func(line string) bool { return line == "" })
}
