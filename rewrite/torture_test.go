package rewrite

import (
	"encoding/hex"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

// tortureDefects are the messages in the manner of RFC 4475 and RFC 5118 that
// are not relayed. All others are, and what is wrong in some of them is for the
// SIP server to say.
var tortureDefects = map[string]Defect{
	"badinv01":   BadVia,
	"badvers":    BadVersion,
	"bigcode":    BadStartLine,
	"clerr":      BodyTooShort,
	"insuf":      MissingHeader,
	"intmeth":    BareLineEnd, // valid, but for the NUL in its quoted string
	"lwsruri":    BadStartLine,
	"lwsstart":   BadStartLine,
	"ltgtruri":   BadStartLine,
	"mcl01":      DuplicateHeader,
	"mismatch01": BadCSeq,
	"mismatch02": BadCSeq,
	"multi01":    DuplicateHeader,
	"ncl":        BadContentLength,
	"scalar02":   BadCSeq,
	"scalarlg":   BadCSeq,
	"trws":       BadStartLine,
}

func TestTorture(t *testing.T) {
	messages := tortures(t)
	for name, raw := range messages {
		var m Message
		defect := m.Scan(raw)
		if defect == Sound {
			defect = m.CheckDatagram()
		}
		if defect != tortureDefects[name] {
			t.Errorf("%s: %v, want %v", name, defect, tortureDefects[name])
		}
		if _, ok := m.Via(0); defect == Sound && ok == (name == "ipv6-via-bare") {
			t.Errorf("%s: its Via is read: %v", name, ok)
		}
		_, ok := addresses(&m)
		if defect == Sound && ok == (name == "regbadct") {
			t.Errorf("%s: its Contacts are read: %v", name, ok)
		}
	}
	for name := range tortureDefects {
		if messages[name] == nil {
			t.Errorf("no message %s", name)
		}
	}
}

// The oddest of the valid ones, read in full.
func TestTortureIsRead(t *testing.T) {
	messages := tortures(t)
	var m Message
	m.Scan(messages["wsinv"])
	if m.Vias() != 3 || m.MaxForwards != 68 || m.CSeq != 9 || !m.Is("INVITE") || !m.Tagged() {
		t.Errorf("wsinv: %d Vias, Max-Forwards %d, CSeq %d", m.Vias(), m.MaxForwards, m.CSeq)
	}
	via, _ := m.Via(2)
	contact, _ := m.ParseAddress(all(&m, Contact)[0])
	q, _ := m.Param(contact.Params, "q")
	if got := texts(&m, []Span{via.Host, via.Branch, contact.URI, q.Value}); strings.Join(got, " ") != "192.168.255.111 z9hG4bK30239 sip:jdrosen@example.com 0.33" {
		t.Errorf("wsinv: %q", got)
	}
	m.Scan(messages["dblreq"])
	if m.CheckDatagram(); string(m.Raw[m.Body.Lo:m.Body.Hi]) != "" || m.CheckFrame() != BodyTooLong {
		t.Errorf("dblreq: body %q", m.Text(m.Body))
	}
	m.Scan(messages["longreq"])
	if via, _ := m.Via(28); m.Vias() != 29 || len(m.Text(via.Branch)) != len("verylong")+50*len("branchvalue") {
		t.Errorf("longreq: %d Vias", m.Vias())
	}
}

var (
	hexText    = regexp.MustCompile(`<hex>(.*?)</hex>`)
	repeatText = regexp.MustCompile(`(?s)<repeat count=(\d+)>(.*?)</repeat>`)
)

// tortures reads the messages by name. They are written as RFC 4475 section 2.1
// has it, with <hex> for bytes and <repeat> for long texts. What else their files
// say is tested by the gateway.
func tortures(tb testing.TB) map[string][]byte {
	tb.Helper()
	files, err := filepath.Glob("testdata/torture/*.txtar")
	if err != nil || len(files) < 60 {
		tb.Fatalf("%d messages, %v", len(files), err)
	}
	messages := map[string][]byte{}
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil {
			tb.Fatal(err)
		}
		text := string(archive.Files[len(archive.Files)-1].Data)
		message := repeatText.ReplaceAllStringFunc(text, func(s string) string {
			parts := repeatText.FindStringSubmatch(s)
			count, _ := strconv.Atoi(parts[1])
			return strings.Repeat(parts[2], count)
		})
		message = hexText.ReplaceAllStringFunc(withCRLF(message), func(s string) string {
			bytes, err := hex.DecodeString(hexText.FindStringSubmatch(s)[1])
			if err != nil {
				tb.Fatal(err)
			}
			return string(bytes)
		})
		messages[strings.TrimSuffix(filepath.Base(file), ".txtar")] = []byte(message)
	}
	return messages
}
