package transaction

// kind says of what a record is.
type kind uint8

const (
	clientRequest kind = iota + 1 // a request to the SIP server that is no INVITE
	clientInvite
	acceptance    // a 2xx to such an INVITE, with one To tag, and its ACK
	serverRequest // a request from the SIP server that is no INVITE
	serverInvite
	delivery // the ACK of a 2xx to such an INVITE
)

// state says how far it is.
type state uint8

const (
	trying     state = iota // nothing was heard
	proceeding              // a provisional response was
	accepted                // a 2xx was
	completed               // another final response was
	confirmed               // its ACK was
)

// record is one transaction, or what is left of it. It holds no pointer, so
// that a million of them cost the garbage collector nothing.
type record struct {
	id         uint64
	flow       uint64 // the connection that what was relayed last was written to
	chain      uint32 // the next one in the index
	next, prev uint32 // in the wheel's slot
	due, ends  uint32 // ticks: to be looked at, to be forgotten
	held       uint32 // the message to send again; 0: none
	wait       uint16 // ticks until it is sent the next time but one
	kind       kind
	state      state
	seen       [3]uint32 // the provisional responses that passed last, by hash
}

// passes notes a provisional response, and reports whether it is a new one.
func (r *record) passes(hash uint32) bool {
	for _, s := range r.seen {
		if s == hash {
			return false
		}
	}
	copy(r.seen[1:], r.seen[:])
	r.seen[0] = hash
	return true
}

// within returns a tick, or that in which the record ends if it is before.
func (r *record) within(at uint32) uint32 {
	if int32(at-r.ends) > 0 {
		return r.ends
	}
	return at
}

// slab is the memory of all records. Index 0 is none.
type slab struct {
	chunks [][]record
	free   uint32 // the first of a list of unused ones, by next
	used   uint32 // those ever taken
	count  int
}

const chunk = 1024

func (s *slab) at(i uint32) *record { return &s.chunks[i/chunk][i%chunk] }

func (s *slab) take() uint32 {
	s.count++
	if i := s.free; i != 0 {
		s.free = s.at(i).next
		return i
	}
	s.used++
	if int(s.used/chunk) == len(s.chunks) {
		s.chunks = append(s.chunks, make([]record, chunk))
	}
	return s.used
}

func (s *slab) give(i uint32) {
	s.count--
	*s.at(i) = record{next: s.free}
	s.free = i
}
