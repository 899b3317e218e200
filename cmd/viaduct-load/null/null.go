//go:build linux

// Package null is a relay that does only what no relay between WebSocket and
// SIP can leave out: what viaduct costs beyond it is viaduct's own.
//
//	browser                    null                     SIP server
//	   | frame: REGISTER         |                           |
//	   |------------------------>| read, unmask in place,    |
//	   |                         | one Via on top, write     |
//	   |                         |-------------------------->|
//	   |                         |                   200 OK  |
//	   |                         |<--------------------------|
//	   | frame: 200 OK           | that Via off              |
//	   |<------------------------|                           |
//
// It checks nothing, keeps no SIP state and trusts whoever sends: the branch of
// its Via is the number of the connection.
package null

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/gobwas/ws"
	"golang.org/x/sys/unix"

	"viaduct/cmd/viaduct-load/socket"
)

// Config is where a relay stands.
type Config struct {
	Listen   netip.AddrPort // WebSocket
	Upstream netip.AddrPort // the SIP server
	TCP      bool           // to the SIP server, instead of UDP
}

const (
	room     = 1024      // before the bytes that are read: for a Via, or a frame's header
	readSize = 128 << 10 // more than the largest message has
	patience = time.Second
	pause    = 100 * time.Millisecond // between looks at the context
)

type relay struct {
	poller   *socket.Poller
	listener int
	upstream int
	tcp      bool
	via      []byte // its line up to the digits of the branch
	conns    []conn // by descriptor
	buf      []byte // what was read last, from room on
	stream   []byte // the begin of a message, from the SIP server by TCP
}

// conn is one browser.
type conn struct {
	life uint32 // tells this connection from those that had its descriptor before
	open bool
	up   bool   // the handshake is done
	part []byte // the begin of a frame or handshake whose end has not come
}

// Serve relays until ctx is done. It calls ready with the address of its
// WebSocket listener once it listens.
func Serve(ctx context.Context, cfg Config, ready func(netip.AddrPort)) error {
	r := &relay{tcp: cfg.TCP, buf: make([]byte, room+readSize)}
	var err error
	if r.poller, err = socket.NewPoller(); err != nil {
		return err
	}
	defer r.poller.Close()
	var bound netip.AddrPort
	if r.listener, bound, err = socket.ListenTCP(cfg.Listen); err != nil {
		return err
	}
	defer func() { _ = unix.Close(r.listener) }()
	if err := r.dial(cfg); err != nil {
		return err
	}
	defer func() { _ = unix.Close(r.upstream) }()
	for _, fd := range []int{r.listener, r.upstream} {
		if err := r.poller.Add(fd); err != nil {
			return err
		}
	}
	ready(bound)
	for ctx.Err() == nil {
		if err := r.turn(); err != nil {
			return err
		}
	}
	return nil
}

// dial opens the one socket to the SIP server. A connected datagram socket
// spares the kernel the route for each message.
func (r *relay) dial(cfg Config) error {
	var own netip.AddrPort
	var err error
	from, transport := netip.AddrPortFrom(cfg.Upstream.Addr(), 0), "UDP"
	if cfg.TCP {
		transport = "TCP"
		r.upstream, own, err = socket.DialTCP(from, cfg.Upstream)
	} else if r.upstream, own, err = socket.ListenUDP(from); err == nil {
		err = unix.Connect(r.upstream, socket.Sockaddr(cfg.Upstream))
	}
	if err != nil {
		return fmt.Errorf("upstream: %w", err)
	}
	r.via = fmt.Appendf(nil, "Via: SIP/2.0/%s %s;branch=z9hG4bK", transport, own)
	return nil
}

// turn handles what is readable now.
func (r *relay) turn() error {
	events, err := r.poller.Wait(pause)
	if err != nil {
		return err
	}
	for i := range events {
		switch fd := int(events[i].Fd); {
		case fd == r.listener:
			err = r.accept()
		case fd == r.upstream && r.tcp:
			err = r.fromStream()
		case fd == r.upstream:
			err = r.fromDatagrams()
		default:
			r.fromBrowser(fd)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (r *relay) accept() error {
	for {
		fd, _, err := unix.Accept4(r.listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case err != nil:
			return fmt.Errorf("accept: %w", err)
		}
		if err := socket.NoDelay(fd); err != nil {
			return err
		}
		for len(r.conns) <= fd {
			r.conns = append(r.conns, conn{})
		}
		r.conns[fd] = conn{life: r.conns[fd].life + 1, open: true}
		if err := r.poller.Add(fd); err != nil {
			return err
		}
	}
}

func (r *relay) close(fd int) {
	r.conns[fd] = conn{life: r.conns[fd].life}
	_ = unix.Close(fd)
}

// fromBrowser reads once and relays each message that is there whole.
func (r *relay) fromBrowser(fd int) {
	c := &r.conns[fd]
	held := copy(r.buf[room:], c.part)
	n, err := unix.Read(fd, r.buf[room+held:])
	if errors.Is(err, unix.EAGAIN) {
		return
	}
	if err != nil || n <= 0 {
		r.close(fd)
		return
	}
	data := r.buf[room : room+held+n]
	if !c.up {
		data, err = r.handshake(fd, data)
	}
	at := room + held + n - len(data)
	for err == nil && c.up && len(data) > 0 {
		var f socket.Frame
		if f, err = socket.ReadFrame(data); err != nil || f.Length == 0 {
			break
		}
		f.Unmask()
		err = r.frame(fd, f, at+f.Length-len(f.Payload))
		at += f.Length
		data = data[f.Length:]
	}
	switch {
	case err != nil:
		r.close(fd)
	case len(data) > 0:
		c.part = append([]byte(nil), data...)
	default:
		c.part = nil // an idle connection holds no buffer
	}
}

// handshake answers a handshake that is there whole, and returns what follows.
func (r *relay) handshake(fd int, data []byte) ([]byte, error) {
	end := bytes.Index(data, []byte("\r\n\r\n"))
	if end < 0 {
		return data, nil
	}
	const name = "Sec-WebSocket-Key: "
	at := bytes.Index(data[:end], []byte(name))
	if at < 0 {
		return nil, errors.New("no key")
	}
	key, _, _ := bytes.Cut(data[at+len(name):], []byte("\r\n"))
	answer := append([]byte("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Protocol: sip\r\nSec-WebSocket-Accept: "), socket.Accept(key)...)
	r.conns[fd].up = true
	return data[end+4:], socket.WriteAll(fd, append(answer, "\r\n\r\n"...), patience)
}

// frame relays what a browser sent; its payload is at r.buf[at:].
func (r *relay) frame(fd int, f socket.Frame, at int) error {
	switch f.Op {
	case ws.OpText, ws.OpBinary:
		return r.up(fd, f.Payload, at)
	case ws.OpClose:
		return errors.New("closed")
	default:
		return nil
	}
}

// digits is how long the name of a connection is in a branch.
const digits = 16

// up puts a Via on top of msg, which is at r.buf[at:], and sends it. The start
// line makes room, being the shorter part.
func (r *relay) up(fd int, msg []byte, at int) error {
	end := bytes.IndexByte(msg, '\n') + 1
	line := len(r.via) + digits + 2
	begin := at - line
	copy(r.buf[begin:], msg[:end])
	via := r.buf[begin+end:]
	copy(via, r.via)
	var name [digits / 2]byte
	binary.BigEndian.PutUint32(name[:], uint32(fd))
	binary.BigEndian.PutUint32(name[4:], r.conns[fd].life)
	hex.Encode(via[len(r.via):], name[:])
	copy(via[line-2:], "\r\n")

	out := r.buf[begin : at+len(msg)]
	if r.tcp {
		return socket.WriteAll(r.upstream, out, patience)
	}
	_, err := unix.Write(r.upstream, out)
	if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.ECONNREFUSED) {
		return nil // lost, as datagrams are
	}
	return err
}

// burst is how many datagrams are read before browsers have their turn.
const burst = 64

func (r *relay) fromDatagrams() error {
	for range burst {
		n, err := unix.Read(r.upstream, r.buf[room:])
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case errors.Is(err, unix.ECONNREFUSED):
			continue
		case err != nil:
			return fmt.Errorf("upstream: %w", err)
		}
		r.down(r.buf[room:room+n], room)
	}
	return nil
}

func (r *relay) fromStream() error {
	held := copy(r.buf[room:], r.stream)
	n, err := unix.Read(r.upstream, r.buf[room+held:])
	switch {
	case errors.Is(err, unix.EAGAIN):
		return nil
	case err != nil:
		return fmt.Errorf("upstream: %w", err)
	case n == 0:
		return errors.New("upstream: closed")
	}
	data, at := r.buf[room:room+held+n], room
	for {
		length := socket.MessageLength(data)
		if length == 0 {
			break
		}
		r.down(data[:length], at)
		data, at = data[length:], at+length
	}
	r.stream = append(r.stream[:0], data...)
	return nil
}

// down takes the topmost Via off msg, which is at r.buf[at:], and sends it to
// the connection that the Via names.
func (r *relay) down(msg []byte, at int) {
	end := bytes.IndexByte(msg, '\n') + 1
	via, line := msg[end:], len(r.via)+digits+2
	if len(via) < line || !bytes.HasPrefix(via, r.via) {
		return // no answer to anything that was relayed
	}
	var name [digits / 2]byte
	if _, err := hex.Decode(name[:], via[len(r.via):line-2]); err != nil {
		return
	}
	fd, life := int(binary.BigEndian.Uint32(name[:])), binary.BigEndian.Uint32(name[4:])
	if fd >= len(r.conns) || !r.conns[fd].open || r.conns[fd].life != life {
		return
	}
	copy(msg[line:], msg[:end])
	var buf [socket.HeaderMax]byte
	header := socket.AppendHeader(buf[:0], ws.OpText, len(msg)-line, [4]byte{})
	begin := at + line - len(header)
	copy(r.buf[begin:], header)
	out := r.buf[begin : at+len(msg)]
	if n, err := unix.Write(fd, out); err != nil || n < len(out) {
		r.close(fd) // one that does not read what it is sent is not waited for
	}
}
