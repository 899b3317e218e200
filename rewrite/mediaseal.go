package rewrite

import "encoding/binary"

// Media is what a seal says of the media of an INVITE or UPDATE. Its zero value
// is what most are, an INVITE outside a dialog with an offer that the first
// choice of an engine got, and takes no byte: the CANCEL, which has no offer,
// then has the branch of its INVITE even where that has been forgotten.
type Media struct {
	Late      bool   // it has no offer: that is in the response
	InDialog  bool   // it has a To tag
	Untouched bool   // its offer was relayed as it came, and so is the answer
	Engine    uint16 // which engine got the offer; 0: the first choice
}

// The flags byte of what a seal says of the media.
const (
	mediaLate      = 1 << 0
	mediaInDialog  = 1 << 1
	mediaUntouched = 1 << 2
	mediaEngine    = 1 << 3
	mediaFlags     = mediaLate | mediaInDialog | mediaUntouched | mediaEngine
)

// append appends the flags, and the engine if it is named; nothing of the zero value.
func (s Media) append(dst []byte) []byte {
	if s == (Media{}) {
		return dst
	}
	var flags byte
	if s.Late {
		flags |= mediaLate
	}
	if s.InDialog {
		flags |= mediaInDialog
	}
	if s.Untouched {
		flags |= mediaUntouched
	}
	if s.Engine == 0 {
		return append(dst, flags)
	}
	return binary.BigEndian.AppendUint16(append(dst, flags|mediaEngine), s.Engine)
}

// media reads what append has written.
func (f *fields) media() (s Media, ok bool) {
	flags := f.uint8()
	s = Media{
		Late: flags&mediaLate != 0, InDialog: flags&mediaInDialog != 0, Untouched: flags&mediaUntouched != 0,
	}
	if flags&mediaEngine != 0 {
		s.Engine = f.uint16()
	}
	return s, flags != 0 && flags&^mediaFlags == 0 && (s.Engine != 0) == (flags&mediaEngine != 0)
}
