package gateway

import (
	"sync/atomic"

	"viaduct/rewrite"
	"viaduct/transport"
)

// Reason says why the gateway did not relay a message. The defects of a message
// itself come first, with the names that package rewrite gives them.
type Reason uint8

// The reasons that are no defect of the message itself.
const (
	ReasonMaxForwards Reason = iota + Reason(rewrite.NumDefects)
	ReasonProxyRequire
	ReasonForeignRoute
	ReasonNotTheUser
	ReasonViaTooLong
	ReasonContactTooLong
	ReasonTooLarge
	ReasonUpstreamTooLarge
	ReasonUpstreamUnreachable
	ReasonForgedResponse
	ReasonNotTheClient
	ReasonPBXGone

	ReasonStranger
	ReasonGarbledStream
	ReasonForgedSeal
	ReasonForgedToken
	ReasonNoConnection
	ReasonBrowserGone

	ReasonReliableProvisional
	ReasonMediaUnreachable
	ReasonMediaRefused
	ReasonMediaOverflow

	ReasonOverRate
	ReasonFarOverRate
	ReasonGuessing
	numReasons
)

// reasons describes each; the name of a defect is its own.
var reasons = [numReasons]struct{ name, text string }{
	rewrite.NotSIP:           {text: "bytes that are no SIP message at all"},
	rewrite.BadVersion:       {text: "a SIP version other than 2.0: 505"},
	rewrite.BadStartLine:     {text: "a start line that can be read in more than one way, or a Request-URI of a browser that has headers or no host: 400"},
	rewrite.BareLineEnd:      {text: "a NUL, bare CR or bare LF before the body: 400"},
	rewrite.BadHeaderLine:    {text: "a header line without a proper name: 400"},
	rewrite.NoHeaderEnd:      {text: "no empty line after the headers: 400"},
	rewrite.TooLong:          {text: "a message over 65,535 bytes: 513"},
	rewrite.TooManyLines:     {text: "more than 256 header lines: 400"},
	rewrite.TooManyVias:      {text: "more than 64 Vias: 400"},
	rewrite.TooManyRoutes:    {text: "more than 32 Routes: 400"},
	rewrite.TooManyContacts:  {text: "more than 8 Contacts in a request from a browser: 400"},
	rewrite.DuplicateHeader:  {text: "two of a header that may stand once (Content-Length, CSeq, Call-ID, From, To, Max-Forwards): 400"},
	rewrite.MissingHeader:    {text: "no Call-ID, From, To or CSeq: 400 where it can be said"},
	rewrite.MissingVia:       {text: "no Via, so that no answer could be sent"},
	rewrite.BadVia:           {text: "a Via that cannot be read, or has two branches: 400"},
	rewrite.BadCSeq:          {text: "a CSeq that is no number below 2^31 and the method of the request: 400"},
	rewrite.BadCallID:        {text: "a browser's request has a Call-ID with white space, a comma or a semicolon: 400"},
	rewrite.BadMaxForwards:   {text: "a Max-Forwards that is no number from 0 to 255: 400"},
	rewrite.BadAddress:       {text: "a Contact, Route, To or From that cannot be read in one way: 400"},
	rewrite.BadContentLength: {text: "a Content-Length that is no number, or that a browser wrote on a folded line: 400"},
	rewrite.BodyTooShort:     {text: "a body shorter than its Content-Length: 400"},
	rewrite.BodyTooLong:      {text: "a body longer than its Content-Length, such as a second message in one frame: 400"},

	ReasonMaxForwards:         {"max_forwards", "a browser's request has no hop left: 483"},
	ReasonProxyRequire:        {"proxy_require", "a browser's request wants an extension of the proxy: 420"},
	ReasonForeignRoute:        {"foreign_route", "a browser's request outside a dialog names a Route that is no upstream: 403"},
	ReasonNotTheUser:          {"not_the_user", "a browser's request whose From, or To of a REGISTER, is not the address-of-record of --auth-aor-header: 403"},
	ReasonViaTooLong:          {"via_too_long", "a browser's Via is longer than 300 characters: 400"},
	ReasonContactTooLong:      {"contact_too_long", "a browser's Contact does not fit in a token of 80 characters: 400"},
	ReasonTooLarge:            {"too_large", "a browser's message is larger than --max-message: 513, then close 1009"},
	ReasonUpstreamTooLarge:    {"upstream_too_large", "a message is too large for the way to the SIP server: 513 to a request"},
	ReasonUpstreamUnreachable: {"upstream_unreachable", "no way to the SIP server: 503 to a request"},
	ReasonForgedResponse:      {"forged_response", "a browser's response whose top Via is not sealed by this gateway for that request"},
	ReasonNotTheClient:        {"not_the_client", "a browser's response to a request that another client was sent"},
	ReasonPBXGone:             {"pbx_gone", "a browser's response could not be sent to where its request came from"},
	ReasonStranger:            {"stranger", "a datagram or connection from an address that is no upstream and no --allow-peer"},
	ReasonGarbledStream:       {"garbled_stream", "a stream from the SIP side that could not be split into messages; it was closed"},
	ReasonForgedSeal:          {"forged_seal", "a response from the SIP side whose top Via is not sealed by this gateway for that request"},
	ReasonForgedToken:         {"forged_token", "a request from the SIP side whose Request-URI is no token of this gateway: 403"},
	ReasonNoConnection:        {"no_connection", "a request from the SIP side for a client that is not connected: 480"},
	ReasonBrowserGone:         {"browser_gone", "a response from the SIP side for a browser that is not connected any more"},
	ReasonReliableProvisional: {"reliable_provisional", "with --rtpengine, an INVITE that requires 100rel: 420"},
	ReasonMediaUnreachable:    {"media_unreachable", "an INVITE or UPDATE while no rtpengine answers: 503"},
	ReasonMediaRefused:        {"media_refused", "an INVITE or UPDATE whose body rtpengine does not take: 488"},
	ReasonMediaOverflow:       {"media_overflow", "more than 64 messages of one browser wait for rtpengine: 503 to a request"},
	ReasonOverRate:            {"over_rate", "more initial requests of one browser than --rate and --burst allow: 503"},
	ReasonFarOverRate:         {"far_over_rate", "more of all else than four times --rate and --burst, or more still after the 503: closed 1008"},
	ReasonGuessing:            {"guessing", "credentials from a connection whose last ones were refused again and again: 503, in the end closed 1008"},
}

// String returns the reason's stable name.
func (r Reason) String() string {
	if int(r) < rewrite.NumDefects {
		return rewrite.Defect(r).String()
	}
	return reasons[r].name
}

// Text describes the reason, and the answer that the sender of a request gets.
func (r Reason) Text() string { return reasons[r].text }

// Reasons lists every reason, for the documentation and for counters that show
// from the start at zero.
func Reasons() []Reason {
	all := make([]Reason, 0, numReasons-1)
	for r := Reason(1); r < numReasons; r++ {
		all = append(all, r)
	}
	return all
}

// counters counts what was not relayed, by reason.
type counters [numReasons]atomic.Uint64

// Dropped returns how many messages were not relayed for that reason.
func (g *Gateway) Dropped(r Reason) uint64 { return g.dropped[r].Load() }

// refusals counts handshakes that were refused, by why.
type refusals [256]atomic.Uint64

func (c *refusals) add(why transport.Refusal) { c[why].Add(1) }

// Refused returns how many handshakes were refused for that reason.
func (g *Gateway) Refused(why transport.Refusal) uint64 { return g.refused[why].Load() }
