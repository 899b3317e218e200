package rtpengine

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestNewRefuses(t *testing.T) {
	for _, engines := range [][]string{
		nil, {""}, {"host"}, {":2223"}, {"host:0"}, {"host:65536"}, {"host:x"}, {"a:1", "b:1", "a:1"},
	} {
		if _, err := New(Config{Engines: engines}); err == nil {
			t.Errorf("%q", engines)
		}
	}
}

// TestRendezvous: every engine has its share of the calls, and those of one that
// is down are spread over the others.
func TestRendezvous(t *testing.T) {
	c, err := New(Config{Engines: []string{"10.0.0.1:2223", "10.0.0.2:2223", "10.0.0.3:2223"}})
	if err != nil {
		t.Fatal(err)
	}
	const calls = 3000
	before, moved := make(map[*Engine]int), make(map[*Engine]int)
	dead := c.engines[1]
	for i := range calls {
		callID := fmt.Appendf(nil, "%d@example", i)
		e := c.ForNewCall(callID)
		before[e]++
		if e != c.ForDialog(callID) {
			t.Fatal("a dialog is elsewhere")
		}
		dead.down.Store(true)
		if now := c.ForNewCall(callID); e != dead && now != e {
			t.Fatal("a call of another engine moved")
		} else if e == dead {
			moved[now]++
		}
		if c.ForDialog(callID) != e {
			t.Fatal("a dialog moved")
		}
		dead.down.Store(false)
	}
	for _, e := range c.engines {
		if before[e] < 900 || e != dead && moved[e] < 400 {
			t.Errorf("%v has %d, takes over %d", e, before[e], moved[e])
		}
	}
}

// TestBounds: what cannot be asked ends with its error, though not before Ask
// has returned.
func TestBounds(t *testing.T) {
	silent := listen(t)
	l := newLab(t, Config{Engines: []string{silent.LocalAddr().String()}, MaxOpen: 1})
	e := l.engines[0]
	query := Command{Kind: KindQuery, CallID: []byte("call")}

	if o := l.ask(e, Command{Kind: KindOffer, SDP: make([]byte, maxDatagram)}); !errors.Is(o.err, ErrTooLarge) {
		t.Errorf("too large: %v", o.err)
	}
	open := l.begin(e, query)
	if o := l.askLocked(e, query); !errors.Is(o.err, ErrTooMany) {
		t.Errorf("too many: %v", o.err)
	}
	l.stop()
	if o := l.end(open); !errors.Is(o.err, ErrClosed) {
		t.Errorf("open when Run ends: %v", o.err)
	}
	if o := l.askLocked(e, query); !errors.Is(o.err, ErrClosed) {
		t.Errorf("asked after Run: %v", o.err)
	}
	if !e.healthy() {
		t.Error("down for what is not its fault")
	}
}

// askLocked holds a lock during Ask that done needs, as those who ask do.
func (l *lab) askLocked(e *Engine, cmd Command) outcome {
	l.Helper()
	var mu sync.Mutex
	done := make(chan outcome, 2)
	mu.Lock()
	l.Ask(e, cmd, func(_ Answer, err error) {
		mu.Lock()
		defer mu.Unlock()
		done <- outcome{err: err}
	})
	mu.Unlock()
	return l.end(done)
}

// TestResend: a command is sent again, byte for byte, until its time is over,
// and an answer that comes twice counts once.
func TestResend(t *testing.T) {
	conn := listen(t)
	l := newLab(t, Config{Engines: []string{conn.LocalAddr().String()}})
	open := l.begin(l.engines[0], Command{Kind: KindQuery, CallID: []byte("call")})
	var datagrams []string
	var from net.Addr
	buf := make([]byte, maxDatagram)
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	for len(datagrams) < 4 {
		n, client, err := conn.ReadFrom(buf)
		if err != nil {
			t.Fatal(err)
		}
		if text := string(buf[:n]); strings.Contains(text, "5:query") {
			datagrams, from = append(datagrams, text), client
		}
	}
	if len(slices.Compact(datagrams)) != 1 {
		t.Errorf("%q", datagrams)
	}
	cookie, _, _ := strings.Cut(datagrams[0], " ")
	for range 2 {
		_, _ = conn.WriteTo([]byte(cookie+" d6:result2:ok3:sdp2:hie"), from)
	}
	if o := l.end(open); o.err != nil || string(o.SDP) != "hi" || o.took < 2*resendInterval {
		t.Errorf("%+v", o)
	}
	l.must(l.engines[0], l.answering(conn, "d6:result2:oke"))
	err := l.ask(l.engines[0], l.answering(conn, "d6:result5:error12:error-reason2:noe")).err
	if refused, is := errors.AsType[*Refused](err); !is || refused.Reason != "no" {
		t.Errorf("refused: %v", err)
	}
	for _, text := range []string{"d6:result5:maybee", "de", "x", ""} {
		if err := l.ask(l.engines[0], l.answering(conn, text)).err; !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// answering returns a command to which the engine that has a socket gives an
// answer.
func (l *lab) answering(conn *net.UDPConn, text string) Command {
	callID := fmt.Sprintf("answered with %s", text)
	go func() {
		for buf := make([]byte, maxDatagram); ; {
			n, client, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			if cookie, asked, _ := bytes.Cut(buf[:n], []byte{' '}); bytes.Contains(asked, []byte(callID)) {
				_, _ = conn.WriteTo(append(append(cookie, ' '), text...), client)
				return
			}
		}
	}()
	return Command{Kind: KindQuery, CallID: []byte(callID)}
}
