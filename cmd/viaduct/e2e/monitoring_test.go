package e2e

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/yaml"
)

// monitoring is where the dashboard and the alerts are.
const monitoring = manifests + "/monitoring"

// TestMonitoring: Debian's Prometheus, configured as deploy says and quicker,
// scrapes a viaduct that has something to do. Every panel of the dashboard has
// data, and every alert asks for what there is.
func TestMonitoring(t *testing.T) {
	t.Parallel()
	lab := newAudioLab(t, JsSIP, Leg{"udp", "wss"}, "--rate=0") // the client asks as fast as it can
	client := lab.newWebClient()
	client.Register(t, account("alice"))
	prometheus := startPrometheus(t, lab.Via)

	for _, panel := range dashboardPanels(t) {
		for _, target := range panel.Targets {
			prometheus.waitForData(t, panel.Title, target.Expr, client)
		}
	}
	for _, alert := range alertRules(t) {
		if _, err := prometheus.query(t, alert.Expr); err != nil {
			t.Errorf("%s: %v", alert.Alert, err)
		}
		prometheus.wantKnown(t, alert.Alert, alert.Expr)
	}
	prometheus.wantRulesEvaluated(t)
}

// A dashboardPanel is one of Grafana's.
type dashboardPanel struct {
	ID      int
	Title   string
	Type    string
	Targets []struct{ Expr string }
}

func dashboardPanels(t *testing.T) []dashboardPanel {
	t.Helper()
	var dashboard struct{ Panels []dashboardPanel }
	if err := json.Unmarshal(readFile(t, filepath.Join(monitoring, "dashboard.json")), &dashboard); err != nil {
		t.Fatal(err)
	}
	seen := make(map[int]bool)
	for _, panel := range dashboard.Panels {
		if seen[panel.ID] || panel.Type != "row" && len(panel.Targets) == 0 {
			t.Errorf("panel %d %q stands twice or shows nothing", panel.ID, panel.Title)
		}
		seen[panel.ID] = true
	}
	if len(seen) < 20 {
		t.Fatalf("%d panels", len(seen))
	}
	return dashboard.Panels
}

// An alertRule is one of Prometheus'.
type alertRule struct{ Alert, Expr string }

func alertRules(t *testing.T) (rules []alertRule) {
	t.Helper()
	var file struct{ Groups []struct{ Rules []alertRule } }
	if err := yaml.Unmarshal(readFile(t, filepath.Join(monitoring, "alerts.yml")), &file); err != nil {
		t.Fatal(err)
	}
	for _, group := range file.Groups {
		rules = append(rules, group.Rules...)
	}
	if len(rules) < 10 {
		t.Fatalf("%d alerts", len(rules))
	}
	return rules
}

// A Prometheus scrapes a viaduct every second.
type Prometheus struct{ url string }

// startPrometheus starts Prometheus with the configuration of deploy, in which it
// changes but the address of viaduct and the intervals, and returns when it serves.
func startPrometheus(t *testing.T, via *Viaduct) *Prometheus {
	t.Helper()
	dir := tempDir(t)
	config := strings.NewReplacer("127.0.0.1:8081", strings.TrimPrefix(via.Admin, "http://"), "15s", "1s").
		Replace(string(readFile(t, filepath.Join(monitoring, "prometheus.yml"))))
	for name, content := range map[string][]byte{
		"prometheus.yml": []byte(config),
		"alerts.yml":     readFile(t, filepath.Join(monitoring, "alerts.yml")),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	at := loopback.freePort(t)
	process := startProcess(t, "prometheus", loopback.command("prometheus", "--config.file="+filepath.Join(dir, "prometheus.yml"),
		"--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+at.String()))
	process.Output.WaitFor(t, "prometheus to serve", func(line string) bool {
		return strings.Contains(line, "Server is ready to receive web requests")
	})
	return newPrometheus(at)
}

func newPrometheus(at netip.AddrPort) *Prometheus { return &Prometheus{"http://" + at.String()} }

// A sample is one of the answer to a query.
type sample struct {
	Metric map[string]string
	Value  [2]any // time, and the value as a string
}

// isNumber tells whether the value is one: there is no quantile of nothing.
func (s sample) isNumber() bool {
	text, _ := s.Value[1].(string)
	value, err := strconv.ParseFloat(text, 64)
	return err == nil && !math.IsNaN(value)
}

func (p *Prometheus) query(t *testing.T, expr string) (samples []sample, err error) {
	t.Helper()
	var answer struct{ Result []sample }
	err = p.get(t, "/api/v1/query?query="+url.QueryEscape(expr), &answer)
	return answer.Result, err
}

// get asks Prometheus' API and reads the data of its answer.
func (p *Prometheus) get(t *testing.T, path string, data any) error {
	t.Helper()
	client := http.Client{Timeout: patience}
	response, err := client.Get(p.url + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	answer := struct {
		Error string
		Data  any
	}{Data: data}
	if err := json.NewDecoder(response.Body).Decode(&answer); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
	if answer.Error != "" {
		return fmt.Errorf("%s: %s", path, answer.Error)
	}
	return nil
}

// dashboardVariables are what Grafana puts for the variables.
var dashboardVariables = strings.NewReplacer("$job", ".*", "$instance", ".*", "$__rate_interval", "10s")

// waitForData has the client ask the PBX again and again, until the panel shows
// a number.
func (p *Prometheus) waitForData(t *testing.T, title, expr string, client *WebClient) {
	t.Helper()
	expr = dashboardVariables.Replace(expr)
	for until := time.Now().Add(patience); time.Now().Before(until); {
		samples, err := p.query(t, expr)
		if err != nil {
			t.Errorf("%s: %v", title, err)
			return
		}
		if slices.ContainsFunc(samples, sample.isNumber) {
			return
		}
		for range 20 {
			client.Fence(t)
		}
	}
	t.Errorf("%s: no data for %s", title, expr)
}

var (
	metricName   = regexp.MustCompile(`\b(?:viaduct|process|go)_\w+|\bup\b`)
	labelMatcher = regexp.MustCompile(`(\w+)(?:=|!=|=~|!~)"([^"]+)"`)
)

// wantKnown wants the metrics and the values of labels that an expression names
// to be among those that were scraped: an alert that is quiet may have asked for
// nothing.
func (p *Prometheus) wantKnown(t *testing.T, alert, expr string) {
	t.Helper()
	names := metricName.FindAllString(expr, -1)
	if len(names) == 0 {
		t.Errorf("%s asks for no metric", alert)
	}
	for _, name := range names {
		if !slices.Contains(p.values(t, "__name__"), name) {
			t.Errorf("%s: there is no metric %s", alert, name)
		}
	}
	for _, matcher := range labelMatcher.FindAllStringSubmatch(expr, -1) {
		for value := range strings.SplitSeq(matcher[2], "|") {
			known := func(v string) bool { return v == value || v == strings.Trim(value, ".*") }
			if !slices.ContainsFunc(p.values(t, matcher[1]), known) {
				t.Errorf("%s: %s is never %q", alert, matcher[1], value)
			}
		}
	}
}

// values are all values of a label that were scraped.
func (p *Prometheus) values(t *testing.T, label string) (values []string) {
	t.Helper()
	if err := p.get(t, "/api/v1/label/"+label+"/values", &values); err != nil {
		t.Error(err)
	}
	return values
}

// wantRulesEvaluated wants Prometheus to have evaluated all alerts by itself, and
// to raise none.
func (p *Prometheus) wantRulesEvaluated(t *testing.T) {
	t.Helper()
	var loaded struct {
		Groups []struct {
			Rules []struct{ Name, Health, State, LastError string }
		}
	}
	if err := p.get(t, "/api/v1/rules", &loaded); err != nil {
		t.Fatal(err)
	}
	if len(loaded.Groups) != 1 {
		t.Fatalf("%d groups of rules", len(loaded.Groups))
	}
	for _, rule := range loaded.Groups[0].Rules {
		if rule.Health != "ok" || rule.State == "firing" {
			t.Errorf("%s is %s, %s %s", rule.Name, rule.State, rule.Health, rule.LastError)
		}
	}
}
