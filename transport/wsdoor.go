package transport

import (
	"container/list"
	"net/netip"
	"sync"
	"time"
)

const (
	// spareSockets is how many sockets there may be beyond MaxConnections, for
	// those that are told 503 and for other paths: each costs a descriptor, and
	// the SIP side needs some too.
	spareSockets = 64
	// maxHandshakes is how many sockets may be no WebSocket yet. An honest one is
	// that for some round trips, so many are enough for thousands a second.
	maxHandshakes = 2048
	// minHandshakes is what any one address may have of them, if it may not have
	// more connections.
	minHandshakes = 64
	// handshakeGrace is how long a socket that has not become a WebSocket keeps its
	// place when others wait for one.
	handshakeGrace = time.Second
)

// wsDoor bounds the sockets of all listeners together, and among them those that
// are no WebSocket yet. Whoever opens sockets and leaves them half-open keeps
// nobody else out: past its share an address gets no more, and past the bound of
// all the one that has dawdled longest is closed for the next. It is safe for
// concurrent use.
type wsDoor struct {
	max     int // sockets
	waiting int // of them no WebSocket yet
	share   int // of those from one address
	closed  <-chan struct{}
	left    chan struct{} // holds a token after a socket has left

	mu     sync.Mutex
	open   int
	queue  list.List // of *wsGuest, the oldest first
	byAddr map[netip.Addr]int
}

// wsGuest is a socket that is no WebSocket yet.
type wsGuest struct {
	sock  *wsSocket
	addr  netip.Addr // what it is counted as, not valid for a proxy's
	since time.Time
	told  bool // it has asked for something, or was refused before
}

func newWSDoor(connections, perAddress int, closed <-chan struct{}) *wsDoor {
	return &wsDoor{
		max:     connections + spareSockets,
		waiting: maxHandshakes,
		share:   max(minHandshakes, perAddress),
		closed:  closed,
		left:    make(chan struct{}, 1),
		byAddr:  make(map[netip.Addr]int),
	}
}

// enter lets a socket of that address in, which is not valid for a proxy's. While
// there is no room it waits for some, at most until the oldest guest has had its
// grace: that one has lost its place, and is returned for the caller to close.
func (d *wsDoor) enter(sock *wsSocket, addr netip.Addr) (out *wsSocket, why Refusal) {
	d.mu.Lock()
	defer d.mu.Unlock()
	addr = countedAs(addr)
	if addr.IsValid() && d.byAddr[addr] >= d.share {
		return nil, RefusedHandshakes
	}
	for out == nil && (d.open >= d.max || d.queue.Len() >= d.waiting) {
		oldest := d.queue.Front()
		if oldest == nil {
			return nil, RefusedHandshakes
		}
		guest := oldest.Value.(*wsGuest)
		if grace := handshakeGrace - time.Since(guest.since); grace > 0 {
			if !d.wait(grace) {
				return nil, RefusedClosing
			}
			continue
		}
		out = guest.sock
		d.drop(out)
	}
	d.open++
	sock.guest = d.queue.PushBack(&wsGuest{sock: sock, addr: addr, since: time.Now()})
	if addr.IsValid() {
		d.byAddr[addr]++
	}
	return out, accepted
}

// wait waits for a socket to leave, without the lock, and reports whether to go on.
func (d *wsDoor) wait(most time.Duration) bool {
	d.mu.Unlock()
	defer d.mu.Lock()
	timer := time.NewTimer(most)
	defer timer.Stop()
	select {
	case <-d.left:
	case <-timer.C:
	case <-d.closed:
		return false
	}
	return true
}

// name says on behalf of which address a proxy's socket came: it counts as one
// of that from now on.
func (d *wsDoor) name(sock *wsSocket, addr netip.Addr) Refusal {
	d.mu.Lock()
	defer d.mu.Unlock()
	addr = countedAs(addr)
	switch {
	case sock.guest == nil:
		return RefusedSlow
	case d.byAddr[addr] >= d.share:
		return RefusedHandshakes
	}
	d.byAddr[addr]++
	sock.guest.Value.(*wsGuest).addr = addr
	return accepted
}

// tell notes that what becomes of a guest will be counted by who calls it.
func (d *wsDoor) tell(sock *wsSocket) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if sock.guest != nil {
		sock.guest.Value.(*wsGuest).told = true
	}
}

// seat makes a guest a WebSocket. It is false if the socket has lost its place.
func (d *wsDoor) seat(sock *wsSocket) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if sock.guest == nil {
		return false
	}
	d.unqueue(sock)
	return true
}

// leave is called when a socket that entered closes, once or more. It reports
// whether it was a guest who has asked for nothing.
func (d *wsDoor) leave(sock *wsSocket) (silent bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	silent = sock.guest != nil && !sock.guest.Value.(*wsGuest).told
	d.drop(sock)
	return silent
}

func (d *wsDoor) drop(sock *wsSocket) {
	if sock.gone {
		return
	}
	sock.gone = true
	d.open--
	if sock.guest != nil {
		d.unqueue(sock)
	}
	d.signal()
}

func (d *wsDoor) unqueue(sock *wsSocket) {
	guest := d.queue.Remove(sock.guest).(*wsGuest)
	sock.guest = nil
	if guest.addr.IsValid() {
		if d.byAddr[guest.addr]--; d.byAddr[guest.addr] == 0 {
			delete(d.byAddr, guest.addr)
		}
	}
	d.signal()
}

func (d *wsDoor) signal() {
	select {
	case d.left <- struct{}{}:
	default:
	}
}
