package gateway

import (
	"bytes"
	"net/netip"
	"testing"
)

// TestStrangers: only the upstreams and --allow-peer may speak on the SIP side,
// and nothing at all comes back to anybody else.
func TestStrangers(t *testing.T) {
	l := newLab(t)
	alice := l.phone("alice")
	token := l.registered(alice)
	stranger := l.newPBXAt("127.0.0.9:0")
	for _, msg := range []sip{
		stranger.request("OPTIONS", token), stranger.request("OPTIONS", "sip:x@y"), "nonsense\r\n\r\n", "\r\n\r\n",
		l.up(alice, alice.request("MESSAGE", "sip:bob@pbx.example")).reply("200 OK"),
	} {
		before := l.dropped()
		stranger.send(msg)
		l.expectReached(alice, token)
		l.expectDropped(before, ReasonStranger)
	}
	// Behind all that was read from the stranger, only this has come to it.
	sentinel := []byte("nothing came before")
	if _, err := l.pbx.conn.WriteTo(sentinel, stranger.conn.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	if got := stranger.read(); !bytes.Equal([]byte(got), sentinel) {
		t.Errorf("the stranger was answered\n%s", got)
	}
}

func TestStrangersByTCP(t *testing.T) {
	l := newLab(t)
	alice := l.phone("alice")
	token := l.registered(alice)
	before, refused := l.dropped(), l.log.count("refused")
	stranger := l.dialTCP("127.0.0.9:0")
	_, _ = stranger.conn.Write([]byte(l.pbx.request("OPTIONS", token))) // may find the connection closed
	stranger.expectClosed()
	l.log.await("refused", refused+1)
	l.expectDropped(before, ReasonStranger)
	l.expectReached(alice, token)
}

func TestAllowPeer(t *testing.T) {
	l := newLab(t, func(c *Config) { c.AllowPeers = []netip.Prefix{netip.MustParsePrefix("127.0.0.8/31")} })
	alice := l.phone("alice")
	token := l.registered(alice)
	peer := l.newPBXAt("127.0.0.9:0")
	peer.send(peer.request("OPTIONS", token))
	alice.send(alice.read().reply("200 OK"))
	if got := peer.read(); got.start() != "SIP/2.0 200 OK" {
		t.Errorf("the peer gets %s", got)
	}
	byTCP := l.dialTCP("127.0.0.9:0")
	byTCP.send(peer.request("OPTIONS", token))
	alice.send(alice.read().reply("200 OK"))
	if got := byTCP.read(); got.start() != "SIP/2.0 200 OK" {
		t.Errorf("the peer gets %s", got)
	}
	stranger := l.dialTCP("127.0.0.7:0")
	stranger.expectClosed()
}

// TestFormerPeer: the seal of a peer that was allowed once is no way to it.
func TestFormerPeer(t *testing.T) {
	l := newLab(t, withKeyFile(t), func(c *Config) { c.AllowPeers = []netip.Prefix{netip.MustParsePrefix("127.0.0.9/32")} })
	alice := l.phone("alice")
	peer := l.newPBXAt("127.0.0.9:0")
	peer.send(peer.request("OPTIONS", l.registered(alice)))
	req := alice.read()
	l.cfg.AllowPeers = nil
	l.restart()
	alice = alice.again(l)
	before := l.dropped()
	alice.send(req.reply("200 OK"))
	l.expectAlive(alice)
	l.expectDropped(before, ReasonPBXGone)
	t.Logf("attack: %s | %s | %s", "the seal of a peer that is allowed no more, answered by a browser", "no datagram goes there", "viaduct_dropped_total{reason=\"pbx_gone\"} 1")
}

// TestAlias: an upstream speaks from its aliases too.
func TestAlias(t *testing.T) {
	l := newLab(t, func(c *Config) { c.Upstreams = upstreams(t, c.Upstreams[0].String()+";alias=127.0.0.9") })
	alice := l.phone("alice")
	token := l.registered(alice)
	alias := l.newPBXAt("127.0.0.9:0")
	alias.send(alias.request("OPTIONS", token))
	alice.send(alice.read().reply("200 OK"))
	if got := alias.read(); got.start() != "SIP/2.0 200 OK" {
		t.Errorf("the alias gets %s", got)
	}
}
