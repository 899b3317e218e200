package gateway

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
)

// TestLife: a connection leaves one line, which says who it was, how long and how
// much, and why it ended.
func TestLife(t *testing.T) {
	l := newLab(t)
	p := l.phone("alice")
	token := l.registered(p)
	l.expectReached(p, token)
	l.down(p, l.up(p, p.request("OPTIONS", "sip:bob@pbx.example")).reply("200 OK"))
	remote := p.conn.LocalAddr().String()
	l.hangUp(p.browser)

	lines := l.log.FilterField(zap.String("user", "alice@pbx.example")).All()
	if len(lines) != 1 || l.log.FilterMessage("browser connected").Len() != 0 {
		t.Fatalf("%d lines: %v", len(lines), l.log.All())
	}
	life := lines[0].ContextMap()
	for field, want := range map[string]string{
		"client": "127.0.0.1", "remote": remote, "host": l.webAddr(), "up": "3", "down": "3", "cause": "lost",
	} {
		if got := fmt.Sprint(life[field]); got != want {
			t.Errorf("%s is %s, want %s", field, got, want)
		}
	}
	if lasted, ok := life["lasted"].(time.Duration); !ok || lasted <= 0 || lasted > time.Minute {
		t.Errorf("lasted %v", life["lasted"])
	}
}

// TestRequestLog: the level debug shows each message before and after, without what
// its reader could log in with.
func TestRequestLog(t *testing.T) {
	l := preparedLab(t)
	l.cfg.Log, l.log = newJournal(l.t, zap.DebugLevel)
	l.start()
	p := l.phone("alice")
	l.down(p, l.up(p, p.guess()).reply("200 OK"))
	l.log.await("relayed", 2)
	for i, want := range []struct{ direction, before, after string }{
		{"up", "REGISTER sip:pbx.example SIP/2.0\nVia: SIP/2.0/WSS ", "REGISTER sip:pbx.example SIP/2.0\nVia: SIP/2.0/UDP "},
		{"down", "SIP/2.0 200 OK\nVia: SIP/2.0/UDP ", "SIP/2.0 200 OK\nVia: SIP/2.0/WSS "},
	} {
		line := l.log.FilterMessage("relayed").All()[i].ContextMap()
		before, after := fmt.Sprint(line["before"]), fmt.Sprint(line["after"])
		if line["direction"] != want.direction || !strings.HasPrefix(before, want.before) || !strings.HasPrefix(after, want.after) {
			t.Errorf("logged %v", line)
		}
		if strings.Contains(before+after, "top-secret") {
			t.Errorf("a password is in the log: %v", line)
		}
	}
}
