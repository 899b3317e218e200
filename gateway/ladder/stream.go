package ladder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"viaduct/gateway"
)

const (
	// heartbeat is shorter than the minute of silence after which proxies cut.
	heartbeat = 15 * time.Second
	// patience is how long a viewer may leave what it was sent unread.
	patience = 10 * time.Second
	// retry is when a viewer comes back after the gateway was restarted.
	retry = time.Second
)

// stream serves what passes as Server-Sent Events until the request ends.
type stream struct {
	gateway   *gateway.Gateway
	heartbeat time.Duration
}

// line is an event as the element reads it.
type line struct {
	Time         time.Time         `json:"time"`
	Connection   string            `json:"connection,omitempty"` // hexadecimal: a number of 64 bits is too large for JavaScript
	Browser      string            `json:"browser,omitempty"`
	BrowserLocal string            `json:"browserLocal,omitempty"` // viaduct's end
	User         string            `json:"user,omitempty"`
	Direction    gateway.Direction `json:"direction"`
	Kind         gateway.TraceKind `json:"kind"`
	Reason       string            `json:"reason,omitempty"`
	ReasonText   string            `json:"reasonText,omitempty"`
	Peer         string            `json:"peer,omitempty"`
	PeerLocal    string            `json:"peerLocal,omitempty"`
	CallID       string            `json:"callId,omitempty"`
	StartLine    string            `json:"startLine"`
	Before       string            `json:"before,omitempty"`
	After        string            `json:"after,omitempty"`
}

func newLine(e *gateway.TraceEvent) line {
	l := line{
		Time: e.Time, User: e.User, Direction: e.Direction, Kind: e.Kind,
		CallID: e.CallID, StartLine: e.StartLine, Before: e.Before, After: e.After,
	}
	if e.Connection != 0 {
		l.Connection, l.Browser, l.BrowserLocal = strconv.FormatUint(e.Connection, 16), e.Browser.String(), e.BrowserLocal.String()
	}
	if e.Peer.IsValid() {
		l.Peer, l.PeerLocal = fmt.Sprint(e.Transport, " ", e.Peer), e.PeerLocal.String()
	}
	if e.Kind == gateway.TraceRefused || e.Kind == gateway.TraceAnswered {
		l.Reason, l.ReasonText = e.Reason.String(), e.Reason.Text()
	}
	return l
}

// maxFilter bounds what is looked for, in bytes: no Call-ID is that long.
const maxFilter = 1024

// parseFilter reads what a viewer wants: call-id, user and connection, each once.
func parseFilter(query url.Values) (f gateway.TraceFilter, err error) {
	for name, values := range query {
		value := values[0]
		switch {
		case len(values) > 1 || len(value) > maxFilter:
			return f, fmt.Errorf("%s: once, and of %d bytes at most", name, maxFilter)
		case name == "call-id":
			f.CallID = value
		case name == "user":
			f.User = value
		case name == "connection":
			f.Connection, err = strconv.ParseUint(value, 16, 64)
			if err != nil || f.Connection == 0 {
				return f, errors.New("connection: not the number of one")
			}
		default:
			return f, fmt.Errorf("%q is none of call-id, user and connection", name)
		}
	}
	return f, nil
}

func (s *stream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	filter, err := parseFilter(r.URL.Query())
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	trace, err := s.gateway.Trace(filter)
	if err != nil {
		w.Header().Set("Retry-After", "5")
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	defer trace.Close()
	out := &eventWriter{w: w, control: http.NewResponseController(w)}
	_ = out.control.SetReadDeadline(time.Time{}) // the request is read; the server's limit is not for a stream
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no") // nginx would keep the events for itself
	out.print("retry: %d\n\n", retry.Milliseconds())
	for out.flush() == nil {
		events, lost, err := next(r.Context(), trace, s.heartbeat)
		switch {
		case errors.Is(err, context.DeadlineExceeded) && r.Context().Err() == nil:
			out.comment()
			continue
		case err != nil:
			return
		case lost > 0:
			out.send("lost", struct {
				Lost uint64 `json:"lost"`
			}{lost})
		}
		for i := range events {
			out.send("sip", newLine(&events[i]))
		}
	}
}

// next waits for events, but not longer than the heartbeat.
func next(ctx context.Context, t *gateway.Trace, limit time.Duration) ([]gateway.TraceEvent, uint64, error) {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	return t.Next(ctx)
}

// eventWriter writes Server-Sent Events; its first error stays.
type eventWriter struct {
	w       http.ResponseWriter
	control *http.ResponseController
	err     error
}

func (o *eventWriter) comment() { o.print(":\n\n") }

func (o *eventWriter) send(event string, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		o.err = errors.Join(o.err, err)
		return
	}
	o.print("event: %s\ndata: %s\n\n", event, data)
}

func (o *eventWriter) print(format string, args ...any) {
	if o.err != nil {
		return
	}
	// Not every ResponseWriter has deadlines; those without cannot be held up.
	_ = o.control.SetWriteDeadline(time.Now().Add(patience))
	_, o.err = fmt.Fprintf(o.w, format, args...)
}

func (o *eventWriter) flush() error {
	if o.err == nil {
		o.err = o.control.Flush()
	}
	return o.err
}
