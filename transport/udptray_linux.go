package transport

import (
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// tray collects datagrams that leave one socket by one system call.
type tray struct {
	sip    *SIP
	socket *udpSocket

	headers [batchSize]multiHeader
	out     [batchSize]outbound
	to      [batchSize]netip.AddrPort
	source  [batchSize]netip.Addr
	data    [batchSize][]byte // in text
	n       int
	text    []byte // never grows: the vectors point into it
}

func newTray(s *SIP, u *udpSocket) *tray {
	t := &tray{sip: s, socket: u, text: make([]byte, 0, maxDatagram)}
	for i := range t.out {
		t.out[i].control = newControl(u.is4)
	}
	return t
}

// add takes a copy of msg along.
func (t *tray) add(to netip.AddrPort, source netip.Addr, msg []byte) error {
	u := t.socket
	if !u.wildcard {
		source = netip.Addr{}
	}
	if to.Addr().Zone() != "" || len(msg) == 0 || source.IsValid() && source.Is4() != u.is4 {
		return u.send(to, source, msg)
	}
	if t.n == batchSize || len(t.text)+len(msg) > cap(t.text) {
		t.flush()
	}
	begin := len(t.text)
	t.text = append(t.text, msg...)
	i := t.n
	t.n++
	t.to[i], t.source[i], t.data[i] = to, source, t.text[begin:]
	if u.peer.IsValid() {
		to = netip.AddrPort{}
	}
	t.out[i].prepare(to, source, t.data[i])
	t.headers[i].Msghdr = t.out[i].header
	return nil
}

// flush sends what is on the tray.
func (t *tray) flush() {
	for i := 0; i < t.n; {
		sent, errno := t.socket.sendmmsg(t.headers[i:t.n])
		if i += sent; errno != 0 && i < t.n {
			// The slow way waits for room, and for what became of earlier datagrams; the
			// socket may have been closed for another.
			if err := t.sip.sendDatagram(t.to[i], t.source[i], t.data[i]); err != nil {
				t.sip.cfg.Unreachable(t.to[i], t.data[i], err)
			}
			i++
		}
	}
	t.n, t.text = 0, t.text[:0]
}

// sendmmsg returns how many datagrams the kernel took, and why not the next.
func (u *udpSocket) sendmmsg(headers []multiHeader) (int, syscall.Errno) {
	u.using.RLock()
	defer u.using.RUnlock()
	if u.closed {
		return 0, unix.EBADF
	}
	n, _, errno := syscall.RawSyscall6(unix.SYS_SENDMMSG, u.fd, uintptr(unsafe.Pointer(&headers[0])), uintptr(len(headers)), unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}
