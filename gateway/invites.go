package gateway

import (
	"encoding/binary"
	"hash/maphash"
	"sync"
	"time"

	"viaduct/rewrite"
	"viaduct/transport"
)

// invites remembers, for a while, how each INVITE of a browser was relayed, so
// that its CANCEL and the ACK of its failure get the same branch and go the
// same way even when the browser sends them on a new connection, before it has
// registered again. What is not remembered is computed anew, which gives the
// same for a client on a connection of its own.
//
// It holds two generations of fixed size that take turns, so that nothing is
// allocated and nothing timed for an INVITE. It is safe for concurrent use.
type invites struct {
	seed maphash.Seed
	max  int

	mu         sync.Mutex
	young, old map[uint64]invite
}

// invite is how one was relayed.
type invite struct {
	seal     rewrite.UpSeal // without the Via
	upstream *upstream
	proto    transport.Proto
}

// inviteGeneration is how long an INVITE is remembered at least. RFC 3261
// 16.6 step 11 lets one be pending for more than three minutes.
const inviteGeneration = 4 * time.Minute

func newInvites(max int) *invites {
	return &invites{
		seed: maphash.MakeSeed(), max: max,
		young: make(map[uint64]invite), old: make(map[uint64]invite),
	}
}

// hash names an INVITE, its CANCEL and its ACK: RFC 3261 9.1 and 17.1.1.3 give
// all three the same top Via, Call-ID and CSeq number.
func (v *invites) hash(via, callID []byte, cseq uint32) uint64 {
	var h maphash.Hash
	h.SetSeed(v.seed)
	var n [4]byte
	binary.BigEndian.PutUint32(n[:], cseq)
	_, _ = h.Write(n[:])
	_, _ = h.Write(callID)
	_ = h.WriteByte(0)
	_, _ = h.Write(via)
	return h.Sum64()
}

// add remembers an INVITE; past the bound it does not.
func (v *invites) add(hash uint64, i invite) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.young) < v.max {
		v.young[hash] = i
	}
}

// find returns how an INVITE was relayed.
func (v *invites) find(hash uint64) (invite, bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	i, ok := v.young[hash]
	if !ok {
		i, ok = v.old[hash]
	}
	return i, ok
}

// turn begins a new generation and forgets the one before the last.
func (v *invites) turn() {
	v.mu.Lock()
	defer v.mu.Unlock()
	clear(v.old)
	v.young, v.old = v.old, v.young
}
