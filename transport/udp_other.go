//go:build !linux

package transport

import (
	"net/netip"
	"syscall"
)

// Elsewhere than on Linux the kernel chooses the source address of datagrams
// on a wildcard socket, and tells nothing about those that were sent.

func prepareDatagrams(syscall.RawConn, bool) error { return nil }

func belated(syscall.Errno) bool { return false }

func nextError(syscall.RawConn, []byte) (datagramError, bool) { return datagramError{}, false }

func destination([]byte) netip.Addr { return netip.Addr{} }

func newControl(bool) []byte { return nil }

func setSource([]byte, netip.Addr) {}
