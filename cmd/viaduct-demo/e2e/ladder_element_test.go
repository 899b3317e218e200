package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"viaduct/gateway/ladder"
)

// scripted is the ladder alone on a page, under the strictest policy, with a
// stream of events that the test writes.
type scripted struct {
	*Page
	events chan string // what is written to the page; "" cuts the stream
}

func openLadder(t testing.TB, options Options) *scripted {
	t.Helper()
	s := &scripted{events: make(chan string)}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'self'; require-trusted-types-for 'script'")
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		fmt.Fprint(w, `<!doctype html><html lang="en"><meta name="viewport" content="width=device-width"><title>Ladder</title>`+
			`<link rel="stylesheet" href="page.css"><script type="module" src="ladder/ladder.js"></script>`+
			`<main><h1>Ladder</h1><sip-ladder src="events"></sip-ladder></main>`)
	})
	mux.HandleFunc("GET /page.css", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/css")
		fmt.Fprint(w, `body { margin: 0 } h1 { position: absolute; clip-path: inset(50%) } sip-ladder { height: 100vh }`)
	})
	mux.HandleFunc("GET /favicon.ico", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("GET /events", s.stream)
	mux.Handle("GET /ladder/", http.StripPrefix("/ladder", ladder.Handler(nil))) // its files; it is asked for no events
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	s.Page = openPage(t, server.URL, options)
	s.WaitText(t, ".status", "Live")
	t.Cleanup(func() { close(s.events) })
	return s
}

func (s *scripted) stream(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	fmt.Fprint(w, ":\n\n")
	for {
		_ = http.NewResponseController(w).Flush()
		select {
		case <-r.Context().Done():
			return
		case event := <-s.events:
			if event == "" {
				return
			}
			fmt.Fprint(w, event)
		}
	}
}

// event is what the gateway tells of one message.
type event map[string]string

// send shows events and waits until the ladder has as many messages.
func (s *scripted) send(t testing.TB, messages int, events ...event) {
	t.Helper()
	s.events <- stream(t, events...)
	s.WaitText(t, ".count", fmt.Sprintf("%d message", messages))
}

// stream is the text of events.
func stream(t testing.TB, events ...event) string {
	t.Helper()
	var text strings.Builder
	for _, e := range events {
		data, err := json.Marshal(e)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&text, "event: sip\ndata: %s\n\n", data)
	}
	return text.String()
}

// texts are the visible texts of all that match a selector in the ladder.
func (s *scripted) texts(t testing.TB, selector string) (all []string) {
	t.Helper()
	s.Evaluate(t, fmt.Sprintf("[...document.querySelector('sip-ladder').shadowRoot.querySelectorAll(%q)]"+
		".filter((e) => e.checkVisibility()).map((e) => e.innerText.trim())", selector), &all)
	return all
}

func relayed(direction, callID, before, after string) event {
	return event{
		"time": "2026-01-02T03:04:05.678Z", "connection": "af09", "browser": "192.0.2.7:40000", "user": "alice@pbx.example",
		"direction": direction, "kind": "relayed", "peer": "UDP 192.0.2.1:5060", "callId": callID, "before": before, "after": after,
	}
}

func message(start, via, callID string, lines ...string) string {
	return strings.Join(append([]string{start, "Via: " + via, "To: <sip:bob@pbx.example>", "Call-ID: " + callID, "CSeq: 1 INVITE"}, lines...), "\n") + "\n\n"
}

const browserVia, ourVia = "SIP/2.0/WSS a.invalid;branch=z9hG4bK47", "SIP/2.0/UDP 192.0.2.9:5070;rport;branch=z9hG4bKabcdef***"

func inviteUp(callID string) event {
	const start = "INVITE sip:bob@pbx.example SIP/2.0"
	return relayed("up", callID,
		message(start, browserVia, callID, "Max-Forwards: 70", "Contact: <sip:x@a.invalid;transport=ws;ob>"),
		message(start, ourVia, callID, "Max-Forwards: 69", "Contact: <sip:uvwxyz***@192.0.2.9:5070>", "Content-Length: 0"))
}

func ringing(callID string) event {
	const start = "SIP/2.0 180 Ringing"
	return relayed("down", callID, message(start, ourVia, callID), message(start, browserVia, callID))
}

// TestLadderMarks: a message opens by a key with what was changed in it marked,
// each change with its reason.
func TestLadderMarks(t *testing.T) {
	l := openLadder(t, Options{})
	l.send(t, 2, inviteUp("a"), ringing("a"))
	if got, want := l.texts(t, ".hop b, .names"), []string{"INVITE", "Via · Max-Forwards · Contact · Content-Length", "Via", "180 Ringing"}; !slices.Equal(got, want) {
		t.Errorf("rows %q, want %q", got, want)
	}
	if times := l.texts(t, "time"); len(times) != 2 || !strings.HasSuffix(times[0], "04:05.678") {
		t.Errorf("the rows are of %q", times)
	}
	l.Press(t, ".message >> nth=0", "Enter")
	l.WaitFor(t, ".detail")
	for selector, want := range map[string][]string{
		".pane:first-child del": {"WSS", "a.invalid", "47", "70", "x", "a.invalid;transport=ws;ob"},
		".pane:last-child ins":  {"UDP", "192.0.2.9:5070", "rport;", "abcdef***", "69", "uvwxyz***", "192.0.2.9:5070", "Content-Length: 0"},
		"h3":                    {"From the browser", "To the PBX"},
		".line.same": {
			"INVITE sip:bob@pbx.example SIP/2.0", "To: <sip:bob@pbx.example>", "Call-ID: a", "CSeq: 1 INVITE",
			"INVITE sip:bob@pbx.example SIP/2.0", "To: <sip:bob@pbx.example>", "Call-ID: a", "CSeq: 1 INVITE",
		},
	} {
		if got := l.texts(t, selector); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", selector, got, want)
		}
	}
	whys := strings.Join(l.texts(t, ".whys li"), "\n")
	for _, want := range []string{"The PBX answers to this Via", "One hop used", "The PBX must be able to call this address", "the length must be said"} {
		if !strings.Contains(whys, want) {
			t.Errorf("no %q in\n%s", want, whys)
		}
	}

	// The keys: down to the response, back, open, and Escape from inside.
	l.Press(t, ".message >> nth=0", "ArrowDown")
	l.Press(t, ".message:focus", "Enter")
	l.WaitText(t, ".whys", "its own Via back, byte for byte")
	l.Press(t, ".only", "Escape")
	l.WaitFor(t, `.message:focus[aria-expanded=false]:has-text("180 Ringing INVITE, from PBX to browser, changed: Via")`)
	l.Press(t, ".message:focus", "Home")
	l.WaitFor(t, `.message:focus:has-text("INVITE bob, from browser to PBX")`)
}

// TestLadderRefusals: what viaduct did not relay turns back there, with the reason.
func TestLadderRefusals(t *testing.T) {
	l := openLadder(t, Options{})
	answered := inviteUp("a")
	answered["kind"], answered["reason"], answered["reasonText"] = "answered", "max_forwards", "no hop left: 483"
	answered["after"] = message("SIP/2.0 483 Too Many Hops", browserVia, "a")
	own := relayed("down", "a", "", answered["after"])
	own["kind"] = "own"
	dropped := event{"time": "2026-01-02T03:04:05Z", "direction": "up", "kind": "refused", "reason": "not_sip", "reasonText": "no SIP", "before": "hello"}
	l.send(t, 3, answered, own, dropped)
	if got, want := l.texts(t, ".hop.back b, .hop.none .text, .hop.stop b"), []string{
		"INVITE", "483 Too Many Hops max forwards", "Viaduct’s own answer", "Not SIP", "Dropped not sip",
	}; !slices.Equal(got, want) {
		t.Errorf("rows %q, want %q", got, want)
	}
	l.Click(t, ".message >> nth=0")
	l.WaitText(t, ".reason", "no hop left: 483 max_forwards")
	l.WaitText(t, ".pane:last-child", "SIP/2.0 483 Too Many Hops")
}

// TestLadderIsBounded: however many messages pass, the page keeps the newest,
// paused or not.
func TestLadderIsBounded(t *testing.T) {
	l := openLadder(t, Options{})
	l.Click(t, "text=Pause")
	l.WaitText(t, ".status", "Paused")
	var events []event
	for i := range 2000 {
		events = append(events, ringing(fmt.Sprint("call-", i)))
	}
	l.events <- stream(t, events...)
	l.WaitText(t, ".count", "0 messages, 500 waiting")
	l.Click(t, "text=Resume")
	l.WaitText(t, ".count", "500 messages")
	l.events <- stream(t, events[:700]...)
	l.WaitFor(t, ".row") // the number shown stays; what is last changes
	l.Evaluate(t, "new Promise((done) => { const l = document.querySelector('sip-ladder'); "+
		"(function look() { if (l.text().includes('call-699\\n') && !l.text().includes('call-1999\\n')) done(true); else setTimeout(look, 20) })() })", new(bool))
	var rows []int
	l.Evaluate(t, "[document.querySelector('sip-ladder').shadowRoot.querySelectorAll('li').length, "+
		"document.querySelector('sip-ladder').text().split('=== ').length - 1]", &rows)
	if !slices.Equal(rows, []int{500, 500}) {
		t.Errorf("%d rows and messages, want 500 of each", rows)
	}
}

// TestLadderFilter: one call alone, by a click; its text for a file; nothing
// after Clear.
func TestLadderFilter(t *testing.T) {
	l := openLadder(t, Options{})
	l.send(t, 4, inviteUp("a"), inviteUp("b"), ringing("a"), ringing("b"))
	l.Click(t, ".message >> nth=1")
	l.Click(t, ".only")
	l.WaitText(t, ".count", "2 messages")
	var text string
	l.Evaluate(t, "document.querySelector('sip-ladder').text()", &text)
	if strings.Contains(text, "Call-ID: a\n") || strings.Count(text, "Call-ID: b\n") != 4 || strings.Count(text, "--- after\n") != 2 {
		t.Errorf("exported:\n%s", text)
	}
	l.Click(t, ".chip")
	l.WaitText(t, ".count", "4 messages")
	l.Click(t, "text=Clear")
	l.WaitText(t, ".empty", "Nothing has passed yet")
}

// TestLadderHostile: text of a message is only ever text.
func TestLadderHostile(t *testing.T) {
	l := openLadder(t, Options{})
	const evil = `<img src=x onerror="window.pwned=1"><script>window.pwned=1</script>"'` + "\u202e\u0000"
	bad := relayed("up", evil, evil+" "+evil+" SIP/2.0\n"+evil+": x\nTo: <sip:"+evil+"@x>\n\n"+evil, evil)
	bad["user"], bad["peer"] = evil, evil
	long := relayed("down", "l", message("SIP/2.0 200 "+strings.Repeat("x", 20_000), browserVia, "l", strings.Repeat(";,", 15_000)),
		message("SIP/2.0 200 "+strings.Repeat("y", 20_000), ourVia, "l", strings.Repeat(",;", 15_000)))
	lines := relayed("down", "m", "x\n\n"+strings.Repeat("a\n", 20_000), "y\n\n"+strings.Repeat("b\n", 20_000))
	proto := relayed("up", "p", "OPTIONS sip:x SIP/2.0\n__proto__: a\nconstructor: b\n\n", "OPTIONS sip:x SIP/2.0\n\n")
	l.send(t, 4, bad, long, lines, proto)
	for i := range 4 {
		l.Click(t, fmt.Sprintf(".message >> nth=%d", i))
		l.WaitFor(t, ".open .detail")
		if i == 0 {
			l.WaitText(t, ".call code", `<img src=x onerror=`)
		}
	}
	var harm int
	l.Evaluate(t, "(window.pwned ?? 0) + document.querySelector('sip-ladder').shadowRoot.querySelectorAll('img, script').length", &harm)
	if harm != 0 {
		t.Error("a message's text became markup")
	}
}

// TestLadderReconnects: a stream that is cut is begun again, and the ladder
// says where something may be missing.
func TestLadderReconnects(t *testing.T) {
	l := openLadder(t, Options{})
	l.send(t, 1, inviteUp("a"))
	l.events <- ""
	l.WaitText(t, ".gap", "Connected again")
	l.WaitText(t, ".status", "Live")
	l.events <- "event: lost\ndata: {\"lost\":12}\n\n"
	l.WaitText(t, ".gap", "12 messages were missed")
	l.send(t, 2, ringing("a"))
}

// TestLadderFits: nothing is wider than the smallest screen, and axe-core finds
// nothing serious, in light and dark.
func TestLadderFits(t *testing.T) {
	for _, scheme := range []string{"light", "dark"} {
		t.Run(scheme, func(t *testing.T) {
			l := openLadder(t, Options{"viewport": map[string]int{"width": 360, "height": 740}, "colorScheme": scheme})
			l.tolerate = "Applying inline style" // which axe-core tries
			refused := inviteUp("c")
			refused["kind"], refused["reason"], refused["reasonText"] = "refused", "too_large", "larger than all allows"
			delete(refused, "after")
			l.send(t, 3, inviteUp("a"), ringing("a"), refused)
			l.Audit(t, "a list")
			for i := range 3 {
				l.Click(t, fmt.Sprintf(".message >> nth=%d", i))
				l.WaitFor(t, ".detail")
				l.Audit(t, fmt.Sprint("message ", i))
				var wide []string
				l.Evaluate(t, "[...document.querySelector('sip-ladder').shadowRoot.querySelectorAll('*')]"+
					".filter((e) => e.getBoundingClientRect().right > innerWidth + .5).map((e) => e.className)", &wide)
				if len(wide) > 0 {
					t.Errorf("wider than the screen: %q", wide)
				}
			}
		})
	}
}
