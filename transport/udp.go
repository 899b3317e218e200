package transport

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

const (
	maxDatagram = 65535
	// socketBuffer is asked of the kernel for each direction of a UDP socket: it
	// holds the burst of a PBX that comes back to all its registrations at once.
	socketBuffer = 4 << 20
	// maxSends bounds how often a datagram is given to the kernel, which may report
	// the error of another instead of sending it.
	maxSends = 16
	// maxErrors bounds the errors that wait to be handed over.
	maxErrors = 1000
	// quotedMax is more than any ICMP message quotes of a datagram: those of IPv6
	// are 1,280 bytes at most (RFC 4443 2.4).
	quotedMax = 2048
	// notPollablePause is how long a socket rests that cannot be waited for.
	notPollablePause = time.Millisecond
)

var errFamily = errors.New("transport: no socket of that address family")

// udpSocket is a UDP socket of one address family.
type udpSocket struct {
	conn     *net.UDPConn
	raw      syscall.RawConn
	is4      bool
	wildcard bool
	peer     netip.AddrPort // the only one that is sent to; not valid: any

	outbounds sync.Pool    // of *outbound
	fd        uintptr      // of conn, while it is not closed
	using     sync.RWMutex // held to use fd
	closed    bool

	// The errors of datagrams that were sent, taken from the kernel.
	collecting sync.Mutex
	errors     []datagramError
	woken      bool // the reader is about to report them
}

// datagramError is why a datagram that was sent did not arrive.
type datagramError struct {
	to       netip.AddrPort
	datagram []byte // the beginning
	err      error  // nil: whether it can arrive is not in question
}

// listenUDP opens the socket of at's family on at. Nobody can share its port.
func listenUDP(at netip.AddrPort) (*udpSocket, error) {
	is4 := at.Addr().Is4()
	conn, err := net.ListenUDP(networkUDP(is4), net.UDPAddrFromAddrPort(at))
	if err != nil {
		return nil, err
	}
	u, err := newUDPSocket(conn, is4)
	if err != nil {
		conn.Close()
		return nil, err
	}
	u.wildcard = at.Addr().IsUnspecified()
	return u, nil
}

func networkUDP(is4 bool) string {
	if is4 {
		return "udp4"
	}
	return "udp6" // IPV6_V6ONLY, so that no address comes in its IPv4-mapped form
}

func newUDPSocket(conn *net.UDPConn, is4 bool) (*udpSocket, error) {
	u := &udpSocket{conn: conn, is4: is4}
	u.outbounds.New = func() any { return newOutbound(is4) }
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, err
	}
	u.raw = raw
	if err := errors.Join(prepareDatagrams(raw, is4), raw.Control(func(fd uintptr) { u.fd = fd })); err != nil {
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

// read hands every datagram to handle, and what the network says about those
// that were sent to unreachable, until the socket fails or is closed.
func (u *udpSocket) read(handle func(from Source, datagram []byte), unreachable func(to netip.AddrPort, datagram []byte, err error)) error {
	in := newInbox()
	for {
		n, err := in.receive(u)
		switch {
		case err == nil:
			for i := range n {
				handle(in.datagram(i))
			}
		case u.survives(err):
			u.report(unreachable)
		default:
			return err
		}
	}
}

// survives tells whether the socket can be read on after err, and makes it so.
func (u *udpSocket) survives(err error) bool {
	_, isErrno := errors.AsType[syscall.Errno](err)
	switch {
	case errors.Is(err, net.ErrClosed):
		return false
	case errors.Is(err, os.ErrDeadlineExceeded): // by leaveErrors, which must work again before report
		return u.conn.SetReadDeadline(time.Time{}) == nil
	case isErrno:
		return isBelated(err)
	default:
		// The runtime takes a socket for one that it cannot poll when an error is all
		// there is, no room to write either, until anything else happens to it.
		<-time.After(notPollablePause)
		return true
	}
}

// report hands over the errors that there are.
func (u *udpSocket) report(unreachable func(to netip.AddrPort, datagram []byte, err error)) {
	u.collecting.Lock()
	u.collect()
	found := u.errors
	u.errors, u.woken = nil, false
	u.collecting.Unlock()
	for _, e := range found {
		unreachable(e.to, e.datagram, e.err)
	}
}

// collect empties the kernel's queue of errors. While there is one in it, each
// that is taken makes the next read or write fail. The caller holds collecting.
func (u *udpSocket) collect() {
	buf := make([]byte, quotedMax)
	for {
		e, ok := nextError(u.raw, buf)
		if !ok {
			return
		}
		if e.err != nil && len(u.errors) < maxErrors {
			e.datagram = bytes.Clone(e.datagram)
			u.errors = append(u.errors, e)
		}
	}
}

// send writes one datagram. A valid source is the address it leaves from if
// the socket is not bound to one already.
//
// The kernel reports what became of an earlier datagram to whoever reads or
// writes next, and does not send in that case. So this tries again.
func (u *udpSocket) send(to netip.AddrPort, source netip.Addr, msg []byte) (err error) {
	for range maxSends {
		if err = u.write(to, source, msg); !isBelated(err) {
			break
		}
		u.leaveErrors()
	}
	return err
}

// leaveErrors leaves the errors that there are to the reader, and wakes it: it
// slept on when a sender got to know first. Whoever sends may hold locks that
// unreachable needs.
func (u *udpSocket) leaveErrors() {
	u.collecting.Lock()
	defer u.collecting.Unlock()
	u.collect()
	if len(u.errors) > 0 && !u.woken {
		u.woken = true
		_ = u.conn.SetReadDeadline(time.Unix(1, 0))
	}
}

func isBelated(err error) bool {
	errno, ok := errors.AsType[syscall.Errno](err)
	return ok && belated(errno)
}

func (u *udpSocket) write(to netip.AddrPort, source netip.Addr, msg []byte) error {
	if !u.wildcard {
		source = netip.Addr{}
	}
	if source.IsValid() && source.Is4() != to.Addr().Is4() {
		return errFamily
	}
	if taken, err := u.writeNow(to, source, msg); taken {
		return err
	}
	if u.peer.IsValid() {
		_, err := u.conn.Write(msg)
		return err
	}
	var control []byte
	if source.IsValid() {
		control = newControl(u.is4)
		setSource(control, source)
	}
	_, _, err := u.conn.WriteMsgUDPAddrPort(msg, control, to)
	return err
}

func (u *udpSocket) isClosed() bool {
	u.using.RLock()
	defer u.using.RUnlock()
	return u.closed
}

// close closes the socket; read returns then.
func (u *udpSocket) close() {
	u.using.Lock()
	defer u.using.Unlock()
	u.closed = true
	u.conn.Close()
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
