package rtpengine

// Kind says what a Command is for.
type Kind uint8

// The kinds of commands.
const (
	// KindOffer makes the body with an offer for the other end.
	KindOffer Kind = iota
	// KindAnswer does so with the answer, whose sender has the To tag.
	KindAnswer
	// KindDelete ends a call.
	KindDelete
	// KindQuery is refused if the engine has no such call.
	KindQuery
	kindPing
)

func (k Kind) String() string {
	return [...]string{"offer", "answer", "delete", "query", "ping"}[k]
}

// Command is what an engine is asked. What is empty is left out. Nothing of it
// is kept when Ask returns.
type Command struct {
	Kind    Kind
	CallID  []byte
	FromTag []byte // of who offered, be it the caller or the callee
	ToTag   []byte // of who answered, once that is known
	// ViaBranch is the same in an offer and all its answers. Without it, each
	// answer with another To tag moves the media of who offered to other ports.
	ViaBranch []byte
	SDP       []byte
	// Direction names the engine's interfaces towards who sent the body and
	// towards who gets it.
	Direction [2]string
	// DeleteDelay is how long a deleted call lives on, in seconds. 0: not at all.
	DeleteDelay int

	Profile
}

// append appends the command as it is sent. Keys are in the order that bencode
// asks for.
func (c *Command) append(buf []byte) []byte {
	buf = append(buf, 'd')
	buf = appendEntry(buf, "DTLS", c.DTLS)
	buf = appendEntry(buf, "ICE", c.ICE)
	buf = appendList(buf, "SDES", c.SDES)
	buf = appendEntry(buf, "call-id", c.CallID)
	buf = appendEntry(buf, "command", c.Kind.String())
	if c.Kind == KindDelete {
		buf = appendInt(appendText(buf, "delete delay"), c.DeleteDelay)
	}
	if c.Direction != [2]string{} {
		buf = appendList(buf, "direction", c.Direction[:])
	}
	buf = appendList(buf, "flags", c.Flags)
	buf = appendEntry(buf, "from-tag", c.FromTag)
	buf = appendList(buf, "replace", c.Replace)
	buf = appendList(buf, "rtcp-mux", c.RTCPMux)
	buf = appendEntry(buf, "sdp", c.SDP)
	buf = appendEntry(buf, "to-tag", c.ToTag)
	buf = appendEntry(buf, "transport-protocol", c.Transport)
	buf = appendEntry(buf, "via-branch", c.ViaBranch)
	return append(buf, 'e')
}
