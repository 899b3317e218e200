package rewrite

import "encoding/binary"

// MaxVia is the length of the longest Via value of a browser, in bytes, that
// should go into an up seal: chan_sip reads 511 bytes of the Via it ends up in.
const MaxVia = 300

// sealTagSize is the length of both seals' tags, in bytes.
const sealTagSize = 8

// Register says what a request does to the registration of its client.
type Register uint8

// The kinds of REGISTER.
const (
	RegisterNone     Register = iota // some other method
	RegisterBind                     // binds the client's Contact
	RegisterUnbind                   // removes it: expires=0
	RegisterWildcard                 // removes all: Contact: *
	RegisterFetch                    // asks only: no Contact
	numRegisters
)

// UpSeal is what the branch of our Via says on a request to the PBX, and on the
// response to it.
type UpSeal struct {
	Key       *Key // set by OpenUpSeal: the key that it verified with
	HasClient bool
	Client    ClientID // if HasClient
	HasFlow   bool
	Flow      uint64 // if HasFlow: the connection of one without a client
	Register  Register
	Origin    Origin // the client's, carried only if Register is not RegisterNone
	Own       bool   // the gateway itself sent the request: there is no Via
	Media     Media
	Via       []byte // the browser's Via value, byte for byte; MaxVia at most, for the caller to check
}

// The flags byte of an up seal.
const (
	upClient        = 1 << 0
	upFlow          = 1 << 1
	upRegister      = 7 << upRegisterShift
	upRegisterShift = 2
	upOwn           = 1 << 5
	upMedia         = 1 << 6
	upFlags         = upClient | upFlow | upRegister | upOwn | upMedia
)

// AppendUpSeal appends the seal for a request with that Call-ID and CSeq
// number. It goes into the branch, after the magic cookie.
func (k *Key) AppendUpSeal(dst []byte, s *UpSeal, callID []byte, cseq uint32) []byte {
	w := k.upSealer(callID, cseq)
	defer k.release(w)
	from := len(w.msg)
	w.msg = append(w.msg, s.flags())
	if s.HasClient {
		w.msg = binary.BigEndian.AppendUint64(w.msg, uint64(s.Client))
	}
	if s.HasFlow {
		w.msg = binary.BigEndian.AppendUint64(w.msg, s.Flow)
	}
	if s.Register != RegisterNone {
		w.msg = appendOrigin(w.msg, s.Origin)
	}
	w.msg = s.Media.append(w.msg)
	if !s.Own {
		w.msg = code(bitWriter{out: w.msg}, s.Via)
	}
	return w.seal(dst, from, sealTagSize)
}

func (s *UpSeal) flags() byte {
	flags := byte(s.Register) << upRegisterShift
	if s.HasClient {
		flags |= upClient
	}
	if s.HasFlow {
		flags |= upFlow
	}
	if s.Own {
		flags |= upOwn
	}
	if s.Media != (Media{}) {
		flags |= upMedia
	}
	return flags
}

func (k *Key) upSealer(callID []byte, cseq uint32) *sealer {
	s := k.sealer(domainUpSeal)
	s.field(callID)
	s.msg = binary.BigEndian.AppendUint32(s.msg, cseq)
	return s
}

// OpenUpSeal sets s to what a seal says; false, and s unchanged, if it is not
// ours for that Call-ID and CSeq number. The keys are tried in order. s.Via is
// written into buf, from its start, and lives as long; a buf of less than
// MaxVia bytes may have to be replaced by a new one.
func (r *Keyring) OpenUpSeal(s *UpSeal, buf, seal, callID []byte, cseq uint32) bool {
	for _, k := range r.keys {
		if k.openUpSeal(s, buf, seal, callID, cseq) {
			return true
		}
	}
	return false
}

func (k *Key) openUpSeal(s *UpSeal, buf, seal, callID []byte, cseq uint32) bool {
	o := k.upSealer(callID, cseq)
	defer k.release(o)
	text, ok := o.open(seal, sealTagSize)
	if !ok {
		return false
	}
	f := fields{text: text}
	flags := f.uint8()
	out := UpSeal{
		Key:       k,
		HasClient: flags&upClient != 0,
		HasFlow:   flags&upFlow != 0,
		Register:  Register(flags & upRegister >> upRegisterShift),
		Own:       flags&upOwn != 0,
	}
	if out.HasClient {
		out.Client = ClientID(f.uint64())
	}
	if out.HasFlow {
		out.Flow = f.uint64()
	}
	if out.Register != RegisterNone {
		out.Origin = readOrigin(f.take(originSize))
	}
	known := true
	if flags&upMedia != 0 {
		out.Media, known = f.media()
	}
	if !out.Own {
		out.Via, ok = appendDecoded(buf[:0], bitReader{in: f.text})
		f.text = nil
	}
	if !ok || !known || f.short || len(f.text) > 0 || flags&^upFlags != 0 || out.Register >= numRegisters {
		return false
	}
	*s = out
	return true
}

// fields reads what a seal carries, one field after the other.
type fields struct {
	text  []byte
	short bool // a field was not all there, and zeros were read instead
}

// zeros is what fields reads where there is nothing.
var zeros [256]byte

// take returns the next n bytes, 255 at most.
func (f *fields) take(n int) []byte {
	if len(f.text) < n {
		f.short = true
		return zeros[:n]
	}
	b := f.text[:n]
	f.text = f.text[n:]
	return b
}

func (f *fields) uint8() uint8   { return f.take(1)[0] }
func (f *fields) uint16() uint16 { return binary.BigEndian.Uint16(f.take(2)) }
func (f *fields) uint32() uint32 { return binary.BigEndian.Uint32(f.take(4)) }
func (f *fields) uint64() uint64 { return binary.BigEndian.Uint64(f.take(8)) }
