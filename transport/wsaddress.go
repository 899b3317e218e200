package transport

import (
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// proxies are the addresses that are believed when they say who connects.
type proxies []netip.Prefix

func newProxies(trusted []netip.Prefix) proxies {
	p := make(proxies, 0, len(trusted))
	for _, prefix := range trusted {
		if addr := prefix.Addr(); addr.Is4In6() && prefix.Bits() >= 96 {
			prefix = netip.PrefixFrom(addr.Unmap(), prefix.Bits()-96)
		}
		p = append(p, prefix)
	}
	return p
}

func (p proxies) trust(addr netip.Addr) bool {
	addr = addr.WithZone("")
	return slices.ContainsFunc(p, func(prefix netip.Prefix) bool { return prefix.Contains(addr) })
}

// client returns who sent a request that came from an address: that itself,
// unless it is a proxy's. Each proxy appends to X-Forwarded-For whom it was
// connected to, so the last one that is no proxy of ours is the client; what
// stands before it is the client's own word. Where a proxy has written what is no
// address, it stands for its client.
func (p proxies) client(from netip.AddrPort, header http.Header) netip.AddrPort {
	hops := strings.Split(strings.Join(header["X-Forwarded-For"], ","), ",")
	for i := len(hops) - 1; i >= 0 && p.trust(from.Addr()); i-- {
		hop, ok := parseHop(strings.TrimSpace(hops[i]))
		if !ok {
			return from
		}
		from = hop
	}
	return from
}

// parseHop reads one entry of X-Forwarded-For; some proxies add the port.
func parseHop(text string) (netip.AddrPort, bool) {
	if addr, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil {
		return netip.AddrPortFrom(plain(addr), 0), true
	}
	if hop, err := netip.ParseAddrPort(text); err == nil {
		return netip.AddrPortFrom(plain(hop.Addr()), hop.Port()), true
	}
	return netip.AddrPort{}, false
}

// plain returns an address in the one form in which it is compared and shown.
func plain(addr netip.Addr) netip.Addr { return addr.Unmap().WithZone("") }

// countedAs returns what an address is counted as: whoever has an IPv6 address
// has a /64 of them.
func countedAs(addr netip.Addr) netip.Addr {
	if addr.Is6() {
		addr = netip.PrefixFrom(addr.WithZone(""), 64).Masked().Addr()
	}
	return addr
}

// addrPortOf returns the address of a TCP socket's end.
func addrPortOf(addr net.Addr) netip.AddrPort {
	tcp, ok := addr.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := tcp.AddrPort()
	return netip.AddrPortFrom(plain(ap.Addr()), ap.Port())
}
