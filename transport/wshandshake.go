package transport

import (
	"bufio"
	"cmp"
	"crypto/rand"
	"crypto/tls"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"
	"unique"

	"github.com/gobwas/ws"
)

// subprotocol is that of RFC 7118, in the offer and in the answer.
const subprotocol = "sip"

// retryAfter is when whoever comes while we drain may come again, in seconds: a
// successor is there by then, or a load balancer has taken note.
const retryAfter = "5"

// Refusal says why a handshake was refused. Its String is short and stable,
// fit for the label of a counter.
type Refusal uint8

// The refusals.
const (
	accepted Refusal = iota

	RefusedNotWebSocket  // not an upgrade to WebSocket, or a malformed one
	RefusedVersion       // a Sec-WebSocket-Version that is not 13
	RefusedBody          // an upgrade with a body
	RefusedBadOrigin     // an empty or a second Origin
	RefusedOrigin        // an Origin that is not accepted
	RefusedNoSubprotocol // no subprotocol offered
	RefusedSubprotocol   // sip is not among the subprotocols offered
	RefusedURI           // a Request-URI that is too long
	RefusedConnections   // MaxConnections are open
	RefusedAddress       // MaxPerAddress are open from one address
	RefusedAuth          // WSConfig.Authorize denied it
	RefusedAuthFailed    // WSConfig.Authorize could not find out
	RefusedClosing       // after WSServer.Drain or Close

	// Those that nobody can be told of: the connection is closed.

	RefusedProxyHeader // no right PROXY header, or by whom none is believed
	RefusedHandshakes  // too many of one address that are no WebSocket yet
	RefusedSlow        // closed since others wanted the place
	RefusedUnfinished  // ended before it had asked: TLS failed, time ran out, or the peer went
	endOfRefusals
)

// Refusals returns every refusal there is, so that counters can start at zero.
func Refusals() []Refusal {
	var all []Refusal
	for r := accepted + 1; r < endOfRefusals; r++ {
		all = append(all, r)
	}
	return all
}

func (why Refusal) String() string {
	label, _, _ := why.answer()
	return label
}

// Text describes the refusal, and the HTTP status of the answer, 0 if there is
// none: the connection is closed.
func (why Refusal) Text() (text string, status int) {
	_, status, text = why.answer()
	return text, status
}

// answer returns the label, the HTTP status and what to tell who is refused.
func (why Refusal) answer() (label string, status int, text string) {
	switch why {
	case RefusedNotWebSocket:
		return "not_websocket", http.StatusUpgradeRequired, "This is a SIP over WebSocket endpoint (RFC 7118): it needs a WebSocket handshake (RFC 6455) with subprotocol sip."
	case RefusedVersion:
		return "version", http.StatusUpgradeRequired, "Sec-WebSocket-Version must be 13."
	case RefusedBody:
		return "body", http.StatusBadRequest, "A WebSocket handshake has no body."
	case RefusedBadOrigin:
		return "bad_origin", http.StatusBadRequest, "A WebSocket handshake has at most one Origin, and not an empty one."
	case RefusedOrigin:
		return "origin", http.StatusForbidden, "Pages of this Origin may not connect here."
	case RefusedNoSubprotocol:
		return "no_subprotocol", http.StatusBadRequest, "No subprotocol offered: SIP over WebSocket needs Sec-WebSocket-Protocol: sip."
	case RefusedSubprotocol:
		return "subprotocol", http.StatusBadRequest, "None of the subprotocols offered is spoken here: SIP over WebSocket needs Sec-WebSocket-Protocol: sip."
	case RefusedURI:
		return "uri", http.StatusRequestURITooLong, "The Request-URI is too long."
	case RefusedConnections:
		return "connections", http.StatusServiceUnavailable, "Too many connections."
	case RefusedAddress:
		return "address_connections", http.StatusTooManyRequests, "Too many connections from this address."
	case RefusedAuth:
		return "auth_denied", http.StatusForbidden, "Not allowed to connect here."
	case RefusedAuthFailed:
		return "auth_failed", http.StatusServiceUnavailable, "Whether this may connect here could not be found out."
	case RefusedClosing:
		return "closing", http.StatusServiceUnavailable, "Shutting down."
	case RefusedProxyHeader:
		return "proxy_header", 0, "No right PROXY header, or one that is not believed."
	case RefusedHandshakes:
		return "handshakes", 0, "Too many connections of this address in the handshake."
	case RefusedSlow:
		return "slow", 0, "Slow in the handshake, while others waited for the place."
	case RefusedUnfinished:
		return "unfinished", 0, "Ended before it had asked: TLS failed, time ran out, or the other end went."
	default:
		return fmt.Sprintf("Refusal(%d)", uint8(why)), http.StatusInternalServerError, ""
	}
}

// Denial says how a handshake is refused that WSConfig.Authorize does not admit.
type Denial struct {
	Why Refusal
	// Status takes the place of that of Why, and Header is added to the answer.
	Status int
	Header http.Header
}

// route is the server's HTTP handler.
func (s *WSServer) route(w http.ResponseWriter, r *http.Request) {
	sock := socketOf(r)
	s.door.tell(sock)
	client := s.proxies.client(sock.client(), r.Header)
	r.RemoteAddr = client.String()
	if !s.proxies.trust(sock.client().Addr()) {
		r.Header.Del("X-Forwarded-Proto") // only of those it is true
	}
	if r.URL.Path != s.cfg.Path {
		s.cfg.Other.ServeHTTP(w, r)
		return
	}
	why := s.judge(r)
	if why == accepted {
		why = s.reserve(client.Addr())
	}
	if why != accepted {
		s.refuse(w, r, &Denial{Why: why})
		return
	}
	if c, first := s.accept(w, r, sock, client); c != nil {
		go s.serve(c, first)
	} else {
		s.release(client.Addr())
	}
}

// accept makes a connection of a handshake that a place is kept for, or answers
// otherwise and returns nil.
func (s *WSServer) accept(w http.ResponseWriter, r *http.Request, sock *wsSocket, client netip.AddrPort) (*WSConn, *[]byte) {
	if !s.door.seat(sock) {
		return nil, nil // closed for another one
	}
	var grant any
	if s.cfg.Authorize != nil {
		var denied *Denial
		if grant, denied = s.cfg.Authorize(r, client.Addr()); denied != nil {
			s.refuse(w, r, denied)
			return nil, nil
		}
	}
	c, first, err := s.upgrade(w, r)
	if err != nil {
		return nil, nil // what broke is the connection: there is nobody to tell
	}
	c.remote, c.Grant = client, grant
	return c, first
}

// judge returns what is wrong with a handshake.
func (s *WSServer) judge(r *http.Request) Refusal {
	origin := r.Header["Origin"]
	switch {
	case len(r.RequestURI) > handshakeMaxURI:
		return RefusedURI
	case !asksUpgrade(r):
		return RefusedNotWebSocket
	case only(r.Header, "Sec-Websocket-Version") != "13":
		return RefusedVersion
	case !validKey(only(r.Header, "Sec-Websocket-Key")):
		return RefusedNotWebSocket
	case r.ContentLength != 0:
		return RefusedBody
	case len(origin) > 1, len(origin) == 1 && origin[0] == "":
		return RefusedBadOrigin
	case len(origin) == 1 && !s.origins.admits(origin[0], r.Host):
		return RefusedOrigin
	case len(r.Header["Sec-Websocket-Protocol"]) == 0:
		return RefusedNoSubprotocol
	case !hasToken(r.Header, "Sec-Websocket-Protocol", func(t string) bool { return t == subprotocol }):
		return RefusedSubprotocol
	default:
		return accepted
	}
}

// asksUpgrade follows RFC 6455 4.2.1, items 1 to 4.
func asksUpgrade(r *http.Request) bool {
	return r.Method == http.MethodGet && r.ProtoAtLeast(1, 1) && r.Host != "" &&
		strings.EqualFold(only(r.Header, "Upgrade"), "websocket") &&
		hasToken(r.Header, "Connection", func(t string) bool { return strings.EqualFold(t, "upgrade") })
}

// only returns the value of a field that must come once, else "".
func only(h http.Header, field string) string {
	if values := h[field]; len(values) == 1 {
		return values[0]
	}
	return ""
}

// hasToken reports whether one of the comma-separated tokens of a field matches.
func hasToken(h http.Header, field string, matches func(string) bool) bool {
	for _, line := range h[field] {
		for token := range strings.SplitSeq(line, ",") {
			if matches(strings.TrimSpace(token)) {
				return true
			}
		}
	}
	return false
}

// validKey: RFC 6455 4.2.1: "a base64-encoded value that, when decoded, is 16
// bytes in length".
func validKey(key string) bool {
	nonce, err := base64.StdEncoding.DecodeString(key)
	return err == nil && len(nonce) == 16
}

// refuse answers a handshake that cannot be accepted.
func (s *WSServer) refuse(w http.ResponseWriter, r *http.Request, denied *Denial) {
	why := denied.Why
	s.cfg.Refused(r, why)
	_, status, text := why.answer()
	status = cmp.Or(denied.Status, status)
	maps.Copy(w.Header(), denied.Header)
	switch {
	case why == RefusedNotWebSocket && r.Method != http.MethodGet:
		w.Header().Set("Allow", http.MethodGet)
		status = http.StatusMethodNotAllowed
	case why == RefusedNotWebSocket, why == RefusedVersion:
		// RFC 9110 15.5.22: "The server MUST send an Upgrade header field in a 426
		// response to indicate the required protocol(s)".
		w.Header().Set("Upgrade", "websocket")
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Sec-WebSocket-Version", "13")
	case why == RefusedClosing:
		w.Header().Set("Retry-After", retryAfter)
		fallthrough
	default:
		w.Header().Set("Connection", "close")
	}
	http.Error(w, text, status)
}

// upgrade answers the handshake and takes the connection out of net/http,
// together with what the browser sent already.
func (s *WSServer) upgrade(w http.ResponseWriter, r *http.Request) (*WSConn, *[]byte, error) {
	// The upgrader looks at the first of several Connection lines only.
	r.Header.Set("Connection", "Upgrade")
	upgrader := ws.HTTPUpgrader{
		Timeout: s.cfg.HandshakeTimeout,
		Header:  http.Header{"Sec-WebSocket-Protocol": {subprotocol}},
	}
	stream, rw, _, err := upgrader.Upgrade(r, w)
	if err != nil {
		if stream != nil {
			stream.Close()
		}
		return nil, nil, err
	}
	c, err := s.newConn(stream, r.Host)
	if err != nil {
		stream.Close()
		return nil, nil, err
	}
	return c, s.early(rw.Reader), nil
}

// early copies what net/http read beyond the handshake, so that nothing of its
// buffers lives on. Nil if that is nothing.
func (s *WSServer) early(r *bufio.Reader) *[]byte {
	n := r.Buffered()
	if n == 0 {
		return nil
	}
	p, _ := r.Peek(n) // what is buffered can be had
	return s.buffers.extend(nil, p)
}

// newConn makes a connection of an upgraded stream, which must not block from
// now on.
func (s *WSServer) newConn(stream net.Conn, host string) (*WSConn, error) {
	c := &WSConn{server: s, sock: socketUnder(stream), host: unique.Make(host), quietSince: uptime(time.Now())}
	c.secure, _ = stream.(*tls.Conn)
	if local, ok := c.sock.LocalAddr().(*net.TCPAddr); ok {
		ap := local.AddrPort()
		c.local = unique.Make(netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()))
	}
	var id [8]byte
	rand.Read(id[:])
	c.id = binary.BigEndian.Uint64(id[:])
	return c, c.sock.detach(s.pollers)
}

// originPolicy decides which pages may connect.
type originPolicy struct {
	any, own bool
	listed   map[string]bool
}

func newOriginPolicy(origins []string) originPolicy {
	p := originPolicy{own: len(origins) == 0, listed: make(map[string]bool, len(origins))}
	for _, o := range origins {
		p.any = p.any || o == "*"
		scheme, host := splitOrigin(o)
		p.listed[scheme+"://"+host] = true
	}
	return p
}

func (p originPolicy) admits(origin, requestHost string) bool {
	scheme, host := splitOrigin(origin)
	switch {
	case p.any:
		return true
	case p.own:
		// Behind a proxy that ends TLS the scheme is not the one seen here.
		return host != "" && host == withoutDefaultPort(scheme, requestHost)
	default:
		return p.listed[scheme+"://"+host]
	}
}

// splitOrigin returns scheme and host[:port] of an origin, in lower case and
// without the port that the scheme implies: browsers leave that out.
func splitOrigin(origin string) (scheme, host string) {
	u, err := url.Parse(origin)
	if err != nil || u.Host == "" {
		return origin, "" // "null", or a scheme with an opaque origin
	}
	return u.Scheme, withoutDefaultPort(u.Scheme, u.Host)
}

func withoutDefaultPort(scheme, host string) string {
	host = strings.ToLower(host)
	switch scheme {
	case "http":
		return strings.TrimSuffix(host, ":80")
	case "https":
		return strings.TrimSuffix(host, ":443")
	default:
		return host
	}
}
