package transport

import (
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"
	"unique"

	"github.com/gobwas/ws"
)

// closeTimeout is how long a close frame waits for its answer.
const closeTimeout = time.Second

// maxReason is what a close frame has room for behind its code, in bytes.
const maxReason = ws.MaxControlFramePayloadSize - 2

// WSConn is one browser's connection. Its methods are safe for concurrent use
// and never wait for the browser.
type WSConn struct {
	// Tag belongs to the user of the package, who may set it in
	// WSConfig.Opened.
	Tag any
	// Grant is what WSConfig.Authorize has returned.
	Grant any

	server *WSServer
	sock   *wsSocket
	secure *tls.Conn // over sock; nil: plain
	id     uint64
	host   unique.Handle[string] // most connections name the same one
	remote netip.AddrPort
	local  unique.Handle[netip.AddrPort] // all of a listener's have one of few

	cause   atomic.Uint32 // a CloseCause; open until closing begins
	writing sync.Mutex    // orders frames, a close frame last

	// Of the goroutine that reads.
	in *assembly // nil: between two messages

	// The signs of life.
	heard       atomic.Uint32 // reads that brought something
	answered    atomic.Int32  // pings and keepalives since the last beat
	probing     atomic.Bool
	calm        atomic.Bool // no message came between two beats
	heardBefore uint32      // at the last visit of the roster

	messages       atomic.Uint32 // delivered
	messagesBefore uint32        // at the last beat
	quietSince     time.Duration // on the uptime clock: the last beat that found a new one, or the start
	unanswered     uint8         // pings of the roster since something was heard
	place          int32         // in the roster's bucket, guarded by it
}

// ID is a random number that identifies the connection.
func (c *WSConn) ID() uint64 { return c.id }

// RemoteAddr is the client's address: that of the socket's other end, or what a
// trusted proxy says it is, whose X-Forwarded-For leaves the port 0.
func (c *WSConn) RemoteAddr() netip.AddrPort { return c.remote }

// LocalAddr is the address of this end of the socket.
func (c *WSConn) LocalAddr() netip.AddrPort { return c.local.Value() }

// Host is the Host of the handshake as the browser gave it, the port
// included if it named one.
func (c *WSConn) Host() string { return c.host.Value() }

// Send sends msg as one message of one frame: text if it is valid UTF-8, else
// binary. It does not keep msg. It returns an error when the connection is
// closed or closing (net.ErrClosed) and when msg found too much waiting for the
// browser to read, which closes the connection with 1008.
func (c *WSConn) Send(msg []byte) error {
	op := ws.OpText
	if !utf8.Valid(msg) {
		op = ws.OpBinary
	}
	return c.send(op, msg)
}

// Close starts the closing handshake: no more messages are passed in either
// direction from now on, and WSConfig.Closed is called once the browser has
// answered, or a second later. Only the first call has an effect. The reason is
// cut at 123 bytes.
func (c *WSConn) Close(code ws.StatusCode, reason string) {
	c.CloseFor(CauseLocal, code, reason)
}

// CloseFor is Close for a cause that counters and the log can tell from others.
func (c *WSConn) CloseFor(why CloseCause, code ws.StatusCode, reason string) {
	c.shut(why, code, reason)
}

func (c *WSConn) ping() { _ = c.send(ws.OpPing, nil) }

// send queues one frame unless the connection is closing or the backlog full.
func (c *WSConn) send(op ws.OpCode, payload []byte) error {
	frame := c.server.buffers.get(ws.MaxHeaderSize + len(payload))
	defer c.server.buffers.put(frame)
	*frame = appendFrame(*frame, op, payload)

	c.writing.Lock()
	err := c.admit(len(*frame))
	if err == nil {
		_, err = c.stream().Write(*frame)
	}
	c.writing.Unlock()

	if errors.Is(err, errBacklogFull) {
		c.shut(CauseBacklog, ws.StatusPolicyViolation, "not reading")
	}
	return err
}

// admit decides before TLS sees the frame, which could not take it back.
func (c *WSConn) admit(frame int) error {
	if c.closing() {
		return net.ErrClosed
	}
	if waiting := c.sock.wire.queued(); waiting > 0 && waiting+frame > c.server.cfg.MaxBacklog {
		return errBacklogFull
	}
	return nil
}

// stream is where frames are written: TLS, or the socket itself.
func (c *WSConn) stream() net.Conn {
	if c.secure != nil {
		return c.secure
	}
	return c.sock
}

func (c *WSConn) closing() bool { return CloseCause(c.cause.Load()) != open }

// shut begins the closing handshake with a close frame of code and reason.
func (c *WSConn) shut(why CloseCause, code ws.StatusCode, reason string) {
	if len(reason) > maxReason {
		reason = reason[:maxReason]
		for !utf8.ValidString(reason) {
			reason = reason[:len(reason)-1]
		}
	}
	var payload [ws.MaxControlFramePayloadSize]byte
	ws.PutCloseFrameBody(payload[:], code, reason)
	c.shutWith(why, payload[:2+len(reason)])
}

// shutWith begins the closing handshake with a close frame of that payload, or
// answers that of the peer.
func (c *WSConn) shutWith(why CloseCause, payload []byte) {
	if !c.cause.CompareAndSwap(uint32(open), uint32(why)) {
		return
	}
	frame := appendFrame(make([]byte, 0, ws.MaxHeaderSize+ws.MaxControlFramePayloadSize), ws.OpClose, payload)
	c.writing.Lock()
	_, _ = c.stream().Write(frame) // an error wakes the reader
	c.writing.Unlock()
	c.sock.wire.wakeAfter(closeTimeout)
}

// abandon ends the connection without a closing handshake.
func (c *WSConn) abandon(why CloseCause) {
	c.cause.CompareAndSwap(uint32(open), uint32(why))
	c.sock.wire.wake()
}

// finish closes the socket after err ended the reading, and returns the cause.
func (c *WSConn) finish(err error) CloseCause {
	c.cause.CompareAndSwap(uint32(open), uint32(CauseLost))
	c.in.drop(c.server.buffers)
	why := CloseCause(c.cause.Load())
	unread := errors.Is(err, os.ErrDeadlineExceeded) && c.sock.wire.queued() > 0
	if why == CauseSilent || unread {
		c.sock.reset()
	} else {
		c.stream().Close()
	}
	return why
}
