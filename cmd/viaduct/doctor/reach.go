package doctor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"time"

	"github.com/ghettovoice/gosip/sip"

	"viaduct/rewrite"
	"viaduct/transport"
)

const (
	checkSeen     = "address as seen"
	checkDatagram = "datagram of %d bytes"
)

var protos = []transport.Proto{transport.ProtoUDP, transport.ProtoTCP, transport.ProtoTLS}

func checkOptions(proto transport.Proto) string { return fmt.Sprintf("OPTIONS by %s", proto) }

// checkReach asks the upstream how it is by every transport, and reports whether
// it answered by its own.
func (e *examination) checkReach(ctx context.Context) bool {
	answers, failures := make(map[transport.Proto]*answer), make(map[transport.Proto]error)
	var certificate []Finding
	for _, proto := range protos {
		w, err := e.place.ways[proto], error(nil)
		if w == nil {
			continue
		}
		if proto == transport.ProtoTLS {
			certificate, err = e.tryTLS(ctx, w)
		}
		if err == nil {
			answers[proto], err = e.options(ctx, w, 0)
		}
		failures[proto] = err
	}
	for _, proto := range protos {
		if proto == transport.ProtoTLS && certificate != nil {
			e.report.Findings = append(e.report.Findings, certificate...)
		}
		e.reportOptions(proto, answers, failures)
	}
	if found := answers[e.upstream.Proto]; found != nil {
		e.checkSeen(found)
	}
	if answers[transport.ProtoUDP] != nil {
		e.checkDatagrams(ctx, answers[transport.ProtoTCP] != nil)
	}
	return answers[e.upstream.Proto] != nil
}

// options asks with a message of size bytes, or with a small one.
func (e *examination) options(ctx context.Context, w *way, size int) (*answer, error) {
	port := sip.Port(w.target.Addr.Port())
	upstream, ourselves := party{host: e.upstream.Host}, party{"viaduct", hostOf(w.host)}
	target := upstream.uri()
	target.FPort = &port
	req := e.agent.request(w, sip.OPTIONS, target, ourselves, upstream, "", line{"Accept", "application/sdp"})
	if size > 0 {
		req.AppendHeader(&sip.GenericHeader{HeaderName: "Content-Type", Contents: "text/plain"})
		req.SetBody(strings.Repeat("x", size-len(req.String())), true)
	}
	return e.agent.ask(ctx, req, answerTimeout)
}

func hostOf(hostport string) string {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		return hostport
	}
	return host
}

func (e *examination) reportOptions(proto transport.Proto, answers map[transport.Proto]*answer, failures map[transport.Proto]error) {
	check := checkOptions(proto)
	if found := answers[proto]; found != nil {
		e.report.ok(check, "%s after %v", found.line, found.took.Round(time.Millisecond/10))
		return
	}
	err := failures[proto]
	remote, isTLS := errors.AsType[*net.OpError](err)
	switch {
	case err == nil || errors.Is(err, errCertificate): // there was no such way, or another finding says why
	case isTLS && remote.Op == "remote error" && proto == e.upstream.Proto: // so crypto/tls says what the other end said
		e.report.add(Blocker, check, err.Error(), "--upstream-cert and --upstream-key with a certificate that the SIP server accepts")
	case proto == e.upstream.Proto:
		e.report.fail(Blocker, check, err, e.otherTransport(answers))
	default:
		e.report.add(Note, check, reason(err), fmt.Sprintf("nothing, as long as --upstream does not say transport=%s", inURI(proto)))
	}
}

// otherTransport says what to do where the upstream's own transport fails.
func (e *examination) otherTransport(answers map[transport.Proto]*answer) string {
	own := fmt.Sprintf("the SIP server's %s port open for this address", e.upstream.Proto)
	for _, proto := range protos {
		if answers[proto] != nil {
			return fmt.Sprintf("transport=%s in --upstream, by which it answers; or %s", inURI(proto), own)
		}
	}
	return "the address of a running SIP server in --upstream; " + own
}

// checkSeen compares where the upstream saw the OPTIONS come from (RFC 3261
// 18.2.1, RFC 3581) with what it is told.
func (e *examination) checkSeen(found *answer) {
	told := e.main().host
	hop, ok := found.msg.Via(0)
	if !ok {
		return
	}
	host, port, err := net.SplitHostPort(told)
	if err != nil {
		return
	}
	if _, err := netip.ParseAddr(host); err != nil {
		e.report.add(Note, checkSeen, "the SIP server is told a name, "+host, "--advertise with an IP address: some resolve a name for every message")
		return
	}
	seenHost, seenPort := host, port
	if received, ok := found.msg.Param(hop.Params, "received"); ok {
		seenHost = strings.Trim(string(found.msg.Text(received.Value)), "[]")
	}
	// A connection to a TLS upstream comes from any port unless we listen for TLS.
	rport, ok := found.msg.Param(hop.Params, "rport")
	if ok && rport.HasValue && (e.upstream.Proto != transport.ProtoTLS || e.doctor.serverTLS != nil) {
		seenPort = string(found.msg.Text(rport.Value))
	}
	if seen := net.JoinHostPort(seenHost, seenPort); seen != net.JoinHostPort(host, port) {
		e.report.add(Warning, checkSeen, fmt.Sprintf("the SIP server sees %s, and is told %s", seen, told),
			fmt.Sprintf("--advertise=%s if that stays; a route without NAT is better", seen))
		return
	}
	e.report.ok(checkSeen, "%s, as it is told", told)
}

// checkDatagrams sends what browsers' INVITEs may grow to.
func (e *examination) checkDatagrams(ctx context.Context, tcp bool) {
	for _, size := range []int{4096, 8192} {
		check := fmt.Sprintf(checkDatagram, size)
		found, err := e.options(ctx, e.place.ways[transport.ProtoUDP], size)
		if err == nil {
			e.report.ok(check, "%s after %v", found.line, found.took.Round(time.Millisecond/10))
			continue
		}
		verdict, set := Warning, "--tcp-above=1300, or transport=tcp in --upstream: INVITEs of browsers are that large"
		switch {
		case e.upstream.Proto != transport.ProtoUDP:
			verdict, set = Note, "nothing, as long as --upstream does not say transport=udp"
		case !tcp:
			set = "TCP at the SIP server, and --tcp-above=1300 here; or let IP fragments pass: INVITEs of browsers are that large"
		}
		e.report.add(verdict, check, "lost: "+reason(err), set)
		return // a larger one would be too
	}
}

// inURI is a transport as --upstream names it.
func inURI(proto transport.Proto) string { return strings.ToLower(proto.String()) }

// reason says in a few words why there is no answer.
func reason(err error) string {
	if errno := syscall.Errno(0); errors.As(err, &errno) {
		return errno.Error()
	}
	return err.Error()
}

// answeredBy is how a SIP server took a request.
func answeredBy(found *answer, err error) string {
	if err != nil {
		return reason(err)
	}
	return found.line
}

// received is a Contact, or a Request-URI, as the upstream gives it back.
type received struct {
	uri     string
	user    string
	host    string // `host:port`, without a port if it has none
	params  string
	expires int // of a Contact
}

// place is the URI behind the user.
func (r *received) place() string { return r.host + r.params }

func parseReceived(text string) received {
	r := received{uri: text}
	if uri, ok := rewrite.ParseURI([]byte(text)); ok {
		r.user, r.host, r.params = string(uri.User), string(uri.Host), string(uri.Params)
		if uri.Port != 0 {
			r.host = fmt.Sprintf("%s:%d", r.host, uri.Port)
		}
	}
	return r
}

// contacts returns the Contacts of a response.
func contacts(m *rewrite.Message) (all []received) {
	for values := m.Values(rewrite.Contact); ; {
		value, ok := values.Next()
		if !ok {
			return all
		}
		if a, ok := m.ParseAddress(value); ok && !a.Star {
			c := parseReceived(string(m.Text(a.URI)))
			c.expires = m.Expires(a)
			all = append(all, c)
		}
	}
}
