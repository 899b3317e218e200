// Package transport owns the sockets of the gateway and the framing of SIP on
// them. It knows nothing about the routing of SIP messages:
//
//	browser ── WebSocket (RFC 6455, RFC 7118) ── WSServer ──┐
//	                                                        ├── whole SIP messages
//	PBX ────── UDP datagrams, TCP and TLS streams ──────────┘
//
// Both halves hand up one whole message at a time, in memory that is valid
// until the handler returns, and take one whole message to send. Sending never
// waits for a peer: what the kernel does not take is kept up to a bound, past
// which the peer is given up.
//
// The package returns errors and reports typed causes; it does not log.
package transport
