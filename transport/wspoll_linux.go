//go:build linux && !goroutines

package transport

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// pollEvents is how many sockets a poller hears of at once.
const pollEvents = 128

// pollers wait for the sockets of all browsers, one for each processor.
type pollers struct{ all []*poller }

// poller waits for many sockets with one goroutine. It waits for its epoll
// instance, which can be polled itself, as for any socket: no thread of the
// runtime is blocked.
type poller struct {
	server    *WSServer
	epoll     *os.File
	fd        int // of epoll
	of        int // how many pollers there are
	maxUnsent int // bytes, of each wire
	loop      any // WSConfig.Loop's

	mu      sync.Mutex
	conns   []*WSConn // by descriptor, of which a poller has every of-th
	running bool
	open    int
	closing bool // it ends when open is zero
	ended   bool
}

// newPollers returns the pollers of a server's connections, that keep at most maxUnsent bytes
// each for peers who do not read. They run from their first connection on.
func newPollers(s *WSServer, maxUnsent int) (*pollers, error) {
	n := runtime.GOMAXPROCS(0)
	ps := &pollers{}
	for range n {
		p, err := newPoller()
		if err != nil {
			ps.close()
			return nil, err
		}
		p.server, p.of, p.maxUnsent = s, n, maxUnsent
		ps.all = append(ps.all, p)
	}
	return ps, nil
}

func newPoller() (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	// os.NewFile gives a descriptor to the runtime's own poller if it does not block.
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = syscall.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	return &poller{epoll: os.NewFile(uintptr(fd), "epoll"), fd: fd}, nil
}

// of returns the poller of a descriptor.
func (ps *pollers) of(fd int) *poller { return ps.all[fd%len(ps.all)] }

// close ends each poller when its last connection is closed.
func (ps *pollers) close() {
	for _, p := range ps.all {
		p.mu.Lock()
		p.closing = true
		p.endIfIdle()
		p.mu.Unlock()
	}
}

// run serves the connections until the epoll instance is closed.
func (p *poller) run() {
	raw, err := p.epoll.SyscallConn()
	if err != nil {
		panic(fmt.Sprintf("transport: %v", err)) // a file that is open has one
	}
	var (
		events [pollEvents]unix.EpollEvent
		conns  [pollEvents]*WSConn
		buf    = make([]byte, wsReadBuffer)
		n      int
	)
	// It is asked until it has nothing more: the runtime reports only what is new.
	wait := func(fd uintptr) bool {
		n, _ = unix.EpollWait(int(fd), events[:], 0) // EINTR is the only error of what is open
		return n > 0
	}
	for raw.Read(wait) == nil {
		p.find(conns[:n], events[:n])
		for i, c := range conns[:n] {
			c.ready(events[i].Events, buf)
		}
		clear(conns[:n])
		p.server.cfg.Rest(p.loop)
	}
}

// find looks up whose events these are. Nobody else closes their descriptors
// meanwhile.
func (p *poller) find(conns []*WSConn, events []unix.EpollEvent) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range conns {
		conns[i] = p.conns[int(events[i].Fd)/p.of]
	}
}

func (p *poller) add(fd int, events uint32, c *WSConn) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return os.ErrClosed // its number may be that of another file
	}
	place := fd / p.of
	if missing := place + 1 - len(p.conns); missing > 0 {
		p.conns = append(p.conns, make([]*WSConn, missing)...)
	}
	p.conns[place] = c
	event := unix.EpollEvent{Events: events, Fd: int32(fd)}
	if err := unix.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
		p.conns[place] = nil
		return os.NewSyscallError("epoll_ctl", err)
	}
	p.open++
	if !p.running {
		p.running, p.loop = true, p.server.cfg.Loop()
		go p.run()
	}
	return nil
}

func (p *poller) modify(fd int, events uint32) {
	event := unix.EpollEvent{Events: events, Fd: int32(fd)}
	_ = unix.EpollCtl(p.fd, unix.EPOLL_CTL_MOD, fd, &event) // takes no memory: cannot fail
}

func (p *poller) remove(fd int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_ = unix.EpollCtl(p.fd, unix.EPOLL_CTL_DEL, fd, nil)
	p.conns[fd/p.of] = nil
	p.open--
	p.endIfIdle()
}

func (p *poller) endIfIdle() {
	if p.closing && p.open == 0 {
		p.ended = true
		_ = p.epoll.Close()
	}
}
