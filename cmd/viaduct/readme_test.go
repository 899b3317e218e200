package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"viaduct/gateway"
)

// TestReadmeFlags: the table of flags is what the code says.
func TestReadmeFlags(t *testing.T) {
	wantSection(t, "flags", flagTable(t))
}

// TestReadmeReasons: the table of reasons is what the code says.
func TestReadmeReasons(t *testing.T) {
	var table strings.Builder
	table.WriteString("| `reason` | what happened |\n|---|---|\n")
	for _, reason := range gateway.Reasons() {
		fmt.Fprintf(&table, "| `%s` | %s |\n", reason, cell(reason.Text()))
	}
	wantSection(t, "reasons", table.String())
}

// TestReadmeMetrics: the table of metrics is what the code says.
func TestReadmeMetrics(t *testing.T) {
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

// wantSection compares the README's part between <!-- name --> and
// <!-- /name --> with want.
func wantSection(t *testing.T, name, want string) {
	t.Helper()
	_, rest, begun := strings.Cut(readProjectFile(t, "README.md"), "<!-- "+name+" -->\n")
	got, _, ended := strings.Cut(rest, "<!-- /"+name+" -->")
	if !begun || !ended {
		t.Fatalf("README.md has no section %s", name)
	}
	if strings.TrimSpace(got) != strings.TrimSpace(want) {
		t.Errorf("README.md, section %s, should be:\n%s", name, want)
	}
}

// TestReadmeCommands: every command that the README shows can be given. A make
// target is in the Makefile, viaduct's flags parse, what curl asks is at the
// default of --admin.
func TestReadmeCommands(t *testing.T) {
	makefile := readProjectFile(t, "Makefile")
	readme := readProjectFile(t, "README.md")
	commands := shownCommands(readme)
	for _, match := range regexp.MustCompile("`(make [^`]+)`").FindAllStringSubmatch(readme, -1) {
		commands = append(commands, match[1])
	}
	if len(commands) < 3 {
		t.Fatalf("found only %q", commands)
	}
	for _, command := range commands {
		words := strings.Fields(strings.ReplaceAll(command, "'", ""))
		switch words[0] {
		case "make":
			if !strings.Contains(makefile, "\n"+words[1]+":") {
				t.Errorf("%s: the Makefile has no target %s", command, words[1])
			}
		case "./viaduct":
			if _, _, err := parse(words[1:], io.Discard); err != nil {
				t.Errorf("%s: %v", command, err)
			}
		case "curl":
			if admin := mustParse(t, "--upstream=sip:10.0.0.5").Admin; !strings.HasPrefix(words[1], "http://"+admin+"/") {
				t.Errorf("%s: viaduct is at %s", command, admin)
			}
		case "apt": // the tests are set up with the same package
			if setup := readProjectFile(t, ".ci/setup"); !strings.Contains(setup, "\n  "+words[len(words)-1]) {
				t.Errorf("%s: the tests do not use it", command)
			}
		case "rtpengine": // its flags are what the tests start it with
		default:
			t.Errorf("%s: neither make, nor viaduct, nor curl, nor rtpengine", command)
		}
	}
}

var shellBlock = regexp.MustCompile("(?s)```sh\n(.*?)```")

// shownCommands returns the commands of the README's sh blocks, a line each.
func shownCommands(readme string) (commands []string) {
	for _, block := range shellBlock.FindAllStringSubmatch(readme, -1) {
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

// TestReadmeLinks: every local file that the README names is there.
func TestReadmeLinks(t *testing.T) {
	link := regexp.MustCompile(`\]\(([^)#:]+)\)`)
	for _, match := range link.FindAllStringSubmatch(readProjectFile(t, "README.md"), -1) {
		if _, err := os.Stat(filepath.Join("..", "..", match[1])); err != nil {
			t.Error(err)
		}
	}
}

func readProjectFile(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("..", "..", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}
