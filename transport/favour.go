package transport

import (
	"net/netip"
	"slices"
)

// Favour gives each of the targets that is reached by UDP a socket of its own,
// from the same port, in place of those of the last call. The kernel looks for
// the way to such a peer once and not for every datagram. Where that does not
// work, and to everybody else, datagrams go by the listening socket.
func (s *SIP) Favour(targets []Target) {
	s.favouring.Lock()
	defer s.favouring.Unlock()
	old := s.favoured.Load()
	var sockets []*udpSocket
	for _, to := range targets {
		if to.Proto != ProtoUDP || slices.ContainsFunc(sockets, to.isPeer) {
			continue
		}
		if i := slices.IndexFunc(*old, to.isPeer); i >= 0 {
			sockets = append(sockets, (*old)[i])
		} else if u := s.favour(to); u != nil {
			sockets = append(sockets, u)
		}
	}
	s.favoured.Store(&sockets)
	for _, u := range *old {
		if !slices.Contains(sockets, u) {
			u.close()
		}
	}
}

// isPeer reports whether a socket is the target's own.
func (to Target) isPeer(u *udpSocket) bool {
	return u.peer == to.Addr && (!to.Local.IsValid() || u.addr().Addr() == to.Local)
}

// favour returns the socket of a target, nil without one.
func (s *SIP) favour(to Target) *udpSocket {
	u := s.listening(to.Addr.Addr())
	if u == nil {
		return nil
	}
	own, err := u.dial(to.Local, to.Addr)
	if err != nil {
		return nil
	}
	reading := s.spawn(func() {
		// Unlike a listening socket it can be done without.
		_ = own.read(s.datagram, s.cfg.Unreachable)
		own.close()
	})
	if !reading {
		own.close()
		return nil
	}
	return own
}

// listening returns the listening socket of an address's family, or nil.
func (s *SIP) listening(addr netip.Addr) *udpSocket {
	for _, u := range s.plain.udp {
		if u.is4 == addr.Is4() {
			return u
		}
	}
	return nil
}

// socket returns the one by which datagrams go to an address, or nil.
func (s *SIP) socket(to netip.AddrPort) *udpSocket {
	for _, u := range *s.favoured.Load() {
		if u.peer == to && !u.isClosed() {
			return u
		}
	}
	return s.listening(to.Addr())
}
