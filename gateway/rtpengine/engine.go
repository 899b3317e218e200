package rtpengine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"
)

const (
	// resendInterval is even, not growing: 17 copies are sent. When 30 % are lost
	// each way, one command in 100,000 is lost with all of them.
	resendInterval = 150 * time.Millisecond
	// timeout is how long a command waits. An engine knows cookies for 30 s.
	timeout = 2500 * time.Millisecond
	// pingInterval is the time between two pings.
	pingInterval = 2 * time.Second
	// lookupTimeout bounds one look-up of one host.
	lookupTimeout = 2 * time.Second

	maxDatagram = 65507
	// socketBuffer is asked of the kernel for a burst of answers.
	socketBuffer = 4 << 20
	// errorPause is how long a socket rests after an error, which may come again
	// at once.
	errorPause = time.Millisecond
)

var errNotFound = errors.New("not found")

// Engine is one rtpengine.
type Engine struct {
	address  string // as the Config has it
	host     string
	port     uint16
	cookies  string // the beginning of each
	resolver *net.Resolver
	log      *zap.Logger
	started  time.Time

	// conn is connected, so that the kernel takes answers from the engine alone
	// and tells what ICMP says of it. nil: it has not been found yet.
	conn    atomic.Pointer[net.UDPConn]
	readers sync.WaitGroup

	down   atomic.Bool
	heard  atomic.Int64  // when it answered last, nanoseconds since started
	doubts chan struct{} // wakes run when the engine has just gone down

	asked, resent, timeouts, lost, refused atomic.Uint64
	roundTrip                              atomic.Int64 // nanoseconds

	mu     sync.Mutex
	open   map[string]*question // by cookie
	closed bool
}

// question is a command that waits for its answer. Whoever takes it out of
// Engine.open ends it.
type question struct {
	cookie   string
	datagram []byte
	asked    time.Duration // since Engine.started
	timer    *time.Timer   // until it is sent again
	done     func(Answer, error)
}

func newEngine(address, host string, port uint16, cookies string, cfg *Config) *Engine {
	return &Engine{
		address: address, host: host, port: port, cookies: cookies,
		resolver: cfg.Resolver, log: cfg.Log, started: time.Now(),
		doubts: make(chan struct{}, 1), open: make(map[string]*question),
	}
}

// String returns the engine's address as the Config has it.
func (e *Engine) String() string { return e.address }

// ID is a number made of the address, the same in every process and never 0. That
// of another engine is different but once in 65,535.
func (e *Engine) ID() uint16 { return uint16(weight(e.address, nil)%0xffff) + 1 }

// healthy reports whether new calls may go there. Every engine is until proved
// otherwise.
func (e *Engine) healthy() bool { return !e.down.Load() }

// run keeps the engine found and pinged until ctx ends.
func (e *Engine) run(ctx context.Context) {
	defer e.close()
	e.locate(ctx)
	next := time.NewTicker(pingInterval)
	defer next.Stop()
	for ctx.Err() == nil {
		e.ping(ctx)
		if !e.healthy() {
			e.locate(ctx)
		}
		select {
		case <-ctx.Done():
		case <-e.doubts:
		case <-next.C:
		}
	}
}

// ping asks the engine how it is, which has its consequences like every command.
func (e *Engine) ping(ctx context.Context) {
	begun, ended := time.Now(), make(chan struct{})
	e.ask(&Command{Kind: kindPing}, func(_ Answer, err error) {
		if err == nil {
			e.roundTrip.Store(int64(time.Since(begun)))
		}
		close(ended)
	})
	select {
	case <-ctx.Done():
	case <-ended:
	}
}

// locate looks the engine up and opens a new socket: to where its name leads
// now, to the next address that it has, or from another local address.
func (e *Engine) locate(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	found, err := e.resolver.LookupNetIP(ctx, "ip", e.host)
	if err == nil && len(found) == 0 {
		err = errNotFound
	}
	if err != nil {
		e.mislaid(err)
		return
	}
	for i := range found {
		found[i] = found[i].Unmap()
	}
	addr := found[(slices.Index(found, e.at())+1)%len(found)]
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, e.port)))
	if err != nil {
		e.mislaid(err)
		return
	}
	e.connect(conn)
}

// at returns where the engine is, as look-ups tell it.
func (e *Engine) at() netip.Addr {
	conn := e.conn.Load()
	if conn == nil {
		return netip.Addr{}
	}
	return conn.RemoteAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()
}

// mislaid is called when the engine was not found. What was known of it holds.
func (e *Engine) mislaid(err error) {
	if e.conn.Load() == nil {
		e.unreachable(err)
	}
}

// connect takes a socket into use in place of the one before. Answers that are
// on their way to that one are asked for again.
func (e *Engine) connect(conn *net.UDPConn) {
	// The kernel's own limit decides; a smaller buffer still works.
	_ = conn.SetReadBuffer(socketBuffer)
	if old := e.conn.Swap(conn); old != nil {
		_ = old.Close()
	}
	e.readers.Go(func() { e.read(conn) })
}

func (e *Engine) close() {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	if conn := e.conn.Load(); conn != nil {
		_ = conn.Close()
	}
	e.readers.Wait()
	e.endAll(ErrClosed)
}

// ask sends a command until it is answered or its time is over.
func (e *Engine) ask(cmd *Command, done func(Answer, error)) {
	cookie := e.cookies + strconv.FormatUint(e.asked.Add(1), 36)
	q := &question{cookie: cookie, asked: time.Since(e.started), done: done}
	q.datagram = cmd.append(append([]byte(cookie), ' '))
	if len(q.datagram) > maxDatagram {
		soon(done, ErrTooLarge)
		return
	}
	if !e.opens(q) {
		soon(done, ErrClosed)
		return
	}
	if e.send(q) != nil {
		q.timer.Reset(0) // which draws the consequences
	}
}

func (e *Engine) opens(q *question) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return false
	}
	e.open[q.cookie] = q
	q.timer = time.AfterFunc(resendInterval, func() { e.repeat(q) })
	return true
}

// take takes an open question out, nil if there is none of that cookie.
func (e *Engine) take(cookie []byte) *question {
	e.mu.Lock()
	defer e.mu.Unlock()
	q := e.open[string(cookie)]
	delete(e.open, string(cookie))
	if q != nil {
		q.timer.Stop()
	}
	return q
}

// repeat is called when a question has waited for one more interval.
func (e *Engine) repeat(q *question) {
	if time.Since(e.started)-q.asked >= timeout {
		e.expire(q)
		return
	}
	if !e.wait(q) {
		return
	}
	if err := e.send(q); err != nil {
		e.unreachable(err)
		return
	}
	e.resent.Add(1)
}

// wait sets the timer of a question again, and reports whether it is open.
func (e *Engine) wait(q *question) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.open[q.cookie] != q {
		return false
	}
	q.timer.Reset(resendInterval)
	return true
}

// expire ends a question whose time is over. The engine is down, unless it has
// answered something in that time.
func (e *Engine) expire(q *question) {
	if e.take([]byte(q.cookie)) == nil {
		return
	}
	e.timeouts.Add(1)
	if time.Duration(e.heard.Load()) < q.asked {
		e.fall(ErrTimeout)
	}
	q.done(Answer{}, ErrTimeout)
}

// send writes a question to the socket. An error says that the engine cannot be
// reached; without one, the question may have been lost.
func (e *Engine) send(q *question) error {
	conn := e.conn.Load()
	switch {
	case conn == nil && e.healthy(): // it is being looked for
		return nil
	case conn == nil:
		return errNotFound
	}
	_, err := conn.Write(q.datagram)
	if errors.Is(err, syscall.ECONNREFUSED) {
		// What became of a datagram before this one, which has not been sent.
		_, err = conn.Write(q.datagram)
	}
	if isOurs(err) {
		return nil
	}
	return err
}

// isOurs reports whether an error says nothing of the engine: the way does not
// take packets of that size, the socket's memory is full, or the socket has just
// been replaced.
func isOurs(err error) bool {
	return errors.Is(err, syscall.EMSGSIZE) || errors.Is(err, syscall.ENOBUFS) || errors.Is(err, net.ErrClosed)
}

// read takes answers from a socket until it is closed.
func (e *Engine) read(conn *net.UDPConn) {
	buf := make([]byte, maxDatagram)
	for {
		n, err := conn.Read(buf)
		switch _, isErrno := errors.AsType[syscall.Errno](err); {
		case err == nil:
			e.answered(buf[:n])
			continue
		case errors.Is(err, net.ErrClosed):
			return
		case isErrno && !isOurs(err):
			e.unreachable(err)
		}
		<-time.After(errorPause)
	}
}

// answered ends the question that a datagram answers, if it does.
func (e *Engine) answered(datagram []byte) {
	cookie, text, _ := bytes.Cut(datagram, []byte{' '})
	q := e.take(cookie)
	if q == nil {
		return // it came twice
	}
	e.heard.Store(int64(time.Since(e.started)))
	e.rise()
	a, err := parseAnswer(text)
	if _, isRefused := errors.AsType[*Refused](err); isRefused {
		e.refused.Add(1)
	}
	q.done(a, err)
}

// unreachable is called when a transport error says so. What is open would wait
// in vain.
func (e *Engine) unreachable(err error) {
	err = fmt.Errorf("%w: %w", ErrUnreachable, err)
	e.fall(err)
	e.lost.Add(uint64(e.endAll(err)))
}

// endAll ends every open question.
func (e *Engine) endAll(err error) (ended int) {
	e.mu.Lock()
	all := e.open
	e.open = make(map[string]*question)
	for _, q := range all {
		q.timer.Stop()
	}
	e.mu.Unlock()
	for _, q := range all {
		q.done(Answer{}, err)
	}
	return len(all)
}

func (e *Engine) fall(err error) {
	if e.down.Swap(true) {
		return
	}
	e.log.Warn("rtpengine down", zap.Stringer("engine", e), zap.Error(err))
	select {
	case e.doubts <- struct{}{}:
	default:
	}
}

func (e *Engine) rise() {
	if e.down.Load() && e.down.Swap(false) {
		e.log.Info("rtpengine up", zap.Stringer("engine", e))
	}
}

func (e *Engine) stats() Stats {
	return Stats{
		Engine: e.address, Up: e.healthy(), RoundTrip: time.Duration(e.roundTrip.Load()),
		Asked: e.asked.Load(), Resent: e.resent.Load(), Timeouts: e.timeouts.Load(),
		Unreachable: e.lost.Load(), Refused: e.refused.Load(),
	}
}
