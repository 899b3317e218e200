package main

import (
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/term"

	"viaduct/gateway"
)

// logFields are those of the log that are viaduct's own.
var logFields = []gateway.LogField{
	{Name: "websocket", Text: "the WebSocket listeners' URLs"},
	{Name: "sip", Text: "where the SIP server reaches viaduct, by UDP and TCP"},
	{Name: "sip_tls", Text: "the same for TLS"},
	{Name: "admin", Text: "URL of the admin listener"},
	{Name: "advertised", Text: "what Via and Contact say, for each upstream"},
	{Name: "answer", Text: "what an upstream answered to the first OPTIONS"},
	{Name: "flag", Text: "the flag that would help"},
	{Name: "lines", Text: "how many lines were left out, or lost"},
}

// newLogger returns a logger that writes to w what is at least as severe as
// level, and what waits until all of it is written, or for a second. A nil format
// is console if w is a terminal, else json.
func newLogger(level zapcore.Level, format *string, w io.Writer) (log *zap.Logger, flush func()) {
	console := isTerminal(w)
	if format != nil {
		console = *format == "console"
	}
	lines := newLineWriter(w)
	log = zap.New(newSampler(zapcore.NewCore(encoder(console), lines, level)))
	lines.start(func(lost int) { log.Warn("log lines lost: nobody reads them quickly enough", zap.Int("lines", lost)) })
	return log, lines.close
}

func encoder(console bool) zapcore.Encoder {
	keys := zap.NewProductionEncoderConfig()
	keys.TimeKey = "time"
	keys.EncodeTime = zapcore.RFC3339TimeEncoder
	keys.EncodeDuration = zapcore.StringDurationEncoder
	if console {
		keys.EncodeLevel = zapcore.CapitalLevelEncoder
		return zapcore.NewConsoleEncoder(keys)
	}
	return zapcore.NewJSONEncoder(keys)
}

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	return ok && term.IsTerminal(int(file.Fd()))
}

// announce makes cfg log to log, and say at start what a newcomer needs: where
// browsers connect, what the PBX is told, what each upstream answered, and
// whether calls would survive a restart.
func announce(cfg *gateway.Config, log *zap.Logger) {
	cfg.Log = log
	cfg.Ready = func(bound gateway.Bound) {
		var websocket []string
		for _, url := range bound.WebSocket {
			websocket = append(websocket, fromHere(url))
		}
		fields := []zap.Field{
			zap.Strings("websocket", websocket),
			zap.Stringer("sip", bound.SIP),
		}
		if bound.SIPTLS.IsValid() {
			fields = append(fields, zap.Stringer("sip_tls", bound.SIPTLS))
		}
		if bound.Admin != "" {
			fields = append(fields, zap.String("admin", fromHere(bound.Admin)))
		}
		log.Info("listening", append(fields, zap.Strings("advertised", bound.Advertised))...)
		if bound.EphemeralKeys {
			log.Warn("calls will not survive a restart: the token keys live as long as this process",
				zap.String("flag", "--token-key-file"))
		}
	}
	cfg.Answered = func(upstream, answer string, err error) {
		if err != nil {
			log.Warn("upstream did not answer", zap.String("upstream", upstream), zap.Error(err))
			return
		}
		log.Info("upstream answered", zap.String("upstream", upstream), zap.String("answer", answer))
	}
}

// fromHere turns the URL of a listener on every address, which nothing can open,
// into one that works on this machine.
func fromHere(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return text
	}
	if addr, err := netip.ParseAddrPort(u.Host); err == nil && addr.Addr().IsUnspecified() {
		u.Host = net.JoinHostPort("localhost", u.Port())
		return u.String()
	}
	return text
}
