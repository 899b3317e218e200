package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A FleetEvent is something that a phone of a Fleet reported.
type FleetEvent struct {
	User   string `json:"user"`
	Name   string `json:"event"`
	Call   string `json:"call"` // Call-ID
	Method string `json:"method"`
	CSeq   int    `json:"cseq"`
	Status int    `json:"status"`
	Text   string `json:"text"`
}

func (e FleetEvent) String() string {
	return fmt.Sprintf("%s %s %s %d %s", e.User, e.Name, e.Method, e.Status, e.Text)
}

// A Fleet is a number of SIP.js user agents under Node, each on a WebSocket of
// its own, with fixed session descriptions.
type Fleet struct {
	Phones []*FleetPhone

	byUser  map[string]*FleetPhone
	ready   chan struct{} // closed when fleet.mjs takes commands
	stopped chan struct{} // closed when its output has ended

	mu    sync.Mutex // orders commands
	stdin io.WriteCloser
}

// A FleetPhone is one user agent of a Fleet.
type FleetPhone struct {
	User     string
	Events   *Stream[FleetEvent]
	Received *Stream[string] // the SIP messages that its stack was given

	fleet *Fleet
}

// FleetOptions say how the phones of a Fleet behave.
type FleetOptions struct {
	Reconnect time.Duration // from the loss of a connection to the next attempt, give or take a fifth
	Ring      time.Duration // from an incoming call to the event "rang"
}

// startFleet starts the user agents of the accounts u000 to u‹n-1›, and returns
// when they are connected to viaduct.
func startFleet(t testing.TB, via *Viaduct, n int, options FleetOptions) *Fleet {
	t.Helper()
	f := &Fleet{byUser: map[string]*FleetPhone{}, ready: make(chan struct{}), stopped: make(chan struct{})}
	var users []string
	for i := range n {
		phone := &FleetPhone{
			User:     fmt.Sprintf("u%03d", i),
			Events:   NewStream[FleetEvent](),
			Received: NewStream[string](),
			fleet:    f,
		}
		f.Phones = append(f.Phones, phone)
		f.byUser[phone.User] = phone
		users = append(users, phone.User)
	}
	f.launch(t)
	f.command(map[string]any{
		"op": "phones", "users": users, "server": via.WebSocket, "domain": domain,
		"reconnectMs": options.Reconnect.Milliseconds(), "ringMs": options.Ring.Milliseconds(),
	})
	ctx, cancel := context.WithTimeout(t.Context(), 4*patience) // for all of them
	defer cancel()
	for _, phone := range f.Phones {
		if _, err := phone.await(ctx, 0, "connected"); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func (f *Fleet) launch(t testing.TB) {
	t.Helper()
	cmd := exec.Command("node", "fleet.mjs")
	cmd.Dir = "fleet"
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatalf("fleet: %v", err)
	}
	if f.stdin, err = cmd.StdinPipe(); err != nil {
		t.Fatalf("fleet: %v", err)
	}
	if err := forkOnLastingThread(cmd); err != nil {
		t.Fatalf("fleet: %v (does .ci/setup run?)", err)
	}
	go f.listen(t, stdout)
	t.Cleanup(func() {
		_ = f.stdin.Close()
		<-f.stopped
		_ = cmd.Wait()
	})
	select {
	case <-f.ready:
	case <-f.stopped:
		t.Fatal("fleet.mjs ended before it was ready; has .ci/setup been run?")
	}
}

// listen gives each phone what it reports.
func (f *Fleet) listen(t testing.TB, stdout io.Reader) {
	defer close(f.stopped)
	lines := bufio.NewReaderSize(stdout, 1<<20)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			break
		}
		var event FleetEvent
		if err := json.Unmarshal(line, &event); err != nil {
			t.Errorf("fleet.mjs said %q: %v", line, err)
			continue
		}
		f.dispatch(event)
	}
	for _, phone := range f.Phones {
		phone.Events.End(errors.New("the fleet has ended"))
	}
}

func (f *Fleet) dispatch(event FleetEvent) {
	switch phone := f.byUser[event.User]; {
	case event.Name == "ready":
		close(f.ready)
	case phone == nil:
	case event.Name == "received":
		phone.Received.Add(event.Text)
	default:
		phone.Events.Add(event)
	}
}

// command has fleet.mjs perform one operation. What goes wrong there is reported
// as an event.
func (f *Fleet) command(fields map[string]any) {
	line, err := json.Marshal(fields)
	if err != nil {
		panic(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	// A fleet that is gone ends the streams that everybody waits on.
	_, _ = f.stdin.Write(append(line, '\n'))
}

// do has the phone perform one operation of fleet.mjs on a call.
func (p *FleetPhone) do(op, call string) {
	p.fleet.command(map[string]any{"op": op, "user": p.User, "call": call})
}

// reject refuses a call.
func (p *FleetPhone) reject(call string, status int) {
	p.fleet.command(map[string]any{"op": "reject", "user": p.User, "call": call, "status": status})
}

// register registers the phone and returns an error when that does not succeed.
func (p *FleetPhone) register(ctx context.Context) error {
	mark := p.Events.Mark()
	p.fleet.command(map[string]any{"op": "register", "user": p.User})
	event, err := p.await(ctx, mark, "registered", "registrationFailed", "error")
	if err == nil && event.Name != "registered" {
		err = fmt.Errorf("REGISTER: %s", event)
	}
	return err
}

// call calls target and returns the Call-ID.
func (p *FleetPhone) call(ctx context.Context, target string) (string, error) {
	mark := p.Events.Mark()
	p.fleet.command(map[string]any{"op": "call", "user": p.User, "target": target})
	event, err := p.await(ctx, mark, "calling")
	return event.Call, err
}

// await returns the first event after mark that has one of the names.
func (p *FleetPhone) await(ctx context.Context, mark int, names ...string) (FleetEvent, error) {
	event, err := p.Events.next(ctx, mark, func(e FleetEvent) bool {
		for _, name := range names {
			if e.Name == name {
				return true
			}
		}
		return false
	})
	if err != nil {
		err = fmt.Errorf("%s: waiting for %v: %w", p.User, names, err)
	}
	return event, err
}

// awaitResponse returns the status of the first final response after mark to a
// request of that method in the call; 0 when the call ended without.
func (p *FleetPhone) awaitResponse(ctx context.Context, mark int, call, method string) (int, error) {
	event, err := p.Events.next(ctx, mark, func(e FleetEvent) bool {
		return e.Call == call && (e.Name == "error" || e.Name == "response" && e.Method == method && e.Status >= 200)
	})
	switch {
	case err != nil:
		return 0, fmt.Errorf("%s: waiting for a final response to %s: %w", p.User, method, err)
	case event.Name == "error":
		return 0, fmt.Errorf("%s: %s", p.User, event.Text)
	}
	return event.Status, nil
}
