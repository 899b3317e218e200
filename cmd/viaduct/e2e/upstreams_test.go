package e2e

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"testing"
	"time"
)

// probing is the --health-interval of tests in which a PBX fails.
const probing = 2 * time.Second

// lateness is what this machine may be late by when it is busy.
const lateness = time.Second

var probingFlag = "--health-interval=" + probing.String()

// outages take the PBX of a lab away, and bring it back.
var outages = []struct {
	name   string
	legs   []Leg
	strike func(*testing.T, *Lab)
	end    func(*testing.T, *Lab)
	lasts  time.Duration // at least, since viaduct has noticed
	told   bool          // the network tells viaduct of it
}{
	{
		name: "rebooted", legs: []Leg{{"udp", "ws"}, {"tcp", "wss"}},
		strike: func(t *testing.T, lab *Lab) {
			silencePBX(t, lab)
			lab.PBX.Kill(t)
		},
		end: func(t *testing.T, lab *Lab) {
			lab.Host.Restore(t) // its ports are closed still
			lab.PBX.Restart(t)
		},
	},
	{
		name: "port closed", legs: []Leg{{"udp", "wss"}, {"tls", "ws"}}, told: true,
		strike: func(t *testing.T, lab *Lab) { lab.PBX.Kill(t) },
		end:    func(t *testing.T, lab *Lab) { lab.PBX.Restart(t) },
	},
	{
		// TCP tries again after a second or two.
		name: "silent", legs: []Leg{{"udp", "ws"}, {"tcp", "ws"}, {"tls", "wss"}}, lasts: 3 * time.Second,
		strike: silencePBX,
		end:    func(t *testing.T, lab *Lab) { lab.Host.Restore(t) },
	},
}

func silencePBX(t *testing.T, lab *Lab) {
	t.Helper()
	lab.Host.Drop(t, lab.PBX.UDP.Port())
	lab.Host.Drop(t, lab.PBX.TLS.Port())
}

// TestOutage: of a PBX that is gone viaduct knows within a health interval, at
// once where the network tells. Then browsers get a 503 at once. When it is back
// viaduct finds it by itself within two, and has kept nothing of all that.
func TestOutage(t *testing.T) {
	for i, outage := range outages {
		for j, leg := range outage.legs {
			stack := []Stack{JsSIP, SIPJS}[(i+j)%2]
			t.Run(fmt.Sprintf("%s/%s/%s", outage.name, stack, leg), func(t *testing.T) {
				t.Parallel()
				lab := newLabOn(t, newNamespace(t), stack, leg, probingFlag)
				phone, client := lab.Registered("alice"), lab.newWebClient()
				client.wantAnswer(t, 200)
				before := lab.Via.Metrics(t)

				outage.strike(t, lab)
				struck := time.Now()
				if outage.told {
					client.wantUnavailable(t)
				}
				lab.Via.WaitLog(t, "upstream down")
				wantWithin(t, "the outage is noticed", struck, probing)
				client.wantUnavailable(t)
				for range 50 {
					client.Send(t, newRequest("MESSAGE", "sip:bob@"+domain, stranger).Text())
				}
				<-time.After(outage.lasts)

				outage.end(t, lab)
				ended := time.Now()
				lab.Via.WaitLog(t, "upstream up")
				wantWithin(t, "viaduct recovers", ended, 2*probing)
				client.wantAnswer(t, 200)
				phone.Refresh(t)
				wantNothingKept(t, lab.Via, before)
				lab.Caller("alice", "send-options").Wait(t)
			})
		}
	}
}

// TestProbes: a PBX to which nothing else is sent is asked how it is, on every
// transport, and lives.
func TestProbes(t *testing.T) {
	for _, proto := range []string{"udp", "tcp", "tls"} {
		t.Run(proto, func(t *testing.T) {
			t.Parallel()
			lab := newLab(t, "", Leg{proto, "ws"}, probingFlag)
			lab.PBX.Messages.WaitCount(t, 4, "OPTIONS at the PBX", func(m PBXMessage) bool { return !m.Sent && m.Request("OPTIONS") })
			if ready, text := lab.Via.Ready(t); !ready {
				t.Errorf("viaduct is not ready: %s", text)
			}
			for _, line := range lab.Via.process.Output.All() {
				if entry, ok := parseLog(line); ok && entry.Message == "upstream down" {
					t.Errorf("viaduct took its PBX for dead: %s", line)
				}
			}
		})
	}
}

// TestNameMoves: the PBX dies, and its name leads to another address, where it is
// alive.
func TestNameMoves(t *testing.T) {
	for _, leg := range []Leg{{"udp", "ws"}, {"tcp", "wss"}} {
		t.Run(leg.String(), func(t *testing.T) {
			t.Parallel()
			host := newNamespace(t)
			other := host.second(t)
			old, moved := startKamailioWith(t, host, PBXOptions{Port: 5060}), startKamailioWith(t, other, PBXOptions{Port: 5060})
			records := fmt.Sprintf("pbx.test. A %s", host.IP)
			zone := serveZone(t, netip.AddrPortFrom(host.Harness, 53), records)
			via := launchViaduct(t, host.resolvingAt(t, zone.Resolver),
				append(leg.certificates(t, host), "--upstream=sip:pbx.test;transport="+leg.Proto, probingFlag)...)
			via.WaitLog(t, "upstream answered")
			lab := &Lab{Stack: JsSIP, Leg: leg, Host: other, PBX: moved, Via: via, t: t}
			t.Cleanup(lab.finish)
			phone, client := lab.Phone("alice"), lab.newWebClient()
			phone.Page.do(t, "register", phone.name)
			old.WaitSent(t, "200 to the REGISTER", func(m Message) bool { return m.Response(200, "REGISTER") })
			before := via.Metrics(t)

			zone.Set(t, fmt.Sprintf("pbx.test. A %s", other.IP))
			old.Kill(t)
			struck := time.Now()
			via.WaitLog(t, "upstream down")
			via.WaitLog(t, "upstream up")
			wantWithin(t, "viaduct follows the name", struck, 2*probing)
			client.wantAnswer(t, 200)
			phone.Refresh(t)
			wantNothingKept(t, via, before)
			lab.Caller("alice", "send-options").Wait(t)
		})
	}
}

// second is the same namespace at a further address.
func (h Host) second(t testing.TB) Host {
	t.Helper()
	first := h.IP
	h.IP, _ = testSubnet(uint32(os.Getpid())<<4 + namespaces.Add(1))
	root(t, "ip", "route", "add", h.IP.String(), "via", first.String())
	h.run(t, "ip", "address", "add", h.IP.String()+"/32", "dev", "lo")
	return h
}

// TestResetMidMessage: the PBX's connection is reset in the middle of a message.
// The next request goes by another one.
func TestResetMidMessage(t *testing.T) {
	t.Parallel()
	pbx := startScriptedPBX(t)
	via := launchViaduct(t, loopback, "--upstream="+pbx.Upstream(), probingFlag)
	via.WaitLog(t, "upstream answered")
	client := dialWebClient(t, via.WebSocket, newWebClientPage())
	client.wantAnswer(t, 200)
	before := via.Metrics(t)
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for range 20 {
		request := newRequest("MESSAGE", "sip:bob@"+domain, stranger)
		client.Send(t, request.Text())
		at := pbx.WaitReceived(t, "MESSAGE", func(m Message) bool { return m.Header("Call-ID") == request.CallID })
		half := responseTo(at.Message, "200 OK", "Content-Type: text/plain")
		if _, err := io.WriteString(at.Conn.tcp, half[:len(half)/2]); err != nil {
			t.Fatal(err)
		}
		_ = at.Conn.tcp.SetLinger(0)
		at.Conn.Close()
		reset := time.Now()
		for {
			answer := client.Do(t, newRequest("OPTIONS", "sip:"+domain, stranger))
			if answer.Status() == 200 {
				break
			}
			if answer.Status() != 503 || time.Since(reset) > 2*probing+lateness {
				t.Fatalf("%s after the reset: %s", time.Since(reset), answer)
			}
			<-again.C
		}
		wantWithin(t, "viaduct recovers", reset, 2*probing)
	}
	wantNothingKept(t, via, before)
}

// stranger is a client that nobody knows: it neither registers nor has credentials.
var stranger = Identity{AoR: "sip:stranger@elsewhere.test", ViaHost: "strangerhost.invalid"}

// wantAnswer wants the PBX to answer an OPTIONS.
func (c *WebClient) wantAnswer(t testing.TB, status int) Message {
	t.Helper()
	answer := c.Do(t, newRequest("OPTIONS", "sip:"+domain, stranger))
	if answer.Status() != status {
		t.Fatalf("answer to an OPTIONS: %s, want %d", answer.Raw, status)
	}
	return answer
}

// wantUnavailable wants viaduct to say at once that there is no PBX.
func (c *WebClient) wantUnavailable(t testing.TB) {
	t.Helper()
	asked := time.Now()
	answer := c.wantAnswer(t, 503)
	if answer.Header("Retry-After") == "" {
		t.Errorf("no Retry-After: %s", answer.Raw)
	}
	wantWithin(t, "503", asked, 0)
}

// wantWithin wants less time to have passed since then.
func wantWithin(t testing.TB, what string, since time.Time, limit time.Duration) {
	t.Helper()
	took := time.Since(since)
	t.Logf("%s after %s", what, took.Round(time.Millisecond))
	if took > limit+lateness {
		t.Errorf("%s after %s, want %s", what, took, limit)
	}
}

// wantNothingKept waits until viaduct has as many goroutines as before and no
// transactions, and wants it not to have grown.
func wantNothingKept(t testing.TB, via *Viaduct, before map[string]float64) {
	t.Helper()
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for given := time.Now(); ; <-again.C {
		now := via.Metrics(t)
		complaint := ""
		for name, more := range map[string]float64{
			"go_goroutines":                    0,
			"viaduct_transactions":             0,
			"viaduct_transaction_memory_bytes": 0,
			"viaduct_held_messages":            0,
			"process_open_fds":                 1, // a connection that is being closed
			"go_memstats_heap_inuse_bytes":     8 << 20,
		} {
			if now[name] > before[name]+more {
				complaint += fmt.Sprintf("%s is %.0f and was %.0f\n", name, now[name], before[name])
			}
		}
		if complaint == "" {
			return
		}
		if time.Since(given) > patience {
			t.Errorf("viaduct keeps something:\n%s", complaint)
			return
		}
	}
}
