package doctor

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"
	"time"

	"github.com/ghettovoice/gosip"
	siplog "github.com/ghettovoice/gosip/log"
	"github.com/ghettovoice/gosip/sip"
	siptransport "github.com/ghettovoice/gosip/transport"

	"viaduct/rewrite"
)

// An agent is the SIP user agent: it sends requests, with credentials where they
// are asked for, and refuses calls.
type agent struct {
	layer    *layer
	server   gosip.Server
	place    *place
	password string
	arrivals chan arrival // INVITEs from the upstream
}

// An arrival is an INVITE that reached us.
type arrival struct {
	uri    string // Request-URI, as it came
	from   string // where it came from, and by which transport
	defect rewrite.Defect
}

// maxArrivals bounds those that wait to be looked at.
const maxArrivals = 64

var (
	errNoAnswer = errors.New("no answer")
	errNoMD5    = errors.New("the SIP server asks for no digest with MD5, and this knows no other")
)

func newAgent(password string) *agent {
	// gosip's debug lines are whole messages, credentials included.
	log := siplog.NewDefaultLogrusLogger()
	log.SetLevel(0) // panics only
	return &agent{layer: newLayer(log), password: password, arrivals: make(chan arrival, maxArrivals)}
}

// start begins to serve.
func (a *agent) start(p *place) {
	a.place, a.layer.place = p, p
	use := func(net.IP, *net.Resolver, sip.MessageMapper, siplog.Logger) siptransport.Layer { return a.layer }
	// The host is not used: it stands in what gosip's own transport would send.
	config := gosip.ServerConfig{Host: "127.0.0.1", UserAgent: "viaduct-doctor"}
	a.server = gosip.NewServer(config, use, nil, a.layer.log)
	_ = a.server.OnRequest(sip.INVITE, a.onInvite) // it never fails
	_ = a.server.OnRequest(sip.OPTIONS, func(req sip.Request, _ sip.ServerTransaction) { a.reply(req, 200, "OK") })
	_ = a.server.OnRequest(sip.ACK, func(sip.Request, sip.ServerTransaction) {})
	go func() { _ = p.sip.Serve(context.Background()) }() // it ends with close
}

// close ends the agent and its sockets.
func (a *agent) close() {
	a.layer.close()
	a.server.Shutdown()
	_ = a.place.sip.Close()
}

// onInvite notes a call that reaches us, and refuses it.
func (a *agent) onInvite(req sip.Request, _ sip.ServerTransaction) {
	var m rewrite.Message
	defect := m.Scan(a.layer.bytesOf(req))
	select {
	case a.arrivals <- arrival{string(m.Text(m.URI)), req.Transport() + " " + req.Source(), defect}:
	default:
	}
	a.reply(req, 486, "Busy Here")
}

func (a *agent) reply(req sip.Request, status sip.StatusCode, reason string) {
	res := sip.NewResponseFromRequest("", req, status, reason, "")
	if to, ok := res.To(); ok {
		if to.Params == nil {
			to.Params = sip.NewParams()
		}
		if !to.Params.Has("tag") {
			to.Params.Add("tag", sip.String{Str: rand.Text()})
		}
	}
	_, _ = a.server.Respond(res) // who asked will ask again
}

// A party is an address-of-record.
type party struct{ user, host string }

func (p party) uri() *sip.SipUri {
	uri := &sip.SipUri{FHost: bracketed(p.host)}
	if p.user != "" {
		uri.FUser = sip.String{Str: p.user}
	}
	return uri
}

func (p party) String() string { return p.uri().String() }

// bracketed returns a host as it stands in a URI.
func bracketed(host string) string {
	if strings.Contains(host, ":") && !strings.HasPrefix(host, "[") {
		return "[" + host + "]"
	}
	return host
}

// A line is a header line.
type line struct{ name, value string }

// request makes a request that begins a transaction of its own.
func (a *agent) request(w *way, method sip.RequestMethod, target sip.Uri, from, to party, body string, lines ...line) sip.Request {
	callID, forwards := sip.CallID(rand.Text()), sip.MaxForwards(70)
	tag := sip.NewParams().Add("tag", sip.String{Str: rand.Text()})
	req := sip.NewRequest("", method, target, "SIP/2.0", []sip.Header{
		via(w),
		&sip.FromHeader{Address: from.uri(), Params: tag},
		&sip.ToHeader{Address: to.uri(), Params: sip.NewParams()},
		&callID,
		&sip.CSeq{SeqNo: 1, MethodName: method},
		&forwards,
	}, "", nil)
	for _, l := range lines {
		req.AppendHeader(&sip.GenericHeader{HeaderName: l.name, Contents: l.value})
	}
	req.SetBody(body, true)
	req.SetTransport(w.target.Proto.String()) // else gosip takes a large one for TCP
	return req
}

func via(w *way) sip.ViaHeader {
	// The port stays with the host, as the gateway writes it.
	return sip.ViaHeader{&sip.ViaHop{
		ProtocolName: "SIP", ProtocolVersion: "2.0", Transport: w.target.Proto.String(), Host: w.host,
		Params: sip.NewParams().Add("rport", nil).Add("branch", sip.String{Str: sip.GenerateBranch()}),
	}}
}

// again returns req as the next request of its dialog or registration. gosip may
// still repeat req itself.
func again(req sip.Request) sip.Request {
	req = sip.CopyRequest(req)
	if hop, ok := req.ViaHop(); ok {
		hop.Params.Add("branch", sip.String{Str: sip.GenerateBranch()})
	}
	if seq, ok := req.CSeq(); ok {
		seq.SeqNo++
	}
	return req
}

// An answer is the final response to a request.
type answer struct {
	status int
	line   string // "200 OK"
	took   time.Duration
	msg    rewrite.Message // as it came
	res    sip.Response
}

// ask sends a request other than INVITE and returns its final response.
func (a *agent) ask(ctx context.Context, req sip.Request, limit time.Duration) (*answer, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errNoAnswer)
	defer cancel()
	begun := time.Now()
	tx, failed, err := a.begin(ctx, req)
	if err != nil {
		return nil, err
	}
	for {
		select {
		case res, ok := <-tx.Responses():
			if !ok {
				return nil, errNoAnswer
			}
			if !res.IsProvisional() {
				return a.answered(res, time.Since(begun)), nil
			}
		case err := <-failed:
			return nil, err
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// begin sends a request. A failure to deliver it comes by failed.
func (a *agent) begin(ctx context.Context, req sip.Request) (tx sip.ClientTransaction, failed <-chan error, err error) {
	if ctx.Err() != nil {
		return nil, nil, context.Cause(ctx)
	}
	e := &pending{failed: make(chan error, 1)}
	if hop, ok := req.ViaHop(); ok {
		branch, _ := hop.Params.Get("branch")
		e.branch = branch.String()
	}
	a.layer.expect(e)
	a.layer.requesting.RLock()
	defer a.layer.requesting.RUnlock()
	if tx, err = a.server.Request(req); err == nil {
		tx.OnAck(func(ack sip.Request) { ackOfRefusal(ack, req) })
	}
	return tx, e.failed, err
}

// ackOfRefusal mends the ACK that gosip makes of a refused INVITE. RFC 3261
// 17.1.1.3: its Request-URI and Route equal those of the INVITE; gosip takes them
// from the response, as for a 2xx.
func ackOfRefusal(ack, invite sip.Request) {
	ack.SetRecipient(invite.Recipient())
	ack.RemoveHeader("Route") // ours have none
}

func (a *agent) answered(res sip.Response, took time.Duration) *answer {
	r := &answer{status: int(res.StatusCode()), took: took, res: res}
	r.line = fmt.Sprintf("%d %s", r.status, res.Reason())
	_ = r.msg.Scan(a.layer.bytesOf(res)) // gosip has read it: what is not there is not found
	return r
}

// challenged reports whether a response asks for credentials.
func challenged(res sip.Response) bool { return res.StatusCode() == 401 || res.StatusCode() == 407 }

var opaque = regexp.MustCompile(`\bopaque=("[^"]*")`)

// authorize returns req again, with the account's credentials as res asks for them.
func (a *agent) authorize(req sip.Request, res sip.Response, user string) (sip.Request, error) {
	ask, give := "WWW-Authenticate", "Authorization"
	if res.StatusCode() == 407 {
		ask, give = "Proxy-Authenticate", "Proxy-Authorization"
	}
	for _, header := range res.GetHeaders(ask) {
		auth := sip.AuthFromValue(header.Value())
		if !strings.EqualFold(auth.Algorithm(), "MD5") {
			continue
		}
		auth.SetMethod(string(req.Method())).SetUri(req.Recipient().String()).SetUsername(user).SetPassword(a.password)
		if auth.Qop() != "" {
			auth.SetNc("00000001")
			auth.SetCNonce(rand.Text())
		}
		auth.SetResponse(auth.CalcResponse())
		text := auth.String()
		// RFC 2617 3.2.1: it "should be returned by the client unchanged", and gosip
		// leaves it out.
		if found := opaque.FindStringSubmatch(header.Value()); found != nil {
			text += ",opaque=" + found[1]
		}
		req = again(req)
		req.RemoveHeader(give)
		req.AppendHeader(&sip.GenericHeader{HeaderName: give, Contents: text})
		return req, nil
	}
	return nil, errNoMD5
}

// stale reports whether a challenge only wants a new nonce.
func stale(res sip.Response) bool {
	for _, name := range []string{"WWW-Authenticate", "Proxy-Authenticate"} {
		for _, header := range res.GetHeaders(name) {
			if strings.Contains(strings.ToLower(header.Value()), "stale=true") {
				return true
			}
		}
	}
	return false
}

// follow makes req the request after last: the same Call-ID, the next CSeq.
func follow(req, last sip.Request) {
	if id, ok := last.CallID(); ok {
		req.ReplaceHeaders("Call-ID", []sip.Header{id})
	}
	if seq, ok := req.CSeq(); ok {
		if before, ok := last.CSeq(); ok {
			seq.SeqNo = before.SeqNo + 1
		}
	}
}
