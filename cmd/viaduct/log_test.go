package main

import (
	"bytes"
	"strings"
	"testing"

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
			log := newLogger(zap.WarnLevel, tt.format, &out)
			log.Info("below the level")
			log.Warn("said", zap.String("key", "value"))
			if line := out.String(); !strings.HasPrefix(line, tt.prefix) || strings.Count(line, "\n") != 1 {
				t.Errorf("logged %q", line)
			}
		})
	}
}

// TestLogIsSampled: a flood of the same line is thinned, other lines are not.
func TestLogIsSampled(t *testing.T) {
	var out bytes.Buffer
	log := newLogger(zap.InfoLevel, nil, &out)
	const flood = 10_000
	for range flood {
		log.Info("flood")
	}
	log.Info("other")
	lines := strings.Count(out.String(), "flood")
	if lines < sampleFirst || lines > flood/10 {
		t.Errorf("%d of %d lines were written", lines, flood)
	}
	if !strings.Contains(out.String(), "other") {
		t.Error("a different line was held back")
	}
}
