package e2e

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"testing"

	"go.uber.org/zap"

	"viaduct/gateway"
)

// asUnaided makes this test binary a viaduct that resends nothing: there is no
// flag for that.
const asUnaided = "VIADUCT_E2E_UNAIDED"

// launchUnaided is launchViaduct without resending.
func launchUnaided(t testing.TB, host Host, flags ...string) *Viaduct {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return launch(t, host, []string{"env", asUnaided + "=1", self}, flags...)
}

// serveUnaided takes the flags that launchUnaided gives and says where it
// listens as viaduct does.
func serveUnaided(args []string) int {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	log, err := zap.NewProduction()
	if err != nil {
		return fail(err)
	}
	var listen, origin string
	var upstream gateway.Upstream
	cfg := gateway.Config{MaxTransactions: -1, Log: log}
	flags := flag.NewFlagSet(asUnaided, flag.ContinueOnError)
	flags.StringVar(&listen, "listen", "", "")
	flags.StringVar(&origin, "allow-origin", "", "")
	flags.Func("upstream", "", func(text string) error { return upstream.UnmarshalText([]byte(text)) })
	flags.StringVar(&cfg.SIPListen, "sip-listen", "", "")
	flags.StringVar(&cfg.Advertise, "advertise", "", "")
	flags.StringVar(&cfg.TokenKeyFile, "token-key-file", "", "")
	for _, ignored := range []string{"admin", "log-format", "log-level"} {
		flags.String(ignored, "", "")
	}
	if err := flags.Parse(args); err != nil {
		return fail(err)
	}
	cfg.Listen, cfg.AllowOrigins, cfg.Upstreams = []string{listen}, []string{origin}, []gateway.Upstream{upstream}
	cfg.Ready = func(bound gateway.Bound) {
		log.Info("listening", zap.Strings("websocket", bound.WebSocket), zap.Stringer("sip", bound.SIP))
	}
	g, err := gateway.New(cfg)
	if err != nil {
		return fail(err)
	}
	if err := g.Serve(ctx); err != nil {
		return fail(fmt.Errorf("without resending: %w", err))
	}
	return 0
}
