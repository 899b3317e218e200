package gateway

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"viaduct/rewrite"
	"viaduct/transport"
)

// Upstream is one SIP server as it was named: `sip:host[:port][;transport=
// udp|tcp|tls][;alias=HOST]…`, or `sips:`. The zero value is none.
type Upstream struct {
	// Host is a name or an IP address, IPv6 without brackets.
	Host string
	// Port is 0 where it was left out: a name is then resolved by SRV.
	Port uint16
	// Proto is how the server is spoken to.
	Proto transport.Proto
	// Aliases are further hosts that the server speaks from or names in its Contact.
	Aliases []string

	text string
}

// ParseUpstream reads an upstream's URI.
func ParseUpstream(text string) (Upstream, error) {
	uri, ok := rewrite.ParseURI([]byte(text))
	if !ok {
		return Upstream{}, fmt.Errorf("%q is no URI of the form sip:host[:port][;transport=udp|tcp|tls]", text)
	}
	if len(uri.User) > 0 || strings.Contains(text, "?") {
		return Upstream{}, fmt.Errorf("%q: an upstream is a server, without user and headers", text)
	}
	u := Upstream{Host: strings.Trim(string(uri.Host), "[]"), Port: uri.Port, text: text}
	if uri.Secure {
		u.Proto = transport.ProtoTLS
	}
	for param := range strings.SplitSeq(strings.TrimPrefix(string(uri.Params), ";"), ";") {
		if err := u.set(param, uri.Secure); err != nil {
			return Upstream{}, fmt.Errorf("%q: %w", text, err)
		}
	}
	return u, nil
}

func (u *Upstream) set(param string, secure bool) error {
	name, value, _ := strings.Cut(param, "=")
	switch strings.ToLower(name) {
	case "":
		return nil
	case "alias":
		if value == "" {
			return errors.New("alias needs a host")
		}
		u.Aliases = append(u.Aliases, strings.Trim(value, "[]"))
		return nil
	case "transport":
		proto, ok := map[string]transport.Proto{
			"udp": transport.ProtoUDP, "tcp": transport.ProtoTCP, "tls": transport.ProtoTLS,
		}[strings.ToLower(value)]
		if !ok {
			return fmt.Errorf("transport %q is none of udp, tcp and tls", value)
		}
		if secure && proto == transport.ProtoUDP {
			return errors.New("sips goes by TLS, not by UDP")
		}
		if !secure {
			u.Proto = proto
		}
		return nil
	}
	return fmt.Errorf("unknown parameter %q", name)
}

// UnmarshalText reads an upstream's URI, for flags.
func (u *Upstream) UnmarshalText(text []byte) (err error) {
	*u, err = ParseUpstream(string(text))
	return err
}

// String returns the URI as it was given.
func (u Upstream) String() string { return u.text }

// port is the port to which the server listens where none is given.
func (u *Upstream) port() uint16 {
	return cmp.Or(u.Port, defaultPort(u.Proto))
}

// defaultPort is the port of a transport (RFC 3261 18.2.2 and 19.1.2).
func defaultPort(proto transport.Proto) uint16 {
	if proto == transport.ProtoTLS {
		return 5061
	}
	return 5060
}

// upstream is an Upstream in use.
type upstream struct {
	Upstream
	health
	id       uint32 // names it in seals: the same in every run
	locating sync.Mutex
	route    atomic.Pointer[route] // written by who holds locating
}

func newUpstream(u Upstream) *upstream {
	up := &upstream{Upstream: u, id: upstreamID(u.String())}
	up.doubts = make(chan struct{}, 1)
	up.route.Store(&route{})
	return up
}

// reachable reports whether new work may go there.
func (u *upstream) reachable() bool { return u.alive() && u.main() != nil }

// route is where an upstream is now and how the gateway appears to it. It is
// replaced as a whole when the name resolves to something else.
type route struct {
	legs  [numProtos]*leg // by transport; the upstream's own and, for UDP, TCP
	addrs []netip.Addr    // whatever is accepted as this upstream, aliases too
}

// leg is the way to one upstream by one transport.
type leg struct {
	upstream *upstream
	target   transport.Target
	max      int    // largest message, bytes
	via      []byte // `SIP/2.0/UDP GW;rport;branch=z9hG4bK`, for the seal to follow
	contact  []byte // `@GW;transport=tcp>`, to follow the token
	host     []byte // GW: `host:port`
}

const numProtos = 3

func newLeg(u *upstream, target transport.Target, host string, max int) *leg {
	l := &leg{upstream: u, target: target, host: []byte(host), max: max}
	l.via = fmt.Appendf(nil, "SIP/2.0/%s %s;rport;branch=z9hG4bK", target.Proto, host)
	l.contact = fmt.Appendf(nil, "@%s", host)
	if target.Proto != transport.ProtoUDP {
		l.contact = fmt.Appendf(l.contact, ";transport=%s", strings.ToLower(target.Proto.String()))
	}
	l.contact = append(l.contact, '>')
	return l
}

// main returns the leg by the upstream's own transport.
func (u *upstream) main() *leg { return u.leg(u.Proto) }

// leg returns the leg by that transport, else the upstream's own.
func (u *upstream) leg(p transport.Proto) *leg {
	r := u.route.Load()
	if l := r.legs[p]; l != nil {
		return l
	}
	return r.legs[u.Proto]
}

// names reports whether a URI's host and port, as they stand in a Route or
// Request-URI, mean this upstream.
func (u *upstream) names(host []byte, port uint16) bool {
	host = bytes.Trim(host, "[]")
	if port == 0 {
		port = 5060
		if u.Proto == transport.ProtoTLS {
			port = 5061
		}
	}
	for _, l := range u.route.Load().legs {
		if l != nil && l.target.Addr.Port() == port && sameAddr(host, l.target.Addr.Addr()) {
			return true
		}
	}
	return port == u.port() && strings.EqualFold(string(host), u.Host)
}

// known reports whether a host, whatever the port, means this upstream.
func (u *upstream) known(host []byte) bool {
	host = bytes.Trim(host, "[]")
	if strings.EqualFold(string(host), u.Host) {
		return true
	}
	for _, alias := range u.Aliases {
		if strings.EqualFold(string(host), alias) {
			return true
		}
	}
	for _, addr := range u.route.Load().addrs {
		if sameAddr(host, addr) {
			return true
		}
	}
	return false
}

// likeness says how well a source fits the upstream, 0 if it is another's: hosts
// may run several servers, told apart by transport and port.
func (u *upstream) likeness(proto transport.Proto, from netip.AddrPort) int {
	r := u.route.Load()
	l := r.legs[proto]
	switch {
	case !slices.Contains(r.addrs, from.Addr().WithZone("")):
		return 0
	case l == nil:
		return 1
	case l.target.Addr.Port() == from.Port():
		return 4
	case u.Proto == proto:
		return 3
	}
	return 2
}

func sameAddr(host []byte, addr netip.Addr) bool {
	var buf [64]byte
	return bytes.EqualFold(host, addr.AppendTo(buf[:0])) // IPv6 may be in upper case
}

// hostPort writes a host and port as they stand in a URI or Via.
func hostPort(host string, port uint16) string {
	if strings.Contains(host, ":") {
		host = "[" + strings.Trim(host, "[]") + "]"
	}
	return host + ":" + strconv.Itoa(int(port))
}
