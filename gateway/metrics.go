package gateway

import (
	"runtime/debug"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"viaduct/gateway/rtpengine"
	"viaduct/gateway/transaction"
	"viaduct/transport"
)

// Metric describes one metric, for the documentation.
type Metric struct {
	Name string
	// Type is counter, gauge or histogram.
	Type   string
	Labels []string
	Text   string
}

// Metrics lists what is shown at /metrics, besides the metrics of the Go runtime
// and of the process.
func Metrics() []Metric {
	var all []Metric
	for _, m := range metrics {
		kind := "gauge"
		if m.kind == prometheus.CounterValue {
			kind = "counter"
		}
		all = append(all, Metric{m.name, kind, m.labels, m.help})
	}
	return append(all, Metric{Name: latencyName, Type: "histogram", Text: latencyHelp})
}

// metric is one that is read when it is asked for: nothing is done for it while
// messages are relayed but to count.
type metric struct {
	kind   prometheus.ValueType
	name   string
	help   string
	labels []string
	read   func(*Gateway, show)
}

// show takes one value of a metric, with a value for each of its labels. The
// values of labels come from lists and from the Config, never from messages.
type show func(value float64, labels ...string)

const (
	counter = prometheus.CounterValue
	gauge   = prometheus.GaugeValue
)

var metrics = []metric{
	{gauge, "viaduct_connections", "Open WebSocket connections.", nil, func(g *Gateway, show show) {
		show(float64(g.flows.count()))
	}},
	{counter, "viaduct_handshakes_total", "WebSocket handshakes, accepted or refused for that reason.", []string{"outcome"}, (*Gateway).showHandshakes},
	{counter, "viaduct_connections_closed_total", "WebSocket connections that have ended, by what ended them.", []string{"cause"}, (*Gateway).showClosed},
	{counter, "viaduct_messages_total", "SIP messages relayed. The class is request, or that of a response; its method is that of the CSeq.", []string{"direction", "method", "class"}, (*Gateway).showMessages},
	{counter, "viaduct_dropped_total", "SIP messages not relayed, by the reason that the log shows.", []string{"reason"}, (*Gateway).showDropped},
	{counter, "viaduct_token_failures_total", "SIP messages not relayed since what says whose they are was not made with the keys of this gateway.", nil, func(g *Gateway, show show) {
		show(float64(g.Dropped(ReasonForgedToken) + g.Dropped(ReasonForgedSeal) + g.Dropped(ReasonForgedResponse)))
	}},
	{counter, "viaduct_authentication_failures_total", "Requests with credentials that the SIP server has refused (401, 403, 404, 407), each of which the log shows. A stale nonce is none.", nil, func(g *Gateway, show show) {
		show(float64(g.stats.guesses.Load()))
	}},
	{gauge, "viaduct_upstream_up", "1 if the upstream answers, else 0.", []string{"upstream"}, (*Gateway).showUpstreams},
	{gauge, "viaduct_upstream_round_trip_seconds", "How long the last OPTIONS that was answered took, 0 before the first.", []string{"upstream"}, (*Gateway).showRoundTrips},
	{counter, "viaduct_retransmissions_total", "Datagrams sent again to the SIP server: up the requests and ACKs of browsers, down their responses.", []string{"direction"}, func(g *Gateway, show show) {
		showWays(g.transactions.Stats().Resent, show)
	}},
	{counter, "viaduct_absorbed_total", "Duplicates from the SIP server that were not relayed: up the responses to browsers, down the requests to them.", []string{"direction"}, func(g *Gateway, show show) {
		showWays(g.transactions.Stats().Absorbed, show)
	}},
	{gauge, "viaduct_transactions", "Messages kept to be sent again.", nil, func(g *Gateway, show show) {
		show(float64(g.transactions.Stats().Messages))
	}},
	{gauge, "viaduct_transaction_memory_bytes", "Memory of the messages kept to be sent again.", nil, func(g *Gateway, show show) {
		show(float64(g.transactions.Stats().Bytes))
	}},
	{gauge, "viaduct_tombstones", "Transactions of which no message is kept any more, but enough to know a duplicate.", nil, func(g *Gateway, show show) {
		show(float64(g.transactions.Stats().Tombstones))
	}},
	{counter, "viaduct_stateless_total", "Messages relayed by UDP without being kept, --max-transactions or --max-transaction-memory being reached.", nil, func(g *Gateway, show show) {
		show(float64(g.transactions.Stats().Stateless))
	}},
	{counter, "viaduct_timeouts_total", "Transactions on UDP given up without an answer.", nil, func(g *Gateway, show show) {
		show(float64(g.stats.timeouts.Load()))
	}},
	{counter, "viaduct_own_acks_total", "ACKs that viaduct made itself for a browser that was gone.", nil, func(g *Gateway, show show) {
		show(float64(g.stats.ownAcks.Load()))
	}},
	{counter, "viaduct_rebinds_total", "Clients that came back on another connection.", nil, func(g *Gateway, show show) {
		show(float64(g.stats.rebinds.Load()))
	}},
	{gauge, "viaduct_held_messages", "Messages of the SIP server that wait for a client that is away.", nil, func(g *Gateway, show show) {
		show(float64(g.held.len()))
	}},
	{counter, "viaduct_held_total", "Messages of the SIP server that had to wait for a client, by what became of them.", []string{"outcome"}, (*Gateway).showHeld},
	{counter, "viaduct_moved_total", "Browsers sent away (1012) so that they register with another upstream.", nil, func(g *Gateway, show show) {
		show(float64(g.stats.moved.Load()))
	}},
	{counter, "viaduct_bodies_total", "With --rtpengine: bodies of INVITEs, UPDATEs, their responses and ACKs, by what became of them. A foreign one is no application/sdp.", []string{"outcome"}, (*Gateway).showBodies},
	{gauge, "viaduct_trace_viewers", "Viewers of the live trace.", nil, func(g *Gateway, show show) {
		show(float64(len(g.traces.all())))
	}},
	{counter, "viaduct_hep_copies_total", "With --hep: copies of messages, by what became of them. One is dropped where the queue is full, failed where the collector cannot be reached or the message is too large for a datagram.", []string{"outcome"}, (*Gateway).showCopies},
	{gauge, "viaduct_rtpengine_up", "1 if the rtpengine answers, else 0.", []string{"engine"}, engineMetric(func(s *rtpengine.Stats) float64 {
		if s.Up {
			return 1
		}
		return 0
	})},
	{gauge, "viaduct_rtpengine_round_trip_seconds", "How long the last ping that was answered took, 0 before the first.", []string{"engine"}, engineMetric(func(s *rtpengine.Stats) float64 { return s.RoundTrip.Seconds() })},
	{counter, "viaduct_rtpengine_asked_total", "Commands to the rtpengine, pings among them.", []string{"engine"}, engineMetric(func(s *rtpengine.Stats) float64 { return float64(s.Asked) })},
	{counter, "viaduct_rtpengine_resent_total", "Datagrams sent to the rtpengine again.", []string{"engine"}, engineMetric(func(s *rtpengine.Stats) float64 { return float64(s.Resent) })},
	{counter, "viaduct_rtpengine_timeouts_total", "Commands that the rtpengine did not answer.", []string{"engine"}, engineMetric(func(s *rtpengine.Stats) float64 { return float64(s.Timeouts) })},
	{counter, "viaduct_rtpengine_unreachable_total", "Commands that ended with a transport error, such as nobody listening.", []string{"engine"}, engineMetric(func(s *rtpengine.Stats) float64 { return float64(s.Unreachable) })},
	{counter, "viaduct_rtpengine_refused_total", "Commands that the rtpengine did not execute.", []string{"engine"}, engineMetric(func(s *rtpengine.Stats) float64 { return float64(s.Refused) })},
	{gauge, "viaduct_tls_certificate_expiry_timestamp_seconds", "When the certificate of that flag ends, in Unix time.", []string{"file"}, (*Gateway).showCertificates},
	{gauge, "viaduct_build_info", "1, with what was built.", []string{"version", "goversion", "revision"}, showBuild},
}

func (g *Gateway) showHandshakes(show show) {
	show(float64(g.stats.accepted.Load()), "accepted")
	for _, why := range transport.Refusals() {
		show(float64(g.Refused(why)), why.String())
	}
}

func (g *Gateway) showClosed(show show) {
	for _, cause := range transport.CloseCauses() {
		show(float64(g.stats.closed[cause].Load()), cause.String())
	}
}

func (g *Gateway) showMessages(show show) {
	for _, d := range []Direction{Up, Down} {
		for method, name := range methods {
			for class, className := range classes {
				show(float64(g.stats.sent[d.index()][method][class].Load()), string(d), name, className)
			}
		}
	}
}

func (g *Gateway) showDropped(show show) {
	for _, reason := range Reasons() {
		show(float64(g.Dropped(reason)), reason.String())
	}
}

func (g *Gateway) showUpstreams(show show) {
	for _, up := range g.upstreams {
		value := 0.0
		if up.answers() {
			value = 1
		}
		show(value, up.String())
	}
}

func (g *Gateway) showRoundTrips(show show) {
	for _, up := range g.upstreams {
		show(time.Duration(up.rtt.Load()).Seconds(), up.String())
	}
}

func showWays(counts [transaction.Ways]uint64, show show) {
	show(float64(counts[transaction.Up]), string(Up))
	show(float64(counts[transaction.Down]), string(Down))
}

func (g *Gateway) showHeld(show show) {
	for outcome := range numHeldOutcomes {
		show(float64(g.stats.heldTotal[outcome].Load()), outcome.String())
	}
}

func (g *Gateway) showBodies(show show) {
	if g.media == nil {
		return
	}
	for outcome := range numBodyOutcomes {
		show(float64(g.media.bodies[outcome].Load()), outcome.String())
	}
}

func (g *Gateway) showCopies(show show) {
	if g.hep == nil {
		return
	}
	s := g.hep.Stats()
	show(float64(s.Sent), "sent")
	show(float64(s.Dropped), "dropped")
	show(float64(s.Failed), "failed")
}

// engineMetric shows one number of each rtpengine.
func engineMetric(value func(*rtpengine.Stats) float64) func(*Gateway, show) {
	return func(g *Gateway, show show) {
		if g.media == nil {
			return
		}
		for _, s := range g.media.Stats() {
			show(value(&s), s.Engine)
		}
	}
}

func (g *Gateway) showCertificates(show show) {
	for flag, cert := range g.certificates() {
		show(float64(cert.Expiry().Unix()), flag)
	}
}

func showBuild(_ *Gateway, show show) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = new(debug.BuildInfo)
	}
	revision := ""
	for _, setting := range info.Settings {
		if setting.Key == "vcs.revision" {
			revision = setting.Value
		}
	}
	show(1, info.Main.Version, info.GoVersion, revision)
}

// count returns how many connections are open.
func (s *flows) count() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return len(s.byID)
}

// registry makes the gateway's own: two gateways in one process do not meet.
func (g *Gateway) registry() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(newCollector(g), g.works.latency, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// collector reads the metrics of a gateway for a registry.
type collector struct {
	g     *Gateway
	descs []*prometheus.Desc // of each of metrics
}

func newCollector(g *Gateway) *collector {
	c := &collector{g: g}
	for _, m := range metrics {
		c.descs = append(c.descs, prometheus.NewDesc(m.name, m.help, m.labels, nil))
	}
	return c
}

// Describe is prometheus.Collector's.
func (c *collector) Describe(descs chan<- *prometheus.Desc) {
	for _, desc := range c.descs {
		descs <- desc
	}
}

// Collect is prometheus.Collector's.
func (c *collector) Collect(values chan<- prometheus.Metric) {
	for i, m := range metrics {
		m.read(c.g, func(value float64, labels ...string) {
			shown, err := prometheus.NewConstMetric(c.descs[i], m.kind, value, labels...)
			if err != nil {
				shown = prometheus.NewInvalidMetric(c.descs[i], err)
			}
			values <- shown
		})
	}
}
