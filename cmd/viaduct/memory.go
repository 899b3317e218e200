package main

import (
	"os"
	"runtime/debug"
)

// gcPercent is how much garbage there may be beside what lives, if GOGC does not
// say. Relaying makes none: a low bound costs nothing but at handshakes, and what
// a connection takes is little more than what it uses.
const gcPercent = 20

// saveMemory sets the collector's pace.
func saveMemory() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
}
