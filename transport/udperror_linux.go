package transport

import (
	"encoding/binary"
	"net"
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// belated tells whether a read or write on a UDP socket that fails with errno
// may have failed for an earlier datagram: the errors that the kernel makes of
// ICMP and ICMPv6 messages, some of which it also has for the datagram itself.
func belated(errno syscall.Errno) bool {
	switch errno {
	case unix.ECONNREFUSED, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EHOSTDOWN, unix.ENONET,
		unix.ENOPROTOOPT, unix.EOPNOTSUPP, unix.EPROTO, unix.EACCES, unix.EMSGSIZE:
		return true
	}
	return false
}

// nextError takes one error from the socket's queue, never waiting, and the
// datagram's beginning into buf; false: there is none.
func nextError(raw syscall.RawConn, buf []byte) (e datagramError, ok bool) {
	var n, oobn int
	var to unix.Sockaddr
	oob := make([]byte, 256)
	err := control(raw, func(fd int) (err error) {
		n, oobn, _, to, err = unix.Recvmsg(fd, buf, oob, unix.MSG_ERRQUEUE)
		return err
	})
	if err != nil {
		return e, false
	}
	return datagramError{to: addrPort(to), datagram: buf[:n], err: unreachability(oob[:oobn])}, true
}

// unreachability returns the errno in an error's control messages, nil if it
// does not say that the peer cannot be reached, but how much the path takes.
func unreachability(oob []byte) error {
	for len(oob) >= unix.SizeofCmsghdr {
		hdr, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		if err != nil {
			return nil
		}
		oob = rest
		is4 := hdr.Level == unix.IPPROTO_IP && hdr.Type == unix.IP_RECVERR
		is6 := hdr.Level == unix.IPPROTO_IPV6 && hdr.Type == unix.IPV6_RECVERR
		if !is4 && !is6 || len(data) < sizeofExtendedErr {
			continue
		}
		switch errno := syscall.Errno(binary.NativeEndian.Uint32(data)); data[originOfErr] {
		case unix.SO_EE_ORIGIN_ICMP, unix.SO_EE_ORIGIN_ICMP6, unix.SO_EE_ORIGIN_LOCAL:
			if errno != 0 && errno != unix.EMSGSIZE {
				return errno
			}
		}
	}
	return nil
}

// The size of struct sock_extended_err, and where in it ee_origin is, behind
// ee_errno.
const (
	sizeofExtendedErr = 16
	originOfErr       = 4
)

func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).WithZone(zoneName(sa.ZoneId)), uint16(sa.Port))
	}
	return netip.AddrPort{}
}

// zoneName is the name of an interface as an address shows it.
func zoneName(index uint32) string {
	if index == 0 {
		return ""
	}
	i, err := net.InterfaceByIndex(int(index))
	if err != nil {
		return ""
	}
	return i.Name
}
