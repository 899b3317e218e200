package gateway

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
)

// homer receives what a gateway copies.
type homer struct {
	t    *scope
	conn *net.UDPConn
}

// newHomer makes a lab's gateway copy what passes to it.
func (l *lab) newHomer() *homer {
	l.t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = conn.Close() })
	l.cfg.HEP = conn.LocalAddr().String()
	return &homer{l.t, conn}
}

// chunks reads the next copy: its chunks by type.
func (h *homer) chunks() map[uint16][]byte {
	h.t.Helper()
	_ = h.conn.SetReadDeadline(time.Now().Add(patience))
	buf := make([]byte, 65536)
	n, err := h.conn.Read(buf)
	if err != nil {
		h.t.Fatal(err)
	}
	if string(buf[:4]) != "HEP3" || int(binary.BigEndian.Uint16(buf[4:])) != n {
		h.t.Fatalf("%q of %d bytes", buf[:6], n)
	}
	chunks := map[uint16][]byte{}
	for rest := buf[6:n]; len(rest) > 0; {
		size := binary.BigEndian.Uint16(rest[4:])
		chunks[binary.BigEndian.Uint16(rest[2:])] = rest[6:size]
		rest = rest[size:]
	}
	return chunks
}

// way tells a copy in a line: between whom, by what, and its first line.
func way(c map[uint16][]byte, names map[netip.AddrPort]string) string {
	end := func(addr, port uint16) string {
		ip, _ := netip.AddrFromSlice(c[addr])
		at := netip.AddrPortFrom(ip, binary.BigEndian.Uint16(c[port]))
		if name := names[at]; name != "" {
			return name
		}
		return at.String()
	}
	first, _, _ := strings.Cut(string(c[0x0f]), "\r\n")
	first, _, _ = strings.Cut(first, " sip:")
	return fmt.Sprintf("%s > %s %d %s", end(3, 7), end(4, 8), c[2][0], first)
}

// TestHEP: the collector gets each message as it was on either side, what was
// answered, absorbed and sent again, all with the Call-ID as what they have in
// common, and nobody's secrets.
func TestHEP(t *testing.T) {
	l := preparedLab(t)
	homer := l.newHomer()
	l.start()
	p := l.phone("alice")
	begun := time.Now()
	const response = "6629fae49393a05397450978507c4ef1"
	sent := l.up(p, p.register(`Authorization: Digest username="alice", response="`+response+`"`))
	conn := l.onlyConn()
	names := map[netip.AddrPort]string{
		conn.RemoteAddr(): "browser", conn.LocalAddr(): "web", l.bound.SIP: "sip", l.fromPBX().Addr: "pbx",
	}
	l.pbx.expectAgain(sent)
	final := sent.reply("200 OK", "Contact: "+sent.get("Contact"))
	l.down(p, final)
	l.pbx.send(final)

	var got []string
	for i := range 8 {
		if i == 6 {
			p.send(p.request("OPTIONS", "sip:bob@pbx.example").set("Max-Forwards", "0"))
			p.read()
		}
		c := homer.chunks()
		got = append(got, way(c, names))
		text := string(c[0x0f])
		if strings.Contains(text, response) || strings.Contains(text, tokenOf(sent.contactURI())) {
			t.Errorf("copied:\n%s", text)
		}
		if callID := sip(text).get("Call-ID"); string(c[0x11]) != callID || callID == "" {
			t.Errorf("correlated by %q is\n%s", c[0x11], text)
		}
		at := time.Unix(int64(binary.BigEndian.Uint32(c[9])), int64(binary.BigEndian.Uint32(c[10]))*1000)
		if at.Before(begun.Truncate(time.Microsecond)) || time.Since(at) > patience || c[11][0] != 1 || len(c[12]) != 4 || len(c[0x13]) == 0 {
			t.Errorf("time %v, type %v, agent %v %q", at, c[11], c[12], c[0x13])
		}
	}
	if want := []string{
		"browser > web 6 REGISTER", "sip > pbx 17 REGISTER", "sip > pbx 17 REGISTER",
		"pbx > sip 17 SIP/2.0 200 OK", "web > browser 6 SIP/2.0 200 OK", "pbx > sip 17 SIP/2.0 200 OK",
		"browser > web 6 OPTIONS", "web > browser 6 SIP/2.0 483 Too Many Hops",
	}; !slices.Equal(got, want) {
		t.Errorf("copied\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	values, _ := l.gathered(l.gw.registry())
	if values[`viaduct_hep_copies_total{outcome="sent"}`] != 8 {
		t.Errorf("counted: %v", values)
	}
}

// TestHEPWithoutCollector: one that is not there costs copies alone.
func TestHEPWithoutCollector(t *testing.T) {
	l := preparedLab(t)
	l.newHomer().conn.Close()
	l.start()
	p := l.phone("alice")
	for range 20 {
		l.expectAlive(p)
	}
	l.log.await("the HEP collector cannot be reached", 1)
	for l.gw.hep.Stats().Failed == 0 {
		l.expectAlive(p)
	}
}

// TestHEPByName: a collector whose name does not resolve keeps nobody from serving.
func TestHEPByName(t *testing.T) {
	l := preparedLab(t)
	l.cfg.HEP = "homer.invalid:9060"
	l.cfg.Log, l.log = newJournal(l.t, zap.InfoLevel)
	l.tune = func(g *Gateway) {
		g.resolver.PreferGo = true
		g.resolver.Dial = func(context.Context, string, string) (net.Conn, error) { return nil, net.ErrClosed }
	}
	l.start()
	l.expectAlive(l.phone("alice"))
	l.log.await("the HEP collector cannot be reached", 1)
}
