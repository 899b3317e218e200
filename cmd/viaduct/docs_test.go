package main

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"viaduct/gateway"
	"viaduct/transport"
)

// TestDocsFlags: the table of flags is what the code says.
func TestDocsFlags(t *testing.T) {
	wantSection(t, "flags", flagTable(t))
}

// TestDocsReasons: the table of reasons is what the code says.
func TestDocsReasons(t *testing.T) {
	var table strings.Builder
	table.WriteString("| `reason` | what happened |\n|---|---|\n")
	for _, reason := range gateway.Reasons() {
		fmt.Fprintf(&table, "| `%s` | %s |\n", reason, cell(reason.Text()))
	}
	wantSection(t, "reasons", table.String())
}

// TestDocsRefusals: the table of handshakes that are refused is what the code says.
func TestDocsRefusals(t *testing.T) {
	var table strings.Builder
	table.WriteString("| `reason` | answer | what happened |\n|---|---|---|\n")
	for _, why := range transport.Refusals() {
		text, status := why.Text()
		answer := "closed"
		if status > 0 {
			answer = strconv.Itoa(status)
		}
		fmt.Fprintf(&table, "| `%s` | %s | %s |\n", why, answer, text)
	}
	wantSection(t, "refusals", table.String())
}

// TestDocsMetrics: the table of metrics is what the code says.
func TestDocsMetrics(t *testing.T) {
	var table strings.Builder
	table.WriteString("| metric | type | labels | what it says |\n|---|---|---|---|\n")
	for _, m := range gateway.Metrics() {
		labels := ""
		if len(m.Labels) > 0 {
			labels = "`" + strings.Join(m.Labels, "`, `") + "`"
		}
		fmt.Fprintf(&table, "| `%s` | %s | %s | %s |\n", m.Name, m.Type, labels, cell(m.Text))
	}
	wantSection(t, "metrics", table.String())
}

// flagTable writes the flags as a table, grouped as in --help.
func flagTable(t *testing.T) string {
	var table strings.Builder
	table.WriteString("| flag | default | meaning |\n|---|---|---|\n")
	group := ""
	for _, flag := range model(t) {
		if flag.Group.Title != group {
			group = flag.Group.Title
			fmt.Fprintf(&table, "| **%s** | | |\n", group)
		}
		meaning, byDefault, _ := strings.Cut(flag.Help, " Without this flag: ")
		switch {
		case flag.Required:
			byDefault = "required"
		case flag.HasDefault:
			byDefault = "`" + flag.Default + "`"
		}
		name := strings.ReplaceAll(flag.String(), "|", `\|`)
		fmt.Fprintf(&table, "| `%s` | %s | %s |\n", name, cell(strings.TrimSuffix(byDefault, ".")), cell(meaning))
	}
	return table.String()
}

var flagName = regexp.MustCompile(`--[a-z-]+`)

// cell makes text fit for a table: flags as code, no bar that ends the cell.
func cell(text string) string {
	return strings.ReplaceAll(flagName.ReplaceAllString(text, "`$0`"), "|", `\|`)
}

// reference is the page that has the tables.
const reference = "deploy/REFERENCE.md"

// wantSection compares the reference's part between <!-- name --> and
// <!-- /name --> with want.
func wantSection(t *testing.T, name, want string) {
	t.Helper()
	wantSectionIn(t, reference, name, want)
}

// wantSectionIn is wantSection for another page.
func wantSectionIn(t *testing.T, page, name, want string) {
	t.Helper()
	_, rest, begun := strings.Cut(readProjectFile(t, page), "<!-- "+name+" -->\n")
	got, _, ended := strings.Cut(rest, "<!-- /"+name+" -->")
	if !begun || !ended {
		t.Fatalf("%s has no section %s", page, name)
	}
	if strings.TrimSpace(got) != strings.TrimSpace(want) {
		t.Errorf("%s, section %s, should be:\n%s", page, name, want)
	}
}

// pages returns the names of all pages of documentation.
func pages(t *testing.T) (names []string) {
	t.Helper()
	for _, pattern := range []string{"*.md", "deploy/*.md", "deploy/*/*.md"} {
		files, err := filepath.Glob(filepath.Join("..", "..", pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			names = append(names, filepath.ToSlash(strings.TrimPrefix(file, filepath.Join("..", "..")+string(filepath.Separator))))
		}
	}
	return names
}

// TestDocsCommands: every command that a page shows can be given. A make
// target is in the Makefile, viaduct's flags parse, what curl asks is at the
// default of --admin. The rest is run by tests of its own.
func TestDocsCommands(t *testing.T) {
	makefile := readProjectFile(t, "Makefile")
	setup := readProjectFile(t, ".ci/setup")
	admin := mustParse(t, "--upstream=sip:10.0.0.5").Admin
	found := 0
	for _, page := range pages(t) {
		text := readProjectFile(t, page)
		commands := shownCommands(text)
		for _, match := range regexp.MustCompile("`(make [^`]+)`").FindAllStringSubmatch(text, -1) {
			commands = append(commands, match[1])
		}
		found += len(commands)
		for _, command := range commands {
			words := strings.Fields(strings.ReplaceAll(command, "'", ""))
			switch words[0] {
			case "make":
				if !strings.Contains(makefile, "\n"+words[1]+":") {
					t.Errorf("%s: %s: the Makefile has no target %s", page, command, words[1])
				}
			case "./viaduct":
				if _, _, err := parse(words[1:], io.Discard); err != nil {
					t.Errorf("%s: %s: %v", page, command, err)
				}
			case "curl":
				if !strings.Contains(command, "http://"+admin+"/") {
					t.Errorf("%s: %s: viaduct is at %s", page, command, admin)
				}
			case "apt": // the tests are set up with the same package
				if !strings.Contains(setup, "\n  "+words[len(words)-1]) {
					t.Errorf("%s: %s: the tests do not use it", page, command)
				}
			}
		}
	}
	if found < 12 {
		t.Fatalf("found only %d commands", found)
	}
}

var shellBlock = regexp.MustCompile("(?s)```sh\n(.*?)```")

// shownCommands returns the commands of a page's sh blocks, a line each.
func shownCommands(page string) (commands []string) {
	for _, block := range shellBlock.FindAllStringSubmatch(page, -1) {
		joined := strings.ReplaceAll(block[1], "\\\n", " ")
		for line := range strings.Lines(joined) {
			command, _, _ := strings.Cut(line, " #")
			if command = strings.TrimSpace(command); command != "" {
				commands = append(commands, command)
			}
		}
	}
	return commands
}

// TestDocsLinks: every local file and heading that a page names is there.
func TestDocsLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^):]+)\)`)
	for _, page := range pages(t) {
		for _, match := range link.FindAllStringSubmatch(readProjectFile(t, page), -1) {
			file, heading, _ := strings.Cut(match[1], "#")
			target := page
			if file != "" {
				target = path.Join(path.Dir(page), file)
			}
			if _, err := os.Stat(filepath.Join("..", "..", target)); err != nil {
				t.Errorf("%s: %v", page, err)
			} else if heading != "" && !slices.Contains(headings(readProjectFile(t, target)), heading) {
				t.Errorf("%s: %s has no heading #%s", page, target, heading)
			}
		}
	}
}

// TestDocsTests: every test that a page names is there.
func TestDocsTests(t *testing.T) {
	var code strings.Builder
	err := filepath.WalkDir(filepath.Join("..", ".."), func(file string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && (entry.Name() == "node_modules" || entry.Name() == ".git"):
			return fs.SkipDir
		case strings.HasSuffix(file, "_test.go"):
			text, err := os.ReadFile(file)
			code.Write(text)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range pages(t) {
		for _, name := range regexp.MustCompile(`\bTest[A-Z]\w+`).FindAllString(readProjectFile(t, page), -1) {
			if !strings.Contains(code.String(), "\nfunc "+name+"(") {
				t.Errorf("%s: no %s", page, name)
			}
		}
	}
}

// headings returns the anchors of a page's headings, as GitHub makes them.
func headings(page string) (anchors []string) {
	for _, match := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(page, -1) {
		plain := regexp.MustCompile(`[^\p{L}\p{N}_ -]`).ReplaceAllString(strings.ToLower(match[1]), "")
		anchors = append(anchors, strings.ReplaceAll(plain, " ", "-"))
	}
	return anchors
}

func readProjectFile(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("..", "..", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
