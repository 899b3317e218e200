package transport

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// sipMessage returns a MESSAGE with the given body and its length in a
// Content-Length field.
func sipMessage(body string) string {
	return fmt.Sprintf("MESSAGE sip:alice@192.0.2.1 SIP/2.0\r\nCall-ID: a\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// cut is what a framer made of a stream: its messages and pings, in order, and
// how it ended.
type cut struct {
	events []string
	err    error
}

func (c cut) String() string { return fmt.Sprintf("%q, error %v", c.events, c.err) }

func (c cut) equal(o cut) bool {
	return errors.Is(c.err, o.err) && strings.Join(c.events, "\x00") == strings.Join(o.events, "\x00")
}

const pinged = "(ping)"

// frameUp pushes the pieces into a framer.
func frameUp(limit int, pieces ...[]byte) (c cut) {
	f := framer{
		max:     limit,
		message: func(msg []byte) { c.events = append(c.events, string(msg)) },
		ping:    func() { c.events = append(c.events, pinged) },
	}
	for _, p := range pieces {
		if c.err = f.consume(p); c.err != nil {
			break
		}
	}
	f.release()
	return c
}

func TestFraming(t *testing.T) {
	const start = "MESSAGE sip:a SIP/2.0\r\n"
	one, two := sipMessage("hello"), sipMessage("")
	folded := start + "Content-Length:\r\n\t 5\r\n\r\nhello"
	spaced := start + "CONTENT-LENGTH \t: 5 \r\n\r\nhello"
	compact := start + "f: b\r\nL: 2\r\n\r\nhi"
	twice := start + "l: 2\r\nContent-Length: 02\r\n\r\nhi"
	response := "SIP/2.0 200 OK\r\nl: 0\r\n\r\n"
	lower := "sip/2.0 200 OK\r\nl: 0\r\n\r\n"
	future := "INVITE sip:a SIP/7.0 \r\nl: 0\r\n\r\n"
	decoy := start + "Subject: x\r\n Content-Length: 9\r\nX-Content-Length: 9\r\nContent-Length: 1\r\n\r\n!"
	for name, c := range map[string]struct {
		in     string
		events []string
		err    error
	}{
		"nothing":                        {"", nil, nil},
		"one":                            {one, []string{one}, nil},
		"two":                            {one + two, []string{one, two}, nil},
		"a response":                     {response + one, []string{response, one}, nil},
		"a version in lower case":        {lower, []string{lower}, nil},
		"a version to come":              {future, []string{future}, nil},
		"CRLF between":                   {"\r\n" + one + "\r\n" + two + "\r\n", []string{one, two}, nil},
		"pings":                          {"\r\n\r\n" + one + "\r\n\r\n\r\n\r\n\r\n" + two, []string{pinged, one, pinged, pinged, two}, nil},
		"a pong is no half of a ping":    {"\r\n" + one + "\r\n", []string{one}, nil},
		"bare line ends between":         {"\n\r\r\n\n" + one + "\r\r\n\r\n", []string{one, pinged}, nil},
		"a body that looks like headers": {sipMessage("\r\n\r\n") + one, []string{sipMessage("\r\n\r\n"), one}, nil},
		"folded":                         {folded + one, []string{folded, one}, nil},
		"space before the colon":         {spaced + one, []string{spaced, one}, nil},
		"compact":                        {compact + one, []string{compact, one}, nil},
		"the same length twice":          {twice + one, []string{twice, one}, nil},
		"lengths that are none":          {decoy + one, []string{decoy, one}, nil},
		"incomplete":                     {one + one[:len(one)-1], []string{one}, nil},

		"no length":             {one + start + "Call-ID: a\r\n\r\n", []string{one}, ErrNoContentLength},
		"no headers":            {start + "\r\n", nil, ErrNoContentLength},
		"a header without name": {start + "l\r\n\r\n", nil, ErrNoContentLength},
		"negative":              {start + "l: -1\r\n\r\n", nil, ErrBadContentLength},
		"signed":                {start + "l: +1\r\n\r\n!", nil, ErrBadContentLength},
		"hexadecimal":           {start + "l: 0x1\r\n\r\n!", nil, ErrBadContentLength},
		"two in one":            {start + "l: 1, 1\r\n\r\n!", nil, ErrBadContentLength},
		"empty":                 {start + "l: \r\n\r\n", nil, ErrBadContentLength},
		"lengths that differ":   {start + "l: 1\r\nContent-Length: 2\r\n\r\n!!", nil, ErrBadContentLength},
		"enormous":              {start + "l: 99999999999999999999999\r\n\r\n", nil, ErrTooLarge},
		"over the limit":        {start + "l: 490\r\n\r\n", nil, ErrTooLarge},
		"endless header":        {start + "a: " + strings.Repeat("x", 500), nil, ErrTooLarge},
		"endless start-line":    {strings.Repeat("x", 600) + "\r\n", nil, ErrTooLarge},
		"a request of HTTP":     {"GET /ws HTTP/1.1\r\nHost: a\r\n", nil, ErrNotSIP},
		"a handshake of TLS":    {"\x16\x03\x01", nil, ErrNotSIP},
		"words":                 {one + "hello SIP/2.0 you\r\n", []string{one}, ErrNotSIP},
		"white space":           {" " + one, nil, ErrNotSIP},
	} {
		t.Run(name, func(t *testing.T) {
			want := cut{c.events, c.err}
			in := []byte(c.in)
			if got := frameUp(512, in); !got.equal(want) {
				t.Errorf("whole:\n got %v\nwant %v", got, want)
			}
			if got := frameUp(512, bytes.SplitAfter(in, nil)...); !got.equal(want) {
				t.Errorf("byte by byte:\n got %v\nwant %v", got, want)
			}
			for i := range in {
				if got := frameUp(512, in[:i], in[i:]); !got.equal(want) {
					t.Errorf("split at %d:\n got %v\nwant %v", i, got, want)
				}
			}
		})
	}
}

// A header section may be as long as maxHeader allows and no longer, however
// large a message may be.
func TestFramingHeaderLimit(t *testing.T) {
	const rest = "MESSAGE sip:a SIP/2.0\r\nl: 0\r\nx: \r\n\r\n"
	header := func(size int) []byte {
		return []byte(strings.Replace(rest, "x: ", "x: "+strings.Repeat("x", size-len(rest)), 1))
	}
	if c := frameUp(1<<20, header(maxHeader)); c.err != nil || len(c.events) != 1 {
		t.Errorf("%d bytes: %d messages, error %v", maxHeader, len(c.events), c.err)
	}
	if c := frameUp(1<<20, header(maxHeader+1)); !errors.Is(c.err, ErrTooLarge) || len(c.events) != 0 {
		t.Errorf("%d bytes: %d messages, error %v", maxHeader+1, len(c.events), c.err)
	}
}

func TestFramingCopiesOnlyTheIncomplete(t *testing.T) {
	p := []byte(sipMessage("first") + sipMessage("second"))
	var inPlace int
	f := framer{max: 512, ping: func() {}, message: func(msg []byte) {
		if off := len(p) - cap(msg); off >= 0 && off < len(p) && &msg[0] == &p[off] {
			inPlace++
		}
	}}
	p = p[:len(p):len(p)]
	if err := f.consume(p); err != nil || f.partial != nil || inPlace != 2 {
		t.Errorf("%d messages in place, error %v, a copy kept: %v", inPlace, err, f.partial != nil)
	}
}

// tortures are the messages of RFC 4475 and RFC 5118, without those that their
// files abbreviate.
func tortures(tb testing.TB) (messages []string) {
	tb.Helper()
	files, err := filepath.Glob("../rewrite/testdata/torture/*.txtar")
	if err != nil || len(files) < 60 {
		tb.Fatalf("%d messages, %v", len(files), err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			tb.Fatal(err)
		}
		if _, message, ok := strings.Cut(string(text), "-- message --\n"); ok && !strings.Contains(message, "<repeat") {
			messages = append(messages, strings.ReplaceAll(message, "\n", "\r\n"))
		}
	}
	return messages
}

// FuzzFraming checks that only the bytes count, not how they were split.
func FuzzFraming(f *testing.F) {
	one := sipMessage("hello")
	for _, in := range []string{one + one, "\r\n\r\n" + one[:40], "GET / HTTP/1.1\r\n", one + "BYE sip:a SIP/2.0\r\nl : \r\n 1\r\n\r\n!\r\n\r\n"} {
		f.Add([]byte(in), []byte{1, 7, 30, 2})
	}
	for _, in := range tortures(f) {
		f.Add([]byte(in+one), []byte{40, 1, 200})
	}
	f.Fuzz(func(t *testing.T, in, sizes []byte) {
		const limit = 300
		want := frameUp(limit, in)
		var pieces [][]byte
		rest := in
		for _, size := range sizes {
			n := min(int(size), len(rest))
			pieces, rest = append(pieces, rest[:n]), rest[n:]
		}
		if got := frameUp(limit, append(pieces, rest)...); !got.equal(want) {
			t.Errorf("split:\n got %v\nwhole %v", got, want)
		}
		if got := frameUp(limit, bytes.SplitAfter(in, nil)...); !got.equal(want) {
			t.Errorf("byte by byte:\n got %v\nwhole %v", got, want)
		}
		for _, e := range want.events {
			if e != pinged && !bytes.Contains(in, []byte(e)) {
				t.Errorf("made up: %q", e)
			}
		}
	})
}
