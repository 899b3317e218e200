package pbx

import (
	"net"
	"strings"
	"sync"

	siplog "github.com/ghettovoice/gosip/log"
	"github.com/ghettovoice/gosip/sip"
	"github.com/ghettovoice/gosip/transport"
)

// A gate stands between gosip's transport and transaction layers and closes
// three of their races.
type gate struct {
	transport.Layer
	messages chan sip.Message
	shut     chan struct{}
	shutOnce sync.Once

	// requesting is read-locked while a request is being sent: gosip sends it
	// before it knows the transaction, and a response that is faster is lost.
	requesting sync.RWMutex

	// stream serialises requests by TCP: two that both find no connection to
	// their peer both connect, and the second fails.
	stream sync.Mutex
}

func newGate(ip net.IP, resolver *net.Resolver, mapper sip.MessageMapper, log siplog.Logger) *gate {
	g := &gate{
		Layer:    transport.NewLayer(ip, resolver, mapper, log),
		messages: make(chan sip.Message),
		shut:     make(chan struct{}),
	}
	go g.pass()
	return g
}

// pass ends when the transport layer has ended.
func (g *gate) pass() {
	for msg := range g.Layer.Messages() {
		g.requesting.Lock()
		select {
		case g.messages <- msg:
		case <-g.shut:
		}
		g.requesting.Unlock()
	}
}

// close lets no further message pass. A message that arrives while gosip ends
// its transactions can be written to a channel closed just before.
func (g *gate) close() { g.shutOnce.Do(func() { close(g.shut) }) }

// Messages returns what came from the network.
func (g *gate) Messages() <-chan sip.Message { return g.messages }

// Send writes msg to the network.
func (g *gate) Send(msg sip.Message) error {
	if _, request := msg.(sip.Request); request && strings.EqualFold(msg.Transport(), "TCP") {
		g.stream.Lock()
		defer g.stream.Unlock()
	}
	return g.Layer.Send(msg)
}
