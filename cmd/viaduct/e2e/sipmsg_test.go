package e2e

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/ghettovoice/gosip/log"
	"github.com/ghettovoice/gosip/sip/parser"
)

// A Message is one SIP message as the harness reads it: the bytes, and header
// lines that are split but never normalised, so that a test can compare bytes.
type Message struct {
	Raw     string
	Start   string // the start line
	headers []headerLine
	Body    string
}

type headerLine struct {
	name, value string // long name in lower case, value without the space around it
	raw         string // as it came, folds included
}

// compactNames are the header names of RFC 3261 section 7.3.3 and of the later
// RFCs that these peers use.
var compactNames = map[string]string{
	"a": "accept-contact", "b": "referred-by", "c": "content-type", "e": "content-encoding",
	"f": "from", "i": "call-id", "k": "supported", "l": "content-length", "m": "contact",
	"o": "event", "r": "refer-to", "s": "subject", "t": "to", "u": "allow-events", "v": "via",
}

// newMessage splits raw into lines. What is no SIP yields a Message without
// headers whose Start is the first line.
func newMessage(raw string) Message {
	head, body, _ := strings.Cut(raw, "\r\n\r\n")
	lines := strings.Split(head, "\r\n")
	m := Message{Raw: raw, Start: lines[0], Body: body}
	for _, line := range lines[1:] {
		if last := len(m.headers) - 1; last >= 0 && line != "" && (line[0] == ' ' || line[0] == '\t') {
			m.headers[last].value += "\r\n" + line
			m.headers[last].raw += "\r\n" + line
			continue
		}
		name, value, _ := strings.Cut(line, ":")
		name = strings.ToLower(strings.TrimSpace(name))
		if long, ok := compactNames[name]; ok {
			name = long
		}
		m.headers = append(m.headers, headerLine{name, strings.TrimSpace(value), line})
	}
	return m
}

// IsRequest tells a request from a response.
func (m Message) IsRequest() bool { return !strings.HasPrefix(m.Start, "SIP/2.0 ") }

// Status is the response's status code, 0 for a request.
func (m Message) Status() int {
	if m.IsRequest() {
		return 0
	}
	code, _, _ := strings.Cut(strings.TrimPrefix(m.Start, "SIP/2.0 "), " ")
	status, _ := strconv.Atoi(code)
	return status
}

// Method is the request's method, or that of the CSeq for a response.
func (m Message) Method() string {
	if m.IsRequest() {
		method, _, _ := strings.Cut(m.Start, " ")
		return method
	}
	_, method, _ := strings.Cut(m.Header("CSeq"), " ")
	return strings.TrimSpace(method)
}

// RequestURI is the request's target, empty for a response.
func (m Message) RequestURI() string {
	fields := strings.Fields(m.Start)
	if !m.IsRequest() || len(fields) != 3 {
		return ""
	}
	return fields[1]
}

// Header is the value of the first header line of that name, empty without one.
func (m Message) Header(name string) string {
	if lines := m.Headers(name); len(lines) > 0 {
		return lines[0]
	}
	return ""
}

// Headers are the values of all header lines of that name, unsplit.
func (m Message) Headers(name string) []string {
	var values []string
	for _, line := range m.headers {
		if line.name == strings.ToLower(name) {
			values = append(values, line.value)
		}
	}
	return values
}

// Values are the comma-separated values of all header lines of that name.
func (m Message) Values(name string) []string {
	var values []string
	for _, line := range m.Headers(name) {
		values = append(values, splitValues(line)...)
	}
	return values
}

// Without is the body and all header lines, byte for byte, less those of the
// names given in lower case.
func (m Message) Without(names ...string) string {
	var kept strings.Builder
	for _, line := range m.headers {
		if !slices.Contains(names, line.name) {
			kept.WriteString(line.raw + "\r\n")
		}
	}
	return kept.String() + "\r\n" + m.Body
}

// Request reports whether m is a request of that method.
func (m Message) Request(method string) bool { return m.IsRequest() && m.Method() == method }

// Response reports whether m is a response with that status to that method.
func (m Message) Response(status int, method string) bool {
	return m.Status() == status && m.Method() == method
}

// String is the start line and what tells messages of one test apart.
func (m Message) String() string {
	return fmt.Sprintf("%s  [CSeq %s, Call-ID %s]", m.Start, m.Header("CSeq"), m.Header("Call-ID"))
}

// splitValues splits a header value at the commas outside quotes and angle brackets.
func splitValues(value string) []string {
	var values []string
	quoted, bracketed, from := false, false, 0
	for i := 0; i < len(value); i++ {
		switch c := value[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '<':
			bracketed = true
		case c == '>':
			bracketed = false
		case c == ',' && !bracketed:
			values = append(values, strings.TrimSpace(value[from:i]))
			from = i + 1
		}
	}
	return append(values, strings.TrimSpace(value[from:]))
}

// uriOf is the URI of a name-addr or addr-spec header value.
func uriOf(value string) string {
	if _, rest, ok := strings.Cut(value, "<"); ok {
		uri, _, _ := strings.Cut(rest, ">")
		return uri
	}
	uri, _, _ := strings.Cut(value, ";")
	return strings.TrimSpace(uri)
}

// parseIndependently reads raw with gosip, which shares no code with viaduct. A
// header that gosip would skip is an error too.
func parseIndependently(raw string) error {
	skipped := &complaints{Logger: log.NewDefaultLogrusLogger()}
	if _, err := parser.ParseMessage([]byte(raw), skipped); err != nil {
		return err
	}
	return errors.Join(skipped.heard...)
}

// complaints are the warnings and errors that gosip logs.
type complaints struct {
	log.Logger
	heard []error
}

func (c *complaints) Warnf(format string, args ...any)     { c.hear(fmt.Sprintf(format, args...)) }
func (c *complaints) Warn(args ...any)                     { c.hear(fmt.Sprint(args...)) }
func (c *complaints) Errorf(format string, args ...any)    { c.hear(fmt.Sprintf(format, args...)) }
func (c *complaints) Error(args ...any)                    { c.hear(fmt.Sprint(args...)) }
func (c *complaints) WithPrefix(string) log.Logger         { return c }
func (c *complaints) WithFields(map[string]any) log.Logger { return c }
func (c *complaints) hear(text string)                     { c.heard = append(c.heard, errors.New(text)) }
