package doctor

import (
	"bytes"
	"net"
	"net/netip"
	"strings"
	"sync"

	siplog "github.com/ghettovoice/gosip/log"
	"github.com/ghettovoice/gosip/sip"
	"github.com/ghettovoice/gosip/sip/parser"
	siptransport "github.com/ghettovoice/gosip/transport"

	"viaduct/transport"
)

// A layer puts gosip's transactions on the gateway's sockets. gosip's own
// transport would listen elsewhere, take large requests to TCP unasked, and write
// its own address into Vias. It also closes two of gosip's races.
type layer struct {
	place *place // set before the first message is sent or heard
	log   siplog.Logger

	messages chan sip.Message
	shut     chan struct{} // closed when no more messages may pass
	done     chan struct{}
	end      sync.Once

	// requesting is read-locked while a request is being sent: gosip sends it
	// before it knows the transaction, and a response that is faster is lost.
	requesting sync.RWMutex

	mu        sync.Mutex
	raw       map[sip.MessageID][]byte    // as each message came
	sources   map[string]transport.Source // of requests, by transport and address
	strangers []netip.AddrPort            // who was not let in
	waiting   *pending                    // the request whose failure matters
}

// A pending is a request on its way.
type pending struct {
	branch string
	failed chan error // gets the first failure
}

func newLayer(log siplog.Logger) *layer {
	return &layer{
		log:      log,
		messages: make(chan sip.Message), shut: make(chan struct{}), done: make(chan struct{}),
		raw: make(map[sip.MessageID][]byte), sources: make(map[string]transport.Source),
	}
}

// heard takes a message from the network.
func (l *layer) heard(from transport.Source, raw []byte) {
	raw = bytes.Clone(raw)
	msg, err := parser.ParseMessage(raw, l.log)
	if err != nil {
		return // what is no SIP answers nothing
	}
	msg.SetTransport(from.Proto.String())
	msg.SetSource(from.Addr.String())
	l.mu.Lock()
	l.raw[msg.MessageID()] = raw
	l.sources[from.Proto.String()+from.Addr.String()] = from
	l.mu.Unlock()

	l.requesting.Lock()
	defer l.requesting.Unlock()
	select {
	case <-l.shut:
	default:
		l.messages <- msg
	}
}

// maxStrangers bounds those that are remembered.
const maxStrangers = 16

func (l *layer) stranger(from transport.Source) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.strangers) < maxStrangers {
		l.strangers = append(l.strangers, from.Addr)
	}
}

// knocked returns who was not let in since it was called last.
func (l *layer) knocked() []netip.AddrPort {
	l.mu.Lock()
	defer l.mu.Unlock()
	strangers := l.strangers
	l.strangers = nil
	return strangers
}

// bytesOf returns a message as it came.
func (l *layer) bytesOf(msg sip.Message) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.raw[msg.MessageID()]
}

// expect makes e the request that failures are told.
func (l *layer) expect(e *pending) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting = e
}

// fail is called when a message could not be delivered. An ICMP error may bring
// back little of it; gosip still repeats requests that nobody waits for.
func (l *layer) fail(msg []byte, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.waiting == nil || !bytes.Contains(msg, []byte(l.waiting.branch)) {
		return
	}
	select {
	case l.waiting.failed <- err:
	default:
	}
}

// Send sends a request to the upstream by the transport that its Via names, and a
// response to where its request came from.
func (l *layer) Send(msg sip.Message) error {
	if res, ok := msg.(sip.Response); ok {
		l.mu.Lock()
		to := l.sources[res.Transport()+res.Destination()]
		l.mu.Unlock()
		return l.place.sip.Reply(to, []byte(msg.String()))
	}
	hop, ok := msg.ViaHop()
	if !ok {
		return net.ErrClosed
	}
	for proto, w := range l.place.ways {
		if strings.EqualFold(proto.String(), hop.Transport) {
			return l.place.sip.Send(w.target, []byte(msg.String()))
		}
	}
	return net.ErrClosed
}

// close lets no further message pass and waits until those that have are handled:
// gosip ends its transactions by closing channels that a message may just be
// written to. It is called once, before gosip's server is shut down.
func (l *layer) close() {
	close(l.shut)
	l.requesting.Lock()
	defer l.requesting.Unlock()
	// One goroutine handles all messages: once it takes this one, which belongs to
	// no transaction, it is done with those before.
	l.messages <- sip.NewResponse("", "SIP/2.0", 200, "OK", nil, "", nil)
}

// Messages returns what came from the network.
func (l *layer) Messages() <-chan sip.Message { return l.messages }

// Errors returns nothing: failures go to who waits for the answer.
func (l *layer) Errors() <-chan error { return nil }

// Listen does nothing: the gateway's sockets are open already.
func (l *layer) Listen(string, string, ...siptransport.ListenOption) error { return nil }

// Cancel ends the layer.
func (l *layer) Cancel() { l.end.Do(func() { close(l.done) }) }

// Done is closed after Cancel.
func (l *layer) Done() <-chan struct{} { return l.done }

// String names the layer in gosip's log.
func (l *layer) String() string { return "doctor" }

// IsReliable reports whether gosip need not repeat what it sends.
func (l *layer) IsReliable(network string) bool { return !strings.EqualFold(network, "UDP") }

// IsStreamed reports the same.
func (l *layer) IsStreamed(network string) bool { return l.IsReliable(network) }
