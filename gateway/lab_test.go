package gateway

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// patience is how long a test waits for what must come.
const patience = 5 * time.Second

// lab is a gateway between browsers and a PBX of the test's own, all on real
// loopback sockets.
type lab struct {
	t     *scope
	gw    *Gateway
	cfg   Config
	bound Bound
	pbx   *pbx
	log   *journal
	tls   *tls.Config    // of browsers, if they come by wss
	stop  func()         // the gateway, once
	tune  func(*Gateway) // before it serves
}

// scope is the test that a lab and all in it belong to: the subtest while one runs.
type scope struct{ testing.TB }

// run runs a subtest in the lab.
func (l *lab) run(name string, f func()) {
	outer := l.t.TB
	outer.(*testing.T).Run(name, func(t *testing.T) {
		l.t.TB = t
		defer func() { l.t.TB = outer }()
		f()
	})
}

// newLab starts a gateway whose upstream is a UDP socket that the test reads
// and writes. The options change the Config before it starts.
func newLab(t testing.TB, options ...func(*Config)) *lab {
	t.Helper()
	l := preparedLab(t)
	for _, option := range options {
		option(&l.cfg)
	}
	l.start()
	return l
}

// preparedLab has a PBX and a Config for the gateway, which the test starts.
func preparedLab(t testing.TB) *lab {
	t.Helper()
	l := &lab{t: &scope{t}}
	l.pbx = l.newPBX()
	l.cfg = Config{Listen: []string{"127.0.0.1:0"}, SIPListen: "127.0.0.1:0", DrainTimeout: time.Millisecond, Rate: maxRate, Burst: maxRate}
	l.cfg.Upstreams = upstreams(t, "sip:"+l.pbx.addr())
	l.cfg.Log, l.log = newJournal(l.t, zap.InfoLevel)
	return l
}

// start runs a gateway until the test ends, or stop is called.
func (l *lab) start() {
	l.t.Helper()
	ready := make(chan Bound, 1)
	l.cfg.Ready = func(b Bound) { ready <- b }
	gw, err := New(l.cfg)
	if err != nil {
		l.t.Fatal(err)
	}
	l.gw = gw
	if l.tune != nil {
		l.tune(gw)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- gw.Serve(ctx) }()
	l.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-served; err != nil {
			l.t.Errorf("Serve: %v", err)
		}
	})
	l.t.Cleanup(l.stop)
	select {
	case l.bound = <-ready:
	case err := <-served:
		l.t.Fatalf("Serve: %v", err)
	}
}

// restart stops the gateway and starts another at the same SIP address.
func (l *lab) restart() {
	l.t.Helper()
	l.stop()
	l.cfg.SIPListen = l.bound.SIP.String()
	l.start()
}

// withKeyFile gives the gateway a key file that it has to make.
func withKeyFile(t testing.TB) func(*Config) {
	return func(c *Config) { c.TokenKeyFile = filepath.Join(t.TempDir(), "token.key") }
}

func upstreams(t testing.TB, texts ...string) (all []Upstream) {
	t.Helper()
	for _, text := range texts {
		u, err := ParseUpstream(text)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, u)
	}
	return all
}

// browser connects a new browser.
func (l *lab) browser() *browser { l.t.Helper(); return l.browserWith(nil) }

// browserWith does so with further header fields in its handshake.
func (l *lab) browserWith(header http.Header) *browser {
	l.t.Helper()
	dialer := ws.Dialer{Protocols: []string{"sip"}, Timeout: patience, Header: ws.HandshakeHeaderHTTP(header), TLSConfig: l.tls}
	conn, early, _, err := dialer.Dial(context.Background(), l.bound.WebSocket[0])
	if err != nil {
		l.t.Fatal(err)
	}
	if early != nil {
		l.t.Fatal("the gateway speaks first")
	}
	l.t.Cleanup(func() { _ = conn.Close() })
	return &browser{t: l.t, conn: conn}
}

// hangUp closes a browser's connection and waits until the gateway knows.
func (l *lab) hangUp(b *browser) {
	l.t.Helper()
	gone := l.log.count("browser gone")
	_ = b.conn.Close()
	l.log.await("browser gone", gone+1)
}

// handshake makes a WebSocket handshake with its header fields changed, and
// returns the answer.
func (l *lab) handshake(header http.Header) *http.Response {
	l.t.Helper()
	conn, err := net.Dial("tcp", l.webAddr())
	if err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = conn.Close() })
	req, err := http.NewRequest(http.MethodGet, "http://"+l.webAddr()+"/ws", http.NoBody)
	if err != nil {
		l.t.Fatal(err)
	}
	req.Header = http.Header{
		"Connection": {"Upgrade"}, "Upgrade": {"websocket"}, "Sec-Websocket-Version": {"13"},
		"Sec-Websocket-Key": {"dGhlIHNhbXBsZSBub25jZQ=="}, "Sec-Websocket-Protocol": {"sip"},
	}
	for name, values := range header {
		req.Header[name] = values
	}
	client := http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return conn, nil }}
	res, err := client.RoundTrip(req)
	if err != nil {
		l.t.Fatal(err)
	}
	_ = res.Body.Close()
	return res
}

func (l *lab) webAddr() string { return between(l.bound.WebSocket[0], "://", "/") }

// dropped is what every counter of drops says.
func (l *lab) dropped() (counts [numReasons]uint64) {
	for r := range counts {
		counts[r] = l.gw.Dropped(Reason(r))
	}
	return counts
}

// expectDropped checks that since before just one message more was dropped, and
// for that reason; none for reason 0.
func (l *lab) expectDropped(before [numReasons]uint64, want Reason) {
	l.t.Helper()
	if want != 0 {
		before[want]++
	}
	for r, n := range l.dropped() {
		if n != before[r] {
			l.t.Errorf("%s counts %d, want %d", Reason(r), n, before[r])
		}
	}
}

// journal is a log that a test can wait on.
type journal struct {
	*observer.ObservedLogs
	t       *scope
	written chan struct{}
}

func newJournal(t *scope, level zapcore.Level) (*zap.Logger, *journal) {
	core, logs := observer.New(level)
	j := &journal{logs, t, make(chan struct{}, 1)}
	return zap.New(core, zap.Hooks(func(zapcore.Entry) error {
		select {
		case j.written <- struct{}{}:
		default:
		}
		return nil
	})), j
}

func (j *journal) count(message string) int { return j.FilterMessage(message).Len() }

// await waits until a message stands in the log that many times.
func (j *journal) await(message string, times int) {
	j.t.Helper()
	deadline := time.After(patience)
	for j.count(message) < times {
		select {
		case <-j.written:
		case <-deadline:
			j.t.Fatalf("the log does not say %q %d times: %v", message, times, j.All())
		}
	}
}
