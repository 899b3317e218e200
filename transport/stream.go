package transport

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"time"
)

// streamReadBuffer holds several messages of usual size; only what spans two reads
// is copied.
const streamReadBuffer = 16 << 10

// Stream is an open TCP or TLS connection on the PBX side.
type Stream struct {
	remote remote
	hop    *hop // the dialled side's state, nil if the connection was accepted
	tcp    *net.TCPConn
	out    *backlog
	conn   net.Conn // what messages are read from and written to: queuedConn, or TLS over it
	trial  trial
}

// remote is how an open connection is known.
type remote struct {
	proto Proto
	addr  netip.AddrPort
}

// queuedConn is a TCP connection whose writes go through a backlog.
type queuedConn struct {
	*net.TCPConn
	out *backlog
}

func (c queuedConn) Write(p []byte) (int, error) { return c.out.Write(p) }

func (c queuedConn) Close() error { return c.out.Close() }

// SetWriteDeadline does nothing: the backlog owns the write deadline, and no
// write waits. TLS sets one around its close_notify.
func (c queuedConn) SetWriteDeadline(time.Time) error { return nil }

// SetDeadline sets the read deadline alone, for the same reason.
func (c queuedConn) SetDeadline(t time.Time) error { return c.SetReadDeadline(t) }

func newStream(proto Proto, conn *net.TCPConn, maxBacklog int) *Stream {
	st := &Stream{remote: remote{proto, conn.RemoteAddr().(*net.TCPAddr).AddrPort()}, tcp: conn}
	st.out = newBacklog(conn, maxBacklog, func(error) { st.wake() })
	st.conn = queuedConn{conn, st.out}
	return st
}

// secure puts TLS between the messages and the connection.
func (st *Stream) secure(wrap func(net.Conn, *tls.Config) *tls.Conn, cfg *tls.Config) *tls.Conn {
	c := wrap(st.conn, cfg)
	st.conn = c
	return c
}

// Send writes one whole message, or keeps a copy for when the peer reads. It is
// safe for concurrent use and never waits. After an error, which may be a peer
// who does not read, the connection is closed.
func (st *Stream) Send(msg []byte) error {
	_, err := st.conn.Write(msg)
	if err != nil {
		st.wake()
		return err
	}
	return st.trial.note(msg)
}

// wake ends the stream's read, and thereby the stream: whoever reads it
// closes it.
func (st *Stream) wake() { _ = st.tcp.SetReadDeadline(time.Unix(1, 0)) }

// Abandon ends the connection at once, whatever waits to be sent on it. It does
// not wait.
func (st *Stream) Abandon() { st.wake() }

// source is where the stream's messages come from.
func (st *Stream) source() Source {
	return Source{Proto: st.remote.proto, Addr: st.remote.addr, Stream: st}
}

// read hands up messages until the connection ends, and returns why it ended;
// garbled is what the peer did wrong.
func (st *Stream) read(f *framer) (ended, garbled error) {
	buf := make([]byte, streamReadBuffer)
	for {
		n, err := st.conn.Read(buf)
		if n > 0 {
			st.trial.heard()
		}
		if err := f.consume(buf[:n]); err != nil {
			return err, err
		}
		if err != nil {
			eof := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
			if eof && f.partial != nil {
				return err, io.ErrUnexpectedEOF
			}
			return err, nil
		}
	}
}

// shut closes the connection gracefully and does not wait. Its reader ends.
//
// A dialled connection is otherwise closed by a reset (SO_LINGER 0), whether
// by us or by the kernel when the process is killed: the side that closes first
// with a FIN is left in TIME_WAIT, and for a minute could not dial the same PBX
// from the same port again, which after a restart is the first thing it
// does. A reset throws away bytes that the peer has not acknowledged yet; where
// there are any, they are worth more than the port.
func (st *Stream) shut() {
	if st.out.Queued() > 0 || unacknowledged(st.tcp) {
		_ = st.tcp.SetLinger(-1)
	}
	_ = st.conn.Close()
}

// run reads a stream that is in the pool until it ends, and takes it out.
func (s *SIP) run(st *Stream) {
	from := st.source()
	f := framer{
		max:     s.cfg.MaxMessage,
		message: func(msg []byte) { s.cfg.Message(from, msg) },
		// RFC 5626 4.4.1: "it MUST immediately respond with a single CRLF". A
		// failed write ends the read.
		ping: func() { _ = st.Send(crlf) },
	}
	ended, garbled := st.read(&f)
	f.release()
	// The descriptor goes first: while it lives, nobody can dial the same address
	// from the same port.
	st.tcp.Close()
	sent, refusal := st.trial.lost(ended)
	s.connected.remove(st, refusal)
	if len(sent) > 0 {
		s.undeliverable(st.hop.target, sent, ended)
	}
	if garbled != nil {
		s.cfg.Garbled(from, garbled)
	}
}
