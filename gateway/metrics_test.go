package gateway

import (
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"viaduct/transport"
)

// gathered is what a scrape finds: the value of each sample, by its name and
// labels as `name{a="b",c="d"}`, and the type of each family.
func (l *lab) gathered(from prometheus.Gatherer) (values map[string]float64, types map[string]string) {
	l.t.Helper()
	families, err := from.Gather()
	if err != nil {
		l.t.Fatal(err)
	}
	values, types = make(map[string]float64), make(map[string]string)
	for _, family := range families {
		types[family.GetName()] = strings.ToLower(family.GetType().String())
		for _, m := range family.GetMetric() {
			var labels []string
			for _, pair := range m.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", pair.GetName(), pair.GetValue()))
			}
			name := family.GetName()
			if len(labels) > 0 {
				name += "{" + strings.Join(labels, ",") + "}"
			}
			values[name] = m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return values, types
}

// TestMetricsLint: names and texts are as Prometheus wants them.
func TestMetricsLint(t *testing.T) {
	problems, err := testutil.GatherAndLint(newLab(t).gw.registry())
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// TestMetricsAreListed: what is shown is what the documentation lists.
func TestMetricsAreListed(t *testing.T) {
	l := newTLSLab(t, func(l *tlsLab) { l.cfg.RTPEngines, l.cfg.HEP = []string{"127.0.0.1:9"}, "127.0.0.1:9" })
	_, types := l.gathered(l.gw.registry())
	for _, m := range Metrics() {
		if types[m.Name] != m.Type {
			t.Errorf("%s is a %q, listed as a %s", m.Name, types[m.Name], m.Type)
		}
		if !strings.HasPrefix(m.Name, "viaduct_") {
			t.Errorf("%s: not ours", m.Name)
		}
		delete(types, m.Name)
	}
	for name := range types {
		if !strings.HasPrefix(name, "go_") && !strings.HasPrefix(name, "process_") {
			t.Errorf("%s is not listed", name)
		}
	}
}

// TestMetricsBeginAtZero: whatever can be counted shows before it happens.
func TestMetricsBeginAtZero(t *testing.T) {
	l := newLab(t, func(c *Config) { c.Upstreams = append(c.Upstreams, upstreams(t, "sip:192.0.2.1;transport=tcp")...) })
	values, _ := l.gathered(l.gw.registry())
	want := []string{"viaduct_connections", `viaduct_handshakes_total{outcome="accepted"}`}
	labelled := func(name, label, value string) { want = append(want, fmt.Sprintf("%s{%s=%q}", name, label, value)) }
	for _, reason := range Reasons() {
		labelled("viaduct_dropped_total", "reason", reason.String())
	}
	for _, cause := range transport.CloseCauses() {
		labelled("viaduct_connections_closed_total", "cause", cause.String())
	}
	for _, why := range transport.Refusals() {
		labelled("viaduct_handshakes_total", "outcome", why.String())
	}
	for _, outcome := range []string{"delivered", "expired", "refused"} {
		labelled("viaduct_held_total", "outcome", outcome)
	}
	for _, name := range want {
		if value, there := values[name]; !there || value != 0 {
			t.Errorf("%s: %v, there %t", name, value, there)
		}
	}
	for _, up := range l.gw.upstreams {
		for _, name := range []string{"viaduct_upstream_up", "viaduct_upstream_round_trip_seconds"} {
			if _, there := values[fmt.Sprintf("%s{upstream=%q}", name, up)]; !there {
				t.Errorf("%s is not shown for %s", name, up)
			}
		}
	}
}

// TestMetricsOfACall: each message is counted once, on its way up or down.
func TestMetricsOfACall(t *testing.T) {
	l := newLab(t)
	registry := l.gw.registry()
	before, _ := l.gathered(registry)
	p := l.phone("alice")
	l.registered(p)
	l.down(p, l.up(p, p.invite("sip:bob@pbx.example")).reply("486 Busy Here"))
	l.handshake(map[string][]string{"Origin": {"https://elsewhere.example"}})
	p.send("nonsense\r\n\r\n")
	l.log.await("refused", 1)

	after, _ := l.gathered(registry)
	changed := make(map[string]float64)
	for name, value := range after {
		switch family, _, _ := strings.Cut(name, "{"); family {
		case "viaduct_messages_total", "viaduct_handshakes_total", "viaduct_dropped_total":
			if value != before[name] {
				changed[name] = value - before[name]
			}
		}
	}
	message := `viaduct_messages_total{class="%s",direction="%s",method="%s"}`
	want := map[string]float64{
		`viaduct_handshakes_total{outcome="accepted"}`:    1,
		`viaduct_handshakes_total{outcome="origin"}`:      1,
		`viaduct_dropped_total{reason="not_sip"}`:         1,
		fmt.Sprintf(message, "request", "up", "REGISTER"): 1,
		fmt.Sprintf(message, "2xx", "down", "REGISTER"):   1,
		fmt.Sprintf(message, "request", "up", "INVITE"):   1,
		fmt.Sprintf(message, "4xx", "down", "INVITE"):     1,
	}
	for name, value := range want {
		if changed[name] != value {
			t.Errorf("%s rose by %v, want %v", name, changed[name], value)
		}
		delete(changed, name)
	}
	if len(changed) > 0 {
		t.Errorf("changed besides: %v", changed)
	}

	if n := after["viaduct_connections"]; n != 1 {
		t.Errorf("%v connections, want 1", n)
	}

	l.hangUp(p.browser)
	after, _ = l.gathered(registry)
	if n := after["viaduct_connections"]; n != 0 {
		t.Errorf("%v connections when all are gone", n)
	}
	if n := after[`viaduct_connections_closed_total{cause="lost"}`]; n != 1 {
		t.Errorf("%v connections lost, want 1", n)
	}
}

// TestMetricsOfLoss: what is kept to be sent again, and what came again.
func TestMetricsOfLoss(t *testing.T) {
	l := newLab(t)
	registry := l.gw.registry()
	p := l.phone("alice")
	l.registered(p)
	invite := p.invite("sip:bob@pbx.example")
	busy := l.up(p, invite).reply("486 Busy Here")
	values, _ := l.gathered(registry)
	if values["viaduct_transactions"] != 1 || values["viaduct_transaction_memory_bytes"] < float64(len(invite)) {
		t.Errorf("%v messages of %v bytes are kept, want the INVITE",
			values["viaduct_transactions"], values["viaduct_transaction_memory_bytes"])
	}
	if values["viaduct_tombstones"] < 1 {
		t.Error("nothing is left of the REGISTER")
	}

	l.down(p, busy)
	l.pbx.send(busy)
	l.expectAlive(p)
	values, _ = l.gathered(registry)
	if n := values[`viaduct_absorbed_total{direction="up"}`]; n != 1 {
		t.Errorf("%v duplicates were absorbed, want 1", n)
	}
}

// TestMetricsOfWhatIsHeld: a message that waits for its browser, and gets there.
func TestMetricsOfWhatIsHeld(t *testing.T) {
	l := newLab(t)
	registry := l.gw.registry()
	p := l.phone("alice")
	token := l.registered(p)
	l.hangUp(p.browser)
	message := l.pbx.request("MESSAGE", token)
	l.pbx.send(message)
	l.expectNobody(token) // an OPTIONS does not wait
	if values, _ := l.gathered(registry); values["viaduct_held_messages"] != 1 {
		t.Errorf("%v messages are held, want 1", values["viaduct_held_messages"])
	}

	p = p.again(l)
	register := l.up(p, p.register())
	l.pbx.send(register.reply("200 OK", "Contact: "+register.get("Contact")))
	if first, second := p.read(), p.read(); first.get("Call-ID") != message.get("Call-ID") && second.get("Call-ID") != message.get("Call-ID") {
		t.Errorf("the browser gets\n%s\n%s", first, second)
	}
	l.expectHeld(0)
	values, _ := l.gathered(registry)
	if held, delivered := values["viaduct_held_messages"], values[`viaduct_held_total{outcome="delivered"}`]; held != 0 || delivered != 1 {
		t.Errorf("%v messages are held and %v delivered, want 0 and 1", held, delivered)
	}
	if n := values["viaduct_rebinds_total"]; n != 1 {
		t.Errorf("%v clients came back, want 1", n)
	}
}

// TestMetricsOfTime: about one message in 16 is timed.
func TestMetricsOfTime(t *testing.T) {
	l := newLab(t)
	p := l.phone("alice")
	l.registered(p)
	const messages = 20 * timedOneIn // none would be timed once in 10^9
	for range messages {
		l.up(p, p.request("OPTIONS", "sip:bob@pbx.example"))
	}
	values, _ := l.gathered(l.gw.registry())
	if n := values[latencyName]; n < 1 || n > messages/2 {
		t.Errorf("%v of %d messages are timed", n, messages)
	}
}

// TestMetricsOfCertificates: the day to renew by is the chain's first.
func TestMetricsOfCertificates(t *testing.T) {
	l := newTLSLab(t)
	values, _ := l.gathered(l.gw.registry())
	const name = "viaduct_tls_certificate_expiry_timestamp_seconds"
	chain, err := l.gw.sipTLS.GetCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := values[name+`{file="sip-tls-cert"}`]; got != float64(chain.Leaf.NotAfter.Unix()) {
		t.Errorf("the certificate ends at %v, shown is %v", chain.Leaf.NotAfter.Unix(), got)
	}
	if _, there := values[name+`{file="tls-cert"}`]; there {
		t.Error("a certificate is shown that there is not")
	}
}

// TestMetricsOfAForgery: whatever is forged is one counter to alert on.
func TestMetricsOfAForgery(t *testing.T) {
	l := newLab(t)
	for _, r := range []Reason{ReasonForgedToken, ReasonForgedSeal, ReasonForgedResponse} {
		l.gw.dropped[r].Add(2)
	}
	if values, _ := l.gathered(l.gw.registry()); values["viaduct_token_failures_total"] != 6 {
		t.Errorf("%v token failures, want 6", values["viaduct_token_failures_total"])
	}
}

// TestMetricsOfTwoGateways: two in one process share nothing.
func TestMetricsOfTwoGateways(t *testing.T) {
	busy, idle := newLab(t), newLab(t)
	busy.registered(busy.phone("alice"))
	values, _ := idle.gathered(idle.gw.registry())
	if n := values[`viaduct_handshakes_total{outcome="accepted"}`]; n != 0 {
		t.Errorf("%v handshakes of another gateway", n)
	}
}
