package transport

import (
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"
)

// maxTrial bounds the bytes that a trial keeps.
const maxTrial = 64 << 10

// trial keeps what was sent over a connection that we dialled until the peer is
// first heard. With TLS 1.3 our side of the handshake is done, and messages are
// on their way, before the server has judged our certificate: what it refuses
// with an alert it has not read. The same goes for a host that accepts
// connections only to reset them.
type trial struct {
	on atomic.Bool

	mu     sync.Mutex
	sent   [][]byte
	bytes  int
	failed error // the peer refused us
}

// begin starts to keep messages, before the first is sent.
func (t *trial) begin() { t.on.Store(true) }

// note keeps a copy of a message that was written. It returns an error if the
// peer has refused the connection meanwhile.
func (t *trial) note(msg []byte) error {
	if !t.on.Load() {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.failed != nil:
		return t.failed
	case t.bytes+len(msg) > maxTrial:
		t.end()
	case t.on.Load():
		t.sent = append(t.sent, slices.Clone(msg))
		t.bytes += len(msg)
	}
	return nil
}

// heard ends the trial: the peer speaks to us.
func (t *trial) heard() {
	if !t.on.Load() {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.end()
}

// lost tells of the error that ended the connection. Where the peer was not
// heard and did not close it in order, it returns what was sent in vain.
func (t *trial) lost(err error) (sent [][]byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if orderly := errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed); orderly {
		t.end()
	}
	if !t.on.Load() {
		return nil
	}
	sent, t.sent, t.failed = t.sent, nil, err
	return sent
}

func (t *trial) end() {
	t.on.Store(false)
	t.sent = nil
}
