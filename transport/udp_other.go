//go:build !linux

package transport

import (
	"net/netip"
	"syscall"
)

// Elsewhere than on Linux the kernel chooses the source address of datagrams
// on a wildcard socket, and tells nothing about those that were sent.

func prepareDatagrams(syscall.RawConn, bool) error { return nil }

func belated(syscall.Errno) bool { return false }

func nextError(syscall.RawConn, []byte) (datagramError, bool) { return datagramError{}, false }

func newControl(bool) []byte { return nil }

func setSource([]byte, netip.Addr) {}

// inbox receives datagrams, one at a time.
type inbox struct {
	buffer []byte
	from   netip.AddrPort
	n      int
}

func newInbox() *inbox { return &inbox{buffer: make([]byte, maxDatagram)} }

func (in *inbox) receive(u *udpSocket) (n int, err error) {
	in.n, in.from, err = u.conn.ReadFromUDPAddrPort(in.buffer)
	return 1, err
}

func (in *inbox) datagram(int) (from Source, data []byte) {
	return Source{Proto: ProtoUDP, Addr: in.from}, in.buffer[:in.n]
}

type outbound struct{}

func newOutbound(bool) *outbound { return nil }

// writeNow leaves every datagram to package net.
func (u *udpSocket) writeNow(netip.AddrPort, netip.Addr, []byte) (taken bool, err error) {
	return false, nil
}

// tray sends each datagram at once.
type tray struct{ socket *udpSocket }

func newTray(_ *SIP, u *udpSocket) *tray { return &tray{u} }

func (t *tray) add(to netip.AddrPort, source netip.Addr, msg []byte) error {
	return t.socket.send(to, source, msg)
}

func (t *tray) flush() {}

// dial does not work where SO_REUSEADDR means something else.
func (u *udpSocket) dial(netip.Addr, netip.AddrPort) (*udpSocket, error) { return nil, errFamily }
