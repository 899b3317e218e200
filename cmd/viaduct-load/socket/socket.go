//go:build linux

// Package socket is what the roles of viaduct-load share: raw non-blocking
// sockets of loopback, epoll, and the few bytes of WebSocket framing that a
// load needs. The standard library's sockets cost a goroutine and two system
// calls more for each message than what is to be measured.
package socket

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// bufferSize is asked for the socket buffers of datagrams, so that a burst is
// not lost.
const bufferSize = 4 << 20

// Loopback parses an address and refuses what is not on this machine alone.
func Loopback(text string) (netip.AddrPort, error) {
	addr, err := netip.ParseAddrPort(text)
	if err != nil {
		return addr, fmt.Errorf("%q is not address:port", text)
	}
	if !addr.Addr().Is4() || !addr.Addr().IsLoopback() {
		return addr, fmt.Errorf("%s is not in 127.0.0.0/8, and this tool loads no other machine", text)
	}
	return addr, nil
}

// A Poller waits for sockets. It is used by one goroutine.
type Poller struct {
	fd     int
	events [512]unix.EpollEvent
}

// NewPoller opens a poller.
func NewPoller() (*Poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	return &Poller{fd: fd}, nil
}

// Add has the poller report fd as readable, until it is closed.
func (p *Poller) Add(fd int) error {
	event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}
	if err := unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

// AddDialing has the poller report fd once it is writable.
func (p *Poller) AddDialing(fd int) error {
	event := unix.EpollEvent{Events: unix.EPOLLOUT, Fd: int32(fd)}
	if err := unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

// Dialed has the poller report an fd of AddDialing as Add does.
func (p *Poller) Dialed(fd int) error {
	event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}
	if err := unix.EpollCtl(p.fd, unix.EPOLL_CTL_MOD, fd, &event); err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

// Wait returns what is ready, at the latest after timeout. The result is
// valid until the next call.
func (p *Poller) Wait(timeout time.Duration) ([]unix.EpollEvent, error) {
	limit := unix.NsecToTimespec(int64(timeout))
	// epoll_pwait2, since a millisecond is long here.
	n, _, errno := unix.Syscall6(unix.SYS_EPOLL_PWAIT2, uintptr(p.fd), uintptr(unsafe.Pointer(&p.events[0])),
		uintptr(len(p.events)), uintptr(unsafe.Pointer(&limit)), 0, 0)
	switch errno {
	case 0:
		return p.events[:n], nil
	case unix.EINTR:
		return nil, nil
	default:
		return nil, fmt.Errorf("epoll_pwait2: %w", errno)
	}
}

// Close closes the poller and none of its sockets.
func (p *Poller) Close() { _ = unix.Close(p.fd) }

// ListenTCP opens a non-blocking listener and returns the address it got.
func ListenTCP(addr netip.AddrPort) (fd int, bound netip.AddrPort, err error) {
	return open(unix.SOCK_STREAM, func(fd int) error {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return err
		}
		if err := unix.Bind(fd, Sockaddr(addr)); err != nil {
			return err
		}
		return unix.Listen(fd, 4096)
	})
}

// ListenUDP opens a datagram socket, non-blocking, and returns the address it
// got.
func ListenUDP(addr netip.AddrPort) (fd int, bound netip.AddrPort, err error) {
	return open(unix.SOCK_DGRAM, func(fd int) error {
		for _, option := range []int{unix.SO_RCVBUFFORCE, unix.SO_SNDBUFFORCE} {
			// Only root may; then what anybody gets has to do.
			_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, bufferSize)
		}
		return unix.Bind(fd, Sockaddr(addr))
	})
}

// Dial begins to connect from an address of loopback, whose port may be 0, and
// returns a non-blocking socket with TCP_NODELAY. It becomes writable when the
// connection stands or has failed; Connected tells which.
func Dial(from, to netip.AddrPort) (fd int, bound netip.AddrPort, err error) {
	fd, bound, err = open(unix.SOCK_STREAM, func(fd int) error {
		// Else a port would be taken from the range of all addresses together.
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1); err != nil {
			return err
		}
		if err := unix.Bind(fd, Sockaddr(from)); err != nil {
			return err
		}
		if err := NoDelay(fd); err != nil {
			return err
		}
		if err := unix.Connect(fd, Sockaddr(to)); !errors.Is(err, unix.EINPROGRESS) {
			return err
		}
		return nil
	})
	if err != nil {
		return -1, bound, fmt.Errorf("%s: %w", to, err)
	}
	return fd, bound, nil
}

// Connected tells whether the connection of a socket that is writable stands.
func Connected(fd int) error {
	code, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && code != 0 {
		err = unix.Errno(code)
	}
	return err
}

// connectPatience is how long a connection of loopback may take to stand.
const connectPatience = 10 * time.Second

// DialTCP is Dial that waits until the connection stands.
func DialTCP(from, to netip.AddrPort) (fd int, bound netip.AddrPort, err error) {
	if fd, bound, err = Dial(from, to); err != nil {
		return fd, bound, err
	}
	if err = Writable(fd, connectPatience); err == nil {
		err = Connected(fd)
	}
	if err != nil {
		_ = unix.Close(fd)
		return -1, bound, fmt.Errorf("%s: %w", to, err)
	}
	return fd, bound, nil
}

// Writable waits until fd takes bytes.
func Writable(fd int, patience time.Duration) error { return wait(fd, unix.POLLOUT, patience) }

// Readable waits until fd has bytes, or has ended.
func Readable(fd int, patience time.Duration) error { return wait(fd, unix.POLLIN, patience) }

func wait(fd int, events int16, patience time.Duration) error {
	for deadline := time.Now().Add(patience); ; {
		left := time.Until(deadline)
		if left <= 0 {
			return unix.ETIMEDOUT
		}
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: events}}, int(left.Milliseconds())+1)
		if !errors.Is(err, unix.EINTR) && (err != nil || n > 0) {
			return err
		}
	}
}

// WriteAll writes msg, and waits where the socket takes only part of it.
func WriteAll(fd int, msg []byte, patience time.Duration) error {
	for len(msg) > 0 {
		n, err := unix.Write(fd, msg)
		switch {
		case errors.Is(err, unix.EAGAIN):
			if err := Writable(fd, patience); err != nil {
				return err
			}
		case err != nil && !errors.Is(err, unix.EINTR):
			return err
		case n > 0:
			msg = msg[n:]
		}
	}
	return nil
}

// NoDelay has small messages sent at once.
func NoDelay(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1) }

// Sockaddr is addr as system calls want it.
func Sockaddr(addr netip.AddrPort) *unix.SockaddrInet4 {
	return &unix.SockaddrInet4{Port: int(addr.Port()), Addr: addr.Addr().As4()}
}

// open makes a non-blocking socket, has set do the rest and returns what the
// socket is bound to.
func open(kind int, set func(fd int) error) (fd int, bound netip.AddrPort, err error) {
	fd, err = unix.Socket(unix.AF_INET, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, bound, fmt.Errorf("socket: %w", err)
	}
	if err = set(fd); err != nil {
		_ = unix.Close(fd)
		return -1, bound, err
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		_ = unix.Close(fd)
		return -1, bound, fmt.Errorf("getsockname: %w", err)
	}
	inet := name.(*unix.SockaddrInet4)
	return fd, netip.AddrPortFrom(netip.AddrFrom4(inet.Addr), uint16(inet.Port)), nil
}
