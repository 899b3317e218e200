// Viaduct lets SIP phones in web pages (JsSIP, SIP.js) register and call
// through a SIP server that knows no WebSocket.
//
//	viaduct --upstream sip:10.0.0.5
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"viaduct/gateway"
	"viaduct/gateway/ladder"
)

const (
	exitOK     = 0
	exitFailed = 1 // it started and could not go on
	exitUsage  = 2 // what it was told is wrong; no socket was opened
)

func main() {
	ctx, drain := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-signals
		signal.Stop(signals) // a second one ends the process at once
		drain()
	}()
	saveMemory()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run serves until ctx is done, or does what else was asked for, and returns the
// exit status. Help, version and what was found go to stdout, the log and the one
// line of a failure to stderr.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	f, other, err := parse(args, stdout)
	switch {
	case errors.Is(err, errStop):
		return exitOK
	case err != nil:
		return fail(stderr, exitUsage, err)
	case other != nil:
		status, err := other.do(ctx, stdout)
		if err != nil {
			return fail(stderr, status, err)
		}
		return status
	}

	log, flush := newLogger(f.LogLevel, f.LogFormat, stderr)
	defer flush()
	cfg := f.config()
	if cfg.MaxConnections == 0 {
		cfg.MaxConnections = connectionsAllowed()
	}
	if cfg.TokenKeyFile == "" {
		cfg.TokenKeyFile = defaultKeyFile()
	}
	announce(&cfg, log)

	pages := http.NewServeMux()
	cfg.AdminOther = pages
	g, err := gateway.New(cfg)
	if err != nil {
		return fail(stderr, exitUsage, err)
	}
	pages.Handle("/trace/", http.StripPrefix("/trace", ladder.Page(g)))
	if err := g.Serve(ctx); err != nil {
		flush() // the log first
		return fail(stderr, exitFailed, err)
	}
	return exitOK
}

// fail prints err as one line and returns status.
func fail(stderr io.Writer, status int, err error) int {
	fmt.Fprintf(stderr, "viaduct: %s\n", oneLine(err))
	return status
}
