package transaction

// minHeads is how many chains an index begins with.
const minHeads = 1024

// index finds records by their ids, which are hashes already. It is chains
// through the records, as many as there are records or up to twice that: a map
// would need as much memory for each as half a record.
type index struct {
	heads []uint32 // a power of two of them
}

func (x *index) head(id uint64) *uint32 { return &x.heads[id&uint64(len(x.heads)-1)] }

// find returns the index of the record with an id, 0 if there is none.
func (x *index) find(s *slab, id uint64) uint32 {
	if len(x.heads) == 0 {
		return 0
	}
	i := *x.head(id)
	for i != 0 && s.at(i).id != id {
		i = s.at(i).chain
	}
	return i
}

func (x *index) insert(s *slab, i uint32, r *record) {
	if s.count > len(x.heads) {
		x.grow(s)
		return
	}
	head := x.head(r.id)
	r.chain, *head = *head, i
}

func (x *index) remove(s *slab, i uint32, r *record) {
	link := x.head(r.id)
	for *link != i {
		link = &s.at(*link).chain
	}
	*link = r.chain
}

// grow chains all records anew, in twice as many chains as before. None is unused:
// there have never been as many.
func (x *index) grow(s *slab) {
	x.heads = make([]uint32, max(minHeads, 2*len(x.heads)))
	for i := uint32(1); i <= s.used; i++ {
		r := s.at(i)
		head := x.head(r.id)
		r.chain, *head = *head, i
	}
}
