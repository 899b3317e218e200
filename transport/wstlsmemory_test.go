package transport

import (
	"strings"
	"testing"

	"github.com/gobwas/ws"
)

// What a TLS handshake and a large message needed is given back: the first at
// once, the second when the connection has been calm.
func TestWSSGivesBack(t *testing.T) {
	server, client := wssConfigs(t)
	kept := make(chan int, 1)
	s := startWS(t, WSConfig{Message: func(c *WSConn, _ []byte) {
		total := 0
		for _, name := range []string{"rawInput", "hand"} {
			b := tlsBuffer(c.secure, name)
			if b == nil {
				t.Errorf("crypto/tls has no %s any more", name)
				continue
			}
			total += b.Cap()
		}
		kept <- total
	}}, server)
	for _, letter := range []string{"x", "y", "z"} { // a ClientHello as long as a browser's
		client.NextProtos = append(client.NextProtos, strings.Repeat(letter, 250))
	}
	client.NextProtos = append(client.NextProtos, "http/1.1")
	p, c := s.dialTLS(t, nil, client)
	after := func(message string) int {
		t.Helper()
		p.raw(text(message))
		return next(t, kept)
	}

	const little = 2 * largeTLSBuffer
	if n := after("small"); n > little {
		t.Errorf("%d bytes after the handshake", n)
	}
	after(strings.Repeat("large", 2000))
	if n := after("small"); n <= little {
		t.Errorf("%d bytes after a large message: there is nothing to give back", n)
	}
	c.calm.Store(true)
	p.raw(frame(ws.OpPong, true, ""))
	until(t, "the calm is noticed", func() bool { return !c.calm.Load() })
	if n := after("small"); n > little {
		t.Errorf("%d bytes once it was calm", n)
	}
}
