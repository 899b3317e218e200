package rewrite

import (
	"os"
	"testing"
)

// jsSIPInvite is the INVITE of JsSIP 3.13 in Chromium, a microphone in a
// computer with two addresses behind a NAT. It must stay what they send.
func jsSIPInvite(tb testing.TB) []byte {
	tb.Helper()
	text, err := os.ReadFile("testdata/jssip-invite.txt")
	if err != nil {
		tb.Fatal(err)
	}
	return []byte(withCRLF(string(text)))
}

func TestJsSIPInvite(t *testing.T) {
	raw := jsSIPInvite(t)
	var m Message
	if d := m.Scan(raw); d != Sound || m.CheckFrame() != Sound || len(raw) < 2800 {
		t.Errorf("%v, %d bytes", d, len(raw))
	}
}

// relay is what the relaying of a browser's request needs: its buffers, reused.
type relay struct {
	key      *Key
	m        Message
	r        RequestUp
	contacts [1][]byte
	client   ClientID
	via      []byte
	token    []byte
	out      []byte
}

func newRelay(tb testing.TB) *relay {
	return &relay{key: keyring(tb, 0).First(), via: make([]byte, 0, 512), token: make([]byte, 0, 2*MaxToken), out: make([]byte, 0, 4096)}
}

// requestUp scans a request, makes the seal of its Via and, for a client that is
// new, the token of its Contact, and splices both in.
func (w *relay) requestUp(raw []byte, isNew bool) bool {
	m := &w.m
	if m.Scan(raw) != Sound || m.CheckFrame() != Sound {
		return false
	}
	top, ok := m.Via(0)
	if !ok || isNew && !w.sign(&top) {
		return false
	}
	seal := UpSeal{HasClient: true, Client: w.client, Via: m.Text(top.Value)}
	w.via = w.key.AppendUpSeal(append(w.via[:0], testOurVia...), &seal, m.Text(m.CallID), m.CSeq)
	w.r.Via, w.r.Contacts = w.via, w.contacts[:]
	w.out = w.r.Append(w.out[:0], m)
	return true
}

// sign makes the token of the request's Contact.
func (w *relay) sign(top *ViaHop) bool {
	m := &w.m
	values := m.Values(Contact)
	value, _ := values.Next()
	contact, ok := m.ParseAddress(value)
	from, ok2 := m.ParseAddress(m.From)
	origin := w.key.Origin(m.Text(from.URI), m.Text(top.Host))
	token, id, err := w.key.AppendToken(append(w.token[:0], "<sip:"...), origin, m.Text(contact.URI))
	w.client, w.contacts[0] = id, append(token, "@"+testAdvertised+">"...)
	return ok && ok2 && err == nil
}

func BenchmarkScan(b *testing.B) {
	raw := jsSIPInvite(b)
	var m Message
	b.ReportAllocs()
	for b.Loop() {
		if m.Scan(raw) != Sound {
			b.Fatal("not sound")
		}
	}
}

// BenchmarkRequestUp is a browser's INVITE from frame to datagram: with Via and
// Contact at hand, with the seal that each message needs, and with the token too,
// which is made once for a client.
func BenchmarkRequestUp(b *testing.B) {
	raw := jsSIPInvite(b)
	w := newRelay(b)
	if !w.requestUp(raw, true) {
		b.Fatal("not relayed")
	}
	b.Run("splice", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if w.m.Scan(raw) != Sound || w.m.CheckFrame() != Sound {
				b.Fatal("not sound")
			}
			w.out = w.r.Append(w.out[:0], &w.m)
		}
	})
	sealed := func(isNew bool) func(*testing.B) {
		return func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if !w.requestUp(raw, isNew) {
					b.Fatal("not relayed")
				}
			}
		}
	}
	b.Run("seal", sealed(false))
	b.Run("seal_and_token", sealed(true))
}
