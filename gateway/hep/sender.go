// Package hep copies SIP messages to a collector such as Homer by the Homer
// Encapsulation Protocol, version 3: one UDP datagram for each.
//
//	relay path ── Copy ──▶ queue ── Run ──▶ Mask, encode ── udp ──▶ collector
//
// Copy never waits and allocates nothing: it copies into memory that is there from
// the start. What finds no room, or cannot be sent, is counted.
package hep

import (
	"cmp"
	"context"
	"hash/fnv"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// Config is everything a Sender is told.
type Config struct {
	// Collector is where it listens, "host:port". A name is looked up again from
	// time to time. Required.
	Collector string
	// Mask appends a message to dst without what the collector is not to know.
	// Required. It is called by one goroutine.
	Mask func(dst, msg []byte) []byte
	// Resolver looks the collector up. Default: the system's.
	Resolver *net.Resolver
	// Log receives that the collector cannot be reached. Default: none.
	Log *zap.Logger
}

// Bounds of what waits to be sent. There are two such queues: one fills while the
// other is sent.
const (
	maxQueue      = 4096
	maxQueueBytes = 4 << 20
)

const (
	// refresh is how long the address of the collector is used.
	refresh = time.Minute
	// dialPause is how long it is not looked for after that has failed.
	dialPause = 5 * time.Second
)

// Stats is what a Sender has done so far.
type Stats struct {
	Sent    uint64
	Dropped uint64 // for want of room
	Failed  uint64 // no collector, or a message that is too large
}

// Sender sends copies. Its methods are safe for concurrent use.
type Sender struct {
	cfg   Config
	agent agent
	wake  chan struct{} // holds a token while something waits

	sent, dropped, failed atomic.Uint64

	mu      sync.Mutex
	filling *queue
	spare   *queue // nil while it is being sent
}

// queue holds copies of packets.
type queue struct {
	packets []Packet // their bytes are in text
	text    []byte
}

func newQueue() *queue {
	return &queue{packets: make([]Packet, 0, maxQueue), text: make([]byte, 0, maxQueueBytes)}
}

// New returns a Sender. It sends nothing before its Run.
func New(cfg Config) *Sender {
	cfg.Resolver, cfg.Log = cmp.Or(cfg.Resolver, net.DefaultResolver), cmp.Or(cfg.Log, zap.NewNop())
	name, err := os.Hostname()
	if err != nil {
		name = "viaduct"
	}
	id := fnv.New32a() // replicas have names of their own
	_, _ = id.Write([]byte(name))
	return &Sender{
		cfg: cfg, agent: agent{id: id.Sum32(), name: name}, wake: make(chan struct{}, 1),
		filling: newQueue(), spare: newQueue(),
	}
}

// Stats returns what has been done so far.
func (s *Sender) Stats() Stats {
	return Stats{Sent: s.sent.Load(), Dropped: s.dropped.Load(), Failed: s.failed.Load()}
}

// Copy has a packet sent. It keeps nothing of it.
func (s *Sender) Copy(p *Packet) {
	s.mu.Lock()
	first, taken := s.filling.add(p)
	s.mu.Unlock()
	if !taken {
		s.dropped.Add(1)
	}
	if first {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}

// add copies a packet, if there is room, and reports whether it is the first.
func (q *queue) add(p *Packet) (first, taken bool) {
	size := len(p.Correlation) + len(p.Payload)
	if len(q.packets) == cap(q.packets) || len(q.text)+size > cap(q.text) {
		return false, false
	}
	c := *p
	c.Correlation = q.copy(p.Correlation)
	c.Payload = q.copy(p.Payload)
	q.packets = append(q.packets, c)
	return len(q.packets) == 1, true
}

func (q *queue) copy(text []byte) []byte {
	start := len(q.text)
	q.text = append(q.text, text...)
	return q.text[start:]
}

// next returns what waits, and lets the other queue fill.
func (s *Sender) next() *queue {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.filling
	s.filling, s.spare = s.spare, nil
	return q
}

// done gives a queue back that was sent.
func (s *Sender) done(q *queue) {
	q.packets, q.text = q.packets[:0], q.text[:0]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.spare = q
}

// Run sends until ctx ends.
func (s *Sender) Run(ctx context.Context) {
	line := line{sender: s}
	defer line.close()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wake:
		}
		q := s.next()
		line.prepare(ctx)
		for i := range q.packets {
			line.send(&q.packets[i])
		}
		s.done(q)
	}
}

// line is the way to the collector, of Run alone.
type line struct {
	sender       *Sender
	conn         net.Conn // nil: there is none
	since, tried time.Time
	silent       bool // it was said that there is none

	masked, packet []byte
}

// prepare looks the collector up if that is due. The old address serves while the
// name cannot be resolved.
func (l *line) prepare(ctx context.Context) {
	now := time.Now()
	if l.conn != nil && now.Sub(l.since) < refresh || now.Sub(l.tried) < dialPause {
		return
	}
	l.tried = now
	dialer := net.Dialer{Resolver: l.sender.cfg.Resolver, Timeout: dialPause}
	conn, err := dialer.DialContext(ctx, "udp", l.sender.cfg.Collector)
	if err != nil {
		l.tell(err)
		return
	}
	l.close()
	l.conn, l.since, l.silent = conn, now, false
}

// tell logs once why nothing can be sent.
func (l *line) tell(err error) {
	if !l.silent {
		l.silent = true
		l.sender.cfg.Log.Warn("the HEP collector cannot be reached", zap.String("collector", l.sender.cfg.Collector), zap.Error(err))
	}
}

func (l *line) send(p *Packet) {
	s := l.sender
	l.masked = s.cfg.Mask(l.masked[:0], p.Payload)
	packet, err := s.agent.appendPacket(l.packet[:0], p, l.masked)
	l.packet = packet
	if err == nil && l.conn != nil {
		if _, err = l.conn.Write(packet); err != nil {
			l.tell(err) // nobody listens there: an ICMP message about one of those before
		}
	}
	if err != nil || l.conn == nil {
		s.failed.Add(1)
		return
	}
	s.sent.Add(1)
}

func (l *line) close() {
	if l.conn != nil {
		_ = l.conn.Close()
	}
}
