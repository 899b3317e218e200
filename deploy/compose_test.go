package deploy_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// composeGo reads Compose files as docker compose does, which Debian has not.
const composeGo = "github.com/compose-spec/compose-go/v2/cmd@v2.9.0"

// TestCompose: the Compose file is one, what it mounts and builds is there, and
// what it tells viaduct are flags.
func TestCompose(t *testing.T) {
	var project struct {
		Services map[string]struct {
			Build       struct{ Context, Dockerfile string }
			Environment map[string]string
			Volumes     []struct{ Type, Source string }
			NetworkMode string `json:"network_mode"`
		}
	}
	config := exec.Command("go", "run", composeGo, "-format", "json", "compose.yaml")
	config.Dir = "docker" // from where docker compose, too, takes the paths in it
	read := finish(t, config)
	if err := json.Unmarshal([]byte(read), &project); err != nil {
		t.Fatalf("%v\n%s", err, read)
	}
	for name, service := range project.Services {
		for _, volume := range service.Volumes {
			if volume.Type == "bind" {
				if _, err := os.Stat(volume.Source); err != nil {
					t.Errorf("%s: %v", name, err)
				}
			}
		}
		if service.NetworkMode != "host" {
			t.Errorf("%s: network %q, want the machine's", name, service.NetworkMode)
		}
	}
	viaduct := project.Services["viaduct"]
	if len(viaduct.Environment) == 0 {
		t.Fatal("viaduct is told nothing")
	}
	for variable := range viaduct.Environment {
		wantFlag(t, variable)
	}
}

// TestUnitEnvironment: the variables of the systemd unit are flags.
func TestUnitEnvironment(t *testing.T) {
	text, err := os.ReadFile("systemd/viaduct.env")
	if err != nil {
		t.Fatal(err)
	}
	variables := regexp.MustCompile(`(?m)^(\w+)=.`).FindAllStringSubmatch(string(text), -1)
	if len(variables) == 0 {
		t.Fatal("there are none")
	}
	for _, match := range variables {
		wantFlag(t, match[1])
	}
}

// wantFlag wants an environment variable to be one of viaduct's, of which the
// reference has the flags.
func wantFlag(t *testing.T, variable string) {
	t.Helper()
	reference, err := os.ReadFile("REFERENCE.md")
	if err != nil {
		t.Fatal(err)
	}
	name, ok := strings.CutPrefix(variable, "VIADUCT_")
	flag := "| `--" + strings.ReplaceAll(strings.ToLower(name), "_", "-")
	if !ok || !regexp.MustCompile(regexp.QuoteMeta(flag)+"[=`]").Match(reference) {
		t.Errorf("%s is no variable of viaduct", variable)
	}
}
