package rewrite

import (
	"encoding/binary"
	"net/netip"
)

// The magic cookie that every branch starts with (RFC 3261 8.1.1.7).
const branchCookie = "z9hG4bK"

// Hop is what tells a request of the next hop from every other, and all that
// its CANCEL and its ACK share with it.
type Hop struct {
	SentBy []byte // of its top Via
	Branch []byte // of its top Via
	CallID []byte
	CSeq   uint32
}

func (k *Key) hopSealer(d domain, h *Hop) *sealer {
	s := k.sealer(d)
	s.field(h.SentBy)
	s.field(h.Branch)
	s.field(h.CallID)
	s.msg = binary.BigEndian.AppendUint32(s.msg, h.CSeq)
	return s
}

// DownSeal is what our Via says on a request to a browser, and on the response
// to it.
type DownSeal struct {
	Key      *Key           // set by OpenDownSeal: the key that it verified with
	Proto    uint8          // the transport that the request came by, numbered by the caller
	Source   netip.AddrPort // where it came from
	Upstream uint32         // names the upstream that sent it
	Media    Media
	Routes   Routes // those of the request
	Token    []byte // the token it came by, verified; empty if none
}

// The flags in the length byte of a down seal say what is present.
const (
	downMedia  = 1 << 7
	downRoutes = 1 << 6
	downFlags  = downMedia | downRoutes
)

// AppendDownSeal appends the seal for a request whose top Via, as it came from
// the PBX, is h's. A Token that is none is left out.
func (k *Key) AppendDownSeal(dst []byte, s *DownSeal, h *Hop) []byte {
	w := k.hopSealer(domainDownSeal, h)
	defer k.release(w)
	from := len(w.msg)
	w.msg = append(w.msg, s.Proto, 0)
	source := len(w.msg)
	w.msg, _ = s.Source.AppendBinary(w.msg) // there is no address that it cannot write
	w.msg[source-1] = byte(len(w.msg) - source)
	if s.Media != (Media{}) {
		w.msg[source-1] |= downMedia
	}
	if s.Routes != 0 {
		w.msg[source-1] |= downRoutes
	}
	w.msg = binary.BigEndian.AppendUint32(w.msg, s.Upstream)
	w.msg = s.Media.append(w.msg)
	if s.Routes != 0 {
		w.msg = appendOrigin(w.msg, Origin(s.Routes))
	}
	if msg, ok := appendFromBase32(w.msg, s.Token); ok {
		w.msg = msg
	}
	return w.seal(dst, from, sealTagSize)
}

// OpenDownSeal sets s to what a seal says; false, and s unchanged, if it is not
// ours for that next hop. The keys are tried in order. s.Token is written into
// buf, from its start, and lives as long; a buf of less than MaxToken bytes may
// have to be replaced by a new one.
func (r *Keyring) OpenDownSeal(s *DownSeal, buf, seal []byte, h *Hop) bool {
	for _, k := range r.keys {
		if k.openDownSeal(s, buf, seal, h) {
			return true
		}
	}
	return false
}

func (k *Key) openDownSeal(s *DownSeal, buf, seal []byte, h *Hop) bool {
	o := k.hopSealer(domainDownSeal, h)
	defer k.release(o)
	text, ok := o.open(seal, sealTagSize)
	if !ok {
		return false
	}
	f := fields{text: text}
	out := DownSeal{Key: k, Proto: f.uint8()}
	length := f.uint8()
	source := f.take(int(length &^ downFlags))
	out.Upstream = f.uint32()
	if length&downMedia != 0 {
		out.Media, ok = f.media()
	}
	if length&downRoutes != 0 {
		out.Routes = Routes(readOrigin(f.take(originSize)))
		ok = ok && out.Routes != 0
	}
	if !ok || f.short || out.Source.UnmarshalBinary(source) != nil {
		return false
	}
	out.Token = appendBase32(buf[:0], f.text)
	*s = out
	return true
}

// AppendBranch appends the branch, magic cookie included, of our Via on a
// request to a browser whose top Via is h's. RFC 3261 16.11: the branch is a
// "function of message parameters which are invariant on retransmission", and
// in a CANCEL and the ACK of a non-2xx too.
func (k *Key) AppendBranch(dst []byte, h *Hop) []byte {
	const size = 10 // bytes: 16 digits
	s := k.hopSealer(domainBranch, h)
	defer k.release(s)
	return appendBase32(append(dst, branchCookie...), s.hash()[:size])
}

// AppendTag appends the To tag of a response that the gateway makes itself to a
// request whose top Via is h's. RFC 3261 8.2.7: tags are made "in a manner that
// will generate the same tag for the same request consistently".
func (k *Key) AppendTag(dst []byte, h *Hop) []byte {
	const size = 6 // bytes: 10 digits; RFC 3261 19.3 asks for 32 bits of randomness
	s := k.hopSealer(domainTag, h)
	defer k.release(s)
	return appendBase32(dst, s.hash()[:size])
}
