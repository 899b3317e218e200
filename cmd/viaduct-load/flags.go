//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/alecthomas/kong"

	"viaduct/cmd/viaduct-load/answer"
	"viaduct/cmd/viaduct-load/bench"
	"viaduct/cmd/viaduct-load/drive"
	"viaduct/cmd/viaduct-load/null"
	"viaduct/cmd/viaduct-load/socket"
)

// commands declares the roles, each with its options.
type commands struct {
	Bench  benchFlags  `cmd:"" help:"Start each server in turn, load it, and print the table."`
	Null   nullFlags   `cmd:"" help:"A relay that does only what none can leave out."`
	Answer answerFlags `cmd:"" help:"A SIP server that answers each request at once, by UDP and TCP."`
	Drive  driveFlags  `cmd:"" help:"Browsers: WebSocket connections that send what JsSIP sends and judge each answer."`
}

// loopback is an address of this machine alone.
type loopback netip.AddrPort

// UnmarshalText refuses every other address.
func (a *loopback) UnmarshalText(text []byte) error {
	addr, err := socket.Loopback(string(text))
	*a = loopback(addr)
	return err
}

type nullFlags struct {
	Listen   loopback `placeholder:"ADDR" default:"127.0.0.1:0" help:"WebSocket listener."`
	Upstream loopback `placeholder:"ADDR" required:"" help:"The SIP server."`
	TCP      bool     `help:"Reach the SIP server by TCP instead of UDP."`
}

func (f *nullFlags) play(ctx context.Context, stdout io.Writer) error {
	return null.Serve(ctx, null.Config{Listen: netip.AddrPort(f.Listen), Upstream: netip.AddrPort(f.Upstream), TCP: f.TCP}, listening(stdout))
}

type answerFlags struct {
	Listen loopback `placeholder:"ADDR" default:"127.0.0.1:0" help:"Where requests come, UDP and TCP."`
}

func (f *answerFlags) play(ctx context.Context, stdout io.Writer) error {
	return answer.Serve(ctx, netip.AddrPort(f.Listen), listening(stdout))
}

// listening prints where a role listens, for who started it.
func listening(stdout io.Writer) func(netip.AddrPort) {
	return func(addr netip.AddrPort) { fmt.Fprintf(stdout, "%s%s\n", bench.Listening, addr) }
}

type driveFlags struct {
	To          loopback      `placeholder:"ADDR" required:"" help:"The WebSocket's server."`
	Path        string        `placeholder:"PATH" default:"/ws" help:"The WebSocket's path."`
	Answerer    loopback      `placeholder:"ADDR" default:"127.0.0.1:5060" help:"The SIP server behind it, the target of calls."`
	Connections int           `placeholder:"N" default:"200" help:"WebSocket connections, at most 500 from each address of 127.0.0.0/8."`
	Threads     int           `placeholder:"N" default:"1" help:"Threads that drive them."`
	Method      drive.Method  `placeholder:"METHOD" default:"OPTIONS" enum:"OPTIONS,REGISTER,MESSAGE,INVITE" help:"What each does: OPTIONS, REGISTER, MESSAGE, or INVITE: a call with 3 kB, from INVITE to the response to BYE."`
	AtOnce      int           `placeholder:"N" default:"200" help:"Closed loop: transactions of all connections together that are open at once."`
	Rate        int           `placeholder:"N" default:"0" help:"Open loop, instead: transactions a second of all together. Latency counts from when each was due."`
	WarmUp      time.Duration `placeholder:"DURATION" default:"500ms" help:"Load before what is measured."`
	Time        time.Duration `placeholder:"DURATION" default:"3s" help:"What is measured."`
	Server      int           `placeholder:"PID" default:"0" help:"Process whose CPU is measured, with its descendants."`
	Loose       bool          `help:"The server may add parameters to a browser's own Via."`
}

// The most that one run may ask for.
const (
	mostConnections = 20_000
	mostThreads     = 64
	mostAtOnce      = 20_000
	mostRate        = 1_000_000
	mostTime        = time.Hour
)

func (f *driveFlags) validate() error {
	switch {
	case f.Connections < 1 || f.Connections > mostConnections:
		return fmt.Errorf("--connections: %d is not from 1 to %d", f.Connections, mostConnections)
	case f.Threads < 1 || f.Threads > mostThreads:
		return fmt.Errorf("--threads: %d is not from 1 to %d", f.Threads, mostThreads)
	case f.AtOnce < 1 || f.AtOnce > mostAtOnce:
		return fmt.Errorf("--at-once: %d is not from 1 to %d", f.AtOnce, mostAtOnce)
	case f.Rate < 0 || f.Rate > mostRate:
		return fmt.Errorf("--rate: %d is not from 0 to %d", f.Rate, mostRate)
	case f.WarmUp < 0 || f.WarmUp > mostTime:
		return fmt.Errorf("--warm-up: %v is not from 0 to %v", f.WarmUp, mostTime)
	case f.Time <= 0 || f.Time > mostTime:
		return fmt.Errorf("--time: %v is not more than 0 and at most %v", f.Time, mostTime)
	}
	return nil
}

// errFailed is a run with errors; what they are was printed.
var errFailed = errors.New("not every answer was as it should be")

func (f *driveFlags) play(ctx context.Context, stdout io.Writer) error {
	fleet, err := drive.Connect(ctx, drive.Config{
		To: netip.AddrPort(f.To), Path: f.Path, Answerer: netip.AddrPort(f.Answerer),
		Connections: f.Connections, Threads: f.Threads, Loose: f.Loose,
	})
	if err != nil {
		return err
	}
	defer fleet.Close()
	r := drive.Run{Method: f.Method, AtOnce: f.AtOnce, WarmUp: f.WarmUp, Time: f.Time, Server: f.Server}
	if f.Rate > 0 {
		r.AtOnce, r.Rate = 0, f.Rate
	}
	result, err := fleet.Do(ctx, r)
	if err != nil {
		return err
	}
	fmt.Fprintln(stdout, result)
	if result.Errors.Total() > 0 {
		return errFailed
	}
	return nil
}

type benchFlags struct {
	Viaduct  string        `placeholder:"FILE" default:"./viaduct" help:"The binary that is measured."`
	Rounds   int           `placeholder:"N" default:"5" help:"Runs of each server, alternating; the table has the medians."`
	Time     time.Duration `placeholder:"DURATION" default:"2s" help:"What is measured in each run."`
	Parts    []bench.Part  `placeholder:"PART" default:"cost,latency,growth,idle,storm" enum:"cost,latency,growth,idle,storm" help:"What is measured: cost, latency, growth, idle, storm."`
	Servers  []string      `placeholder:"NAME" default:"null,viaduct,kamailio,kamailio-tm" enum:"null,viaduct,kamailio,kamailio-tm" help:"The servers that are measured."`
	Patience int           `placeholder:"N" default:"30" help:"Runs that are done again, in all, since other processes disturbed them."`
	Write    string        `placeholder:"FILE" help:"Where the tables are written, besides the terminal."`
	Quick    bool          `help:"Nothing but a glance at null and viaduct: does each answer come as it should?"`
}

func (f *benchFlags) validate() error {
	switch {
	case f.Rounds < 1 || f.Rounds > 100:
		return fmt.Errorf("--rounds: %d is not from 1 to 100", f.Rounds)
	case f.Patience < 0 || f.Patience > 1000:
		return fmt.Errorf("--patience: %d is not from 0 to 1000", f.Patience)
	case f.Time <= 0 || f.Time > time.Minute:
		return fmt.Errorf("--time: %v is not more than 0 and at most %v", f.Time, time.Minute)
	}
	return nil
}

func (f *benchFlags) play(ctx context.Context, stdout io.Writer) error {
	cfg := bench.Config{Viaduct: f.Viaduct, Rounds: f.Rounds, Time: f.Time, Parts: f.Parts, Servers: f.Servers, Patience: f.Patience, Write: f.Write}
	if f.Quick {
		cfg.Patience = 0
		cfg.Rounds, cfg.Time, cfg.Parts, cfg.Servers = 1, 300*time.Millisecond, []bench.Part{bench.Cost}, []string{"null", "viaduct"}
	}
	return bench.Bench(ctx, cfg, stdout)
}

const description = `viaduct-load measures viaduct against a relay that does nothing and against other servers of SIP over WebSocket, on loopback alone.`

// errStop means that --help has said everything.
var errStop = errors.New("nothing more to do")

// parse reads args and the environment and returns the role that they ask for.
// Its errors name the flag. It returns errStop after --help.
func parse(args []string, stdout io.Writer) (play func(context.Context, io.Writer) error, err error) {
	var c commands
	stopped := false
	parser, err := kong.New(&c,
		kong.Name("viaduct-load"),
		kong.Description(description),
		kong.DefaultEnvars("VIADUCT_LOAD"),
		kong.Writers(stdout, io.Discard),
		kong.Exit(func(int) { stopped = true }),
		kong.ConfigureHelp(kong.HelpOptions{WrapUpperBound: 100}),
	)
	if err != nil {
		return nil, err
	}
	given, err := parser.Parse(args)
	switch {
	case stopped:
		return nil, errStop
	case err != nil:
		return nil, err
	}
	switch given.Command() {
	case "null":
		return c.Null.play, nil
	case "answer":
		return c.Answer.play, nil
	case "drive":
		return c.Drive.play, c.Drive.validate()
	default:
		return c.Bench.play, c.Bench.validate()
	}
}
