//go:build linux

package socket

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A Batch is datagrams that one system call reads or writes.
type Batch struct {
	headers []mmsghdr
	iovecs  []unix.Iovec
	names   []unix.RawSockaddrInet4
	bytes   []byte
	size    int
}

// mmsghdr is the kernel's struct of that name.
type mmsghdr struct {
	header unix.Msghdr
	length uint32
	_      [4]byte
}

// NewBatch makes room for count datagrams. Those that are read have at most
// size bytes.
func NewBatch(count, size int) *Batch {
	return &Batch{
		headers: make([]mmsghdr, count),
		iovecs:  make([]unix.Iovec, count),
		names:   make([]unix.RawSockaddrInet4, count),
		bytes:   make([]byte, count*size),
		size:    size,
	}
}

// Read waits for datagrams and returns how many came.
func (b *Batch) Read(fd int) (int, error) {
	for i := range b.headers {
		b.point(i, b.bytes[i*b.size:(i+1)*b.size])
	}
	return b.call(unix.SYS_RECVMMSG, fd, 0, len(b.headers), unix.MSG_WAITFORONE)
}

// Datagram is the i-th that was read, valid until the next Read.
func (b *Batch) Datagram(i int) []byte {
	return b.bytes[i*b.size:][:b.headers[i].length]
}

// From is who sent the i-th datagram that was read.
func (b *Batch) From(i int) unix.RawSockaddrInet4 { return b.names[i] }

// Put makes msg the i-th datagram to be written. Nothing is copied.
func (b *Batch) Put(i int, to unix.RawSockaddrInet4, msg []byte) {
	b.names[i] = to
	b.point(i, msg)
}

// Write writes the first count datagrams.
func (b *Batch) Write(fd, count int) error {
	for done := 0; done < count; {
		n, err := b.call(unix.SYS_SENDMMSG, fd, done, count-done, 0)
		if err != nil {
			return err
		}
		done += n
	}
	return nil
}

func (b *Batch) point(i int, buf []byte) {
	b.iovecs[i] = unix.Iovec{Base: &buf[0], Len: uint64(len(buf))}
	b.headers[i] = mmsghdr{header: unix.Msghdr{
		Name: (*byte)(unsafe.Pointer(&b.names[i])), Namelen: unix.SizeofSockaddrInet4,
		Iov: &b.iovecs[i], Iovlen: 1,
	}}
}

// call is recvmmsg or sendmmsg of count datagrams from the first on.
func (b *Batch) call(number uintptr, fd, first, count int, flags uintptr) (int, error) {
	for {
		n, _, errno := unix.Syscall6(number, uintptr(fd), uintptr(unsafe.Pointer(&b.headers[first])), uintptr(count), flags, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		default:
			return 0, fmt.Errorf("system call %d: %w", number, errno)
		}
	}
}
