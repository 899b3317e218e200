package transport

import (
	"net/netip"
	"syscall"

	"golang.org/x/sys/unix"
)

// prepareDatagrams makes the kernel tell the address that each datagram was
// sent to, so that the answer can leave from it (RFC 3581 4: "the response MUST
// be sent from the same address and port that the request was received on"), and
// queue what ICMP says about those that are sent (RFC 3261 18.4).
func prepareDatagrams(raw syscall.RawConn, is4 bool) error {
	level, options := unix.IPPROTO_IPV6, []int{unix.IPV6_RECVPKTINFO, unix.IPV6_RECVERR}
	if is4 {
		level, options = unix.IPPROTO_IP, []int{unix.IP_PKTINFO, unix.IP_RECVERR}
	}
	return control(raw, func(fd int) error {
		for _, option := range options {
			if err := unix.SetsockoptInt(fd, level, option, 1); err != nil {
				return err
			}
		}
		return nil
	})
}

// destination finds that address in a datagram's control messages.
func destination(oob []byte) netip.Addr {
	for len(oob) >= unix.SizeofCmsghdr {
		hdr, data, rest, err := unix.ParseOneSocketControlMessage(oob)
		switch {
		case err != nil:
			return netip.Addr{}
		case hdr.Level == unix.IPPROTO_IP && hdr.Type == unix.IP_PKTINFO && len(data) >= unix.SizeofInet4Pktinfo:
			return netip.AddrFrom4([4]byte(data[specDst:]))
		case hdr.Level == unix.IPPROTO_IPV6 && hdr.Type == unix.IPV6_PKTINFO && len(data) >= unix.SizeofInet6Pktinfo:
			return netip.AddrFrom16([16]byte(data))
		}
		oob = rest
	}
	return netip.Addr{}
}

// specDst is the offset of in_pktinfo's ipi_spec_dst: the local address, also
// where the datagram itself was sent to a broadcast address.
const specDst = 4

// newControl returns a control message for setSource.
func newControl(is4 bool) []byte {
	if is4 {
		return unix.PktInfo4(&unix.Inet4Pktinfo{})
	}
	return unix.PktInfo6(&unix.Inet6Pktinfo{})
}

// setSource puts the address that a datagram leaves from into its control message.
func setSource(control []byte, source netip.Addr) {
	data := control[unix.CmsgLen(0):]
	if source.Is4() {
		a := source.As4()
		copy(data[specDst:], a[:])
		return
	}
	a := source.As16()
	copy(data, a[:])
}
