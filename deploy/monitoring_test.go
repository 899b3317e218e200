package deploy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"k8s.io/apimachinery/pkg/util/yaml"
)

// TestPrometheus: promtool takes the configuration and the alerts, and each alert
// comes in a test of it. What they ask for is scraped in the tests of cmd/viaduct/e2e.
func TestPrometheus(t *testing.T) {
	for _, args := range [][]string{{"check", "config", "prometheus.yml"}, {"test", "rules", "alerts_test.yml"}} {
		promtool := exec.Command("promtool", args...)
		promtool.Dir = "monitoring"
		if output, err := promtool.CombinedOutput(); err != nil {
			t.Errorf("promtool %v: %v\n%s", args, err, output)
		}
	}

	var alerts struct {
		Groups []struct{ Rules []struct{ Alert string } }
	}
	readYAML(t, "alerts.yml", &alerts)
	var tests struct {
		Tests []struct {
			AlertRuleTest []struct {
				Alertname string
				ExpAlerts []any `json:"exp_alerts"`
			} `json:"alert_rule_test"`
		}
	}
	readYAML(t, "alerts_test.yml", &tests)
	var quiet, raised []string
	for _, test := range tests.Tests {
		for _, one := range test.AlertRuleTest {
			if len(one.ExpAlerts) > 0 {
				raised = append(raised, one.Alertname)
			} else {
				quiet = append(quiet, one.Alertname)
			}
		}
	}
	for _, group := range alerts.Groups {
		for _, rule := range group.Rules {
			if !slices.Contains(raised, rule.Alert) || !slices.Contains(quiet, rule.Alert) {
				t.Errorf("%s is not tested to come, and not to come", rule.Alert)
			}
		}
	}
}

func readYAML(t *testing.T, name string, into any) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("monitoring", name))
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}
