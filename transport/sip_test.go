package transport

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// received is one call of SIPConfig.Message.
type received struct {
	from Source
	msg  string
}

// garbled is one call of SIPConfig.Garbled, undelivered one of Undeliverable,
// unreached one of Unreachable.
type (
	garbled struct {
		from Source
		err  error
	}
	undelivered struct {
		to  Target
		msg string
		err error
	}
	unreached struct {
		to       netip.AddrPort
		datagram string
		err      error
	}
)

// sipSide is an endpoint under test and what it reported.
type sipSide struct {
	*SIP
	messages    chan received
	strangers   chan Source
	garbled     chan garbled
	undelivered chan undelivered
	unreached   chan unreached
	stop        func() // closes it and waits for Serve
}

// startSIP serves cfg until the test ends, on a loopback port and for everybody
// where it does not say otherwise.
func startSIP(t testing.TB, cfg SIPConfig) *sipSide {
	t.Helper()
	s := &sipSide{
		messages:    make(chan received, 10_000),
		strangers:   make(chan Source, 100),
		garbled:     make(chan garbled, 100),
		undelivered: make(chan undelivered, 1000),
		unreached:   make(chan unreached, 1000),
	}
	if cfg.Listen == "" {
		cfg.Listen = "127.0.0.1:0"
	}
	if cfg.Admit == nil {
		cfg.Admit = func(netip.Addr) bool { return true }
	}
	if cfg.Message == nil {
		cfg.Message = func(from Source, msg []byte) { s.messages <- received{from, string(msg)} }
	}
	cfg.Stranger = func(from Source) { s.strangers <- from }
	cfg.Garbled = func(from Source, err error) { s.garbled <- garbled{from, err} }
	cfg.Undeliverable = func(to Target, msg []byte, err error) { s.undelivered <- undelivered{to, string(msg), err} }
	if cfg.Unreachable == nil {
		cfg.Unreachable = func(to netip.AddrPort, datagram []byte, err error) {
			s.unreached <- unreached{to, string(datagram), err}
		}
	}
	var err error
	if s.SIP, err = ListenSIP(cfg); err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(context.Background()) }()
	s.stop = sync.OnceFunc(func() {
		if err := s.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
		if err := next(t, served); err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	t.Cleanup(s.stop)
	return s
}

// receives waits for a message and checks it.
func (s *sipSide) receives(t testing.TB, want string) Source {
	t.Helper()
	got := next(t, s.messages)
	if got.msg != want {
		t.Fatalf("received %q, want %q", got.msg, want)
	}
	return got.from
}

// send fails the test if the message is not taken.
func (s *sipSide) send(t testing.TB, to Target, msg string) {
	t.Helper()
	if err := s.Send(to, []byte(msg)); err != nil {
		t.Fatal(err)
	}
}

func loopback(port uint16) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port)
}

// running returns the stacks of goroutines that run code of the SIP side.
func running() []string {
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	var found []string
	for stack := range strings.SplitSeq(string(buf), "\n\n") {
		frames, _, _ := strings.Cut(stack, "created by")
		if strings.Contains(frames, "transport.(*SIP)") || strings.Contains(frames, "transport.(*Stream)") {
			found = append(found, stack)
		}
	}
	return found
}

func TestCloseLeavesNoGoroutine(t *testing.T) {
	// A server that never answers a TLS handshake keeps a dial under way.
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	far := startSIP(t, SIPConfig{})
	near := startSIP(t, SIPConfig{Listen: ":0"})
	near.send(t, Target{Proto: ProtoTCP, Addr: far.Addr()}, sipMessage("open"))
	far.receives(t, sipMessage("open"))
	hanging := Target{Proto: ProtoTLS, Addr: silent.Addr().(*net.TCPAddr).AddrPort(), ServerName: "a"}
	near.send(t, hanging, sipMessage("waits"))

	near.stop()
	far.stop()
	if left := running(); len(left) > 0 {
		t.Errorf("after Close:\n%s", strings.Join(left, "\n\n"))
	}
	if u := next(t, near.undelivered); u.msg != sipMessage("waits") || u.to != hanging || !errors.Is(u.err, context.Canceled) {
		t.Errorf("undelivered: %+v", u)
	}
	for _, proto := range []Proto{ProtoUDP, ProtoTCP} {
		if err := near.Send(Target{Proto: proto, Addr: far.Addr()}, []byte("late")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Send by %v after Close: %v", proto, err)
		}
	}
}

func TestServeEndsWithContext(t *testing.T) {
	s, err := ListenSIP(SIPConfig{Listen: "127.0.0.1:0", Admit: func(netip.Addr) bool { return true }, Message: func(Source, []byte) {}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx) }()
	cancel()
	if err := next(t, served); err != nil {
		t.Error(err)
	}
	if left := running(); len(left) > 0 {
		t.Errorf("after Serve:\n%s", strings.Join(left, "\n\n"))
	}
}

func TestServeTellsThatAListenerFailed(t *testing.T) {
	s, err := ListenSIP(SIPConfig{Listen: "127.0.0.1:0", Admit: func(netip.Addr) bool { return true }, Message: func(Source, []byte) {}})
	if err != nil {
		t.Fatal(err)
	}
	s.plain.tcp[0].Close()
	if err := s.Serve(context.Background()); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve: %v", err)
	}
}

func TestListenSIPRefuses(t *testing.T) {
	admit, message := func(netip.Addr) bool { return true }, func(Source, []byte) {}
	for name, cfg := range map[string]SIPConfig{
		"no Admit":     {Listen: "127.0.0.1:0", Message: message},
		"no Message":   {Listen: "127.0.0.1:0", Admit: admit},
		"no port":      {Listen: "127.0.0.1", Admit: admit, Message: message},
		"not local":    {Listen: "192.0.2.1:0", Admit: admit, Message: message},
		"TLS without":  {Listen: "127.0.0.1:0", TLSListen: "127.0.0.1:0", Admit: admit, Message: message},
		"TLS not free": {Listen: "127.0.0.1:0", TLSListen: "192.0.2.1:0", TLS: serverTLS(newAuthority(t).issue(t, "a")), Admit: admit, Message: message},
	} {
		if s, err := ListenSIP(cfg); err == nil {
			s.Close()
			t.Errorf("%s: no error", name)
		}
	}
}

// Two processes on one port would each get half of what the PBX sends.
func TestPortIsNotShared(t *testing.T) {
	cert := serverTLS(newAuthority(t).issue(t, "a"))
	first := startSIP(t, SIPConfig{TLSListen: "127.0.0.1:0", TLS: cert})
	for name, cfg := range map[string]SIPConfig{
		"UDP and TCP": {Listen: first.Addr().String()},
		"TLS":         {Listen: "127.0.0.1:0", TLSListen: first.TLSAddr().String(), TLS: cert},
	} {
		cfg.Admit, cfg.Message = func(netip.Addr) bool { return true }, func(Source, []byte) {}
		s, err := ListenSIP(cfg)
		if !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("%s: error %v", name, err)
		}
		if err == nil {
			s.Close()
		}
	}
}

func TestProtoString(t *testing.T) {
	for p, want := range map[Proto]string{ProtoUDP: "UDP", ProtoTCP: "TCP", ProtoTLS: "TLS", 9: "Proto(9)"} {
		if got := p.String(); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}
