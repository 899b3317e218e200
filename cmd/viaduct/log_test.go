package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"go.uber.org/zap"
)

func TestFromHere(t *testing.T) {
	for url, want := range map[string]string{
		"ws://[::]:8080/ws":      "ws://localhost:8080/ws",
		"ws://0.0.0.0:80/ws":     "ws://localhost:80/ws",
		"wss://10.0.0.1:443/sip": "wss://10.0.0.1:443/sip",
		"ws://[::1]:8080/ws":     "ws://[::1]:8080/ws",
		"http://[::]:8081":       "http://localhost:8081",
	} {
		if got := fromHere(url); got != want {
			t.Errorf("%s became %s, want %s", url, got, want)
		}
	}
}

func TestLogFormat(t *testing.T) {
	console, json := "console", "json"
	tests := []struct {
		name   string
		format *string
		prefix string
	}{
		{"json where the output is no terminal", nil, `{"level":"warn"`},
		{"json", &json, `{"level":"warn"`},
		{"console", &console, "20"}, // the year
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			log, flush := newLogger(zap.WarnLevel, tt.format, &out)
			log.Info("below the level")
			log.Warn("said", zap.String("key", "value"))
			flush()
			if line := out.String(); !strings.HasPrefix(line, tt.prefix) || strings.Count(line, "\n") != 1 {
				t.Errorf("logged %q", line)
			}
		})
	}
}

// TestLogIsSampled: a flood of one kind is thinned, and how much was left out is
// said; lines of other kinds are all there, and so is whatever is asked for by the
// level debug.
func TestLogIsSampled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log, flush := newLogger(zap.DebugLevel, nil, &out)
		const flood, seconds = 10_000, 3
		refused := log.With(zap.String("reason", "not_sip"))
		for range seconds {
			for range flood {
				refused.Warn("refused")
				log.Debug("relayed")
			}
			<-time.After(time.Second)
			synctest.Wait()
		}
		log.With(zap.String("reason", "stranger")).Warn("refused")
		log.Warn("other")
		flush()

		const written = sampleFirst + (flood-sampleFirst)/sampleThereafter
		for text, want := range map[string]int{
			`"msg":"refused","reason":"not_sip"`: seconds * written,
			`"msg":"log lines left out: too many of this kind","message":"refused","lines":9891,"reason":"not_sip"`: seconds,
			`"msg":"refused","reason":"stranger"`: 1, `"msg":"other"`: 1, `"msg":"relayed"`: seconds * flood,
		} {
			if got := strings.Count(out.String(), text); got != want {
				t.Errorf("%d lines have %s, want %d", got, text, want)
			}
		}
		t.Logf("attack: a flood of refused messages fills the log | %d lines a second of %d, the rest counted in one | log lines left out",
			written, flood)
	})
}

// TestLogNeverWaits: who logs to a pipe that nobody reads goes on, what is lost is
// counted, and the end does not wait for ever.
func TestLogNeverWaits(t *testing.T) {
	reader, writer := io.Pipe()
	log, flush := newLogger(zap.DebugLevel, nil, writer)
	const lines = 100_000
	for range lines {
		log.Debug("a line of about a hundred bytes, which nobody reads", zap.String("padding", strings.Repeat("x", 40)))
	}
	begun := time.Now()
	flush()
	if took := time.Since(begun); took > 5*flushTimeout {
		t.Errorf("the end takes %v", took)
	}

	read, lost := 0, 0
	scanner := bufio.NewScanner(reader)
	for read+lost < lines && scanner.Scan() {
		var line struct {
			Msg   string
			Lines int
		}
		if err := json.Unmarshal(scanner.Bytes(), &line); err != nil {
			t.Fatalf("%v in %q", err, scanner.Text())
		}
		if lost += line.Lines; line.Lines == 0 {
			read++
		}
	}
	if lost == 0 || read == 0 {
		t.Errorf("%d lines are read, %d are said to be lost", read, lost)
	}
}

// TestServeUnreadLog: viaduct relays and ends though nobody reads its log, of which
// there is more than anything holds.
func TestServeUnreadLog(t *testing.T) {
	v := startViaduct(t, []string{"STATE_DIRECTORY=" + t.TempDir()},
		"--listen=127.0.0.1:0", "--sip-listen=127.0.0.1:0", "--upstream=sip:"+startPBX(t), "--log-level=debug", "--rate=0")
	dialer := ws.Dialer{Protocols: []string{"sip"}}
	conn, _, _, err := dialer.Dial(t.Context(), v.line("listening")["websocket"].([]any)[0].(string))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(30 * time.Second))
	const messages = 1500
	padding := "Subject: " + strings.Repeat("x", 1000) + "\r\nContent-Length: "
	for i := range messages {
		request := strings.ReplaceAll(strings.ReplaceAll(invite, "INVITE", "OPTIONS"), "CSeq: 1", fmt.Sprint("CSeq: ", i+1))
		if err := wsutil.WriteClientText(conn, []byte(strings.Replace(request, "Content-Length: ", padding, 1))); err != nil {
			t.Fatal(err)
		}
		if answer, err := wsutil.ReadServerText(conn); err != nil || !strings.HasPrefix(string(answer), "SIP/2.0 404 ") {
			t.Fatalf("message %d: answered %.40q, %v", i, answer, err)
		}
	}
	v.signal(syscall.SIGTERM)
	ended := make(chan error, 1)
	go func() { ended <- v.cmd.Wait() }()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(20 * time.Second):
		t.Error("it does not end")
	}
	t.Logf("attack: %s | %s | %s", "a log that nobody reads", fmt.Sprintf("%d messages relayed and logged by the level debug, 6 MB of log; all answered, and SIGTERM ends it", messages), "log lines lost")
}
