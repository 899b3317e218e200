package transport

import (
	"bytes"
	"crypto/tls"
	"reflect"
)

// largeTLSBuffer is when a buffer is worth giving back, in bytes: a pong needs
// no more.
const largeTLSBuffer = 1 << 10

// trimTLS gives back the buffers for what has arrived, which crypto/tls keeps as
// large as the largest record was: after the ClientHello of a browser some 5 kB,
// more than all else that a connection has. There is no way to ask for it, so
// it is done to the empty buffers themselves; if crypto/tls has them elsewhere one
// day, nothing happens but that a test fails. The caller is the goroutine that
// reads, and not reading.
func trimTLS(c *tls.Conn) {
	for _, name := range [...]string{"rawInput", "hand"} {
		if b := tlsBuffer(c, name); b != nil && b.Len() == 0 && b.Cap() > largeTLSBuffer {
			*b = bytes.Buffer{}
		}
	}
}

// tlsBuffer returns a field of c, nil if there is none of that kind.
func tlsBuffer(c *tls.Conn, name string) *bytes.Buffer {
	field := reflect.ValueOf(c).Elem().FieldByName(name)
	if !field.IsValid() || field.Type() != reflect.TypeFor[bytes.Buffer]() {
		return nil
	}
	return (*bytes.Buffer)(field.Addr().UnsafePointer())
}
