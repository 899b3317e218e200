package transport

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/netip"
)

// enter makes a socket of a TCP connection that was accepted, or closes it and
// returns nil.
func (s *WSServer) enter(tcp *net.TCPConn) *wsSocket {
	sock := &wsSocket{TCPConn: tcp, server: s}
	from := addrPortOf(tcp.RemoteAddr()).Addr()
	proxy := s.proxies.trust(from)
	if s.cfg.ProxyProtocol {
		if !proxy {
			// The protocol's section 2: "The receiver MUST be configured to only receive
			// the protocol described in this specification and MUST not try to guess
			// whether the protocol header is present or not."
			return sock.turnAway(RefusedProxyHeader)
		}
		sock.head = new(proxyHead)
	}
	if proxy {
		from = netip.Addr{} // whose socket it is will be said
	}
	out, why := s.door.enter(sock, from)
	if out != nil {
		out.turnAway(RefusedSlow)
	}
	if why != accepted {
		return sock.turnAway(why)
	}
	return sock
}

// turnAway closes a socket that has not been heard.
func (s *wsSocket) turnAway(why Refusal) *wsSocket {
	s.server.cfg.Unasked(s.client(), why)
	_ = s.SetLinger(0)
	s.TCPConn.Close()
	return nil
}

// refuse counts a guest that was heard in part; whoever reads it closes it.
func (s *wsSocket) refuse(why Refusal) {
	s.server.door.tell(s)
	s.server.cfg.Unasked(s.client(), why)
}

// client returns who has opened the socket, as far as the PROXY header says it.
func (s *wsSocket) client() netip.AddrPort {
	if s.head != nil {
		if client := s.head.client.Load(); client != nil {
			return *client
		}
	}
	return addrPortOf(s.RemoteAddr())
}

// socketKey is under which a request's context has its socket.
type socketKey struct{}

// withSocket is the ConnContext of the HTTP server.
func withSocket(ctx context.Context, conn net.Conn) context.Context {
	return context.WithValue(ctx, socketKey{}, socketUnder(conn))
}

func socketOf(r *http.Request) *wsSocket { return r.Context().Value(socketKey{}).(*wsSocket) }

// socketUnder returns the socket of one of our own listener's connections.
func socketUnder(conn net.Conn) *wsSocket {
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn()
	}
	return conn.(*wsSocket)
}
