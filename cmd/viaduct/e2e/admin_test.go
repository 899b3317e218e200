package e2e

import (
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Metrics returns what /metrics shows, by name and labels in the order of their
// names, such as `viaduct_dropped_total{reason="stranger"}`; of a histogram its
// _count and _sum.
func (v *Viaduct) Metrics(t testing.TB) map[string]float64 {
	t.Helper()
	status, text := v.ask(t, "/metrics")
	if status != http.StatusOK {
		t.Fatalf("/metrics answers %d: %s", status, text)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	values := make(map[string]float64)
	for name, family := range families {
		for _, m := range family.GetMetric() {
			var labels []string
			for _, pair := range m.GetLabel() {
				labels = append(labels, pair.GetName()+`="`+pair.GetValue()+`"`)
			}
			slices.Sort(labels)
			of := ""
			if len(labels) > 0 {
				of = "{" + strings.Join(labels, ",") + "}"
			}
			if h := m.GetHistogram(); h != nil {
				values[name+"_count"+of], values[name+"_sum"+of] = float64(h.GetSampleCount()), h.GetSampleSum()
				continue
			}
			values[name+of] = m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return values
}

// Ready returns whether viaduct calls itself ready, and what it says.
func (v *Viaduct) Ready(t testing.TB) (ready bool, text string) {
	t.Helper()
	status, text := v.ask(t, "/readyz")
	return status == http.StatusOK, strings.TrimSpace(text)
}

func (v *Viaduct) ask(t testing.TB, path string) (status int, text string) {
	t.Helper()
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Get(v.Admin + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

// health runs `viaduct health` for v, and returns its exit status and what it says.
func (v *Viaduct) health(t testing.TB) (status int, said string) {
	t.Helper()
	cmd := v.host.command(viaductBinary, "health", "--admin="+strings.TrimPrefix(v.Admin, "http://"))
	output, err := cmd.CombinedOutput()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), string(output)
}

// TestHealthCommand: a container's health check follows the SIP server's.
func TestHealthCommand(t *testing.T) {
	t.Parallel()
	pbx := startScriptedPBX(t)
	via := launchViaduct(t, loopback, "--upstream="+pbx.Upstream(), "--health-interval=1s")
	via.WaitLog(t, "upstream answered")
	if status, said := via.health(t); status != 0 || said != "" {
		t.Errorf("with its SIP server: exit status %d, %q", status, said)
	}
	pbx.Close()
	via.WaitLog(t, "upstream down")
	if status, said := via.health(t); status != 1 || said != "viaduct: upstreams: none of 1 answers\n" {
		t.Errorf("without its SIP server: exit status %d, %q", status, said)
	}
	if ready, text := via.Ready(t); ready || text != "upstreams: none of 1 answers" {
		t.Errorf("/readyz: %t, %q", ready, text)
	}
	via.Kill(t)
	if status, said := via.health(t); status != 1 || !strings.Contains(said, "connection refused") {
		t.Errorf("with nobody there: exit status %d, %q", status, said)
	}
}

// TestMetricsOfACall: an operator sees the messages of real stacks.
func TestMetricsOfACall(t *testing.T) {
	t.Parallel()
	lab := newLab(t, JsSIP, legs[0])
	phone := lab.Registered("alice")
	wantCallable(t, lab, phone, 1)
	values := lab.Via.Metrics(t)
	for name, least := range map[string]float64{
		`viaduct_connections`:                                                      1,
		`viaduct_handshakes_total{outcome="accepted"}`:                             1,
		`viaduct_upstream_up{upstream="` + lab.PBX.Upstream("udp") + `"}`:          1,
		`viaduct_messages_total{class="request",direction="up",method="REGISTER"}`: 2, // the second with credentials
		`viaduct_messages_total{class="2xx",direction="down",method="REGISTER"}`:   1,
		`viaduct_messages_total{class="4xx",direction="down",method="REGISTER"}`:   1,
		`viaduct_messages_total{class="request",direction="down",method="INVITE"}`: 1,
		`viaduct_messages_total{class="2xx",direction="up",method="INVITE"}`:       1,
	} {
		if values[name] < least {
			t.Errorf("%s is %v, want %v at least", name, values[name], least)
		}
	}
	for name, value := range values {
		if strings.HasPrefix(name, "viaduct_dropped_total") && value != 0 {
			t.Errorf("%s is %v", name, value)
		}
	}
}
