package gateway

import (
	"encoding/hex"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

// tortureDir has a file for each message of RFC 4475 and RFC 5118: which RFC asks
// what of it, what becomes of it each way, and the message.
const tortureDir = "../rewrite/testdata/torture"

// torture is one such message.
type torture struct {
	name   string
	msg    sip
	rfc    string            // relay, refuse, or either where the RFC leaves it open
	ways   map[string]string // what becomes of it by ws, udp and tcp
	ownURI bool              // its Request-URI is what it is about
}

func tortures(t testing.TB) (all []torture) {
	t.Helper()
	files, err := filepath.Glob(tortureDir + "/*.txtar")
	if err != nil || len(files) < 60 {
		t.Fatalf("%d messages, %v", len(files), err)
	}
	for _, file := range files {
		archive, err := txtar.ParseFile(file)
		if err != nil || len(archive.Files) != 2 || !strings.HasPrefix(string(archive.Comment), "RFC ") {
			t.Fatalf("%s: %v, want a comment with its RFC, expect and message", file, err)
		}
		m := torture{name: strings.TrimSuffix(filepath.Base(file), ".txtar"), ways: map[string]string{}}
		for line := range strings.Lines(string(archive.Files[0].Data)) {
			switch name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": "); name {
			case "rfc":
				m.rfc = value
			case "uri":
				m.ownURI = true
			default:
				m.ways[name] = value
			}
		}
		m.msg = written(t, string(archive.Files[1].Data))
		all = append(all, m)
	}
	return all
}

var (
	writtenHex    = regexp.MustCompile(`<hex>(.*?)</hex>`)
	writtenRepeat = regexp.MustCompile(`(?s)<repeat count=(\d+)>(.*?)</repeat>`)
)

// written is a message that a file shows as RFC 4475 section 2.1 has it, with
// <hex> for bytes and <repeat> for long texts.
func written(t testing.TB, text string) sip {
	t.Helper()
	text = writtenRepeat.ReplaceAllStringFunc(text, func(s string) string {
		parts := writtenRepeat.FindStringSubmatch(s)
		count, _ := strconv.Atoi(parts[1])
		return strings.Repeat(parts[2], count)
	})
	text = strings.ReplaceAll(text, "\n", "\r\n")
	return sip(writtenHex.ReplaceAllStringFunc(text, func(s string) string {
		bytes, err := hex.DecodeString(writtenHex.FindStringSubmatch(s)[1])
		if err != nil {
			t.Fatal(err)
		}
		return string(bytes)
	}))
}

// differences are the messages and ways whose outcome is not what their RFC asks
// for, each with the reason.
func differences(t testing.TB) map[string]string {
	t.Helper()
	text, err := os.ReadFile(tortureDir + "/differences.txt")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") || strings.TrimSpace(line) == "" {
			continue
		}
		name, why, ok := strings.Cut(line, ": ")
		if !ok || !strings.Contains(why, "RFC ") || !strings.Contains(why, `"`) {
			t.Fatalf("differences: %q does not quote an RFC", line)
		}
		for _, way := range strings.Fields(name)[1:] {
			all[strings.Fields(name)[0]+" "+strings.Trim(way, ",")] = why
		}
	}
	return all
}

// A headerLine is one header line of a message with its folds, as a reader sees
// it that shares nothing with package rewrite.
type headerLine struct{ name, raw string }

var longNames = map[string]string{
	"v": "via", "f": "from", "t": "to", "i": "call-id", "m": "contact", "l": "content-length", "k": "supported",
}

// folded splits a message into its start line, its header lines and its body.
func (m sip) folded() (start string, lines []headerLine, body string) {
	start, rest, _ := strings.Cut(string(m), "\r\n")
	for rest != "" && !strings.HasPrefix(rest, "\r\n") {
		end := 0
		for {
			n := strings.Index(rest[end:], "\r\n")
			if n < 0 {
				end = len(rest)
				break
			}
			end += n + 2
			if end == len(rest) || rest[end] != ' ' && rest[end] != '\t' {
				break
			}
		}
		name, _, _ := strings.Cut(rest[:end], ":")
		name = strings.ToLower(strings.TrimSpace(name))
		if long := longNames[name]; long != "" {
			name = long
		}
		lines, rest = append(lines, headerLine{name, rest[:end]}), rest[end:]
	}
	return start, lines, strings.TrimPrefix(rest, "\r\n")
}

// values are the values of a header field, over all its lines and in any
// spelling of its name, without the white space around them.
func (m sip) values(name string) (values []string) {
	_, lines, _ := m.folded()
	for _, line := range lines {
		if line.name == name {
			_, text, _ := strings.Cut(line.raw, ":")
			values = append(values, splitValues(text)...)
		}
	}
	return values
}

// splitValues splits at the commas that stand outside of quotes and brackets.
func splitValues(text string) (values []string) {
	quoted, bracket, from := false, false, 0
	for i := 0; i <= len(text); i++ {
		switch {
		case i == len(text), text[i] == ',' && !quoted && !bracket:
			if v := strings.TrimSpace(text[from:i]); v != "" {
				values = append(values, v)
			}
			from = i + 1
		case text[i] == '\\' && quoted:
			i++
		case text[i] == '"' && !bracket:
			quoted = !quoted
		case text[i] == '<' && !quoted:
			bracket = true
		case text[i] == '>' && !quoted:
			bracket = false
		}
	}
	return values
}

// others are the header lines but for those fields.
func (m sip) others(names ...string) (raw []string) {
	_, lines, _ := m.folded()
	for _, line := range lines {
		if !slices.Contains(names, line.name) {
			raw = append(raw, line.raw)
		}
	}
	return raw
}

// counted is the body as far as the Content-Length counts it.
func (m sip) counted() string {
	_, _, body := m.folded()
	if length := m.values("content-length"); len(length) == 1 {
		if n, err := strconv.Atoi(length[0]); err == nil && n <= len(body) {
			return body[:n]
		}
	}
	return body
}

// echo makes a response as an endpoint does that repeats whole lines.
func (m sip) echo(status string) sip {
	text := "SIP/2.0 " + status + "\r\n"
	_, lines, _ := m.folded()
	for _, line := range lines {
		switch line.name {
		case "via", "from", "to", "call-id", "cseq":
			text += line.raw
		}
	}
	return sip(text + "Content-Length: 0\r\n\r\n")
}
