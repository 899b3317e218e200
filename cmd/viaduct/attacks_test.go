package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// security is the page that has the table of attacks.
const security = "deploy/SECURITY.md"

// renewAttacks has TestDocsAttacks run all attacks and write what happened.
const renewAttacks = "VIADUCT_RENEW_ATTACKS"

// attackLine is how a test says what an attack did.
const attackLine = "attack: "

// An attackLog is one place of a test that logs attacks.
type attackLog struct {
	pkg, test, place string
	name             *regexp.Regexp // of the attacks that it logs
}

// An attack is a row of the table.
type attack struct{ name, happened, counter, test string }

// TestDocsAttacks: the attacks in the table are those that tests make. What came
// of each is as of the last `make attacks`.
func TestDocsAttacks(t *testing.T) {
	logs := attackLogs(t)
	if os.Getenv(renewAttacks) != "" {
		writeAttacks(t, runAttacks(t, logs))
	}
	rows := attackRows(t)
	for _, row := range rows {
		if !slices.ContainsFunc(logs, func(l attackLog) bool { return l.test == row.test && l.name.MatchString(row.name) }) {
			t.Errorf("%s: %s makes no attack %q: make attacks", security, row.test, row.name)
		}
	}
	for _, l := range logs {
		if !slices.ContainsFunc(rows, func(row attack) bool { return l.test == row.test && l.name.MatchString(row.name) }) {
			t.Errorf("%s has no attack of %s, %s: make attacks", security, l.test, l.place)
		}
	}
}

// attackRows reads the table.
func attackRows(t *testing.T) (rows []attack) {
	t.Helper()
	_, rest, begun := strings.Cut(readProjectFile(t, security), "<!-- attacks -->\n")
	table, _, ended := strings.Cut(rest, "<!-- /attacks -->")
	if !begun || !ended {
		t.Fatalf("%s has no section attacks", security)
	}
	for line := range strings.Lines(table) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), " | ")
		if len(cells) == 4 && strings.HasPrefix(strings.TrimSpace(cells[3]), "`Test") {
			rows = append(rows, attack{strings.TrimSpace(cells[0]), cells[1], cells[2], strings.Trim(cells[3], " `")})
		}
	}
	return rows
}

// attackLogs finds where tests log attacks.
func attackLogs(t *testing.T) (logs []attackLog) {
	t.Helper()
	root := filepath.Join("..", "..")
	err := filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == "node_modules" || entry.Name() == ".git"):
			return fs.SkipDir
		case !strings.HasSuffix(file, "_test.go"):
			return nil
		}
		files := token.NewFileSet()
		parsed, err := parser.ParseFile(files, file, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, declared := range parsed.Decls {
			f, ok := declared.(*ast.FuncDecl)
			if !ok {
				continue
			}
			ast.Inspect(f, func(n ast.Node) bool {
				if name := attackName(n); name != "" {
					pkg, _ := filepath.Rel(root, filepath.Dir(file))
					logs = append(logs, attackLog{pkg, f.Name.Name, files.Position(n.Pos()).String(), regexp.MustCompile("^" + name + "$")})
				}
				return true
			})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range logs {
		if !strings.HasPrefix(l.test, "Test") {
			t.Errorf("%s: an attack is logged by the test itself, not by %s", l.place, l.test)
		}
	}
	return logs
}

// attackName is a pattern of the names that a call of Logf gives attacks, empty
// if it logs none.
func attackName(n ast.Node) string {
	call, ok := n.(*ast.CallExpr)
	if !ok || len(call.Args) == 0 {
		return ""
	}
	if f, ok := call.Fun.(*ast.SelectorExpr); !ok || f.Sel.Name != "Logf" {
		return ""
	}
	format, ok := literal(call.Args[0])
	format, isAttack := strings.CutPrefix(format, attackLine)
	if !ok || !isAttack {
		return ""
	}
	name, _, _ := strings.Cut(format, " | ")
	if name == "%s" {
		return namePattern(call.Args[1])
	}
	return formatPattern(name)
}

// namePattern is a pattern of what an expression says: its literals, and anything
// for the rest.
func namePattern(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		text, _ := literal(e)
		return regexp.QuoteMeta(cell(text))
	case *ast.BinaryExpr:
		return namePattern(e.X) + namePattern(e.Y)
	case *ast.CallExpr:
		if f, ok := e.Fun.(*ast.SelectorExpr); ok && f.Sel.Name == "Sprintf" {
			if format, ok := literal(e.Args[0]); ok {
				return formatPattern(format)
			}
		}
	}
	return ".*"
}

var verb = regexp.MustCompile(`%[-+# 0-9.\\]*[a-zA-Z]`)

func formatPattern(format string) string {
	return verb.ReplaceAllString(regexp.QuoteMeta(cell(format)), ".*")
}

func literal(e ast.Expr) (text string, ok bool) {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", false
	}
	text, err := strconv.Unquote(lit.Value)
	return text, err == nil
}

// runAttacks runs the tests that log attacks, without the race detector, and
// returns what they say.
func runAttacks(t *testing.T, logs []attackLog) (rows []attack) {
	t.Helper()
	tests := map[string]map[string]bool{}
	for _, l := range logs {
		if tests[l.pkg] == nil {
			tests[l.pkg] = map[string]bool{}
		}
		tests[l.pkg][l.test] = true
	}
	for _, pkg := range slices.Sorted(maps.Keys(tests)) {
		names := slices.Sorted(maps.Keys(tests[pkg]))
		run := exec.Command("go", "test", "-json", "-count=1", "-timeout=20m", "-run=^("+strings.Join(names, "|")+")$", "./"+filepath.ToSlash(pkg))
		run.Dir = filepath.Join("..", "..")
		run.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, renewAttacks+"=") })
		out, err := run.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := run.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		lines.Buffer(nil, 16<<20)
		for lines.Scan() {
			var event struct{ Test, Output string }
			if err := json.Unmarshal(lines.Bytes(), &event); err != nil {
				t.Fatal(err)
			}
			_, said, ok := strings.Cut(event.Output, ".go:")
			_, said, found := strings.Cut(said, ": "+attackLine)
			parts := strings.SplitN(strings.TrimSpace(said), " | ", 3)
			if !ok || !found || len(parts) != 3 {
				continue
			}
			test, _, _ := strings.Cut(event.Test, "/")
			rows = append(rows, attack{cell(parts[0]), cell(parts[1]), cell(parts[2]), test})
		}
		if err := run.Wait(); err != nil {
			t.Fatalf("%s: the attacks did not all pass: %v", pkg, err)
		}
	}
	slices.SortStableFunc(rows, func(a, b attack) int { return strings.Compare(a.test+a.name, b.test+b.name) })
	return slices.CompactFunc(rows, func(a, b attack) bool { return a.test == b.test && a.name == b.name })
}

// writeAttacks writes the table.
func writeAttacks(t *testing.T, rows []attack) {
	t.Helper()
	text := readProjectFile(t, security)
	begin, rest, _ := strings.Cut(text, "<!-- attacks -->\n")
	_, end, ok := strings.Cut(rest, "<!-- /attacks -->")
	if !ok || len(rows) == 0 {
		t.Fatalf("%s has no section attacks, or there are none", security)
	}
	var table strings.Builder
	table.WriteString("| attack | what happened | counter | test |\n|---|---|---|---|\n")
	for _, row := range rows {
		fmt.Fprintf(&table, "| %s | %s | %s | `%s` |\n", row.name, row.happened, row.counter, row.test)
	}
	text = begin + "<!-- attacks -->\n" + table.String() + "<!-- /attacks -->" + end
	if err := os.WriteFile(filepath.Join("..", "..", security), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
