//go:build linux

// Package answer is the SIP server of a load: it answers each request at once,
// by UDP and TCP at one port, and keeps nothing.
package answer

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"viaduct/cmd/viaduct-load/socket"
)

const (
	batch   = 64
	largest = 16 << 10 // bytes of a request
	replies = 2        // to one request, at most
)

// Serve answers at addr until ctx is done, and calls ready with the address
// once it listens.
func Serve(ctx context.Context, addr netip.AddrPort, ready func(netip.AddrPort)) error {
	fd, listener, bound, err := listen(addr)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	defer func() { _ = listener.Close() }()
	if err := unix.SetNonblock(fd, false); err != nil { // one thread of its own waits there
		return err
	}
	own := "sip:answer@" + bound.String()

	failed := make(chan error, 2)
	go func() { failed <- datagrams(fd, own) }()
	go func() { failed <- accept(listener, own) }()
	ready(bound)
	select {
	case <-ctx.Done():
		return nil
	case err := <-failed:
		return err
	}
}

// portTries is how many free ports are tried: one that is free for UDP may be in
// use for TCP.
const portTries = 20

// listen opens both sockets at one port.
func listen(addr netip.AddrPort) (fd int, listener net.Listener, bound netip.AddrPort, err error) {
	for range portTries {
		if fd, bound, err = socket.ListenUDP(addr); err != nil {
			return -1, nil, bound, err
		}
		if listener, err = net.Listen("tcp4", bound.String()); err == nil {
			return fd, listener, bound, nil
		}
		_ = unix.Close(fd)
		if addr.Port() != 0 {
			break
		}
	}
	return -1, nil, bound, err
}

// datagrams answers what comes by UDP, many at a time.
func datagrams(fd int, own string) error {
	in, out := socket.NewBatch(batch, largest), socket.NewBatch(replies*batch, 0)
	var buf []byte
	var r request
	for {
		n, err := in.Read(fd)
		if err != nil {
			return err
		}
		buf = grown(buf, n)
		count := 0
		for i := range n {
			if !r.scan(in.Datagram(i)) {
				continue
			}
			buf = r.replies(buf, own, func(msg []byte) {
				out.Put(count, in.From(i), msg)
				count++
			})
		}
		if err := out.Write(fd, count); err != nil {
			return err
		}
	}
}

// grown is buf, empty, with room for the replies to n requests: it must not
// move while they are put together.
func grown(buf []byte, n int) []byte {
	if need := n * replies * (largest + 1024); cap(buf) < need {
		return make([]byte, 0, need)
	}
	return buf[:0]
}

func accept(listener net.Listener, own string) error {
	for {
		conn, err := listener.Accept()
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		go stream(conn, own)
	}
}

// stream answers what comes by one connection; what was read together is
// answered together.
func stream(conn net.Conn, own string) {
	defer func() { _ = conn.Close() }()
	in, held := make([]byte, 256<<10), 0
	var out []byte
	var r request
	for {
		n, err := conn.Read(in[held:])
		if err != nil {
			return
		}
		data := in[:held+n]
		out = out[:0]
		for len(data) > 0 {
			if len(data) >= 2 && data[0] == '\r' { // a keep-alive
				data = data[2:]
				continue
			}
			length := socket.MessageLength(data)
			if length == 0 {
				break
			}
			if r.scan(data[:length]) {
				out = r.replies(out, own, func([]byte) {})
			}
			data = data[length:]
		}
		held = copy(in, data)
		if _, err := conn.Write(out); err != nil || held == len(in) {
			return
		}
	}
}
