package transport

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// dial opens a socket that is connected to a peer, from u's own port. The kernel
// gives it what the peer sends from there, and u all else.
//
// Two sockets share a port only if both have SO_REUSEADDR when the second is
// bound. It is taken off again, so that no other process can share it too.
func (u *udpSocket) dial(local netip.Addr, peer netip.AddrPort) (*udpSocket, error) {
	if !local.IsValid() {
		local = u.addr().Addr()
	}
	if err := reuse(u.raw, 1); err != nil {
		return nil, err
	}
	dialer := net.Dialer{
		LocalAddr: net.UDPAddrFromAddrPort(netip.AddrPortFrom(local, u.addr().Port())),
		Control:   func(_, _ string, raw syscall.RawConn) error { return reuse(raw, 1) },
	}
	conn, err := dialer.DialContext(context.Background(), networkUDP(u.is4), peer.String())
	err = errors.Join(err, reuse(u.raw, 0))
	if conn == nil {
		return nil, err
	}
	own, prepareErr := newUDPSocket(conn.(*net.UDPConn), u.is4)
	if err = errors.Join(err, prepareErr); err == nil {
		err = reuse(own.raw, 0)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	own.peer = peer
	return own, nil
}

func reuse(raw syscall.RawConn, on int) error {
	return control(raw, func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, on) })
}
