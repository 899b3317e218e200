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
	empty    chan struct{} // closed when the last message has been handled

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
		empty:    make(chan struct{}),
	}
	go g.pass()
	return g
}

// pass ends when the transport layer has ended.
func (g *gate) pass() {
	for open := true; open; {
		select {
		case msg := <-g.Layer.Messages():
			g.requesting.Lock()
			g.messages <- msg
			g.requesting.Unlock()
		case <-g.shut:
			open = false
		}
	}
	// One goroutine handles all messages: once it takes this one, which belongs
	// to no transaction, it is done with those before.
	g.messages <- sip.NewResponse("", "SIP/2.0", 200, "OK", nil, "", nil)
	close(g.empty)
	for range g.Layer.Messages() {
		// no one takes it any more
	}
}

// close lets no further message pass and waits until those that have are
// handled: gosip ends its transactions by closing channels that a message may
// just be written to. It is called once.
func (g *gate) close() {
	close(g.shut)
	<-g.empty
}

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
