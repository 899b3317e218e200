package rewrite

import (
	"bytes"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"
)

// golden is one file of testdata: a message, what is done to it, and what comes
// out. The comment above them says which bug it guards.
type golden struct {
	in, out string
	call    string
	params  map[string][]string
	used    map[string]bool
}

// TestGoldens holds one file for each row of the transformation and each quirk
// of a message that one of them met.
func TestGoldens(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) < 100 {
		t.Fatalf("%d goldens, %v", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txtar")
		t.Run(name, func(t *testing.T) { readGolden(t, file).run(t) })
	}
}

func readGolden(t *testing.T, file string) *golden {
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	parts := map[string]string{}
	for _, part := range archive.Files {
		parts[part.Name] = string(part.Data)
	}
	if len(parts) != 3 || len(bytes.TrimSpace(archive.Comment)) == 0 {
		t.Fatalf("not a comment with in, parameters and out")
	}
	g := &golden{in: withCRLF(parts["in"]), out: withCRLF(parts["out"]), params: map[string][]string{}, used: map[string]bool{}}
	for i, line := range strings.Split(strings.TrimSuffix(parts["parameters"], "\n"), "\n") {
		if i == 0 {
			g.call = line
			continue
		}
		name, value, ok := strings.Cut(line, ": ")
		if !ok {
			t.Fatalf("parameter %q", line)
		}
		g.params[name] = append(g.params[name], value)
	}
	return g
}

func withCRLF(text string) string { return strings.ReplaceAll(text, "\n", "\r\n") }

func (g *golden) run(t *testing.T) {
	var m Message
	defect := m.Scan([]byte(g.in))
	if defect == Sound {
		defect = m.CheckFrame()
	}
	want := Sound.String()
	if g.params["defect"] != nil {
		want = g.text("defect")
	}
	if defect.String() != want {
		t.Fatalf("the message in is %v, want %s", defect, want)
	}
	out := g.apply(t, &m)
	if string(out) != g.out {
		t.Errorf("got\n%s\nwant\n%s", out, g.out)
	}
	for name := range g.params {
		if !g.used[name] {
			t.Errorf("%s has no parameter %s", g.call, name)
		}
	}
	if again := m.Scan(out); defect == Sound && again != Sound {
		t.Errorf("the message out is %v", again)
	}
}

func (g *golden) apply(t *testing.T, m *Message) []byte {
	switch g.call {
	case "RequestUp":
		r := RequestUp{Via: []byte(g.text("via")), OwnRoutes: g.number(t, "own-routes"), Contacts: g.texts("contact"), Strip: g.strings("strip"), Unsupported: g.strings("unsupported"), Body: g.body()}
		if header := g.text("client-ip"); header != "" {
			name, value, _ := strings.Cut(header, ": ")
			r.ClientIPHeader, r.ClientIP = name, []byte(value)
		}
		return r.Append(nil, m)
	case "ResponseUp":
		r := ResponseUp{Contact: []byte(g.text("contact")), Routes: g.text("routes") != "", Strip: g.strings("strip"), Body: g.body()}
		return r.Append(nil, m)
	case "RequestDown":
		r := RequestDown{URI: []byte(g.text("uri")), Via: []byte(g.text("via")), Source: g.source(t), Unsupported: g.strings("unsupported"), Body: g.body()}
		return r.Append(nil, m)
	case "ResponseDown":
		r := ResponseDown{Via: []byte(g.text("via")), Restore: g.restore(), Body: g.body()}
		return r.Append(nil, m)
	case "Answer":
		a := Answer{
			Status: g.number(t, "status"), Phrase: g.text("phrase"), Tag: []byte(g.text("tag")),
			RetryAfter: g.number(t, "retry-after"), Unsupported: []byte(g.text("unsupported")), Source: g.source(t),
		}
		if !m.Answerable() {
			t.Fatal("the message in is not answerable")
		}
		return a.Append(nil, m)
	}
	t.Fatalf("no call %q", g.call)
	return nil
}

// restore returns the function that knows the golden's tokens, nil if none.
func (g *golden) restore() func([]byte) []byte {
	uris := map[string]string{}
	for _, pair := range g.strings("restore") {
		user, uri, _ := strings.Cut(pair, " ")
		uris[user] = uri
	}
	if len(uris) == 0 {
		return nil
	}
	return func(user []byte) []byte {
		if uri, ok := uris[string(user)]; ok {
			return []byte(uri)
		}
		return nil
	}
}

// body returns the lines that stand for the body, nil if there are none.
func (g *golden) body() (body []byte) {
	for _, line := range g.strings("body") {
		body = append(body, line+"\r\n"...)
	}
	return body
}

func (g *golden) strings(name string) []string {
	g.used[name] = true
	return g.params[name]
}

func (g *golden) texts(name string) (texts [][]byte) {
	for _, text := range g.strings(name) {
		texts = append(texts, []byte(text))
	}
	return texts
}

func (g *golden) text(name string) string {
	if all := g.strings(name); len(all) > 0 {
		return all[0]
	}
	return ""
}

func (g *golden) number(t *testing.T, name string) int {
	text := g.text(name)
	if text == "" {
		return 0
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func (g *golden) source(t *testing.T) netip.AddrPort {
	text := g.text("source")
	if text == "" {
		return netip.AddrPort{}
	}
	source, err := netip.ParseAddrPort(text)
	if err != nil {
		t.Fatal(err)
	}
	return source
}
