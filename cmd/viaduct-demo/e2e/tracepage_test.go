package e2e

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"viaduct/gateway/ladder"
)

// openTracePage opens the page of the admin listener, with a stream of events that
// the test writes; asked gets the query of each.
func openTracePage(t testing.TB, hash string, options Options) (s *scripted, asked chan string) {
	t.Helper()
	s, asked = &scripted{events: make(chan string)}, make(chan string, 10)
	mux := http.NewServeMux()
	mux.HandleFunc("GET /trace/events", func(w http.ResponseWriter, r *http.Request) {
		asked <- r.URL.RawQuery
		s.stream(w, r)
	})
	mux.Handle("GET /trace/", http.StripPrefix("/trace", ladder.Page(nil))) // its files; it is asked for no events
	mux.HandleFunc("GET /favicon.ico", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	s.Page = openPage(t, server.URL+"/trace/"+hash, options)
	s.WaitText(t, ".status", "Live")
	t.Cleanup(func() { close(s.events) })
	return s, asked
}

// story is a call as an operator would see it: answered after a repetition and a
// duplicate, and a message that was dropped.
func story() []event {
	const callID = "ks2b0v7n1rq8tqk1c9dd"
	at := func(e event, time, kind string) event {
		e["time"], e["kind"] = "2026-01-02T03:04:"+time+"Z", kind
		e["browserLocal"], e["peerLocal"] = "192.0.2.9:443", "192.0.2.9:5070"
		return e
	}
	invite := inviteUp(callID)
	again := relayed("up", callID, "", invite["after"])
	ok := func(kind string) event {
		const start = "SIP/2.0 200 OK"
		before, after := message(start, ourVia, callID), message(start, browserVia, callID)
		if kind == "absorbed" {
			after = ""
		}
		return relayed("down", callID, before, after)
	}
	dropped := relayed("down", "fe21-77@192.0.2.1", message("OPTIONS sip:uvwxyz***@192.0.2.9:5070 SIP/2.0", "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK9", "fe21-77@192.0.2.1"),
		message("SIP/2.0 480 Not Connected", "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK9", "fe21-77@192.0.2.1"))
	for _, field := range []string{"connection", "browser", "user"} {
		delete(dropped, field)
	}
	dropped["reason"], dropped["reasonText"] = "no_connection", "a request from the SIP side for a client that is not connected: 480"
	garbage := event{"direction": "up", "before": "GET / HTTP/1.1\r\n\r\n", "browser": "192.0.2.8:51200", "connection": "b1", "reason": "not_sip", "reasonText": "bytes that are no SIP message at all"}
	return []event{
		at(invite, "05.678123", "relayed"), at(again, "06.178455", "repeated"), at(ringing(callID), "06.190001", "relayed"),
		at(dropped, "07.5", "answered"), at(ok("relayed"), "09.25", "relayed"), at(ok("absorbed"), "09.75", "absorbed"),
		at(garbage, "11", "refused"),
	}
}

// TestTracePage: what is shown is chosen by a form, by a click on what a message
// has, and by the address; the stream is asked for no more than that.
func TestTracePage(t *testing.T) {
	l, asked := openTracePage(t, "", nil)
	next := func(want string) {
		t.Helper()
		if got := <-asked; got != want {
			t.Errorf("asked for %q, want %q", got, want)
		}
	}
	next("")
	l.send(t, 7, story()...)
	if got, want := l.texts(t, ".since"), []string{"+500 ms", "+12 ms", "+3.06 s", "+500 ms"}; !slices.Equal(got, want) {
		t.Errorf("timing %q, want %q", got, want)
	}
	for _, want := range []string{
		"INVITE bob, sent to the PBX again by Viaduct", "200 OK INVITE, from the PBX again, absorbed by Viaduct",
		"OPTIONS bob, from the PBX, answered by Viaduct: 480 Not Connected", "Not SIP, from the browser, dropped by Viaduct: bytes that are no SIP message at all",
	} {
		if rungs := l.rungs(t); !slices.Contains(rungs, want) {
			t.Errorf("no %q in\n%s", want, strings.Join(rungs, "\n"))
		}
	}

	l.Fill(t, "#value", "sip:bob@pbx.example")
	l.act(t, "selectOption", "#by", "user")
	l.Press(t, "#value", "Enter")
	next("user=bob%40pbx.example")
	l.WaitText(t, ".chip", "User bob@pbx.example")
	l.WaitText(t, ".count", "6 messages") // whose To he is
	l.WaitText(t, ".gap", "Only what was chosen is asked for")

	l.Click(t, ".message >> nth=0")
	l.Click(t, ".only[data-filter=connection]")
	next("connection=af09")
	l.WaitText(t, ".count", "5 messages")
	l.Click(t, "#all")
	next("")
	l.WaitText(t, ".count", "7 messages")
	l.Fill(t, "#value", "no number")
	l.act(t, "selectOption", "#by", "connection")
	l.Click(t, ".primary")
	l.WaitText(t, "#wrong", "That is no number of a connection")

	l.act(t, "evaluate", "location.hash = '#call-id=fe21-77%40192.0.2.1'")
	next("call-id=fe21-77%40192.0.2.1")
	l.WaitText(t, ".count", "1 message")
	l.WaitFor(t, "#value >> nth=0")
	var value string
	l.Evaluate(t, "document.getElementById('value').value", &value)
	if value != "fe21-77@192.0.2.1" {
		t.Errorf("the form says %q", value)
	}
}

// TestTracePageByAddress: a page that is opened for one call asks for that alone.
func TestTracePageByAddress(t *testing.T) {
	l, asked := openTracePage(t, "#user=1001", nil)
	for query := ""; query != "user=1001"; query = <-asked {
		if query != "" {
			t.Errorf("asked for %q", query)
		}
	}
	l.WaitText(t, ".chip", "User 1001")
}

// TestTracePageLook has axe-core judge the page in light and dark, on a desktop and
// on a phone, and takes pictures as TestLook does.
func TestTracePageLook(t *testing.T) {
	pictures := os.Getenv("VIADUCT_DEMO_PICTURES")
	if pictures == "" {
		pictures = t.TempDir()
	}
	for _, scheme := range []string{"light", "dark"} {
		for _, screen := range []struct {
			name          string
			width, height int
			mobile        bool
		}{{"desktop", 1360, 880, false}, {"phone", 390, 844, true}} {
			t.Run(screen.name+" "+scheme, func(t *testing.T) {
				l, _ := openTracePage(t, "", Options{
					"viewport":    map[string]int{"width": screen.width, "height": screen.height},
					"colorScheme": scheme, "isMobile": screen.mobile, "hasTouch": screen.mobile,
				})
				l.tolerate = "Applying inline style" // which axe-core tries
				picture := func(state string) {
					t.Helper()
					l.Screenshot(t, filepath.Join(pictures, fmt.Sprintf("trace-%s-%s-%s.png", screen.name, scheme, state)))
					l.checkFits(t, state)
				}
				picture("empty")
				l.send(t, 7, story()...)
				picture("messages")
				l.Click(t, ".message >> nth=0")
				l.WaitFor(t, ".open .detail")
				picture("changed")
				l.Audit(t, "changed")
				l.Click(t, ".message >> nth=1")
				l.WaitText(t, ".detail", "Sent again")
				l.Click(t, ".only[data-filter=call-id]")
				l.WaitText(t, ".chip", "Call ks2b0v7n1rq8tqk1c9dd")
				picture("one call")
				l.Fill(t, "#value", " ")
				l.Click(t, ".primary")
				l.WaitFor(t, "#wrong")
				l.Click(t, ".row:not([hidden]) .message >> nth=-1")
				l.WaitText(t, ".detail", "A duplicate")
				picture("wrong")
				l.Audit(t, "wrong")
			})
		}
	}
}

// TestTracePagePcap: the capture has each message as it was on a wire, whatever the
// addresses, and nothing that was on none; tshark finds nothing wrong with it.
func TestTracePagePcap(t *testing.T) {
	l, _ := openTracePage(t, "", nil)
	v6 := inviteUp("v6")
	v6["browser"], v6["browserLocal"], v6["peer"], v6["peerLocal"] = "[2001:db8::7]:40000", "[2001:db8:0:1::9]:443", "TLS [::1]:5061", "[::1]:5071"
	odd := relayed("down", "odd", message("SIP/2.0 200 OK", ourVia, "odd")+"x", message("SIP/2.0 200 OK", browserVia, "odd")+"é")
	odd["browserLocal"], odd["peerLocal"] = "192.0.2.9:443", "192.0.2.9:5070"
	unsent := inviteUp("unsent") // no connection to the PBX: neither that nor its answer was on a wire
	unsent["kind"], unsent["after"] = "answered", message("SIP/2.0 503 SIP Server Unreachable", browserVia, "unsent")
	unsent["reason"], unsent["reasonText"] = "upstream_unreachable", "no way to the SIP server: 503 to a request"
	delete(unsent, "browser")
	delete(unsent, "browserLocal")
	events := append(story(), v6, odd, unsent)
	l.send(t, len(events), events...)
	var text string
	l.Evaluate(t, "document.querySelector('sip-ladder').pcap().arrayBuffer().then((b) => [...new Uint8Array(b)].map((n) => String.fromCharCode(n)).join('')).then(btoa)", &text)
	capture, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ladder.pcap")
	if err := os.WriteFile(file, capture, 0o600); err != nil {
		t.Fatal(err)
	}
	tshark := func(filter string, fields ...string) []string {
		args := []string{"-r", file, "-Y", filter, "-o", "udp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE", "-T", "fields", "-E", "separator=/s"}
		for _, field := range fields {
			args = append(args, "-e", field)
		}
		output, err := exec.Command("tshark", args...).Output()
		if err != nil {
			t.Fatalf("tshark: %v (has .ci/setup been run?)", err)
		}
		return strings.Split(strings.TrimSuffix(string(output), "\n"), "\n")
	}
	const fields = "frame.time_epoch ip.src ipv6.src udp.srcport ip.dst ipv6.dst udp.dstport sip.Method sip.Status-Code"
	want := []string{
		"1767323045.678123000 192.0.2.7  40000 192.0.2.9  443 INVITE ",
		"1767323045.678123000 192.0.2.9  5070 192.0.2.1  5060 INVITE ",
		"1767323046.178455000 192.0.2.9  5070 192.0.2.1  5060 INVITE ",
		"1767323046.190001000 192.0.2.1  5060 192.0.2.9  5070  180",
		"1767323046.190001000 192.0.2.9  443 192.0.2.7  40000  180",
		"1767323047.500000000 192.0.2.1  5060 192.0.2.9  5070 OPTIONS ",
		"1767323047.500000000 192.0.2.9  5070 192.0.2.1  5060  480",
		"1767323049.250000000 192.0.2.1  5060 192.0.2.9  5070  200",
		"1767323049.250000000 192.0.2.9  443 192.0.2.7  40000  200",
		"1767323049.750000000 192.0.2.1  5060 192.0.2.9  5070  200",
		"1767323051.000000000 192.0.2.8  51200 192.0.2.9  443  ",
		"1767323045.678000000  2001:db8::7 40000  2001:db8:0:1::9 443 INVITE ",
		"1767323045.678000000  ::1 5071  ::1 5061 INVITE ",
		"1767323045.678000000 192.0.2.1  5060 192.0.2.9  5070  200",
		"1767323045.678000000 192.0.2.9  443 192.0.2.7  40000  200",
	}
	if got := tshark("", strings.Fields(fields)...); !slices.Equal(got, want) {
		t.Errorf("the capture has\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if bad := tshark("udp.checksum.status != 1 || ip.checksum.status == 0", "frame.number"); bad[0] != "" {
		t.Errorf("wrong checksums in packets %q", bad)
	}
}
