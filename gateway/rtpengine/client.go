// Package rtpengine asks rtpengine to put itself into the media of a call. It
// is a client of the ng control protocol: a command is one UDP datagram, and so
// is its answer. What makes that reliable is the cookie before each command: an
// engine answers one that it has seen before as it did then, and does nothing.
//
//	Client                             Engine
//	   |   cookie offer, SDP              |
//	   |------------------- lost          |
//	   |   the same                       |
//	   |--------------------------------->|  ports, keys
//	   |             lost ----------------|
//	   |   the same                       |
//	   |--------------------------------->|  seen before
//	   |   cookie ok, SDP                 |
//	   |<---------------------------------|
//	   |                                  |
//	   |   cookie ping, at all times      |
//	   |--------------------------------->|
//	   |   cookie pong                    |
//	   |<---------------------------------|
//
// client.go says which engine a call has, engine.go asks one and knows whether
// it answers, command.go and profile.go are what is asked, answer.go what comes
// back. It keeps no call: which engine has one is a hash of its name.
package rtpengine

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// The errors of a command that has no answer. A *Refused is another one.
var (
	// ErrTimeout: the engine said nothing for as long as a command waits.
	ErrTimeout = errors.New("rtpengine: no answer")
	// ErrUnreachable: nobody is there. The error has the reason in it as well.
	ErrUnreachable = errors.New("rtpengine: unreachable")
	// ErrTooMany: as many commands as may be are open already.
	ErrTooMany = errors.New("rtpengine: too many commands are open")
	// ErrTooLarge: the command does not fit into a datagram.
	ErrTooLarge = errors.New("rtpengine: the command is too large")
	// ErrMalformed: the engine's answer is none.
	ErrMalformed = errors.New("rtpengine: the answer is malformed")
	// ErrClosed: the client's Run has ended.
	ErrClosed = errors.New("rtpengine: closed")
)

// Config is everything a Client is told.
type Config struct {
	// Engines are where they listen for ng commands, "host:port". A name leads to
	// one engine; one that is silent is looked for at each of its addresses.
	// Required.
	Engines []string
	// MaxOpen bounds the commands that wait for their answers. Default 10,000.
	MaxOpen int
	// Resolver looks up the hosts. Default: the system's.
	Resolver *net.Resolver
	// Log receives which engine is down or up again. Default: none.
	Log *zap.Logger
}

const defaultMaxOpen = 10_000

// Client asks engines. Its methods are safe for concurrent use.
type Client struct {
	engines []*Engine
	maxOpen int64
	open    atomic.Int64 // commands, without pings
}

// New returns a Client. Nothing is sent before its Run.
func New(cfg Config) (*Client, error) {
	if len(cfg.Engines) == 0 {
		return nil, errors.New("no engine")
	}
	cfg.Resolver, cfg.Log = cmp.Or(cfg.Resolver, net.DefaultResolver), cmp.Or(cfg.Log, zap.NewNop())
	c := &Client{maxOpen: int64(cmp.Or(cfg.MaxOpen, defaultMaxOpen))}
	// Engines remember cookies without regard to who sent them.
	cookies := rand.Text() + "_"
	for _, address := range cfg.Engines {
		host, port, err := splitAddress(address)
		if err != nil {
			return nil, err
		}
		for _, other := range c.engines {
			if other.address == address {
				return nil, fmt.Errorf("%s: twice", address)
			}
		}
		cookies := cookies + strconv.Itoa(len(c.engines)) + "_"
		c.engines = append(c.engines, newEngine(address, host, port, cookies, &cfg))
	}
	return c, nil
}

func splitAddress(address string) (host string, port uint16, err error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "", 0, err
	}
	number, err := strconv.ParseUint(text, 10, 16)
	if host == "" || err != nil || number == 0 {
		return "", 0, fmt.Errorf("%s: not host:port", address)
	}
	return host, uint16(number), nil
}

// Run finds the engines, receives their answers and asks how they are until ctx
// ends. Then every open command ends with ErrClosed. Call it once.
func (c *Client) Run(ctx context.Context) {
	var running sync.WaitGroup
	for _, e := range c.engines {
		running.Go(func() { e.run(ctx) })
	}
	running.Wait()
}

// ForNewCall returns the engine for a call that begins: the first in the order
// of its Call-ID among those that are healthy, nil if none is.
func (c *Client) ForNewCall(callID []byte) *Engine { return c.choose(callID, (*Engine).healthy) }

// ForDialog returns the first engine in the order of a Call-ID, healthy or not.
// That is the one of ForNewCall if it was healthy when the call began.
func (c *Client) ForDialog(callID []byte) *Engine {
	return c.choose(callID, func(*Engine) bool { return true })
}

// Engines returns every engine, in the order of the Config. It is not to be changed.
func (c *Client) Engines() []*Engine { return c.engines }

// AnyHealthy reports whether there is an engine for a new call.
func (c *Client) AnyHealthy() bool { return slices.ContainsFunc(c.engines, (*Engine).healthy) }

// choose is a rendezvous: the calls of an engine that is down are spread over
// the others, and those of the others stay where they are.
func (c *Client) choose(callID []byte, may func(*Engine) bool) (best *Engine) {
	var most uint64
	for _, e := range c.engines {
		if w := weight(e.address, callID); may(e) && (best == nil || w > most) {
			best, most = e, w
		}
	}
	return best
}

// weight is the same in every process.
func weight(address string, callID []byte) uint64 {
	sum := sha256.Sum256(append([]byte(address+"\x00"), callID...))
	return binary.BigEndian.Uint64(sum[:])
}

// Ask sends a command to an engine, and done gets its outcome. It is called
// once, not by Ask itself but by the goroutine that receives answers or by a
// timer, with no lock held and perhaps before Ask returns. It must not block.
func (c *Client) Ask(e *Engine, cmd Command, done func(Answer, error)) {
	if c.open.Add(1) > c.maxOpen {
		c.open.Add(-1)
		soon(done, ErrTooMany)
		return
	}
	e.ask(&cmd, func(a Answer, err error) {
		c.open.Add(-1)
		done(a, err)
	})
}

// soon ends a command that was not sent, but not before Ask returns.
func soon(done func(Answer, error), err error) {
	time.AfterFunc(0, func() { done(Answer{}, err) })
}

// Stats is what an engine was asked so far, and how it is.
type Stats struct {
	Engine      string // "host:port"
	Up          bool
	RoundTrip   time.Duration // of the last ping that was answered
	Asked       uint64        // commands, pings among them
	Resent      uint64        // datagrams
	Timeouts    uint64        // commands that ended with ErrTimeout
	Unreachable uint64        // with ErrUnreachable
	Refused     uint64        // with a *Refused
}

// Stats returns one for each engine, in the order of the Config.
func (c *Client) Stats() (all []Stats) {
	for _, e := range c.engines {
		all = append(all, e.stats())
	}
	return all
}
