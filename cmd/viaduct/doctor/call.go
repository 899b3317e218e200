package doctor

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/ghettovoice/gosip/sip"

	"viaduct/rewrite"
)

const (
	checkSelfCall = "call to itself"
	checkStranger = "INVITE, no credentials"
)

// An outcome is what became of a call.
type outcome struct {
	arrived  []arrival
	progress string // the first 1xx but 100, such as "180 Ringing"
	final    string // the final response, such as "486 Busy Here"
	status   int    // its code
	err      error  // why there is none
}

// call makes a call and ends it. It sends credentials if user is not empty and
// they are asked for. If enough is set, a call that gets on is given up at once.
func (a *agent) call(ctx context.Context, req sip.Request, limit time.Duration, user string, enough bool) *outcome {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errNoAnswer)
	defer cancel()
	a.forgetArrivals()
	c := &calling{agent: a, outcome: &outcome{}, enough: enough}
	res := c.invite(ctx, req)
	if res != nil && challenged(res) && user != "" {
		req, err := a.authorize(req, res, user)
		if err != nil {
			return &outcome{err: err}
		}
		c.invite(ctx, req)
	}
	return c.outcome
}

func (a *agent) forgetArrivals() {
	for {
		select {
		case <-a.arrivals:
		default:
			return
		}
	}
}

// calling is a call under way.
type calling struct {
	*agent
	*outcome
	enough bool

	req      sip.Request
	tx       sip.ClientTransaction
	proceeds bool // a 1xx has come
	given    bool // up
}

// invite sends an INVITE and returns its final response, nil if there is none.
func (c *calling) invite(ctx context.Context, req sip.Request) sip.Response {
	*c.outcome = outcome{arrived: c.arrived}
	tx, failed, err := c.begin(ctx, req)
	if err != nil {
		c.err = err
		return nil
	}
	c.req, c.tx, c.proceeds, c.given = req, tx, false, false
	over, late := ctx.Done(), (<-chan time.Time)(nil)
	for {
		select {
		case res, ok := <-tx.Responses():
			if !ok {
				c.err = errNoAnswer
				return nil
			}
			if c.take(res) {
				return res
			}
		case arrived := <-c.arrivals:
			c.arrived = append(c.arrived, arrived)
		case c.err = <-failed:
			return nil
		case <-over:
			c.err, over = context.Cause(ctx), nil
			c.giveUp()
			late = time.After(hangUpTimeout)
		case <-late:
			return nil
		}
	}
}

// take takes a response, and reports whether it is the final one.
func (c *calling) take(res sip.Response) bool {
	text := fmt.Sprintf("%d %s", res.StatusCode(), res.Reason())
	if res.IsProvisional() {
		c.proceed(res, text)
		return false
	}
	if res.IsSuccess() {
		c.hangUp(res)
	}
	c.final, c.status = text, int(res.StatusCode())
	for {
		select {
		case arrived := <-c.arrivals:
			c.arrived = append(c.arrived, arrived)
		default:
			return true
		}
	}
}

func (c *calling) proceed(res sip.Response, text string) {
	first := !c.proceeds
	c.proceeds = true
	if first && c.given {
		_ = c.tx.Cancel() // it is given up here in any case
	}
	if res.StatusCode() > 100 && c.progress == "" {
		c.progress = text
		if c.enough {
			c.giveUp()
		}
	}
}

// giveUp cancels the call. RFC 3261 9.1: "If no provisional response has been
// received, the CANCEL request MUST NOT be sent; rather, the client MUST wait for
// the arrival of a provisional response before sending the request."
func (c *calling) giveUp() {
	if c.proceeds && !c.given {
		_ = c.tx.Cancel()
	}
	c.given = true
}

// hangUp ends a call that was answered.
func (c *calling) hangUp(res sip.Response) {
	_ = c.server.Send(sip.NewAckRequest("", c.req, res, "", nil)) // the BYE says as much
	bye := again(sip.NewAckRequest("", c.req, res, "", nil))
	bye.SetMethod(sip.BYE)
	if seq, ok := bye.CSeq(); ok {
		seq.MethodName = sip.BYE
	}
	_, _ = c.ask(context.Background(), bye, hangUpTimeout) // nothing more can be done
}

// invitation makes an INVITE.
func (e *examination) invitation(from, to party, token string) sip.Request {
	w := e.main()
	host, family := hostOf(w.host), "IP4"
	if strings.Contains(host, ":") {
		family = "IP6"
	}
	body := fmt.Sprintf("v=0\r\no=- 1 1 IN %[1]s %[2]s\r\ns=-\r\nc=IN %[1]s %[2]s\r\nt=0 0\r\nm=audio 9 RTP/AVP 0 8\r\n", family, host)
	return e.agent.request(w, sip.INVITE, to.uri(), from, to, body,
		line{"Contact", "<" + w.contact(token) + ">"}, line{"Content-Type", "application/sdp"})
}

// checkSelfCall calls the account, which is registered here, and reports whether
// the call arrived.
func (r *registration) checkSelfCall(ctx context.Context) bool {
	r.agent.layer.knocked()
	c := r.agent.call(ctx, r.invitation(r.account, r.account, r.token), callTimeout, r.account.user, false)
	if len(c.arrived) == 0 {
		r.reportNoArrival(c)
		return false
	}
	got := c.arrived[0]
	uri := parseReceived(got.uri)
	switch {
	case got.defect != rewrite.Sound:
		r.report.add(Blocker, checkSelfCall, "it came, and viaduct would refuse it: "+got.defect.String(), "whatever writes such messages between the SIP server and viaduct")
	case uri.user == r.token && !strings.EqualFold(uri.place(), r.main().place()):
		r.report.add(Note, checkSelfCall, fmt.Sprintf("came by %s with the token whole, for %s instead of %s", got.from, uri.place(), r.main().place()),
			"nothing: viaduct goes by the token")
	case uri.user == r.token:
		r.report.ok(checkSelfCall, "came by %s with the token whole", got.from)
	case uri.user != "" && strings.HasPrefix(r.token, uri.user):
		r.report.add(Blocker, checkSelfCall, fmt.Sprintf("cut short: %d of %d characters of the user part came", len(uri.user), len(r.token)),
			"a wider column for contacts at the SIP server: 255 characters hold any")
	default:
		r.report.add(Blocker, checkSelfCall, "it came for "+got.uri, "the Contact's URI for the Request-URI of calls at the SIP server (RFC 3261 16.5)")
	}
	return true
}

func (r *registration) reportNoArrival(c *outcome) {
	if strangers := r.agent.layer.knocked(); len(strangers) > 0 {
		at := strangers[0].Addr()
		r.report.add(Blocker, checkSelfCall, fmt.Sprintf("something came from %s, which is not the upstream", at),
			fmt.Sprintf("alias=%s in --upstream, or --allow-peer=%s", at, netip.PrefixFrom(at, at.BitLen())))
		return
	}
	w := r.main()
	switch {
	case c.err != nil && !errors.Is(c.err, errNoAnswer):
		r.report.fail(Warning, checkSelfCall, c.err, "an account in --user that may call itself")
	case c.err != nil, c.status == 408, c.status == 480, c.status >= 500 && c.status < 600:
		found := "it does not come"
		if c.err == nil {
			found += ": " + c.final
		}
		r.report.add(Blocker, checkSelfCall, found, fmt.Sprintf(
			"--advertise with an address where the SIP server reaches this machine, and let it reach %s by %s", w.host, w.target.Proto))
	default:
		r.report.add(Warning, checkSelfCall, "not put through: "+c.final, "a dial plan in which "+r.account.String()+" can be called; then run this again")
	}
}

// checkStrangers sends what any page could: an INVITE without credentials, in
// nobody's name and in that of the account, to the account if it is registered.
func (e *examination) checkStrangers(ctx context.Context, r *registration, callable bool) {
	stranger := party{"doctor-" + random(4), hostOf(e.main().host)}
	to, token := party{stranger.user, e.upstream.Host}, newToken(stranger)
	froms, names := []party{stranger}, []string{"nobody"}
	if r != nil {
		to, token = r.account, r.token
		froms, names = append(froms, r.account), append(names, r.account.user)
	}
	for i, from := range froms {
		c := e.agent.call(ctx, e.invitation(from, to, token), strangerTimeout, "", true)
		e.reportStranger(names[i], to, c, callable)
	}
}

func (e *examination) reportStranger(from string, to party, c *outcome, callable bool) {
	set := fmt.Sprintf("ask %s for credentials at the SIP server: no trunk, no identify or match by address, no insecure=invite, no allowguest",
		hostOf(e.main().host))
	const trunk = ": every browser is a trusted trunk"
	report := func(v Verdict, found, set string) { e.report.add(v, checkStranger, "from "+from+": "+found, set) }
	switch {
	case len(c.arrived) > 0:
		report(Blocker, "put through"+trunk, set)
	case c.progress != "":
		report(Blocker, c.progress+trunk, set)
	case c.status >= 200 && c.status < 300:
		report(Blocker, c.final+trunk, set)
	case c.err != nil:
		e.report.fail(Note, checkStranger, c.err, "nothing, if the SIP server ignores such INVITEs on purpose")
	case c.status == 401 || c.status == 407 || c.status == 403:
		report(OK, c.final, "")
	case callable:
		report(OK, c.final+", where the account itself gets through", "")
	case c.status >= 500:
		report(Note, c.final, "nothing, if the SIP server refuses such INVITEs so")
	default:
		report(Warning, fmt.Sprintf("%s for %s, and not asked who calls", c.final, to), set)
	}
}
