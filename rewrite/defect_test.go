package rewrite

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// soundRequest is what the tables of defects spoil, a piece at a time.
const soundRequest = "INVITE sip:1002@pbx.example SIP/2.0\r\n" +
	"Via: SIP/2.0/WSS a1b2c3d4e5f6.invalid;branch=z9hG4bK1234567\r\n" +
	"Max-Forwards: 69\r\n" +
	"To: <sip:1002@pbx.example>\r\n" +
	"From: <sip:1001@pbx.example>;tag=gub7a6v7sj\r\n" +
	"Call-ID: 3obngeemfdp1a46q9t25\r\n" +
	"CSeq: 9195 INVITE\r\n" +
	"Route: <sip:pbx.example;lr>\r\n" +
	"Content-Length: 4\r\n" +
	"\r\n" +
	"body"

const soundResponse = "SIP/2.0 200 OK\r\n" +
	"Via: SIP/2.0/WSS a1b2c3d4e5f6.invalid;branch=z9hG4bK1234567\r\n" +
	"To: <sip:1002@pbx.example>;tag=x\r\n" +
	"From: <sip:1001@pbx.example>;tag=gub7a6v7sj\r\n" +
	"Call-ID: 3obngeemfdp1a46q9t25\r\n" +
	"CSeq: 9195 INVITE\r\n" +
	"\r\n"

// spoilt is soundRequest, or soundResponse, with one text in the place of another.
func spoilt(t *testing.T, old, text string) []byte {
	t.Helper()
	for _, whole := range []string{soundRequest, soundResponse} {
		if strings.Contains(whole, old) {
			return []byte(strings.Replace(whole, old, text, 1))
		}
	}
	t.Fatalf("no %q to spoil", old)
	return nil
}

// lines returns n header lines.
func lines(n int, line string) string { return strings.Repeat(line+"\r\n", n) }

// Whether the sender of a message can be told of its defect.
const (
	answered = true
	silent   = false // it is no request, or does not hold what the answer has to repeat
)

var defectCases = []struct {
	name      string
	old, text string // what is spoilt, and by what
	want      Defect
	answered  bool
}{
	{"sound", "", "", Sound, answered},
	{"other case of the version", " SIP/2.0\r\nVia", " sip/2.0\r\nVia", Sound, answered},

	{"HTTP", "INVITE sip:1002@pbx.example SIP/2.0", "GET / HTTP/1.1", NotSIP, silent},
	{"no method", "INVITE ", " ", NotSIP, silent},
	{"method of other characters", "INVITE ", "INV@ITE ", NotSIP, silent},
	{"method alone", "INVITE sip:1002@pbx.example SIP/2.0", "INVITE", NotSIP, silent},
	{"empty line first", "INVITE sip", "\r\nINVITE sip", NotSIP, silent},
	{"bare LF first", "INVITE sip", "\nINVITE sip", NotSIP, silent},
	{"response cut", "SIP/2.0 200 OK", "SIP/2.0 20", NotSIP, silent},

	{"version of a request", " SIP/2.0\r\nVia", " SIP/3.0\r\nVia", BadVersion, answered},
	{"version in other case", " SIP/2.0\r\nVia", " Sip/7\r\nVia", BadVersion, answered},
	{"version and a tab", " SIP/2.0\r\nVia", "\tSIP/3.0\r\nVia", BadStartLine, answered},
	{"version and another tab", "INVITE sip:1002@pbx.example SIP/2.0", "INVITE\tsip:1002@pbx.example SIP/3.0", BadStartLine, answered},
	{"version of a response", "SIP/2.0 200 OK", "SIP/2.1 200 OK", BadVersion, silent},

	{"two spaces behind the method", "INVITE ", "INVITE  ", BadStartLine, answered},
	{"two spaces before the version", " SIP/2.0\r\nVia", "  SIP/2.0\r\nVia", BadStartLine, answered},
	{"tab behind the method", "INVITE ", "INVITE\t", BadStartLine, answered},
	{"tab before the version", " SIP/2.0\r\nVia", "\tSIP/2.0\r\nVia", BadStartLine, answered},
	{"tabs for both spaces", "INVITE sip:1002@pbx.example SIP/2.0", "INVITE\tsip:1002@pbx.example\tSIP/2.0", BadStartLine, answered},
	{"space at the end", " SIP/2.0\r\nVia", " SIP/2.0 \r\nVia", BadStartLine, answered},
	{"tab at the end", " SIP/2.0\r\nVia", " SIP/2.0\t\r\nVia", BadStartLine, answered},
	{"text behind the version", " SIP/2.0\r\nVia", " SIP/2.0 x\r\nVia", BadStartLine, answered},
	{"no Request-URI", "INVITE sip:1002@pbx.example ", "INVITE ", BadStartLine, answered},
	{"empty Request-URI", "INVITE sip:1002@pbx.example ", "INVITE  ", BadStartLine, answered},
	{"space in the Request-URI", "sip:1002@pbx.example SIP", "sip:1002@pbx.example; lr SIP", BadStartLine, answered},
	{"Request-URI in brackets", "sip:1002@pbx.example SIP", "<sip:1002@pbx.example> SIP", BadStartLine, answered},
	{"Request-URI without scheme", "sip:1002@pbx.example SIP", "1002@pbx.example SIP", BadStartLine, answered},
	{"Request-URI of a scheme alone", "sip:1002@pbx.example SIP", "sip: SIP", BadStartLine, answered},
	{"DEL in the Request-URI", "sip:1002@pbx.example SIP", "sip:\x7f@pbx.example SIP", BadStartLine, answered},
	{"SIP with another separator", " SIP/2.0\r\nVia", " SIP/2/0\r\nVia", BadStartLine, answered},
	{"tab before the status", "SIP/2.0 200 OK", "SIP/2.0\t200 OK", BadStartLine, silent},
	{"two spaces before the status", "SIP/2.0 200 OK", "SIP/2.0  200 OK", BadStartLine, silent},
	{"tab before the phrase", "SIP/2.0 200 OK", "SIP/2.0 200\tOK", BadStartLine, silent},
	{"two spaces before the phrase", "SIP/2.0 200 OK", "SIP/2.0 200  OK", BadStartLine, silent},
	{"space and tab before the phrase", "SIP/2.0 200 OK", "SIP/2.0 200 \tOK", BadStartLine, silent},
	{"status of four digits", "SIP/2.0 200 OK", "SIP/2.0 2000 OK", BadStartLine, silent},
	{"status of letters", "SIP/2.0 200 OK", "SIP/2.0 2x0 OK", BadStartLine, silent},
	{"status below 100", "SIP/2.0 200 OK", "SIP/2.0 099 OK", BadStartLine, silent},
	{"status above 699", "SIP/2.0 200 OK", "SIP/2.0 700 OK", BadStartLine, silent},
	{"no phrase", "SIP/2.0 200 OK", "SIP/2.0 200 ", Sound, silent},
	{"no phrase and no space", "SIP/2.0 200 OK", "SIP/2.0 200", Sound, silent},

	{"NUL in the start line", "1002@pbx.example SIP", "10\x002@pbx.example SIP", BareLineEnd, answered},
	{"CR in the start line", "1002@pbx.example SIP", "10\r2@pbx.example SIP", BareLineEnd, answered},
	{"CR in the phrase", "OK\r\n", "O\rK\r\n", BareLineEnd, silent},
	{"CR before the start line's end", "2.0\r\nVia", "2.0\r\r\nVia", BareLineEnd, answered},
	{"LF ends the start line", "2.0\r\nVia", "2.0\nVia", BareLineEnd, answered},
	{"LF ends a header line", "69\r\n", "69\n", BareLineEnd, answered},
	{"LF ends the last header line", "4\r\n\r\n", "4\n\r\n", BareLineEnd, answered},
	{"LF for the empty line", "4\r\n\r\n", "4\r\n\n", BareLineEnd, answered},
	{"LF for both", "4\r\n\r\n", "4\n\n", BareLineEnd, answered},
	{"LF folds", "Route: ", "Route:\n ", BareLineEnd, answered},
	{"CR in a name", "Route: ", "Ro\rute: ", BadHeaderLine, answered},
	{"CR behind a name", "Route: ", "Route\r: ", BadHeaderLine, answered},
	{"CR in a value", "Route: ", "Route: \rX: ", BareLineEnd, answered},
	{"CR before a line's end", "69\r\n", "69\r\r\n", BareLineEnd, answered},
	{"CR for a line's end", "69\r\n", "69\r", BareLineEnd, silent},
	{"CR before the empty line", "4\r\n\r\n", "4\r\n\r\r\n", BadHeaderLine, answered},
	{"NUL in a name", "Route: ", "Ro\x00ute: ", BadHeaderLine, answered},
	{"NUL in a value", "Route: ", "Route: \x00", BareLineEnd, answered},
	{"NUL in quotes", "Route: ", "Route: \"\\\x00\" ", BareLineEnd, answered},
	{"NUL in a fold", "Route: ", "Route:\r\n \x00", BareLineEnd, answered},
	{"NUL in the Call-ID", "Call-ID: ", "Call-ID: \x00", BareLineEnd, silent},
	{"CR in the From", "From: ", "From: \rX: ", BareLineEnd, silent},

	{"no colon", "Max-Forwards: 69", "Max-Forwards 69", BadHeaderLine, answered},
	{"no name", "Max-Forwards: 69", ": 69", BadHeaderLine, answered},
	{"a name of two words", "Max-Forwards: 69", "Max Forwards: 69", BadHeaderLine, answered},
	{"fold before the colon", "Max-Forwards: 69", "Max-Forwards\r\n : 69", BadHeaderLine, answered},
	{"fold of the start line", "2.0\r\nVia", "2.0\r\n x: 1\r\nVia", BadHeaderLine, answered},
	{"name of other characters", "Max-Forwards: 69", "Max/Forwards: 69", BadHeaderLine, answered},
	{"byte order mark", "Max-Forwards: 69", "\xef\xbb\xbfMax-Forwards: 69", BadHeaderLine, answered},
	{"space behind a name", "Max-Forwards: 69", "Max-Forwards : 69", Sound, answered},
	{"tabs around a colon", "Max-Forwards: 69", "Max-Forwards\t:\t69", Sound, answered},

	{"no empty line", "Content-Length: 4\r\n\r\nbody", "Content-Length: 4\r\n", NoHeaderEnd, answered},
	{"cut in a header", "Content-Length: 4\r\n\r\nbody", "Content-Le", NoHeaderEnd, answered},
	{"cut at a line's end", "Content-Length: 4\r\n\r\nbody", "Content-Length: 4\r", NoHeaderEnd, answered},
	{"cut at a line's end, an LF before", "9195 INVITE\r\nRoute: <sip:pbx.example;lr>\r\nContent-Length: 4\r\n\r\nbody", "9195 INVITE\nX: 1\r", NoHeaderEnd, silent},
	{"cut in a header that an answer needs", "9195 INVITE\r\nRoute: <sip:pbx.example;lr>\r\nContent-Length: 4\r\n\r\nbody", "91", NoHeaderEnd, silent},
	{"cut in a fold", "9195 INVITE\r\nRoute: <sip:pbx.example;lr>\r\nContent-Length: 4\r\n\r\nbody", "9195 INVITE\r\n ", NoHeaderEnd, silent},

	{"longest", "body", strings.Repeat("b", MaxLength-len(soundRequest)+4), Sound, answered},
	{"too long", "body", strings.Repeat("b", MaxLength-len(soundRequest)+5), TooLong, answered},
	{"headers too long", "Route", "X: " + strings.Repeat("b", MaxLength) + "\r\nRoute", TooLong, answered},
	{"much too long", "Via", "X: " + strings.Repeat("b", 3*MaxLength) + "\r\nVia", TooLong, silent},

	{"most lines", "Max-Forwards: 69", strings.TrimSuffix(lines(maxLines-7, "X: 1"), "\r\n"), Sound, answered},
	{"too many lines", "Max-Forwards: 69", strings.TrimSuffix(lines(maxLines-6, "X: 1"), "\r\n"), TooManyLines, answered},
	{"needed lines past the last", "Via", lines(maxLines, "X: 1") + "Via", TooManyLines, silent},
	{"most Vias", "Via: ", lines(maxVias-2, "v: SIP/2.0/UDP a") + "Via: SIP/2.0/UDP a, ", Sound, answered},
	{"too many Vias on their lines", "Via: ", lines(maxVias, "v: SIP/2.0/UDP a") + "Via: ", TooManyVias, answered},
	{"too many Vias on one line", "Via: ", "Via: " + strings.Repeat("SIP/2.0/UDP a,", maxVias), TooManyVias, answered},
	{"most Routes", "Route: ", "Route: " + strings.Repeat("<sip:a;lr>,", maxRoutes-1), Sound, answered},
	{"too many Routes", "Route: ", "Route: " + strings.Repeat("<sip:a;lr>,", maxRoutes), TooManyRoutes, answered},
	{"too many Routes on their lines", "Route: ", lines(maxRoutes, "Route: <sip:a;lr>") + "Route: ", TooManyRoutes, answered},

	{"two Content-Lengths", "Route: ", "l: 4\r\nRoute: ", DuplicateHeader, answered},
	{"two CSeqs", "Route: ", "CSEQ: 9195 INVITE\r\nRoute: ", DuplicateHeader, answered},
	{"two Call-IDs", "Route: ", "i: 3obngeemfdp1a46q9t25\r\nRoute: ", DuplicateHeader, answered},
	{"two Froms", "Route: ", "f:\r\n <sip:1001@pbx.example>;tag=gub7a6v7sj\r\nRoute: ", DuplicateHeader, answered},
	{"two Tos", "Route: ", "t : <sip:1002@pbx.example>\r\nRoute: ", DuplicateHeader, answered},
	{"two Max-Forwards", "Route: ", "max-forwards:69\r\nRoute: ", DuplicateHeader, answered},
	{"two Vias, Routes and others", "Route: ", "Route: <sip:a>\r\nVia: SIP/2.0/UDP a\r\nExpires: 1\r\nExpires: 2\r\nSupported: a\r\nk: b\r\nRoute: ", Sound, answered},

	{"no Call-ID", "Call-ID", "X", MissingHeader, silent},
	{"no From", "From", "X", MissingHeader, silent},
	{"no To", "To:", "X:", MissingHeader, silent},
	{"no CSeq", "CSeq", "X", MissingHeader, silent},
	{"empty Call-ID", "3obngeemfdp1a46q9t25", "", MissingHeader, silent},
	{"empty To", "<sip:1002@pbx.example>", "\r\n ", MissingHeader, silent},
	{"no Max-Forwards", "Max-Forwards", "X", Sound, answered},

	{"no Via", "Via", "X", MissingVia, silent},
	{"nothing but a start line", soundRequest[len("INVITE sip:1002@pbx.example SIP/2.0\r\n"):], "\r\n", MissingVia, silent},

	{"empty Via", "Via: ", "Via:\r\nVia: ", BadVia, answered},
	{"empty Via of white space", "Via: ", "Via: \r\n \r\nVia: ", BadVia, answered},
	{"empty value before a Via", "Via: ", "Via: ,", BadVia, answered},
	{"empty value between Vias", "Via: ", "Via: SIP/2.0/UDP a, ,", BadVia, answered},
	{"empty value behind a Via", "Via: ", "Via: SIP/2.0/UDP a,\r\nVia: ", BadVia, answered},
	{"quoted string without end", "Via: ", "Via: SIP/2.0/UDP a;x=\"\r\nVia: ", BadVia, answered},
	{"quoted string that ends escaped", "Via: ", "Via: SIP/2.0/UDP a;x=\"\\\"\r\nVia: ", BadVia, answered},
	{"comment without end", "Via: ", "Via: SIP/2.0/UDP a (b\r\nVia: ", BadVia, answered},
	{"comment", "Via: ", "Via: SIP/2.0/UDP a (b, (c\\)), d) , ", Sound, answered},

	{"CSeq without number", "9195 INVITE", "INVITE", BadCSeq, silent},
	{"CSeq without method", "9195 INVITE", "9195", BadCSeq, silent},
	{"CSeq without space", "9195 INVITE", "9195INVITE", BadCSeq, silent},
	{"CSeq with sign", "9195 INVITE", "+9195 INVITE", BadCSeq, silent},
	{"CSeq of hex digits", "9195 INVITE", "0x1f INVITE", BadCSeq, silent},
	{"CSeq with more", "9195 INVITE", "9195 INVITE x", BadCSeq, silent},
	{"CSeq with a comma", "9195 INVITE", "9195 INVITE, 9196 INVITE", BadCSeq, silent},
	{"CSeq of another method", "9195 INVITE", "9195 BYE", BadCSeq, answered},
	{"CSeq in other case", "9195 INVITE", "9195 invite", BadCSeq, answered},
	{"greatest CSeq", "9195 INVITE", "2147483647 INVITE", Sound, answered},
	{"CSeq too great", "9195 INVITE", "2147483648 INVITE", BadCSeq, answered},
	{"CSeq past 64 bits", "9195 INVITE", "36893488147419103232 INVITE", BadCSeq, answered},
	{"CSeq with zeros and folds", "9195 INVITE", "0009195\r\n \r\n\tINVITE", Sound, answered},
	{"CSeq of a response", "\r\nCSeq: 9195 INVITE\r\n\r\n", "\r\nCSeq: 9195 BYE\r\n\r\n", Sound, silent},
	{"bad CSeq of a response", "\r\nCSeq: 9195 INVITE\r\n\r\n", "\r\nCSeq: BYE\r\n\r\n", BadCSeq, silent},

	{"Max-Forwards too great", "69", "256", BadMaxForwards, answered},
	{"greatest Max-Forwards", "69", "255", Sound, answered},
	{"Max-Forwards below zero", "69", "-1", BadMaxForwards, answered},
	{"Max-Forwards with sign", "69", "+69", BadMaxForwards, answered},
	{"empty Max-Forwards", "69", "", BadMaxForwards, answered},
	{"Max-Forwards of two numbers", "69", "6 9", BadMaxForwards, answered},
	{"Max-Forwards of hex digits", "69", "0x45", BadMaxForwards, answered},

	{"Route without end", "<sip:pbx.example;lr>", "<sip:pbx.example;lr", BadAddress, answered},
	{"Route with a quote", "<sip:pbx.example;lr>", "\"<sip:pbx.example;lr>", BadAddress, answered},
	{"empty Route", "<sip:pbx.example;lr>", ",", Sound, answered},

	{"length with sign", "Length: 4", "Length: +4", BadContentLength, answered},
	{"length below zero", "Length: 4", "Length: -4", BadContentLength, answered},
	{"two lengths in one", "Length: 4", "Length: 4 4", BadContentLength, answered},
	{"two lengths joined", "Length: 4", "Length: 4,4", BadContentLength, answered},
	{"length of hex digits", "Length: 4", "Length: 0x4", BadContentLength, answered},
	{"empty length", "Length: 4", "Length:", BadContentLength, answered},
	{"length past 31 bits", "Length: 4", "Length: 2147483648", BadContentLength, answered},
	{"length past 64 bits", "Length: 4", "Length: 18446744073709551620", BadContentLength, answered},
	{"length of other digits", "Length: 4", "Length: \u0664", BadContentLength, answered},
	{"length with zeros", "Length: 4", "Length: 0004", Sound, answered},
	{"folded length", "Length: 4", "Length:\r\n \r\n\t4 ", Sound, answered},
	{"compact length", "Content-Length: 4", "L :4", Sound, answered},
}

func TestDefects(t *testing.T) {
	met := map[Defect]bool{
		TooManyContacts: true, // the gateway's: a registrar's response may list more
		BadCallID:       true, // of CheckAddresses
		BodyTooShort:    true, // of CheckFrame and CheckDatagram
		BodyTooLong:     true,
	}
	for _, test := range defectCases {
		t.Run(test.name, func(t *testing.T) {
			raw := spoilt(t, test.old, test.text)
			var m Message
			got := m.Scan(raw)
			if met[got] = true; got != test.want {
				t.Errorf("%v, want %v: %.300q", got, test.want, raw)
			}
			if m.Answerable() != test.answered {
				t.Errorf("answerable: %v, want %v: %.300q", m.Answerable(), test.answered, raw)
			}
			checkAnswer(t, &m, got)
		})
	}
	for d := range Defect(NumDefects) {
		if !met[d] {
			t.Errorf("no message is %v", d)
		}
	}
}

// checkAnswer answers a message as far as it can be: the answer is sound where
// the message is, and brings back no byte that is not.
func checkAnswer(t *testing.T, m *Message, defect Defect) {
	t.Helper()
	if !m.Answerable() {
		return
	}
	status, phrase := defect.Answer()
	a := Answer{Status: status, Phrase: phrase, Tag: []byte("ours"), Source: testSources[0]}
	out := a.Append(nil, m)
	var response Message
	again := response.Scan(out)
	if again == BareLineEnd || again == NoHeaderEnd || again == NotSIP || defect == Sound && again != Sound && again != TooLong {
		t.Errorf("the answer to %v is %v: %q", defect, again, out)
	}
	if response.Request || response.Status != status || string(response.Text(response.CallID)) != string(m.Text(m.CallID)) {
		t.Errorf("the answer to %v: %q", defect, out)
	}
}

func TestAnswerableIsNoACK(t *testing.T) {
	for _, raw := range []string{strings.ReplaceAll(soundRequest, "INVITE", "ACK"), soundResponse} {
		var m Message
		if d := m.Scan([]byte(raw)); d != Sound || m.Answerable() {
			t.Errorf("%v, answerable %v: %q", d, m.Answerable(), raw)
		}
	}
}

// Every defect has its own name, for its metric, and an answer.
func TestDefectNames(t *testing.T) {
	var names []string
	for d := range Defect(NumDefects) {
		status, phrase := d.Answer()
		if d.String() == "" || d.Error() != d.String() || slices.Contains(names, d.String()) || strings.ToLower(d.String()) != d.String() {
			t.Errorf("defect %d is %q", d, d)
		}
		if line := fmt.Sprintf("SIP/2.0 %d %s\r\n\r\n", status, phrase); d != Sound && (status < 400 || status > 599) || new(Message).Scan([]byte(line)) != MissingVia {
			t.Errorf("%v is answered %q", d, line)
		}
		names = append(names, d.String())
	}
}

// A Message may be scanned again: nothing of the one before is left.
func TestScanAgain(t *testing.T) {
	var again Message
	for _, test := range defectCases {
		raw := spoilt(t, test.old, test.text)
		var fresh Message
		want, got := fresh.Scan(raw), again.Scan(raw)
		if want != got || fingerprint(&fresh) != fingerprint(&again) {
			t.Errorf("%s: %v, afresh %v", test.name, got, want)
		}
	}
}

// fingerprint shows all that a Message says, but for lines of before.
func fingerprint(m *Message) string {
	seen := *m
	seen.Raw = nil
	clear(seen.lines[seen.count:])
	return fmt.Sprint(len(m.Raw), seen)
}

var bodyCases = []struct {
	name         string
	length, body string // the header's value, "" for no header
	frame, gram  Defect
	frameBody    string // what is left of the body
	datagramBody string
}{
	{"absent", "", "body", Sound, Sound, "body", "body"},
	{"absent, no body", "", "", Sound, Sound, "", ""},
	{"absent, CRLF alone", "", "\r\n\r\n", Sound, Sound, "", "\r\n\r\n"},
	{"absent, CRLF behind a body", "", "body\r\n", Sound, Sound, "body\r\n", "body\r\n"},
	{"right", "4", "body", Sound, Sound, "body", "body"},
	{"right, nothing", "0", "", Sound, Sound, "", ""},
	{"right, with zeros", "00000004", "body", Sound, Sound, "body", "body"},
	{"right, folded", "\r\n 4", "body", BadContentLength, Sound, "", "body"},
	{"right, folded behind a space", " \r\n\t4\r\n ", "body", BadContentLength, Sound, "", "body"},
	{"right, a fold behind it", "4\r\n ", "body", Sound, Sound, "body", "body"},
	{"right, another folded behind it", "4\r\nX: a\r\n\tContent-Length: 0", "body", BadContentLength, Sound, "", "body"},
	{"right, another folded in front", "4\r\nX: a\r\n b\r\n  \tL \t: 0", "body", BadContentLength, Sound, "", "body"},
	{"absent, another folded", "4\r\nX:\r\n CONTENT-length\r\n :0", "body", BadContentLength, Sound, "", "body"},
	{"right, what is none folded", "4\r\nX: a\r\n content-length 0\r\n Content-LengthX: 0\r\n l;: 0", "body", Sound, Sound, "body", "body"},
	{"right, NUL and CRLF in it", "8", "\x00\r\n\r\n\nb\x00", Sound, Sound, "\x00\r\n\r\n\nb\x00", "\x00\r\n\r\n\nb\x00"},
	{"longer", "5", "body", BodyTooShort, BodyTooShort, "", ""},
	{"longer, with trailing CRLF", "8", "body\r\n", BodyTooShort, BodyTooShort, "", ""},
	{"longer, no body", "1", "", BodyTooShort, BodyTooShort, "", ""},
	{"much longer", "2147483647", "body", BodyTooShort, BodyTooShort, "", ""},
	{"shorter", "3", "body", BodyTooLong, Sound, "", "bod"},
	{"shorter, another message", "0", soundResponse, BodyTooLong, Sound, "", ""},
	{"shorter, space", "4", "body \r\n", BodyTooLong, Sound, "", "body"},
	{"shorter, NUL", "4", "body\x00", BodyTooLong, Sound, "", "body"},
	{"trailing CRLF", "4", "body\r\n", Sound, Sound, "body", "body"},
	{"trailing CRLF, no body", "0", "\r\n", Sound, Sound, "", ""},
	{"trailing CR and LF", "4", "body\n\r\r\n", Sound, Sound, "body", "body"},
	{"CRLF in the length", "6", "body\r\n", Sound, Sound, "body\r\n", "body\r\n"},
	{"negative", "-4", "body", BadContentLength, BadContentLength, "", ""},
	{"with sign", "+5", "body", BadContentLength, BadContentLength, "", ""},
	{"two numbers", "5 5", "body", BadContentLength, BadContentLength, "", ""},
	{"hex digits", "0x4", "body", BadContentLength, BadContentLength, "", ""},
	{"hex digit alone", "a", "body", BadContentLength, BadContentLength, "", ""},
}

func TestBodyLength(t *testing.T) {
	for _, test := range bodyCases {
		header := ""
		if test.length != "" {
			header = "Content-Length: " + test.length + "\r\n"
		}
		raw := spoilt(t, "Content-Length: 4\r\n\r\nbody", header+"\r\n"+test.body)
		check := func(what string, check func(*Message) Defect, want Defect, body string) {
			var m Message
			got := m.Scan(raw)
			if got == Sound {
				got = check(&m)
			}
			if got != want || want == Sound && string(m.Text(m.Body)) != body {
				t.Errorf("%s of %s: %v, body %q; want %v, %q", what, test.name, got, m.Text(m.Body), want, body)
			}
		}
		check("frame", (*Message).CheckFrame, test.frame, test.frameBody)
		check("datagram", (*Message).CheckDatagram, test.gram, test.datagramBody)
	}
}
