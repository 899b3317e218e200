//go:build !linux

package transport

import (
	"net"
	"net/netip"
)

// Elsewhere than on Linux the kernel chooses the source address of datagrams
// on a wildcard socket.

func askDestination(*net.UDPConn, bool) error { return nil }

func destination([]byte) netip.Addr { return netip.Addr{} }

func newControl(bool) []byte { return nil }

func setSource([]byte, netip.Addr) {}
