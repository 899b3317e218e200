package pbx

import (
	"fmt"

	siplog "github.com/ghettovoice/gosip/log"
	"go.uber.org/zap"
)

// gosipLog is what gosip says, in the PBX's own log. Its debug and trace lines
// are left out: they are whole messages, credentials included.
type gosipLog struct {
	log    *zap.SugaredLogger
	prefix string
	fields siplog.Fields
}

var _ siplog.Logger = (*gosipLog)(nil)

func newGosipLog(log *zap.Logger) *gosipLog {
	return &gosipLog{log: log.WithOptions(zap.AddCallerSkip(1)).Sugar()}
}

func (g *gosipLog) Trace(...any)          {}
func (g *gosipLog) Tracef(string, ...any) {}
func (g *gosipLog) Debug(...any)          {}
func (g *gosipLog) Debugf(string, ...any) {}

func (g *gosipLog) Print(args ...any)                 { g.said().Debug(args...) }
func (g *gosipLog) Printf(format string, args ...any) { g.said().Debugf(format, args...) }
func (g *gosipLog) Info(args ...any)                  { g.said().Debug(args...) }
func (g *gosipLog) Infof(format string, args ...any)  { g.said().Debugf(format, args...) }

// A repeated response is a warning to gosip; to whoever runs the demo it is
// everyday UDP.
func (g *gosipLog) Warn(args ...any)                 { g.said().Debug(args...) }
func (g *gosipLog) Warnf(format string, args ...any) { g.said().Debugf(format, args...) }

func (g *gosipLog) Error(args ...any)                 { g.said().Warn(args...) }
func (g *gosipLog) Errorf(format string, args ...any) { g.said().Warnf(format, args...) }
func (g *gosipLog) Fatal(args ...any)                 { g.said().Panic(args...) }
func (g *gosipLog) Fatalf(format string, args ...any) { g.said().Panicf(format, args...) }
func (g *gosipLog) Panic(args ...any)                 { g.said().Panic(args...) }
func (g *gosipLog) Panicf(format string, args ...any) { g.said().Panicf(format, args...) }

// SetLevel does nothing: zap decides what is written.
func (g *gosipLog) SetLevel(uint32) {}

func (g *gosipLog) Prefix() string        { return g.prefix }
func (g *gosipLog) Fields() siplog.Fields { return g.fields }

func (g *gosipLog) WithPrefix(prefix string) siplog.Logger {
	return &gosipLog{log: g.log, prefix: prefix, fields: g.fields}
}

func (g *gosipLog) WithFields(fields map[string]any) siplog.Logger {
	return &gosipLog{log: g.log, prefix: g.prefix, fields: g.fields.WithFields(fields)}
}

// said returns the logger of a line. Fields become text only here, because
// gosip adds them to every message and writes few lines.
func (g *gosipLog) said() *zap.SugaredLogger {
	return g.log.With("gosip", g.prefix, "about", fmt.Sprint(g.fields))
}
