package transport

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// userTimeout is how long, in milliseconds, a peer may leave sent bytes
// unacknowledged. The system's own patience is a quarter of an hour; this is
// half of Timer B and F (RFC 3261 17), so that a PBX that vanished is dialled
// anew within the life of a transaction. Go's keep-alives stay on, as the
// connections are few: with this limit the second unanswered one, after half a
// minute, ends a connection that was idle when the PBX vanished.
const userTimeout = 16_000

// prepareSocket is the Control of TCP listeners, whose connections inherit
// it, and of dials.
func prepareSocket(_, _ string, raw syscall.RawConn) error {
	return control(raw, func(fd int) error {
		for _, o := range []struct{ level, option, value int }{
			{unix.SOL_SOCKET, unix.SO_REUSEADDR, 1},
			{unix.SOL_SOCKET, unix.SO_REUSEPORT, 1},
			{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, userTimeout},
		} {
			if err := unix.SetsockoptInt(fd, o.level, o.option, o.value); err != nil {
				return err
			}
		}
		return nil
	})
}

// unacknowledged tells whether the kernel holds bytes that the peer has not
// acknowledged.
func unacknowledged(conn *net.TCPConn) bool {
	raw, err := conn.SyscallConn()
	if err != nil {
		return false
	}
	var n int
	err = control(raw, func(fd int) (err error) {
		n, err = unix.IoctlGetInt(fd, unix.TIOCOUTQ) // SIOCOUTQ, tcp(7)
		return err
	})
	return err == nil && n > 0
}

// control runs f on the descriptor of raw.
func control(raw syscall.RawConn, f func(fd int) error) error {
	var err error
	if e := raw.Control(func(fd uintptr) { err = f(int(fd)) }); e != nil {
		return e
	}
	return err
}
