package transport

import (
	"bufio"
	"errors"
	"net"
	"net/netip"
	"sync/atomic"

	// The header has two versions, one of them binary, and several ways to be
	// read wrong.
	"github.com/pires/go-proxyproto"
)

// proxyHeadBuffer has room for the usual header of either version.
const proxyHeadBuffer = 256

// errHandshakes ends a socket whose client has too many that are no WebSocket yet.
var errHandshakes = errors.New("transport: too many sockets in handshake")

// proxyHead is the PROXY protocol's header before all else that comes by a
// proxy's socket. It is read with the first bytes that anyone wants, and under
// the same deadline.
type proxyHead struct {
	done   bool
	err    error
	rest   []byte                         // what was read behind it
	client atomic.Pointer[netip.AddrPort] // nil if the proxy itself speaks, to see whether we live
}

// read is the Read of a socket that has a header before it.
func (h *proxyHead) read(s *wsSocket, p []byte) (int, error) {
	if !h.done {
		h.done = true
		if h.err = h.receive(s); h.err != nil {
			// In this form net/http has nothing to say to the other end.
			h.err = &net.OpError{Op: "read", Net: "tcp", Source: s.LocalAddr(), Addr: s.RemoteAddr(), Err: h.err}
		}
	}
	if h.err != nil {
		return 0, h.err
	}
	if len(h.rest) > 0 {
		n := copy(p, h.rest)
		h.rest = h.rest[n:]
		return n, nil
	}
	return s.TCPConn.Read(p)
}

// receive reads the header. A socket without a right one is told from others by
// its refusal.
func (h *proxyHead) receive(s *wsSocket) error {
	r := bufio.NewReaderSize(s.TCPConn, proxyHeadBuffer)
	client, err := readProxyHeader(r)
	if err != nil {
		s.refuse(RefusedProxyHeader)
		return err
	}
	h.rest, _ = r.Peek(r.Buffered()) // what is buffered can be had
	if !client.IsValid() {
		return nil
	}
	h.client.Store(&client)
	if why := s.server.door.name(s, client.Addr()); why != accepted {
		s.refuse(why)
		return errHandshakes
	}
	return nil
}

// readProxyHeader reads one header and returns whose connection it begins, which
// is not valid for one of the proxy's own.
func readProxyHeader(r *bufio.Reader) (client netip.AddrPort, err error) {
	header, err := proxyproto.Read(r)
	if err != nil || header.Command.IsLocal() {
		return client, err
	}
	source, ok := header.SourceAddr.(*net.TCPAddr)
	if !ok {
		return client, proxyproto.ErrUnsupportedAddressFamilyAndProtocol
	}
	return addrPortOf(source), nil
}
