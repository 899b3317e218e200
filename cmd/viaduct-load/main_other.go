//go:build !linux

// Viaduct-load measures viaduct, on Linux only: it reads /proc and waits by
// epoll.
package main

import (
	"fmt"
	"os"
)

func main() {
	fmt.Fprintln(os.Stderr, "viaduct-load: it runs on Linux only")
	os.Exit(1)
}
