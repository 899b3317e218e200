package rewrite

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
)

// addMessages gives a fuzz target messages of every kind to start from.
func addMessages(f *testing.F) {
	for _, message := range tortures(f) {
		f.Add(message)
	}
	files, err := filepath.Glob("testdata/*.txt*")
	if err != nil || len(files) < 100 {
		f.Fatalf("%d seeds, %v", len(files), err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		if _, golden, ok := bytes.Cut(text, []byte("-- in --\n")); ok {
			text, _, _ = bytes.Cut(golden, []byte("-- parameters --\n"))
		}
		f.Add([]byte(withCRLF(string(text))))
	}
	f.Add([]byte(soundRequest))
	f.Add([]byte(soundResponse))
}

func FuzzScan(f *testing.F) {
	addMessages(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		var m Message
		defect := m.Scan(raw)
		inBounds(t, &m)
		checkAnswer(t, &m, defect)
		if defect != Sound {
			return
		}
		tile(t, &m)
		s := splice{m: &m}
		var again Message
		if out := s.finish(false, nil); !bytes.Equal(out, raw) || again.Scan(out) != Sound || fingerprint(&again) != fingerprint(&m) {
			t.Fatalf("the unchanged splice is %q", out)
		}
	})
}

// inBounds has every reader read all of a message, sound or not, and checks that
// what it reads is in the message.
func inBounds(t *testing.T, m *Message) {
	within := func(spans ...Span) {
		for _, s := range spans {
			if s.Lo > s.Hi || int(s.Hi) > len(m.Raw) {
				t.Fatalf("span %v of %d bytes", s, len(m.Raw))
			}
		}
	}
	within(m.Method, m.URI, m.CallID, m.From, m.To, m.CSeqMethod, m.Body)
	for h := range numHeaders {
		within(all(m, h)...)
		m.Joined(h)
	}
	for i := range m.Vias() + 1 {
		if v, ok := m.Via(i); ok {
			within(v.Value, v.Transport, v.SentBy, v.Host, v.Params, v.Branch)
		}
	}
	for _, h := range []Header{Contact, Route, From, To} {
		for _, v := range all(m, h) {
			a, ok := m.ParseAddress(v)
			if !ok {
				continue
			}
			within(a.Value, a.URI, a.Params, a.target)
			m.Expires(a)
			ParseURI(m.Text(a.URI))
		}
	}
	m.Tagged()
	m.StatusLine()
}

// tile checks that the lines of a sound message make up its header section.
func tile(t *testing.T, m *Message) {
	at := m.head
	for _, l := range m.lines[:m.count] {
		if l.lo != at || l.nameHi <= l.lo || l.valueLo < l.nameHi || l.valueHi < l.valueLo || l.hi < l.valueHi+2 {
			t.Fatalf("line %+v does not begin at %d", l, at)
		}
		at = l.hi
	}
	if at != m.end || m.Body.Lo != m.end+2 || int(m.Body.Hi) != len(m.Raw) {
		t.Fatalf("the lines end at %d, the header section at %d, the body is %v", at, m.end, m.Body)
	}
}

// relayable scans what a browser or, as datagram, a PBX sent; false if the
// gateway refuses it.
func relayable(m *Message, raw []byte, check func(*Message) Defect) bool {
	if m.Scan(raw) != Sound || check(m) != Sound || m.MaxForwards == 0 {
		return false
	}
	_, ok := m.Via(0)
	return ok
}

// addresses reports whether every Contact is one.
func addresses(m *Message) (n int, ok bool) {
	for walk := m.Values(Contact); ; n++ {
		v, more := walk.Next()
		if !more {
			return n, !walk.Bad()
		}
		if _, ok := m.ParseAddress(v); !ok {
			return n, false
		}
	}
}

// checkEmitted compares a rewritten message with the oracle's, byte for byte.
func checkEmitted(t *testing.T, raw, got []byte, want string) {
	t.Helper()
	if string(got) != want {
		t.Fatalf("of %q\n got %q\nwant %q", raw, got, want)
	}
	var m Message
	// The caps may be met by what is added.
	if d := m.Scan(got); d != Sound && d != TooLong && d != TooManyLines {
		t.Fatalf("%v: %q", d, got)
	}
}

func FuzzRequestUp(f *testing.F) {
	addMessages(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		var m Message
		if !relayable(&m, raw, (*Message).CheckFrame) || !m.Request {
			return
		}
		contacts, ok := addresses(&m)
		if !ok {
			return
		}
		r := &RequestUp{Via: []byte(testOurVia + "seal"), Strip: []string{"X-Account", "Subject"}, ClientIPHeader: "X-Real-IP", ClientIP: []byte("::1")}
		r.OwnRoutes = min(len(all(&m, Route)), len(raw)%3)
		for range contacts {
			r.Contacts = append(r.Contacts, []byte("<sip:token@"+testAdvertised+">"))
		}
		o := readOracle(string(m.Raw[:m.Body.Hi]))
		checkEmitted(t, raw, r.Append(nil, &m), o.requestUp(r))
	})
}

func FuzzRequestDown(f *testing.F) {
	addMessages(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		var m Message
		if !relayable(&m, raw, (*Message).CheckDatagram) || !m.Request {
			return
		}
		r := &RequestDown{URI: []byte("sip:a@b.invalid"), Via: []byte(testDownVia + "mac"), Source: testSources[len(raw)%len(testSources)]}
		o := readOracle(string(m.Raw[:m.Body.Hi]))
		checkEmitted(t, raw, r.Append(nil, &m), o.requestDown(r))
	})
}

func FuzzResponseUp(f *testing.F) {
	addMessages(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		var m Message
		if !relayable(&m, raw, (*Message).CheckFrame) || m.Vias() < 2 {
			return
		}
		r := &ResponseUp{Strip: []string{"X-Account", "Subject"}, Routes: len(raw)%4 < 2}
		if _, ok := addresses(&m); ok && len(raw)%2 == 0 {
			r.Contact = []byte("<sip:token@" + testAdvertised + ">")
		}
		o := readOracle(string(m.Raw[:m.Body.Hi]))
		checkEmitted(t, raw, r.Append(nil, &m), o.responseUp(r))
	})
}

func FuzzResponseDown(f *testing.F) {
	addMessages(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		var m Message
		if !relayable(&m, raw, (*Message).CheckDatagram) {
			return
		}
		r := &ResponseDown{Via: []byte(testVia)}
		if _, ok := addresses(&m); ok && len(raw)%2 == 0 {
			r.Restore = func(user []byte) []byte {
				if len(user)%2 == 1 {
					return []byte("sip:a@b.invalid")
				}
				return nil
			}
		}
		o := readOracle(string(m.Raw[:m.Body.Hi]))
		checkEmitted(t, raw, r.Append(nil, &m), o.responseDown(r))
	})
}
