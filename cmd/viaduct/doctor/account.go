package doctor

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/ghettovoice/gosip/sip"

	"viaduct/rewrite"
)

const (
	checkRegister   = "REGISTER"
	checkContact    = "Contact in the 200"
	checkPath       = "Path"
	checkUnregister = "unregister"
)

const (
	// askedExpires is what JsSIP asks for, in seconds.
	askedExpires = 600
	// leastExpires is what a browser can live with, in seconds.
	leastExpires = 60
)

// A registration is the test account's, with a Contact as the gateway writes it.
type registration struct {
	*examination
	account party
	token   string
	params  string      // of the Contact
	last    sip.Request // the latest REGISTER
}

// checkAccount tries what takes an account, and what must not go without one.
func (e *examination) checkAccount(ctx context.Context) {
	if e.doctor.cfg.User == "" {
		e.skip("no account", "--user and --password-file of a test account",
			checkRegister, checkContact, checkSelfCall, checkPath)
		e.checkStrangers(ctx, nil, false)
		return
	}
	r := e.newRegistration()
	found := r.check(ctx)
	if found == nil {
		e.skip("the account is not registered", "what is said above", checkContact, checkSelfCall, checkPath)
		e.checkStrangers(ctx, nil, false)
		return
	}
	defer r.end(ctx)
	r.checkContact(found)
	callable := r.checkSelfCall(ctx)
	e.checkStrangers(ctx, r, callable)
	r.checkPath(ctx)
}

func (e *examination) newRegistration() *registration {
	user, host, _ := strings.Cut(e.doctor.cfg.User, "@")
	if host == "" {
		host = e.upstream.Host
	}
	account := party{user, host}
	return &registration{
		examination: e, account: account, token: newToken(account),
		params: fmt.Sprintf(`;+sip.ice;+sip.instance="<urn:uuid:%s>"`, newUUID()),
	}
}

// newToken makes a token as the gateway would for a browser with JsSIP.
func newToken(account party) string {
	keys, err := rewrite.ParseKeyring([]byte(rewrite.NewKeyLine()), nil)
	if err != nil {
		panic(err) // it is a key
	}
	host := random(6) + ".invalid"
	origin := keys.First().Origin(rewrite.AppendAoR(nil, []byte(account.String())), []byte(host))
	token, _, err := keys.First().AppendToken(nil, origin, []byte("sip:"+random(4)+"@"+host+";transport=ws"))
	if err != nil {
		panic(err) // this Contact is a short one
	}
	return string(token)
}

// random returns n random bytes in hexadecimal.
func random(n int) string {
	raw := make([]byte, n)
	rand.Read(raw) // it never fails
	return fmt.Sprintf("%x", raw)
}

func newUUID() string {
	return fmt.Sprintf("%s-%s-4%s-a%s-%s", random(4), random(2), random(2)[1:], random(2)[1:], random(6))
}

// register sends a REGISTER, with credentials when they are asked for.
func (r *registration) register(ctx context.Context, expires int, lines ...line) (found *answer, proved bool, err error) {
	w, domain := r.main(), party{host: r.account.host}
	contact := fmt.Sprintf("<%s>%s;expires=%d", w.contact(r.token), r.params, expires)
	lines = append([]line{{"Contact", contact}, {"Expires", strconv.Itoa(expires)}}, lines...)
	req := r.agent.request(w, sip.REGISTER, domain.uri(), r.account, r.account, "", lines...)
	if r.last != nil {
		follow(req, r.last)
	}
	r.last = req
	found, err = r.agent.ask(ctx, req, answerTimeout)
	// A nonce may have become stale meanwhile: once more, then.
	for try := 0; try < 2 && err == nil && challenged(found.res) && (!proved || stale(found.res)); try++ {
		if req, err = r.agent.authorize(req, found.res, r.account.user); err != nil {
			return nil, false, err
		}
		r.last, proved = req, true
		found, err = r.agent.ask(ctx, req, answerTimeout)
	}
	return found, proved, err
}

// check registers the account, and returns the answer if that is a 200.
func (r *registration) check(ctx context.Context) *answer {
	found, proved, err := r.register(ctx, askedExpires)
	switch {
	case errors.Is(err, errNoMD5):
		r.report.add(Blocker, checkRegister, err.Error(), "digest with MD5 at the SIP server: JsSIP and SIP.js know no other")
	case err != nil:
		r.report.fail(Blocker, checkRegister, err, "a registrar at the SIP server that takes requests from this address")
	case found.res.IsSuccess() && !proved:
		r.report.add(Blocker, checkRegister, found.line+" without credentials: any browser can register as anyone",
			"authentication of "+r.account.user+" at the SIP server")
		return found
	case found.res.IsSuccess():
		r.report.ok(checkRegister, "%s with digest", found.line)
		return found
	case proved:
		r.report.add(Blocker, checkRegister, found.line+" to the credentials",
			"--user and --password-file as the SIP server has them; there, room for one more contact of the account")
	default:
		r.report.add(Blocker, checkRegister, found.line+" before credentials are asked for",
			"--user=USER@DOMAIN as the SIP server has it; there, an account that may register from this address")
	}
	return nil
}

// checkContact looks at what the upstream has kept of the Contact.
func (r *registration) checkContact(found *answer) {
	w := r.main()
	var ours *received
	others := 0
	for _, c := range contacts(&found.msg) {
		if c.user != "" && strings.HasPrefix(r.token, c.user) || strings.HasPrefix(w.contact(r.token), c.uri) {
			ours = &c
		} else {
			others++
		}
	}
	const wider = "a wider column for contacts at the SIP server: 255 characters hold any"
	switch {
	case ours == nil:
		r.report.add(Warning, checkContact, fmt.Sprintf("it is not there (%d others are)", others),
			"a registrar that lists every contact in its answer (RFC 3261 10.3): browsers look for theirs")
	case ours.user != r.token:
		r.report.add(Blocker, checkContact, fmt.Sprintf("cut short: %d of %d characters of the user part", len(ours.user), len(r.token)), wider)
	case !strings.EqualFold(ours.place(), w.place()):
		r.report.add(Warning, checkContact, fmt.Sprintf("rewritten: %s stands where %s did", ours.place(), w.place()),
			fmt.Sprintf("rewrite_contact=no (PJSIP), nat=no (chan_sip), or --advertise=%s if calls shall come there", ours.host))
	default:
		r.report.ok(checkContact, "whole, %d characters", len(ours.uri))
	}
	if ours != nil && ours.expires != askedExpires {
		r.reportExpires(ours.expires)
	}
	if others > 0 && ours != nil {
		r.report.add(Note, checkContact, fmt.Sprintf("%d others are there, and will ring", others), "--user of an account that nobody uses")
	}
}

func (r *registration) reportExpires(granted int) {
	found := fmt.Sprintf("for %d s, where %d were asked for", granted, askedExpires)
	if granted < leastExpires {
		r.report.add(Warning, checkContact, found, "a longer least expiry at the SIP server: every browser registers that often")
		return
	}
	r.report.add(Note, checkContact, found, "nothing: browsers go by it")
}

// checkPath asks whether the registrar would send calls along a Path (RFC 3327).
func (r *registration) checkPath(ctx context.Context) {
	const set = "nothing: viaduct does without"
	path := "<sip:" + r.main().host + ";lr>"
	found, _, err := r.register(ctx, askedExpires, line{"Supported", "path"}, line{"Path", path})
	switch {
	case err == nil && found.res.IsSuccess() && strings.Contains(string(found.msg.Joined(rewrite.Path)), path):
		r.report.ok(checkPath, "kept")
	case err == nil && found.res.IsSuccess():
		r.report.add(Note, checkPath, "not kept", set)
	case err != nil:
		r.report.fail(Note, checkPath, err, set)
	default:
		r.report.add(Note, checkPath, found.line, set)
	}
}

// end unregisters the account, whatever became of ctx.
func (r *registration) end(ctx context.Context) {
	ctx, cancel := context.WithTimeoutCause(context.WithoutCancel(ctx), endTimeout, errNoAnswer)
	defer cancel()
	found, _, err := r.register(ctx, 0)
	if err != nil || !found.res.IsSuccess() {
		r.report.add(Note, checkUnregister, answeredBy(found, err), fmt.Sprintf("nothing: what is left ends within %d s", askedExpires))
	}
}
