package gateway

import "testing"

// TestOwnAddr: an advertised address is the source of packets if it is this
// machine's own, and only then.
func TestOwnAddr(t *testing.T) {
	for text, own := range map[string]bool{
		"127.0.0.1": true, "127.0.0.1:5070": true,
		"192.0.2.1": false, "192.0.2.1:5070": false, "gw.example": false, "": false,
	} {
		addr, ok := ownAddr(text)
		if ok != own || own && addr.String() != "127.0.0.1" {
			t.Errorf("%q: %v, %v", text, addr, ok)
		}
	}
}
