package main

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// An importRule says what the files below dir may not import.
type importRule struct {
	dir    string // "" is the whole module
	test   bool   // holds for test files too
	reason string
	denied func(imported string) bool
}

var importRules = []importRule{
	{"rewrite", false, "rewrite imports only the standard library", func(p string) bool { return !standard(p) }},
	{"rewrite", true, "rewrite imports no other package of viaduct", of("viaduct")},
	{"transport", true, "transport knows neither rewrite nor gateway", of("viaduct/rewrite", "viaduct/gateway", "viaduct/cmd")},
	{"transport", false, "transport returns errors and does not log", of("log/slog", "go.uber.org/zap")},
	{"gateway", true, "imports go from cmd to gateway, never back", of("viaduct/cmd")},
	{"gateway", false, "flags belong to cmd", of("flag", "github.com/alecthomas/kong")},
	{"gateway", false, "a user agent is no part of the relay path", userAgents},
	{"transport", false, "a user agent is no part of the relay path", userAgents},
	{"cmd/viaduct", false, "a user agent is no part of the relay path", userAgents},
}

// doctorDir is where viaduct is a user agent itself.
const doctorDir = "cmd/viaduct/doctor/"

// userAgents judge what viaduct emits, answer calls in the demo and try SIP
// servers.
var userAgents = of("github.com/ghettovoice/gosip", "github.com/pion")

func TestImports(t *testing.T) {
	root := filepath.Join("..", "..")
	checked := map[string]int{}
	err := filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && (entry.Name() == "node_modules" || entry.Name() == ".git") {
			return fs.SkipDir
		}
		if path.Ext(file) != ".go" {
			return nil
		}
		name, err := filepath.Rel(root, file)
		if err != nil {
			return err
		}
		checked[strings.Split(filepath.ToSlash(name), "/")[0]]++
		return checkImports(t, filepath.ToSlash(name), file)
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"cmd", "gateway", "transport", "rewrite"} {
		if checked[dir] == 0 {
			t.Errorf("no Go file below %s: the rules were not checked there", dir)
		}
	}
}

func checkImports(t *testing.T, name, file string) error {
	parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
	if err != nil {
		return err
	}
	for _, spec := range parsed.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return err
		}
		for _, rule := range importRules {
			if rule.covers(name) && rule.denied(imported) {
				t.Errorf("%s imports %s: %s", name, imported, rule.reason)
			}
		}
	}
	return nil
}

func (r importRule) covers(name string) bool {
	if strings.HasSuffix(name, "_test.go") && !r.test {
		return false
	}
	if r.dir == "cmd/viaduct" && strings.HasPrefix(name, doctorDir) {
		return false
	}
	return r.dir == "" || strings.HasPrefix(name, r.dir+"/")
}

// standard tells whether p is a package of Go itself: no dot in its first
// element, and not of this module.
func standard(p string) bool {
	first, _, _ := strings.Cut(p, "/")
	return !strings.Contains(first, ".") && first != "viaduct"
}

// of returns a test for packages that are one of paths or below one.
func of(paths ...string) func(string) bool {
	return func(p string) bool {
		for _, path := range paths {
			if p == path || strings.HasPrefix(p, path+"/") {
				return true
			}
		}
		return false
	}
}
