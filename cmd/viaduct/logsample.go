package main

import (
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Of lines with the same message and reason the first sampleFirst in a second are
// written, then each sampleThereafter-th: a flood of bad packets must not become
// a flood of log. Counters count all, and a line says how many were left out.
const (
	sampleFirst      = 100
	sampleThereafter = 1000
)

// sampler thins out what is written to a core. Those of zap tell lines apart by
// their message, so that the flood of one reason would hide all others, and keep
// silent on what they have left out. Who asks for debug lines gets them all.
type sampler struct {
	zapcore.Core
	reason string // of a logger that was made with one
	seen   *samples
}

// samples counts the lines of the second that is under way. There are as many
// kinds as the code has messages and reasons: none of them comes from outside.
type samples struct {
	say func(kind sampleKind, n int)

	mu    sync.Mutex
	kinds map[sampleKind]*sample
}

type sampleKind struct {
	level           zapcore.Level
	message, reason string
}

type sample struct {
	began       time.Time
	lines, left int
}

func newSampler(core zapcore.Core) zapcore.Core {
	s := &samples{kinds: make(map[sampleKind]*sample)}
	s.say = func(kind sampleKind, n int) {
		fields := []zapcore.Field{zap.String("message", kind.message), zap.Int("lines", n)}
		if kind.reason != "" {
			fields = append(fields, zap.String("reason", kind.reason))
		}
		entry := zapcore.Entry{Level: kind.level, Time: time.Now(), Message: "log lines left out: too many of this kind"}
		_ = core.Write(entry, fields)
	}
	return &sampler{Core: core, seen: s}
}

// With is zapcore.Core's.
func (s *sampler) With(fields []zapcore.Field) zapcore.Core {
	made := &sampler{s.Core.With(fields), s.reason, s.seen}
	for _, field := range fields {
		if field.Key == "reason" {
			values := zapcore.NewMapObjectEncoder()
			field.AddTo(values)
			made.reason, _ = values.Fields["reason"].(string)
		}
	}
	return made
}

// Check is zapcore.Core's. It comes before a line's fields are made, so that one
// that is left out costs next to nothing.
func (s *sampler) Check(entry zapcore.Entry, to *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if !s.Enabled(entry.Level) || entry.Level > zapcore.DebugLevel && !s.seen.take(sampleKind{entry.Level, entry.Message, s.reason}, entry.Time) {
		return to
	}
	return s.Core.Check(entry, to)
}

// take counts a line, and reports whether it is written.
func (s *samples) take(kind sampleKind, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := s.kinds[kind]
	if k == nil {
		k = new(sample)
		s.kinds[kind] = k
	}
	if k.left == 0 && now.Sub(k.began) >= time.Second {
		k.began, k.lines = now, 0
	}
	k.lines++
	if k.lines <= sampleFirst || (k.lines-sampleFirst)%sampleThereafter == 0 {
		return true
	}
	if k.left++; k.left == 1 {
		time.AfterFunc(time.Second-min(now.Sub(k.began), time.Second), func() { s.end(kind, k) })
	}
	return false
}

// end says at the end of a second how many lines were left out of it.
func (s *samples) end(kind sampleKind, k *sample) {
	s.mu.Lock()
	n := k.left
	k.left, k.lines, k.began = 0, 0, time.Now()
	s.mu.Unlock()
	s.say(kind, n)
}
