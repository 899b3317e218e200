//go:build linux

package drive

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"viaduct/cmd/viaduct-load/socket"
)

// A Secure is browsers that came by wss, ask OPTIONS once and then do nothing
// but answer pings. What
// they cost themselves is not measured, so each is a goroutine.
type Secure struct {
	cfg     Config
	tls     *tls.Config
	mu      sync.Mutex
	options *shape
	conns   []net.Conn
	closed  int
	ending  bool
	wrong   error
}

// AssembleTLS makes browsers without connections.
func AssembleTLS(cfg Config) *Secure {
	// The certificate was made for this measurement alone.
	return &Secure{cfg: cfg, tls: &tls.Config{InsecureSkipVerify: true}, options: newShapes(cfg.Answerer.String()).first[Options]}
}

// Rise opens the connections that are missing. They cannot register.
func (s *Secure) Rise(ctx context.Context, r Rise) (*Risen, error) {
	if r.Register {
		return nil, errors.New("connections by wss do not register here")
	}
	ctx, cancel := context.WithTimeout(ctx, risePatience)
	defer cancel()
	begin := time.Now()
	took := newHistogram()
	from := len(s.conns)
	numbers := make(chan int)
	var opening sync.WaitGroup
	var failed error
	for range min(r.AtOnce, r.To) {
		opening.Go(func() {
			for i := range numbers {
				since := time.Now()
				err := s.open(ctx, i)
				s.mu.Lock()
				_ = took.RecordValue(max(time.Since(since).Microseconds(), 1))
				failed = errors.Join(failed, err)
				s.mu.Unlock()
			}
		})
	}
	for i := from; i < r.To; i++ {
		numbers <- i
	}
	close(numbers)
	opening.Wait()
	return &Risen{
		Time: time.Since(begin),
		P50:  time.Duration(took.ValueAtQuantile(50)) * time.Microsecond, Slowest: time.Duration(took.Max()) * time.Microsecond,
	}, failed
}

func (s *Secure) open(ctx context.Context, i int) error {
	dialer := tls.Dialer{
		NetDialer: &net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(source(i)), KeepAlive: -1},
		Config:    s.tls,
	}
	conn, err := dialer.DialContext(ctx, "tcp4", s.cfg.To.String())
	if err != nil {
		return fmt.Errorf("connection %d: %w", i, err)
	}
	s.mu.Lock()
	s.conns = append(s.conns, conn)
	s.mu.Unlock()
	if _, err := conn.Write(socket.Upgrade(s.cfg.To, s.cfg.Path)); err != nil {
		return err
	}
	var answer []byte
	buf := make([]byte, 512)
	for !bytes.HasSuffix(answer, []byte("\r\n\r\n")) {
		n, err := conn.Read(buf)
		if err != nil {
			return fmt.Errorf("handshake: %w", err)
		}
		answer = append(answer, buf[:n]...)
	}
	if err := socket.CheckUpgraded(answer); err != nil {
		return err
	}
	// Who says nothing for half a minute is sent away.
	s.mu.Lock()
	frame := bytes.Clone(s.options.numbered(i, firstNumber))
	s.mu.Unlock()
	if _, err := conn.Write(frame); err != nil {
		return err
	}
	go s.serve(conn)
	return nil
}

// serve answers pings until the connection ends.
func (s *Secure) serve(conn net.Conn) {
	buf := make([]byte, 1024)
	for {
		n, err := conn.Read(buf)
		if err == nil && n >= 2 && buf[0] == 0x89 {
			_, err = conn.Write(pong(buf[2:n]))
		}
		if err != nil {
			s.mu.Lock()
			if !s.ending {
				s.closed++
				s.wrong = err
			}
			s.mu.Unlock()
			return
		}
	}
}

// Errors is what was not as it should be.
func (s *Secure) Errors() Errors {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := Errors{Closed: s.closed}
	if s.wrong != nil {
		e.add(s.wrong, nil)
	}
	return e
}

// Close ends all connections.
func (s *Secure) Close() {
	s.mu.Lock()
	s.ending = true
	conns := s.conns
	s.mu.Unlock()
	for _, conn := range conns {
		_ = conn.Close()
	}
}
