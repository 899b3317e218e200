package e2e

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"
)

// A Stack is one of the browsers' SIP libraries.
type Stack string

// The stacks that the pages are made of.
const (
	JsSIP Stack = "jssip"
	SIPJS Stack = "sipjs"
)

// An Event is something that a page's stack reported, or one of its console
// lines or uncaught errors (UA and Call are empty then).
type Event struct {
	Name       string `json:"name"`
	UA         string `json:"ua"`
	Call       string `json:"call"`
	Method     string `json:"method"`
	Status     int    `json:"status"`
	Originator string `json:"originator"`
	Cause      string `json:"cause"`
	Body       string `json:"body"`
}

// A Frame is one WebSocket message as Chromium saw it.
type Frame struct {
	Message
	Sent   bool // by the browser; otherwise received
	Binary bool
}

// Browser is the one Chromium of the test run, with the pages' web server.
type Browser struct {
	site    *httptest.Server
	stdin   io.WriteCloser
	cmd     *exec.Cmd
	stopped chan struct{}

	mu      sync.Mutex
	next    int
	waiting map[int]chan reply
	pages   map[string]*Page
	ready   chan struct{}
}

// reply is one line from driver.mjs: the answer to a command, or an event.
type reply struct {
	ID     int             `json:"id"`
	Result json.RawMessage `json:"result"`
	Error  string          `json:"error"`

	Event     string `json:"event"`
	Page      string `json:"page"`
	Report    Event  `json:"report"`
	Direction string `json:"direction"`
	Text      string `json:"text"`
	Binary    string `json:"binary"`
	State     string `json:"state"`
}

// launchBrowser starts Chromium; spki is what it trusts besides its own roots.
func launchBrowser(spki string) (*Browser, error) {
	b := &Browser{
		site:    httptest.NewServer(http.FileServer(http.Dir("browser"))),
		cmd:     exec.Command("node", "driver.mjs"),
		stopped: make(chan struct{}),
		waiting: map[int]chan reply{},
		pages:   map[string]*Page{},
		ready:   make(chan struct{}),
	}
	b.cmd.Dir = "browser"
	b.cmd.Env = append(os.Environ(), "TEST_AUTHORITY_SPKI="+spki)
	b.cmd.Stderr = os.Stderr
	stdout, err := b.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if b.stdin, err = b.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := b.cmd.Start(); err != nil {
		return nil, fmt.Errorf("node: %w (does .ci/setup run?)", err)
	}
	go b.listen(stdout)
	select {
	case <-b.ready:
		return b, nil
	case <-b.stopped:
		return nil, errors.New("driver.mjs ended before Chromium was up; has .ci/setup been run?")
	case <-time.After(2 * patience):
		return nil, errors.New("Chromium does not start")
	}
}

// Close ends Chromium.
func (b *Browser) Close() {
	_ = b.stdin.Close()
	<-b.stopped
	_ = b.cmd.Wait()
	b.site.Close()
}

// Origin is the pages' web origin.
func (b *Browser) Origin() string { return b.site.URL }

func (b *Browser) listen(stdout io.Reader) {
	defer close(b.stopped)
	lines := bufio.NewReader(stdout)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		var r reply
		if err := json.Unmarshal(line, &r); err != nil {
			fmt.Fprintf(os.Stderr, "driver.mjs said %q: %v\n", line, err)
			continue
		}
		b.dispatch(r)
	}
}

func (b *Browser) dispatch(r reply) {
	b.mu.Lock()
	page, waiting := b.pages[r.Page], b.waiting[r.ID]
	delete(b.waiting, r.ID)
	b.mu.Unlock()
	switch {
	case r.Event == "ready":
		close(b.ready)
	case r.Event == "" && waiting != nil:
		waiting <- r
	case page != nil:
		page.receive(r)
	}
}

// command performs one operation of driver.mjs and returns its result, which
// is a string or nothing.
func (b *Browser) command(fields map[string]any) (string, error) {
	answer := make(chan reply, 1)
	b.mu.Lock()
	b.next++
	fields["id"] = b.next
	b.waiting[b.next] = answer
	line, err := json.Marshal(fields)
	if err == nil {
		_, err = b.stdin.Write(append(line, '\n'))
	}
	b.mu.Unlock()
	if err != nil {
		return "", err
	}
	select {
	case r := <-answer:
		if r.Error != "" {
			return "", errors.New(r.Error)
		}
		var text *string
		if err := json.Unmarshal(r.Result, &text); err != nil || text == nil {
			return "", err
		}
		return *text, nil
	case <-b.stopped:
		return "", errors.New("Chromium is gone")
	case <-time.After(patience):
		return "", errors.New("no answer from Chromium")
	}
}

// A Page is one browser tab, with cookies and everything else of its own, that
// runs one SIP stack with any number of user agents.
type Page struct {
	Stack  Stack
	Events *Stream[Event]
	Frames *Stream[Frame]  // every WebSocket message of every socket of the page
	Socket *Stream[string] // "open", "closed" and "error", for every socket of the page

	browser *Browser
	name    string
}

// PageOptions change how a page works.
type PageOptions struct {
	// RealMedia gives the page real peer connections on Chromium's fake devices;
	// both ends of a call must be browsers then. Otherwise its session
	// descriptions are fixed text.
	RealMedia bool

	// Tone, with RealMedia, is the frequency in Hz of what the microphone hears,
	// instead of the fake device's beeps.
	Tone int

	// Site serves the page instead of Browser.Origin.
	Site string
}

// openPage opens a page of that stack, which is closed when the test ends.
func openPage(t testing.TB, stack Stack, options PageOptions) *Page {
	t.Helper()
	b := browser
	p := &Page{
		Stack: stack, Events: NewStream[Event](), Frames: NewStream[Frame](), Socket: NewStream[string](), browser: b,
	}
	b.mu.Lock()
	b.next++
	p.name = fmt.Sprintf("%s-%d", stack, b.next)
	b.pages[p.name] = p
	b.mu.Unlock()

	site := b.Origin()
	if options.Site != "" {
		site = options.Site
	}
	url := fmt.Sprintf("%s/%s.html", site, stack)
	switch {
	case !options.RealMedia:
		url += "?fixed"
	case options.Tone != 0:
		url += fmt.Sprintf("?tone=%d", options.Tone)
	}
	t.Cleanup(func() {
		_, _ = b.command(map[string]any{"op": "close", "page": p.name})
		b.mu.Lock()
		delete(b.pages, p.name)
		b.mu.Unlock()
		if t.Failed() {
			t.Logf("page %s reported:\n%s", p.name, p.story())
		}
	})
	if _, err := b.command(map[string]any{"op": "open", "page": p.name, "url": url}); err != nil {
		t.Fatalf("opening %s: %v", url, err)
	}
	return p
}

func (p *Page) receive(r reply) {
	switch r.Event {
	case "report":
		p.Events.Add(r.Report)
	case "console", "pageError":
		p.Events.Add(Event{Name: r.Event, Cause: r.Text})
	case "socket":
		p.Socket.Add(r.State)
	case "frame":
		text, binary := r.Text, r.Binary != ""
		if binary {
			raw, err := base64.StdEncoding.DecodeString(r.Binary)
			if err != nil {
				raw = []byte(err.Error())
			}
			text = string(raw)
		}
		p.Frames.Add(Frame{Message: newMessage(text), Sent: r.Direction == "sent", Binary: binary})
	}
}

// story is what the page reported, for the log of a failed test.
func (p *Page) story() string {
	var story strings.Builder
	for _, event := range p.Events.All() {
		fmt.Fprintf(&story, "  %+v\n", event)
	}
	for _, frame := range p.Frames.All() {
		direction := "browser ←"
		if frame.Sent {
			direction = "browser →"
		}
		fmt.Fprintf(&story, "  %s %s\n", direction, frame.Message)
	}
	return story.String()
}

// do runs one of the page's commands, window.phone[fn].
func (p *Page) do(t testing.TB, fn string, args ...any) string {
	t.Helper()
	result, err := p.browser.command(map[string]any{"op": "call", "page": p.name, "fn": fn, "args": args})
	if err != nil {
		t.Fatalf("%s: %s%v: %v", p.name, fn, args, err)
	}
	return result
}

// SentFrame waits for a message that the browser sent.
func (p *Page) SentFrame(t testing.TB, what string, match func(Message) bool) Message {
	t.Helper()
	return p.Frames.WaitFor(t, what+" from the browser", func(f Frame) bool {
		return f.Sent && match(f.Message)
	}).Message
}

// ReceivedFrame waits for a message that the browser received.
func (p *Page) ReceivedFrame(t testing.TB, what string, match func(Message) bool) Message {
	t.Helper()
	return p.Frames.WaitFor(t, what+" at the browser", func(f Frame) bool {
		return !f.Sent && match(f.Message)
	}).Message
}
