package rewrite

import (
	"bytes"
	"os"
	"testing"
)

func crlfFile(tb testing.TB, name string) []byte {
	tb.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		tb.Fatal(err)
	}
	return bytes.ReplaceAll(text, []byte("\n"), []byte("\r\n"))
}

func BenchmarkScan(b *testing.B) {
	raw := crlfFile(b, "testdata/jssip-invite.txt")
	var m Message
	b.ReportAllocs()
	for b.Loop() {
		if m.Scan(raw) != Sound {
			b.Fatal()
		}
	}
}

func BenchmarkRequestUp(b *testing.B) {
	raw := crlfFile(b, "testdata/jssip-invite.txt")
	k := keyring(b, 0).First()
	var m Message
	out := make([]byte, 0, 8192)
	via := make([]byte, 0, 512)
	token := make([]byte, 0, 100)
	contacts := make([][]byte, 1)
	b.ReportAllocs()
	for b.Loop() {
		if m.Scan(raw) != Sound || m.CheckFrame() != Sound {
			b.Fatal()
		}
		hop, _ := m.Via(0)
		values := m.Values(Contact)
		v, _ := values.Next()
		a, _ := m.ParseAddress(v)
		origin := k.Origin(m.Text(m.From), m.Text(hop.Host))
		var id ClientID
		var err error
		token, id, err = k.AppendToken(append(token[:0], "<sip:"...), origin, m.Text(a.URI))
		if err != nil {
			b.Fatal(err)
		}
		contacts[0] = append(token, "@192.0.2.1:5060>"...)
		s := UpSeal{HasClient: true, Client: id, Via: m.Text(hop.Value)}
		via = k.AppendUpSeal(append(via[:0], "SIP/2.0/UDP 192.0.2.1:5060;rport;branch=z9hG4bK"...), &s, m.Text(m.CallID), m.CSeq)
		r := RequestUp{Via: via, Contacts: contacts}
		out = r.Append(out[:0], &m)
	}
}
