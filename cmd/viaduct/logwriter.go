package main

import (
	"io"
	"sync"
	"time"
)

const (
	maxLogWaiting = 1 << 20  // bytes
	keptLogBuffer = 64 << 10 // bytes, of the most that quiet times need
	flushTimeout  = time.Second
)

// lineWriter writes lines to a writer and never waits for it: a terminal that is
// held or a pipe that nobody reads must not stop the messages of calls. What it
// does not take in time waits in memory, then is lost and counted.
// zapcore.BufferedWriteSyncer is no such thing: when its buffer is full it waits,
// with its lock held.
type lineWriter struct {
	out  io.Writer
	wake chan struct{} // holds a token when something waits
	done chan struct{} // closed once all is written after close

	mu      sync.Mutex
	waiting []byte
	lost    int
	closed  bool
}

func newLineWriter(out io.Writer) *lineWriter {
	return &lineWriter{out: out, wake: make(chan struct{}, 1), done: make(chan struct{})}
}

// Write takes a line, which it does not keep.
func (w *lineWriter) Write(line []byte) (int, error) {
	w.mu.Lock()
	if len(w.waiting)+len(line) > maxLogWaiting {
		w.lost++
	} else {
		w.waiting = append(w.waiting, line...)
	}
	w.mu.Unlock()
	w.knock()
	return len(line), nil
}

// Sync is zapcore.WriteSyncer's.
func (*lineWriter) Sync() error { return nil }

func (w *lineWriter) knock() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// start begins to write. say is told how many lines were lost, once there is room
// again.
func (w *lineWriter) start(say func(lost int)) {
	go func() {
		defer close(w.done)
		var writing []byte
		for range w.wake {
			for {
				var lost int
				var closed bool
				writing, lost, closed = w.take(writing)
				if lost > 0 {
					say(lost)
				}
				if len(writing) == 0 && lost == 0 {
					if closed {
						return
					}
					break
				}
				_, _ = w.out.Write(writing) // there is nowhere to say that the log is broken
			}
		}
	}()
}

// take returns what waits, and how many lines were lost; empty is kept for more.
func (w *lineWriter) take(empty []byte) (waiting []byte, lost int, closed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if cap(empty) > keptLogBuffer {
		empty = nil
	}
	waiting, lost = w.waiting, w.lost
	w.waiting, w.lost = empty[:0], 0
	return waiting, lost, w.closed
}

// close waits until all is written, or as long as is worth waiting for a reader
// that may never come.
func (w *lineWriter) close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	w.knock()
	select {
	case <-w.done:
	case <-time.After(flushTimeout):
	}
}
