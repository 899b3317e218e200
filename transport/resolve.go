package transport

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
)

// Default ports, RFC 3261 19.1.2.
const (
	sipPort  = 5060
	sipsPort = 5061
)

// Resolve returns the addresses of a SIP server in the order in which to try
// them (RFC 3263 4.2): an IP literal as it is; a name with a port by A and
// AAAA; a name without (port 0) by the SRV records of the protocol, and if there
// are none by A and AAAA on the default port. sips asks for TLS whatever proto
// says. There is at least one address unless there is an error.
//
// The order depends on nothing but the records, so that the users of one
// gateway register and call on the same server before and after it looks
// again: SRV records by priority, heavier ones first, then by name; the addresses
// of one name by the family that the resolver prefers, then by number.
func Resolve(ctx context.Context, r *net.Resolver, host string, port uint16, proto Proto, sips bool) ([]netip.AddrPort, error) {
	secure := sips || proto == ProtoTLS
	defaultPort := uint16(sipPort)
	if secure {
		defaultPort = sipsPort
	}
	if ip, err := netip.ParseAddr(strings.Trim(host, "[]")); err == nil {
		return []netip.AddrPort{netip.AddrPortFrom(ip.Unmap(), cmp.Or(port, defaultPort))}, nil
	}
	if port != 0 {
		return lookupHost(ctx, r, host, port)
	}
	service, name := "sip", strings.ToLower(proto.String())
	if secure {
		service, name = "sips", "tcp"
	}
	_, records, err := r.LookupSRV(ctx, service, name, host)
	if isNotFound(err) {
		return lookupHost(ctx, r, host, defaultPort)
	}
	if len(records) == 0 {
		return nil, err
	}
	return lookupTargets(ctx, r, records)
}

// lookupTargets resolves every record's target. Those that have no address are
// left out, unless none has.
func lookupTargets(ctx context.Context, r *net.Resolver, records []*net.SRV) ([]netip.AddrPort, error) {
	slices.SortFunc(records, func(a, b *net.SRV) int {
		return cmp.Or(
			cmp.Compare(a.Priority, b.Priority),
			cmp.Compare(b.Weight, a.Weight),
			strings.Compare(a.Target, b.Target),
			cmp.Compare(a.Port, b.Port))
	})
	var found []netip.AddrPort
	var failed error
	for _, record := range records {
		// RFC 2782: "A Target of "." means that the service is decidedly not
		// available at this domain."
		if record.Target == "." {
			continue
		}
		addrs, err := lookupHost(ctx, r, record.Target, record.Port)
		failed = errors.Join(failed, err)
		for _, a := range addrs {
			if !slices.Contains(found, a) {
				found = append(found, a)
			}
		}
	}
	switch {
	case len(found) > 0:
		return found, nil
	case failed != nil:
		return nil, failed
	}
	return nil, errors.New("transport: the domain offers no such SIP service")
}

func lookupHost(ctx context.Context, r *net.Resolver, host string, port uint16) ([]netip.AddrPort, error) {
	ips, err := r.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	addrs := make([]netip.AddrPort, 0, len(ips))
	for _, ip := range ips {
		addrs = append(addrs, netip.AddrPortFrom(ip.Unmap(), port))
	}
	// RFC 6724 has put the family to prefer first; within it the name server
	// may turn the records round for every question.
	preferred := addrs[0].Addr().Is4()
	slices.SortFunc(addrs, func(a, b netip.AddrPort) int {
		switch is4 := a.Addr().Is4(); {
		case is4 == b.Addr().Is4():
			return a.Compare(b)
		case is4 == preferred:
			return -1
		}
		return 1
	})
	return slices.Compact(addrs), nil
}

func isNotFound(err error) bool {
	var dns *net.DNSError
	return errors.As(err, &dns) && dns.IsNotFound
}
