package gateway

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/ghettovoice/gosip/log"
	gosip "github.com/ghettovoice/gosip/sip"
	"github.com/ghettovoice/gosip/sip/parser"
)

// sip is a message as a test looks at it and makes it.
type sip string

// newRequest makes a request of header lines.
func newRequest(method, uri string, lines ...string) sip {
	return sip(fmt.Sprintf("%s %s SIP/2.0\r\n%s\r\nMax-Forwards: 70\r\nContent-Length: 0\r\n\r\n",
		method, uri, strings.Join(lines, "\r\n")))
}

func (m sip) start() string {
	line, _, _ := strings.Cut(string(m), "\r\n")
	return line
}

// uri is a request's Request-URI.
func (m sip) uri() string { return between(m.start(), " ", " ") }

func (m sip) method() string {
	method, _, _ := strings.Cut(string(m), " ")
	return method
}

// lines returns the header lines, and the body with the empty line before it.
func (m sip) lines() (lines []string, rest string) {
	head, body, _ := strings.Cut(string(m), "\r\n\r\n")
	return strings.Split(head, "\r\n")[1:], "\r\n\r\n" + body
}

func (m sip) body() string {
	_, rest := m.lines()
	return rest[len("\r\n\r\n"):]
}

func isHeader(line, name string) bool {
	n, _, ok := strings.Cut(line, ":")
	return ok && strings.EqualFold(strings.TrimSpace(n), name)
}

// all returns the values of a header, a line each, in order.
func (m sip) all(name string) (values []string) {
	lines, _ := m.lines()
	for _, line := range lines {
		if isHeader(line, name) {
			_, v, _ := strings.Cut(line, ":")
			values = append(values, strings.TrimSpace(v))
		}
	}
	return values
}

func (m sip) get(name string) string {
	if v := m.all(name); len(v) > 0 {
		return v[0]
	}
	return ""
}

// add puts header lines at the end of the header.
func (m sip) add(lines ...string) sip {
	have, rest := m.lines()
	return m.join(append(have, lines...), rest)
}

// without leaves a header out.
func (m sip) without(name string) sip {
	lines, rest := m.lines()
	return m.join(slices.DeleteFunc(lines, func(line string) bool { return isHeader(line, name) }), rest)
}

// set gives a header one value, in the place of what it had.
func (m sip) set(name, value string) sip {
	lines, rest := m.lines()
	for i, line := range lines {
		if isHeader(line, name) {
			lines[i] = name + ": " + value
			return m.join(lines, rest)
		}
	}
	return m.add(name + ": " + value)
}

func (m sip) join(lines []string, rest string) sip {
	return sip(strings.Join(append([]string{m.start()}, lines...), "\r\n") + rest)
}

// withBody sets the body and the length that is right for it.
func (m sip) withBody(body string) sip {
	head, _, _ := strings.Cut(string(m.set("Content-Length", fmt.Sprint(len(body)))), "\r\n\r\n")
	return sip(head + "\r\n\r\n" + body)
}

// as turns an INVITE into its CANCEL or ACK.
func (m sip) as(method string) sip {
	cseq, _, _ := strings.Cut(m.get("CSeq"), " ")
	_, rest, _ := strings.Cut(string(m), " ")
	return sip(method+" "+rest).set("CSeq", cseq+" "+method).without("Contact")
}

// reply makes a response as a SIP endpoint does: it repeats what must be repeated.
func (m sip) reply(status string, more ...string) sip {
	lines := []string{}
	for _, name := range []string{"Via", "From", "To", "Call-ID", "CSeq"} {
		for _, v := range m.all(name) {
			if name == "To" && !strings.Contains(v, ";tag=") && !strings.HasPrefix(status, "100") {
				v += ";tag=callee"
			}
			lines = append(lines, name+": "+v)
		}
	}
	lines = append(append(lines, more...), "Content-Length: 0")
	return sip("SIP/2.0 " + status + "\r\n" + strings.Join(lines, "\r\n") + "\r\n\r\n")
}

// receivedFrom is the request as it is known to who got it from there: RFC 3581
// asks for the source in the top Via.
func (m sip) receivedFrom(source net.Addr) sip {
	host, port, _ := net.SplitHostPort(source.String())
	return m.set("Via", strings.Replace(m.get("Via"), ";rport", ";rport="+port, 1)+";received="+host)
}

// isProbe reports whether this is the gateway's own OPTIONS.
func (m sip) isProbe() bool {
	return m.method() == "OPTIONS" && strings.HasPrefix(m.get("From"), "<sip:viaduct@")
}

// branch is that of the top Via.
func (m sip) branch() string { return param(m.get("Via"), "branch") }

// param is a parameter's value.
func param(value, name string) string {
	v := between(value, ";"+name+"=", ";")
	v, _, _ = strings.Cut(v, ",")
	return strings.TrimSpace(v)
}

// contactURI is the URI of the first Contact.
func (m sip) contactURI() string { return between(m.get("Contact"), "<", ">") }

// between returns the part of s between two texts.
func between(s, from, to string) string {
	_, s, _ = strings.Cut(s, from)
	s, _, _ = strings.Cut(s, to)
	return s
}

// expectAnswer checks a response that the gateway gave by itself: an
// independent reader takes it, and it repeats what RFC 3261 8.2.6.2 wants.
func expectAnswer(t testing.TB, req, got sip, status int) {
	t.Helper()
	parsed, err := parser.ParseMessage([]byte(got), log.NewDefaultLogrusLogger().WithPrefix("test"))
	if err != nil {
		t.Fatalf("gosip: %v\n%s", err, got)
	}
	if res, ok := parsed.(gosip.Response); !ok || int(res.StatusCode()) != status {
		t.Fatalf("answered %q, want %d", got.start(), status)
	}
	for _, name := range []string{"From", "Call-ID", "CSeq"} {
		if got.get(name) != req.get(name) || len(got.all(name)) != 1 {
			t.Errorf("%s %q in the answer to %q", name, got.all(name), req.all(name))
		}
	}
	to, tagged := strings.CutPrefix(got.get("To"), req.get("To"))
	if has := strings.Contains(req.get("To"), ";tag="); !tagged || has != (to == "") || !has && len(to) <= len(";tag=") {
		t.Errorf("To %q in the answer to %q", got.get("To"), req.get("To"))
	}
	if vias, want := got.all("Via"), req.all("Via"); !slices.Equal(vias, want) {
		t.Errorf("Via %q in the answer to %q", vias, want)
	}
	if got.body() != "" || got.get("Content-Length") != "0" {
		t.Errorf("the answer has a body: %q", got)
	}
}
