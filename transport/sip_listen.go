package transport

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"syscall"
)

// portAttempts is how many free ports are tried for one that UDP and TCP both
// have free.
const portAttempts = 32

// listenSet is the sockets of one listen address: of one family or of both,
// all on one port.
type listenSet struct {
	addr netip.AddrPort // of the first
	udp  []*udpSocket
	tcp  []*net.TCPListener
}

// listen opens a TCP listener, and a UDP socket if udp is set, for each family
// that hostport stands for.
func listen(hostport string, udp bool) (*listenSet, error) {
	addrs, err := listenAddrs(hostport)
	if err != nil {
		return nil, err
	}
	for attempt := 1; ; attempt++ {
		set, err := openSet(addrs, udp)
		if err == nil || addrs[0].Port() != 0 || attempt == portAttempts || !errors.Is(err, syscall.EADDRINUSE) {
			return set, err
		}
	}
}

// listenAddrs returns the addresses to bind for hostport. Without a host it is
// a socket for each family, so that every address is seen in its own form.
func listenAddrs(hostport string) ([]netip.AddrPort, error) {
	a, err := net.ResolveTCPAddr("tcp", hostport)
	if err != nil {
		return nil, err
	}
	ip, port := a.AddrPort().Addr().Unmap(), a.AddrPort().Port()
	if ip.IsValid() && ip != netip.IPv6Unspecified() {
		return []netip.AddrPort{netip.AddrPortFrom(ip, port)}, nil
	}
	return []netip.AddrPort{
		netip.AddrPortFrom(netip.IPv4Unspecified(), port),
		netip.AddrPortFrom(netip.IPv6Unspecified(), port),
	}, nil
}

func openSet(addrs []netip.AddrPort, udp bool) (*listenSet, error) {
	set := &listenSet{}
	for i, at := range addrs {
		if i > 0 {
			at = netip.AddrPortFrom(at.Addr(), set.addr.Port())
		}
		err := set.open(at, udp)
		if i > 0 && errors.Is(err, syscall.EAFNOSUPPORT) {
			break // a host without IPv6
		}
		if err != nil {
			set.close()
			return nil, err
		}
	}
	return set, nil
}

func (set *listenSet) open(at netip.AddrPort, udp bool) error {
	if udp {
		u, err := listenUDP(at)
		if err != nil {
			return err
		}
		set.udp = append(set.udp, u)
		at = u.addr()
	}
	l, err := listenTCP(at)
	if err != nil {
		return err
	}
	set.tcp = append(set.tcp, l)
	if !set.addr.IsValid() {
		set.addr = l.Addr().(*net.TCPAddr).AddrPort()
	}
	return nil
}

func (set *listenSet) close() {
	for _, u := range set.udp {
		u.close()
	}
	for _, l := range set.tcp {
		l.Close()
	}
}

// listenTCP opens a listener from whose port connections can be dialled as well.
//
// That takes SO_REUSEPORT, with which a second process of the same user could
// bind the port too and silently receive half of the connections. So the port
// is bound without it first, which fails if anybody listens there.
func listenTCP(at netip.AddrPort) (*net.TCPListener, error) {
	network := tcpNetwork(at.Addr())
	probe, err := net.ListenTCP(network, net.TCPAddrFromAddrPort(at))
	if err != nil {
		return nil, err
	}
	at = probe.Addr().(*net.TCPAddr).AddrPort()
	if err := probe.Close(); err != nil {
		return nil, err
	}
	config := net.ListenConfig{Control: prepareSocket}
	l, err := config.Listen(context.Background(), network, at.String())
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener), nil
}

func tcpNetwork(ip netip.Addr) string {
	if ip.Is4() {
		return "tcp4"
	}
	return "tcp6" // IPV6_V6ONLY
}
