package pbx

import (
	"crypto/rand"

	"github.com/ghettovoice/gosip/sip"
	"go.uber.org/zap"
)

// A content is a message body with its type. The zero content is none.
type content struct {
	kind string
	body string
}

func sdp(body string) content { return content{"application/sdp", body} }

func contentOf(msg sip.Message) content {
	kind := ""
	if header, ok := msg.ContentType(); ok {
		kind = header.Value()
	}
	return content{kind, msg.Body()}
}

func (c content) addTo(msg sip.Message) {
	if c.body != "" && c.kind != "" {
		kind := sip.ContentType(c.kind)
		msg.AppendHeader(&kind)
	}
	msg.SetBody(c.body, true)
}

func callIDOf(msg sip.Message) string {
	if id, ok := msg.CallID(); ok {
		return string(*id)
	}
	return ""
}

func seqOf(msg sip.Message) uint32 {
	if seq, ok := msg.CSeq(); ok {
		return seq.SeqNo
	}
	return 0
}

// fromOf returns the From address, tag included, or nil.
func fromOf(msg sip.Message) *sip.Address {
	if from, ok := msg.From(); ok {
		return sip.NewAddressFromFromHeader(from).Clone()
	}
	return nil
}

// toOf returns the To address, tag included, or nil.
func toOf(msg sip.Message) *sip.Address {
	if to, ok := msg.To(); ok {
		return sip.NewAddressFromToHeader(to).Clone()
	}
	return nil
}

func tagOf(addr *sip.Address) string {
	if addr == nil || addr.Params == nil {
		return ""
	}
	if tag, ok := addr.Params.Get("tag"); ok && tag != nil {
		return tag.String()
	}
	return ""
}

// tagged returns addr with tag, and without the parameters it had.
func tagged(addr *sip.Address, tag string) *sip.Address {
	addr = addr.Clone()
	addr.Params = sip.NewParams()
	if tag != "" {
		addr.Params.Add("tag", sip.String{Str: tag})
	}
	return addr
}

func userOf(uri sip.Uri) string {
	if uri == nil || uri.User() == nil {
		return ""
	}
	return uri.User().String()
}

// newResponse returns a response to req whose To has tag, unless req is in a
// dialog already.
func newResponse(req sip.Request, tag string, status sip.StatusCode, reason string, c content) sip.Response {
	res := sip.NewResponseFromRequest("", req, status, reason, "")
	if to, ok := res.To(); ok && tag != "" {
		if to.Params == nil {
			to.Params = sip.NewParams()
		}
		if !to.Params.Has("tag") {
			to.Params.Add("tag", sip.String{Str: tag})
		}
	}
	c.addTo(res)
	return res
}

// reply answers a request that makes no dialog.
func (p *PBX) reply(req sip.Request, status sip.StatusCode, reason string, headers ...sip.Header) {
	res := newResponse(req, rand.Text(), status, reason, content{})
	for _, header := range headers {
		res.AppendHeader(header)
	}
	p.respond(res)
}

func (p *PBX) respond(res sip.Response) {
	if _, err := p.server.Respond(res); err != nil {
		p.log.Debug("response not sent", zap.Error(err))
	}
}

// contact is where the PBX is reached in a dialog.
func (p *PBX) contact() sip.Header {
	return &sip.ContactHeader{Address: p.uri("pbx"), Params: sip.NewParams()}
}

// uri returns the address of a user of the PBX.
func (p *PBX) uri(user string) *sip.SipUri {
	port := sip.Port(p.addr.Port())
	return &sip.SipUri{FUser: sip.String{Str: user}, FHost: p.addr.Addr().String(), FPort: &port}
}

// request starts a client transaction.
func (p *PBX) request(req sip.Request) (sip.ClientTransaction, error) {
	p.gate.requesting.RLock()
	defer p.gate.requesting.RUnlock()
	return p.server.Request(req)
}

// exchange sends a request other than INVITE and returns its final response,
// or the refusal that stands for there being none.
func (p *PBX) exchange(req sip.Request) (sip.Response, *refusal) {
	tx, err := p.request(req)
	if err != nil {
		p.log.Debug("request not sent", zap.Error(err))
		return nil, &refusal{480, "Temporarily Unavailable"}
	}
	for res := range tx.Responses() {
		if !res.IsProvisional() {
			return res, nil
		}
	}
	return nil, &refusal{408, "Request Timeout"}
}
