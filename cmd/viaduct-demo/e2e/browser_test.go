package e2e

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// Browser is the one Chromium of the test run, behind driver.mjs.
type Browser struct {
	stdin   io.WriteCloser
	cmd     *exec.Cmd
	stopped chan struct{}

	mu      sync.Mutex
	next    int
	waiting map[int]chan reply
	trouble map[string][]string // by page: errors on its console
}

// reply is one line from driver.mjs.
type reply struct {
	ID      int             `json:"id"`
	Result  json.RawMessage `json:"result"`
	Error   string          `json:"error"`
	Page    string          `json:"page"`
	Trouble string          `json:"trouble"`
}

func launchBrowser() (*Browser, error) {
	ready := make(chan reply, 1)
	b := &Browser{
		cmd:     exec.Command("node", "driver.mjs"),
		stopped: make(chan struct{}),
		waiting: map[int]chan reply{0: ready},
		trouble: map[string][]string{},
	}
	b.cmd.Stderr = os.Stderr
	stdout, err := b.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if b.stdin, err = b.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := b.cmd.Start(); err != nil {
		return nil, err
	}
	go b.listen(stdout)
	_, err = b.answer(ready)
	return b, err
}

// Close ends Chromium.
func (b *Browser) Close() {
	_ = b.stdin.Close()
	<-b.stopped
	_ = b.cmd.Wait()
}

func (b *Browser) listen(stdout io.Reader) {
	defer close(b.stopped)
	for lines := bufio.NewReader(stdout); ; {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			return
		}
		var r reply
		if err := json.Unmarshal(line, &r); err != nil {
			fmt.Fprintf(os.Stderr, "driver.mjs said %q: %v\n", line, err)
			continue
		}
		b.mu.Lock()
		if r.Trouble != "" {
			b.trouble[r.Page] = append(b.trouble[r.Page], r.Trouble)
		} else if waiting := b.waiting[r.ID]; waiting != nil {
			delete(b.waiting, r.ID)
			waiting <- r
		}
		b.mu.Unlock()
	}
}

// command performs one operation of driver.mjs.
func (b *Browser) command(op string, fields map[string]any) (json.RawMessage, error) {
	answer := make(chan reply, 1)
	b.mu.Lock()
	b.next++
	b.waiting[b.next] = answer
	fields["id"], fields["op"] = b.next, op
	line, err := json.Marshal(fields)
	if err == nil {
		_, err = b.stdin.Write(append(line, '\n'))
	}
	b.mu.Unlock()
	if err != nil {
		return nil, err
	}
	return b.answer(answer)
}

func (b *Browser) answer(waiting <-chan reply) (json.RawMessage, error) {
	select {
	case r := <-waiting:
		if r.Error != "" {
			return nil, errors.New(r.Error)
		}
		return r.Result, nil
	case <-b.stopped:
		return nil, errors.New("Chromium is gone; has .ci/setup been run?")
	case <-time.After(patience):
		return nil, errors.New("no answer from Chromium")
	}
}

// Page is one tab with the phone page.
type Page struct {
	name     string
	tolerate string // a trouble with this in it is none
}

// Options are those of playwright's browser.newContext, and microphone: false
// for a user who lets no page have it.
type Options map[string]any

// openPage opens url in a browser profile of its own. The test fails for every
// error on the page's console.
func openPage(t testing.TB, url string, options Options) *Page {
	t.Helper()
	return newPage(t, map[string]any{"url": url, "options": options})
}

// OpenTab opens url in a further tab of the same browser profile.
func (p *Page) OpenTab(t testing.TB, url string) *Page {
	t.Helper()
	return newPage(t, map[string]any{"url": url, "tab": p.name})
}

func newPage(t testing.TB, fields map[string]any) *Page {
	t.Helper()
	browser.mu.Lock()
	browser.next++
	p := &Page{name: fmt.Sprintf("page-%d", browser.next)}
	browser.mu.Unlock()
	fields["page"] = p.name
	t.Cleanup(func() { p.finish(t, fields["tab"] == nil) })
	if _, err := browser.command("open", fields); err != nil {
		t.Fatalf("opening %s: %v", fields["url"], err)
	}
	return p
}

// finish judges the console, shows a failed test's last picture, and closes the
// profile with its first page, which is the last to go.
func (p *Page) finish(t testing.TB, closeProfile bool) {
	browser.mu.Lock()
	for _, trouble := range browser.trouble[p.name] {
		if p.tolerate == "" || !strings.Contains(trouble, p.tolerate) {
			t.Errorf("%s: %s", p.name, trouble)
		}
	}
	browser.mu.Unlock()
	if t.Failed() {
		file := filepath.Join(os.TempDir(), strings.ReplaceAll(t.Name(), "/", "-")+"-"+p.name+".png")
		p.Screenshot(t, file)
		t.Logf("%s: see %s", p.name, file)
	}
	if closeProfile {
		_, _ = browser.command("close", map[string]any{"page": p.name})
	}
}

// act calls a method of playwright's Page.
func (p *Page) act(t testing.TB, method string, args ...any) json.RawMessage {
	t.Helper()
	result, err := browser.command("act", map[string]any{"page": p.name, "method": method, "args": args})
	if err != nil {
		t.Fatalf("%s: %s%q: %v", p.name, method, args, err)
	}
	return result
}

// Click clicks an element, which becomes visible and enabled first.
func (p *Page) Click(t testing.TB, selector string) {
	t.Helper()
	p.act(t, "click", selector)
}

// Fill types text into a field.
func (p *Page) Fill(t testing.TB, selector, text string) {
	t.Helper()
	p.act(t, "fill", selector, text)
}

// Press presses a key on an element.
func (p *Page) Press(t testing.TB, selector, key string) {
	t.Helper()
	p.act(t, "press", selector, key)
}

// WaitFor waits until an element is there to be seen.
func (p *Page) WaitFor(t testing.TB, selector string) {
	t.Helper()
	p.act(t, "waitForSelector", selector)
}

// WaitText waits until the visible element says text, among other things.
func (p *Page) WaitText(t testing.TB, selector, text string) {
	t.Helper()
	p.WaitFor(t, fmt.Sprintf("%s:visible:has-text(%q)", selector, text))
}

// Evaluate runs an expression in the page; a promise is awaited.
func (p *Page) Evaluate(t testing.TB, expression string, result any) {
	t.Helper()
	if err := json.Unmarshal(p.act(t, "evaluate", expression), result); err != nil {
		t.Fatalf("%s: %s: %v", p.name, expression, err)
	}
}

// Screenshot writes what is seen to a PNG file.
func (p *Page) Screenshot(t testing.TB, file string) {
	if _, err := browser.command("act", map[string]any{
		"page": p.name, "method": "screenshot", "args": []any{map[string]any{"path": file}},
	}); err != nil {
		t.Logf("%s: %v", p.name, err)
	}
}

// Audit reports what axe-core finds serious.
func (p *Page) Audit(t testing.TB, when string) {
	t.Helper()
	result, err := browser.command("audit", map[string]any{"page": p.name})
	var findings []string
	if err == nil {
		err = json.Unmarshal(result, &findings)
	}
	if err != nil {
		t.Fatalf("axe-core: %v", err)
	}
	for _, finding := range findings {
		t.Errorf("%s: %s", when, finding)
	}
}
