package transport

import (
	"encoding/binary"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// batchSize is how many datagrams are read by one system call.
const batchSize = 16

// maxControl has room for a destination address, in bytes.
const maxControl = 64

// multiHeader is the kernel's struct mmsghdr, which golang.org/x/sys has not.
// golang.org/x/net/ipv4 reads batches too, but allocates an address for each.
type multiHeader struct {
	unix.Msghdr
	length uint32
}

// inbox receives datagrams, several by one system call. Its buffers are large,
// of which the kernel provides only the pages that are used.
type inbox struct {
	headers  [batchSize]multiHeader
	vectors  [batchSize]unix.Iovec
	names    [batchSize]unix.RawSockaddrInet6 // of either family
	controls [batchSize][maxControl]byte
	buffers  []byte

	take func(fd uintptr) bool // takeNow, bound once: binding allocates
	n    int
	err  error
}

func newInbox() *inbox {
	in := &inbox{buffers: make([]byte, batchSize*maxDatagram)}
	for i := range in.headers {
		in.vectors[i].Base = &in.buffers[i*maxDatagram]
		in.vectors[i].SetLen(maxDatagram)
		h := &in.headers[i]
		h.Name = (*byte)(unsafe.Pointer(&in.names[i]))
		h.Iov = &in.vectors[i]
		h.SetIovlen(1)
		h.Control = &in.controls[i][0]
	}
	in.take = in.takeNow
	return in
}

// receive waits for datagrams and returns how many there are, at least one. They
// are valid until the next call.
func (in *inbox) receive(u *udpSocket) (int, error) {
	if err := u.raw.Read(in.take); err != nil {
		return 0, err
	}
	return in.n, in.err
}

// takeNow reports whether there is something to return: datagrams, or an error.
func (in *inbox) takeNow(fd uintptr) bool {
	for i := range in.headers {
		in.headers[i].Namelen = uint32(unsafe.Sizeof(in.names[i]))
		in.headers[i].SetControllen(maxControl)
	}
	for {
		n, _, errno := syscall.RawSyscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&in.headers[0])), batchSize, unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			in.n, in.err = int(n), nil
			return true
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return false
		default:
			in.n, in.err = 0, errno
			return true
		}
	}
}

// datagram is the i-th one received.
func (in *inbox) datagram(i int) (from Source, data []byte) {
	h := &in.headers[i]
	data = in.buffers[i*maxDatagram:][:h.length]
	control := in.controls[i][:min(int(h.Controllen), maxControl)]
	return Source{Proto: ProtoUDP, Addr: sender(&in.names[i]), Local: destination(control)}, data
}

// sender reads the address of a socket of either family.
func sender(name *unix.RawSockaddrInet6) netip.AddrPort {
	if name.Family == unix.AF_INET {
		name4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(name))
		return netip.AddrPortFrom(netip.AddrFrom4(name4.Addr), networkOrder(name4.Port))
	}
	addr := netip.AddrFrom16(name.Addr)
	if name.Scope_id != 0 {
		addr = addr.WithZone(zoneName(name.Scope_id))
	}
	return netip.AddrPortFrom(addr, networkOrder(name.Port))
}

// networkOrder turns a port into the kernel's form, and back.
func networkOrder(port uint16) uint16 {
	var b [2]byte
	binary.NativeEndian.PutUint16(b[:], port)
	return binary.BigEndian.Uint16(b[:])
}

// outbound is what one datagram is sent with.
type outbound struct {
	header  unix.Msghdr
	vector  unix.Iovec
	name    unix.RawSockaddrInet6 // of either family
	control []byte
}

func newOutbound(is4 bool) *outbound {
	return &outbound{control: newControl(is4)}
}

// prepare fills in the header; o stays where it is while that is used.
func (o *outbound) prepare(to netip.AddrPort, source netip.Addr, msg []byte) {
	o.vector.Base = &msg[0]
	o.vector.SetLen(len(msg))
	o.header = unix.Msghdr{Name: (*byte)(unsafe.Pointer(&o.name)), Iov: &o.vector}
	o.header.SetIovlen(1)
	if to.IsValid() {
		o.address(to)
	} else {
		o.header.Name = nil // the socket has but one peer
	}
	if source.IsValid() {
		setSource(o.control, source)
		o.header.Control = &o.control[0]
		o.header.SetControllen(len(o.control))
	}
}

// writeNow gives one datagram to the kernel as net.UDPConn does, at less than half
// the price: no thread of the runtime is prepared to wait. taken is false where
// that has to decide: the socket has no room, or is closed, or the address has a zone.
func (u *udpSocket) writeNow(to netip.AddrPort, source netip.Addr, msg []byte) (taken bool, err error) {
	if to.Addr().Zone() != "" || len(msg) == 0 || to.Addr().Is4() != u.is4 {
		return false, nil
	}
	o := u.outbounds.Get().(*outbound)
	defer u.outbounds.Put(o)
	if u.peer.IsValid() {
		to = netip.AddrPort{}
	}
	o.prepare(to, source, msg)
	errno := u.sendmsg(&o.header)
	o.vector.Base = nil
	switch errno {
	case 0:
		return true, nil
	case unix.EAGAIN, unix.EINTR, unix.EBADF:
		return false, nil
	default:
		return true, errno
	}
}

// sendmsg is the system call, EBADF once the socket is closed.
func (u *udpSocket) sendmsg(header *unix.Msghdr) syscall.Errno {
	u.using.RLock()
	defer u.using.RUnlock()
	if u.closed {
		return unix.EBADF
	}
	_, _, errno := syscall.RawSyscall(unix.SYS_SENDMSG, u.fd, uintptr(unsafe.Pointer(header)), unix.MSG_DONTWAIT)
	return errno
}

func (o *outbound) address(to netip.AddrPort) {
	port := networkOrder(to.Port())
	if to.Addr().Is4() {
		name4 := (*unix.RawSockaddrInet4)(unsafe.Pointer(&o.name))
		*name4 = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: port, Addr: to.Addr().As4()}
		o.header.Namelen = unix.SizeofSockaddrInet4
		return
	}
	o.name = unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: port, Addr: to.Addr().As16()}
	o.header.Namelen = unix.SizeofSockaddrInet6
}
