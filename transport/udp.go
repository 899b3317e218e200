package transport

import (
	"errors"
	"net"
	"net/netip"
	"sync"
)

const (
	maxDatagram = 65535
	// socketBuffer is asked of the kernel for each direction of a UDP socket: it
	// holds the burst of a PBX that comes back to all its registrations at once.
	socketBuffer = 4 << 20
)

var errFamily = errors.New("transport: no socket of that address family")

// udpSocket is a UDP socket of one address family.
type udpSocket struct {
	conn     *net.UDPConn
	is4      bool
	wildcard bool
	controls sync.Pool // of *[]byte, control messages that name a source address
}

// listenUDP opens the socket of at's family on at. Nobody can share its port.
func listenUDP(at netip.AddrPort) (*udpSocket, error) {
	is4 := at.Addr().Is4()
	network := "udp6" // IPV6_V6ONLY, so that no address comes in its IPv4-mapped form
	if is4 {
		network = "udp4"
	}
	conn, err := net.ListenUDP(network, net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil, err
	}
	u := &udpSocket{conn: conn, is4: is4, wildcard: at.Addr().IsUnspecified()}
	u.controls.New = func() any { c := newControl(is4); return &c }
	if err := askDestination(conn, is4); err != nil {
		conn.Close()
		return nil, err
	}
	// The kernel's own limit decides; a smaller buffer still works.
	_ = conn.SetReadBuffer(socketBuffer)
	_ = conn.SetWriteBuffer(socketBuffer)
	return u, nil
}

func (u *udpSocket) addr() netip.AddrPort {
	return u.conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

// read hands every datagram to handle until the socket fails or is closed.
func (u *udpSocket) read(handle func(from Source, datagram []byte)) error {
	buf := make([]byte, maxDatagram)
	oob := make([]byte, 64)
	for {
		n, oobn, _, from, err := u.conn.ReadMsgUDPAddrPort(buf, oob)
		if err != nil {
			return err
		}
		handle(Source{Proto: ProtoUDP, Addr: from, Local: destination(oob[:oobn])}, buf[:n])
	}
}

// send writes one datagram. A valid source is the address it leaves from if
// the socket is not bound to one already.
func (u *udpSocket) send(to netip.AddrPort, source netip.Addr, msg []byte) error {
	if !u.wildcard || !source.IsValid() {
		_, err := u.conn.WriteToUDPAddrPort(msg, to)
		return err
	}
	if source.Is4() != to.Addr().Is4() {
		return errFamily
	}
	control := u.controls.Get().(*[]byte)
	setSource(*control, source)
	_, _, err := u.conn.WriteMsgUDPAddrPort(msg, *control, to)
	u.controls.Put(control)
	return err
}

// isKeepalive tells whether a datagram only keeps a NAT binding open: CRLF
// (RFC 5626 4.4.1), NUL bytes, nothing at all.
func isKeepalive(datagram []byte) bool {
	for _, b := range datagram {
		if b != '\r' && b != '\n' && b != 0 {
			return false
		}
	}
	return true
}
