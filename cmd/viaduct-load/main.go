//go:build linux

// Viaduct-load measures viaduct: against a relay that does nothing, and against
// other servers of SIP over WebSocket. It loads nothing but loopback.
//
//	viaduct-load bench     all of it, as `make bench` runs it
//	viaduct-load null      the relay that does nothing
//	viaduct-load answer    the SIP server of a load
//	viaduct-load drive     the browsers of a load
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

const (
	exitOK     = 0
	exitFailed = 1 // it started and could not go on, or what it measured has errors
	exitUsage  = 2 // what it was told is wrong; no socket was opened
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// With the handler gone, a second signal ends the process at once.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run plays one role until it is done or ctx is, and returns the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	play, err := parse(args, stdout)
	switch {
	case errors.Is(err, errStop):
		return exitOK
	case err != nil:
		return fail(stderr, exitUsage, err)
	}
	if err := play(ctx, stdout); err != nil {
		return fail(stderr, exitFailed, err)
	}
	return exitOK
}

// fail prints err as one line and returns status.
func fail(stderr io.Writer, status int, err error) int {
	fmt.Fprintf(stderr, "viaduct-load: %s\n", strings.Join(strings.Fields(err.Error()), " "))
	return status
}
