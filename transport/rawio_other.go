//go:build !linux

package transport

import (
	"errors"
	"syscall"
)

func sysRead(fd uintptr, p []byte) (int, syscall.Errno) {
	n, err := syscall.Read(int(fd), p)
	errno, _ := errors.AsType[syscall.Errno](err)
	return n, errno
}

func sysWrite(fd uintptr, p []byte) (int, syscall.Errno) {
	n, err := syscall.Write(int(fd), p)
	errno, _ := errors.AsType[syscall.Errno](err)
	return n, errno
}
