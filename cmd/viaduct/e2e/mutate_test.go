package e2e

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

// A mutator makes messages that are hard to read out of ones that are not. The
// same seed makes the same messages.
type mutator struct {
	*rand.Rand
	bases []string
	made  int
}

// tortureDir has the messages of RFC 4475 and RFC 5118.
const tortureDir = "../../../rewrite/testdata/torture"

func newMutator(t testing.TB, seed uint64) *mutator {
	t.Helper()
	m := &mutator{Rand: rand.New(rand.NewPCG(seed, 0))}
	files, err := filepath.Glob(tortureDir + "/*.txtar")
	if err != nil || len(files) < 60 {
		t.Fatalf("%d torture messages, %v", len(files), err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		parts := txtar.Parse(text).Files
		message := string(parts[len(parts)-1].Data)
		if !strings.Contains(message, "<hex>") && !strings.Contains(message, "<repeat") && !strings.HasPrefix(message, "SIP/2.0") {
			m.bases = append(m.bases, strings.ReplaceAll(message, "\n", "\r\n"))
		}
	}
	for _, method := range []string{"INVITE", "REGISTER", "MESSAGE", "BYE", "OPTIONS"} {
		for range 12 {
			m.bases = append(m.bases, plainMessage(method))
		}
	}
	return m
}

// plainMessage is a request as browsers' stacks write them.
func plainMessage(method string) string {
	tag := ""
	if method == "BYE" {
		tag = ";tag=8gub7a6v7s"
	}
	return method + " sip:bob@pbx.test SIP/2.0\r\n" +
		"Via: SIP/2.0/WSS a1b2c3d4e5f6.invalid;branch=z9hG4bK1234567\r\n" +
		"Max-Forwards: 69\r\n" +
		"To: \"Bob\" <sip:bob@pbx.test>" + tag + "\r\n" +
		"From: \"Alice, A.\" <sip:alice@pbx.test>;tag=gub7a6v7sj\r\n" +
		"Call-ID: 3obngeemfdp1a46q9t25\r\n" +
		"CSeq: 9195 " + method + "\r\n" +
		"Contact: <sip:4lmb1q2n@a1b2c3d4e5f6.invalid;transport=ws;ob>;expires=600\r\n" +
		"Supported: path,gruu,outbound,timer\r\n" +
		"User-Agent: JsSIP 3.13.8\r\n" +
		"Content-Type: text/plain\r\n" +
		"Content-Length: 12\r\n\r\nhello\r\nworld"
}

// next makes a message of one to three changes.
func (m *mutator) next() string {
	message := m.pick(m.bases...)
	m.made++
	for range 1 + m.IntN(3) {
		message = m.change(message)
	}
	return message
}

func (m *mutator) pick(texts ...string) string { return texts[m.IntN(len(texts))] }

// odd are the bytes that mean something to some reader.
var odd = []string{
	`"`, `\`, `\"`, ",", ";", "<", ">", "(", ")", " ", "  ", "\t", "\r", "\n", "\x00", "\v", "\f", "\x7f", "\u0085", "\u00a0", "\u2028", "\xff",
	"=", ":", "@", "?", "[", "]", "/", "%", "%00", "%0d%0a", "0", "+", "-", "*", "\r\n", "\r\n ", "\r\n\t", "\r\n\r\n", " \r\n ", "\r\n \r\n ", ";;", ",,", "()",
}

// wholeLines are header lines that say again, or in an odd way, what a message says.
var wholeLines = []string{
	"Content-Length: 0", "l: 5", "Content-Length : 12", "Content-Length: 012", "Content-Length:12", "CONTENT-length:\t12 ", "X: a\r\n Content-Length: 0", "X:\r\n\tl:0",
	"Call-ID: other", "i: 3obngeemfdp1a46q9t25", "call-id :x", "X: y\r\n Call-ID: z", "Call-ID:\r\n folded", "Call-ID: a b", "Call-ID: a,b", "Call-ID: \"a\" b", "Call-ID: a;b=c", "Call-ID: a (c)",
	"CSeq: 1 BYE", "cseq:\r\n 9195\r\n\tINVITE", "CSeq: 9195\tMESSAGE", "X: y\r\n CSeq: 1 BYE", "CSeq: 009195 OPTIONS", "CSeq: 9195 REGISTER x",
	"From: <sip:eve@pbx.test>;tag=1", "f: sip:eve@pbx.test;tag=1", "From: \"\\\"\" <sip:e@pbx.test>;tag=1", "From: <sip:e@pbx.test>;tag=1;tag=2", "From: <sip:e@pbx.test;tag=1>", "From: sip:e@pbx.test?x=y;tag=1",
	"From: \"a\\\\\" <sip:e@pbx.test>;x=\"tag=2\";tag=1", "From: a b <sip:e@pbx.test> ; tag = 1", "From: <sip:e@pbx.test>;TAG=1", "From: <sip:e@pbx.test>;\ttag\r\n =\r\n 1", "From: <tel:+1>;tag=1", "From: \"<sip:x@y>\"<sip:e@pbx.test>;tag=1",
	"To: <sip:eve@pbx.test>", "t: \"x\" <sip:eve@pbx.test>;tag=a;x", "To: <sip:e@pbx.test>;tag=", "To: <sip:e@pbx.test>;tag", "To: sip:e@pbx.test;tag=1", "To: <sip:e@pbx.test>;x=\";tag=2\"", "To: <sip:e@pbx.test>;xtag=1", "To: <sips:e@pbx.test:5061;x>",
	"Via: SIP/2.0/UDP b.test:5062;branch=z9hG4bKb", "v: SIP/2.0/TCP [2001:db8::1]:5060;branch=z9hG4bKv6;received=192.0.2.7", "Via: SIP/2.0/UDP b.test;branch=z9hG4bKb, SIP/2.0/TLS c.test;branch=z9hG4bKc", "Via: SIP / 2.0 / UDP\r\n b.test : 5060 ; branch = z9hG4bKsp",
	"Via: SIP/2.0/UDP b.test;x=\"a,b;branch=no\";branch=z9hG4bKq", "Via: SIP/2.0/UDP b.test;branch=1;branch=2", "Via: SIP/2.0/UDP b.test;branch", "Via: SIP/2.0/UDP b.test (comment);branch=z9hG4bKcm", "Via: SIP/2.0/UDP [::1];branch=x", "Via: SIP/2.0/UDP b.test;branch=z9hG4bK;rport;ttl=1;maddr=192.0.2.8", "Via: SIP/2.0/UDP b.test\t;branch=a b",
	"Contact: <sip:eve@192.0.2.66>", "m: sip:eve@192.0.2.66;x=y", "Contact: \"a\\\"b\" <sip:eve@192.0.2.66>;q=0.1", "Contact: <tel:+1>", "Contact: *", "Contact: <sip:a@b>,<sip:c@d>", "Contact: \"a,b\"<sip:a@b>\r\n\t,sip:c@d", "Contact: \"x>\" <sip:a@b>", "Contact: a;b <sip:c@d>",
	"Route: <sip:pbx.test;lr>", "Record-Route: <sip:evil.test;lr>", "record-route :\r\n <sip:evil.test>", "P-Asserted-Identity: <sip:boss@pbx.test>", "P-ASSERTED-identity\t: tel:+1", "Expires: 0", "Max-Forwards: 070", "Max-Forwards: 1", "Subject:", "s: \"unclosed", "X: \\", "X\t:", "X: (", "Date: x\r\n \r\n\t", "Supported:",
}

// change makes one change.
func (m *mutator) change(message string) string {
	head, body, ended := strings.Cut(message, "\r\n\r\n")
	lines := strings.Split(head, "\r\n")
	join := func() string {
		message := strings.Join(lines, "\r\n")
		if ended {
			message += "\r\n\r\n" + body
		}
		return message
	}
	i := m.IntN(len(lines))
	switch m.IntN(12) {
	case 0, 1, 2: // a line more
		lines = append(lines[:i+1:i+1], append([]string{m.pick(wholeLines...)}, lines[i+1:]...)...)
	case 3, 4, 5, 6: // another line in the place of one
		line := m.pick(wholeLines...)
		for j, have := range lines[1:] {
			if fieldOf(have) == fieldOf(line) {
				lines[j+1] = line
				return join()
			}
		}
		lines = append(lines, line)
	case 7: // a line twice, or elsewhere
		j := m.IntN(len(lines))
		if i > 0 && j > 0 {
			lines[i], lines[j] = lines[j], lines[i]
		}
	case 8: // another spelling of a name
		if name, value, ok := strings.Cut(lines[i], ":"); ok && i > 0 {
			lines[i] = m.pick(strings.ToUpper(name), strings.ToLower(name), name+" ", name+"\t", name+" \t") + ":" + m.pick("", " ", "\r\n ", "\t") + value
		}
	case 9: // a fold where white space is
		if at := strings.IndexByte(lines[i], ' '); at > 0 && i > 0 {
			lines[i] = lines[i][:at] + m.pick("\r\n", " \r\n", "\r\n \r\n") + lines[i][at:]
		}
	case 10: // the body
		body = m.pick("", body+body, body+"\r\n", "\r\n\r\n"+body, plainMessage("BYE"), body+"\x00")
		if m.IntN(2) == 0 {
			for j, line := range lines {
				if fieldOf(line) == "content-length" {
					lines[j] = fmt.Sprintf("Content-Length: %d", len(body))
				}
			}
		}
	default: // bytes, anywhere in the headers
		at := m.IntN(len(head) + 1)
		head = head[:at] + m.pick(odd...) + head[min(len(head), at+m.IntN(2)):]
		if ended {
			return head + "\r\n\r\n" + body
		}
		return head
	}
	return join()
}

// fieldOf is the header field that a line is of, in full.
func fieldOf(line string) string {
	name, _, _ := strings.Cut(line, ":")
	name = strings.ToLower(strings.TrimSpace(name))
	for _, form := range []string{"v via", "f from", "t to", "i call-id", "m contact", "l content-length", "s subject"} {
		if short, long, _ := strings.Cut(form, " "); name == short {
			return long
		}
	}
	return name
}
