// Viaduct-demo shows what viaduct does: the gateway, a phone page and a small
// PBX in one process, on loopback, without configuration.
//
//	viaduct-demo                          two accounts that call each other
//	viaduct-demo --upstream sip:10.0.0.5  the phone page in front of a real PBX
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"viaduct/cmd/viaduct-demo/pbx"
	"viaduct/gateway"
	"viaduct/gateway/ladder"
)

const (
	exitOK     = 0
	exitFailed = 1 // it started and could not go on
	exitUsage  = 2 // what it was told is wrong; no socket was opened
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	// With the handler gone, a second signal ends the process at once.
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run serves until ctx is done and returns the exit status. What a newcomer
// needs goes to stdout, the log and the one line of a failure to stderr.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	f, err := parse(args, stdout)
	if errors.Is(err, errStop) {
		return exitOK
	}
	if err == nil {
		err = f.validate()
	}
	if err != nil {
		return fail(stderr, exitUsage, err)
	}
	if err := serve(ctx, f, stdout, newLogger(f.LogLevel, stderr)); err != nil {
		return fail(stderr, exitFailed, err)
	}
	return exitOK
}

// serve runs the PBX, unless there is a real one, and the gateway with the
// phone page in front of it.
func serve(ctx context.Context, f *flags, stdout io.Writer, log *zap.Logger) error {
	site := newSite(f)
	cfg := f.config(log)
	if f.Upstream.Host == "" {
		// It outlives the gateway, so that calls can end.
		p, err := pbx.Start(context.WithoutCancel(ctx), pbx.Config{Listen: f.PBXListen, Accounts: accounts(), Log: log})
		if err != nil {
			return err
		}
		defer p.Close()
		upstream, err := gateway.ParseUpstream("sip:" + p.Addr())
		if err != nil {
			return err
		}
		cfg.Upstreams = []gateway.Upstream{upstream}
		site.embedded()
	}
	site.serves(cfg.Upstreams[0])
	cfg.Ready = func(bound gateway.Bound) { greet(stdout, site, bound) }

	mux := http.NewServeMux()
	mux.Handle("/", site.pages())
	cfg.Other = site.guard(mux)
	g, err := gateway.New(cfg)
	if err != nil {
		return err
	}
	mux.Handle("/ladder/", http.StripPrefix("/ladder", ladder.Handler(g)))
	return g.Serve(ctx)
}

// greet prints what a newcomer needs.
func greet(stdout io.Writer, s *site, bound gateway.Bound) {
	page := strings.TrimSuffix(strings.Replace(bound.WebSocket[0], "ws", "http", 1), webSocketPath)
	var text strings.Builder
	fmt.Fprintf(&text, "\n  Phone      %s/\n  PBX        %s\n", page, s.Upstream)
	for i, account := range s.Accounts {
		fmt.Fprintf(&text, "  %-10s %-6s password %s\n", heading(i, "Accounts"), account.User, account.Password)
	}
	for i, extension := range s.Extensions {
		fmt.Fprintf(&text, "  %-10s %-6s %s: %s\n", heading(i, "Extensions"), extension.Number, extension.Name, extension.About)
	}
	if !s.built() {
		text.WriteString("\n  The phone page is not built; `make demo` builds it.\n")
	}
	fmt.Fprintln(stdout, text.String())
}

// heading is what stands before the first line of a list.
func heading(i int, title string) string {
	if i == 0 {
		return title
	}
	return ""
}

func newLogger(level zapcore.Level, w io.Writer) *zap.Logger {
	keys := zap.NewDevelopmentEncoderConfig()
	keys.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
	keys.EncodeDuration = zapcore.StringDurationEncoder
	return zap.New(zapcore.NewCore(zapcore.NewConsoleEncoder(keys), zapcore.Lock(zapcore.AddSync(w)), level))
}

// fail prints err as one line and returns status.
func fail(stderr io.Writer, status int, err error) int {
	fmt.Fprintf(stderr, "viaduct-demo: %s\n", strings.Join(strings.Fields(err.Error()), " "))
	return status
}
