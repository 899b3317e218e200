package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"viaduct/gateway"
)

// TestDocsLogFields: the table of the log's fields is what the code says, and the
// code writes these fields and no others.
func TestDocsLogFields(t *testing.T) {
	var table strings.Builder
	table.WriteString("| field | what it says |\n|---|---|\n")
	declared := map[string]bool{}
	for _, field := range append(gateway.LogFields(), logFields...) {
		if declared[field.Name] {
			t.Errorf("%s is declared twice", field.Name)
		}
		declared[field.Name] = true
		fmt.Fprintf(&table, "| `%s` | %s |\n", field.Name, cell(field.Text))
	}
	wantSection(t, "log fields", table.String())

	written := map[string]token.Position{}
	for _, dir := range []string{filepath.Join("..", "..", "gateway"), "."} {
		collectLogFields(t, dir, written)
	}
	for name, at := range written {
		if !declared[name] {
			t.Errorf("%s: the field %q is not declared", at, name)
		}
	}
	for name := range declared {
		if _, there := written[name]; !there {
			t.Errorf("the field %q is in no line", name)
		}
	}
}

// collectLogFields finds the names of zap's fields in the Go files of a folder and
// of those below it.
func collectLogFields(t *testing.T, dir string, names map[string]token.Position) {
	t.Helper()
	files := token.NewFileSet()
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go") {
			return err
		}
		parsed, err := parser.ParseFile(files, path, nil, 0)
		if err != nil {
			return err
		}
		ast.Inspect(parsed, func(node ast.Node) bool {
			if call, ok := node.(*ast.CallExpr); ok {
				if name, ok := logField(call); ok {
					names[name] = files.Position(call.Pos())
				}
			}
			return true
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// logField returns the name of the field that a call of package zap makes.
func logField(call *ast.CallExpr) (name string, ok bool) {
	function, ok := call.Fun.(*ast.SelectorExpr)
	if !ok {
		return "", false
	}
	if from, ok := function.X.(*ast.Ident); !ok || from.Name != "zap" {
		return "", false
	}
	if function.Sel.Name == "Error" {
		return "error", true
	}
	if len(call.Args) != 2 {
		return "", false
	}
	literal, ok := call.Args[0].(*ast.BasicLit)
	if !ok || literal.Kind != token.STRING {
		return "", false
	}
	name, err := strconv.Unquote(literal.Value)
	return name, err == nil
}
