package e2e

import (
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ghettovoice/gosip/log"
	"github.com/ghettovoice/gosip/sip"
	"github.com/ghettovoice/gosip/sip/parser"
	"github.com/gobwas/ws/wsutil"

	"viaduct/rewrite"
)

// A reading is what one reader makes of a message, field by field.
type reading map[string]string

// TestReadings sends messages that are hard to read through viaduct, and what it
// lets through to two other readers: each reads one message, with the same values,
// or the difference is listed with the RFC that decides it.
func TestReadings(t *testing.T) {
	t.Parallel()
	seed, count := uint64(1), 20000
	if os.Getenv("VIADUCT_E2E_FULL") == "1" {
		seed, count = rand.Uint64(), 200000
	}
	t.Logf("seed %d, %d messages", seed, count)
	passed := passedOn(t, newMutator(t, seed), count)
	if len(passed) < count/20 {
		t.Fatalf("%d of %d messages were let through", len(passed), count)
	}
	known := knownDifferences(t)
	reader := startReader(t)
	byUDP, byTCP := reader.readUDP(t, passed), reader.readTCP(t, passed)
	found := map[string]int{}
	for i, raw := range passed {
		mine, ok := readByViaduct(raw)
		if !ok {
			t.Errorf("viaduct sent what it would not read: %q", raw)
			continue
		}
		for judge, theirs := range map[string]reading{"gosip": readByGosip(raw), "Kamailio by UDP": byUDP[i], "Kamailio by TCP": byTCP[i]} {
			if theirs == nil {
				continue // it does not read the message at all
			}
			for _, field := range slices.Sorted(maps.Keys(mine)) {
				if agree(field, mine, theirs) {
					continue
				}
				if why := known.find(judge, field, mine, theirs, raw); why != "" {
					found[why]++
					continue
				}
				if found[judge+field]++; found[judge+field] < 4 {
					t.Errorf("%s reads %s as %q, viaduct as %q, in\n%q", judge, field, theirs[field], mine[field], raw)
				}
			}
		}
	}
	for _, d := range known {
		t.Logf("attack: %s | %d differences | none", d.what, found[d.what])
	}
	t.Logf("attack: %d messages that are hard to read | %d are let through and read alike by gosip and Kamailio | viaduct_dropped_total", count, len(passed))
}

// passedOn sends messages to a viaduct by WebSocket and returns what it sent on.
func passedOn(t *testing.T, m *mutator, count int) (passed []string) {
	t.Helper()
	pbx, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(loopback.IP, 0)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pbx.Close() })
	_ = pbx.SetReadBuffer(4 << 20)
	via := launchViaduct(t, loopback, "--upstream=sip:"+pbx.LocalAddr().String(), "--log-level=info", "--rate=0")
	client := dialWebClient(t, via.WebSocket, newWebClientPage())

	const batch = 50
	seen := map[string]bool{}
	for sent := 0; sent < count; sent += batch {
		for range batch {
			if err := wsutil.WriteClientBinary(client, []byte(m.next())); err != nil {
				t.Fatal(err)
			}
		}
		fence := fmt.Sprintf("fence-%d", sent)
		text := strings.Replace(plainMessage("OPTIONS"), "3obngeemfdp1a46q9t25", fence, 1)
		if err := wsutil.WriteClientBinary(client, []byte(text)); err != nil {
			t.Fatal(err)
		}
		for done := false; !done; {
			got, from := readDatagram(t, pbx)
			answer := echo(got)
			_, _ = pbx.WriteToUDPAddrPort([]byte(answer), from)
			done = strings.Contains(got, "\r\nCall-ID: "+fence+"\r\n")
			if !done && !seen[got] && !strings.Contains(got, "<sip:viaduct@") && !strings.Contains(got, "\r\nCall-ID: fence-") {
				seen[got] = true
				passed = append(passed, got)
			}
		}
	}
	return passed
}

func readDatagram(t *testing.T, conn *net.UDPConn) (string, netip.AddrPort) {
	t.Helper()
	buf := make([]byte, 65536)
	_ = conn.SetReadDeadline(time.Now().Add(patience))
	n, from, err := conn.ReadFromUDPAddrPort(buf)
	if err != nil {
		t.Fatalf("PBX reads: %v", err)
	}
	return string(buf[:n]), from
}

// echo is a 200 of whatever lines a request has, folds and all.
func echo(request string) string {
	head, _, _ := strings.Cut(request, "\r\n\r\n")
	answer, keep := "SIP/2.0 200 OK\r\n", false
	for _, line := range strings.Split(head, "\r\n")[1:] {
		if line == "" || line[0] != ' ' && line[0] != '\t' {
			keep = slices.Contains([]string{"via", "from", "to", "call-id", "cseq"}, fieldOf(line))
		}
		if keep {
			answer += line + "\r\n"
		}
	}
	return answer + "Content-Length: 0\r\n\r\n"
}

// noSpace leaves out white space, of which readers keep more or less.
func noSpace(text string) string {
	return strings.Map(func(r rune) rune {
		if strings.ContainsRune(" \t\r\n", r) {
			return -1
		}
		return r
	}, text)
}

// readByViaduct is what the relay itself reads.
func readByViaduct(raw string) (reading, bool) {
	var m rewrite.Message
	if m.Scan([]byte(raw)) != rewrite.Sound || m.CheckDatagram() != rewrite.Sound {
		return nil, false
	}
	text := func(s rewrite.Span) string { return string(m.Text(s)) }
	r := reading{
		"messages": "1", "method": text(m.Method), "uri": text(m.URI), "call-id": text(m.CallID),
		"cseq": fmt.Sprint(m.CSeq, " ", text(m.CSeqMethod)), "length": fmt.Sprint(m.ContentLength), "body": text(m.Body),
	}
	for name, span := range map[string]rewrite.Span{"from": m.From, "to": m.To} {
		a, ok := m.ParseAddress(span)
		if !ok {
			return nil, false
		}
		r[name], r[name+" tag"] = text(a.URI), string(m.Tag(span))
	}
	for i := range min(m.Vias(), 3) {
		if hop, ok := m.Via(i); ok {
			r[fmt.Sprintf("via %d", i+1)] = fmt.Sprintf("%s:%d %s", strings.Trim(text(hop.Host), "[]"), hop.Port, noSpace(text(hop.Branch)))
		} else {
			r[fmt.Sprintf("via %d", i+1)] = "unreadable"
		}
	}
	for contacts := m.Values(rewrite.Contact); ; {
		v, ok := contacts.Next()
		if !ok {
			return r, true
		}
		if a, _ := m.ParseAddress(v); a.Star {
			r["contact"] += "* "
		} else {
			r["contact"] += text(a.URI) + " "
		}
	}
}

// agree tells whether two readings of a field are one. Of several Contacts the
// judges were asked for one; an address that they cannot read they refuse, and
// take for no other.
func agree(field string, mine, theirs reading) bool {
	switch field {
	case "contact":
		if mine[field] == "* " {
			return theirs[field] == "" || theirs[field] == "*"
		}
		return slices.Contains(strings.Fields(mine[field]), theirs[field])
	case "uri", "from", "to":
		return theirs[field] == "" || mine[field] == theirs[field]
	case "from tag", "to tag":
		return theirs[strings.TrimSuffix(field, " tag")] == "" || mine[field] == theirs[field]
	}
	return mine[field] == theirs[field]
}

// readByGosip is nothing of what gosip does not read at all.
func readByGosip(raw string) reading {
	parsed, err := parser.ParseMessage([]byte(raw), &complaints{Logger: log.NewDefaultLogrusLogger()})
	if err != nil {
		return nil
	}
	r := reading{"messages": "1", "body": parsed.Body()}
	if request, ok := parsed.(sip.Request); ok {
		r["method"], r["uri"] = string(request.Method()), request.Recipient().String()
	}
	if h, ok := parsed.CallID(); ok {
		r["call-id"] = h.Value()
	}
	if h, ok := parsed.CSeq(); ok {
		r["cseq"] = fmt.Sprint(h.SeqNo, " ", h.MethodName)
	}
	if h, ok := parsed.ContentLength(); ok {
		r["length"] = h.Value()
	}
	if h, ok := parsed.From(); ok && h.Address != nil {
		r["from"] = h.Address.String()
		if tag, ok := h.Params.Get("tag"); ok && tag != nil {
			r["from tag"] = tag.String()
		}
	}
	if h, ok := parsed.To(); ok && h.Address != nil {
		r["to"] = h.Address.String()
		if tag, ok := h.Params.Get("tag"); ok && tag != nil {
			r["to tag"] = tag.String()
		}
	}
	n := 0
	for _, h := range parsed.GetHeaders("Via") {
		for _, hop := range h.(sip.ViaHeader) {
			if n++; n > 3 {
				break
			}
			port, branch := sip.Port(0), ""
			if hop.Port != nil {
				port = *hop.Port
			}
			if b, ok := hop.Params.Get("branch"); ok && b != nil {
				branch = b.String()
			}
			r[fmt.Sprintf("via %d", n)] = fmt.Sprintf("%s:%d %s", strings.Trim(hop.Host, "[]"), port, noSpace(branch))
		}
	}
	if all := parsed.GetHeaders("Contact"); len(all) > 0 {
		if h, ok := all[0].(*sip.ContactHeader); ok {
			r["contact"] = h.Address.String()
		}
	}
	return r
}

// A reader is a Kamailio that says what it reads.
type reader struct {
	addr    netip.AddrPort
	process *Process
}

func startReader(t *testing.T) *reader {
	t.Helper()
	r := &reader{addr: loopback.freePort(t)}
	config, err := filepath.Abs("testdata/reader.cfg")
	if err != nil {
		t.Fatal(err)
	}
	dir := tempDir(t)
	cmd := loopback.command("kamailio", "-f", config, "-DD", "-E", "-m", "64", "-M", "16", "-w", dir, "-Y", dir,
		"-A", "LISTEN_UDP=udp:"+r.addr.String(), "-A", "LISTEN_TCP=tcp:"+r.addr.String())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID}
	r.process = startProcess(t, "kamailio", cmd)
	r.process.Output.WaitFor(t, "kamailio to serve", func(line string) bool { return strings.Contains(line, "PBX ready") })
	return r
}

// readUDP has Kamailio read each message as a datagram.
func (r *reader) readUDP(t *testing.T, messages []string) []reading {
	t.Helper()
	conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(r.addr))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	mark := r.process.Output.Mark()
	for i, message := range messages {
		_, _ = conn.Write([]byte(message))
		if i%50 == 49 || i == len(messages)-1 {
			fence := fmt.Sprintf("udp-fence-%d", i)
			_, _ = conn.Write([]byte(strings.Replace(plainMessage("OPTIONS"), "3obngeemfdp1a46q9t25", fence, 1)))
			r.await(t, fence)
		}
	}
	return r.since(t, mark, messages)
}

// readTCP has Kamailio read each message on a connection of its own, of which it
// closes its end when it has read all.
func (r *reader) readTCP(t *testing.T, messages []string) []reading {
	t.Helper()
	mark := r.process.Output.Mark()
	for _, message := range messages {
		conn, err := net.DialTCP("tcp4", nil, net.TCPAddrFromAddrPort(r.addr))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = conn.Write([]byte(message))
		_ = conn.CloseWrite()
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("kamailio does not close the connection of %q", message)
		}
		_ = conn.Close()
	}
	conn, err := net.DialUDP("udp4", nil, net.UDPAddrFromAddrPort(r.addr))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = conn.Write([]byte(strings.Replace(plainMessage("OPTIONS"), "3obngeemfdp1a46q9t25", "tcp-fence", 1)))
	r.await(t, "tcp-fence")
	return r.since(t, mark, messages)
}

// await waits until Kamailio has read a fence.
func (r *reader) await(t *testing.T, fence string) {
	t.Helper()
	text := " callid=" + hex.EncodeToString([]byte(fence)) + " "
	r.process.Output.WaitFor(t, fence, func(line string) bool { return strings.Contains(line, text) })
}

// since returns what was read of each message since a mark. What was read and is
// none of them whole is reported.
func (r *reader) since(t *testing.T, mark int, messages []string) []reading {
	t.Helper()
	of := map[string]int{}
	for i, message := range messages {
		of[message] = i
	}
	all := make([]reading, len(messages))
	for _, line := range r.process.Output.All()[mark:] {
		_, line, ok := strings.Cut(line, "READ raw=")
		if !ok || strings.Contains(line, " callid="+hex.EncodeToString([]byte("udp-fence-"))) || strings.Contains(line, " callid="+hex.EncodeToString([]byte("tcp-fence"))) {
			continue
		}
		raw, read := parseReading(t, line)
		i, ok := of[raw]
		if !ok {
			t.Errorf("kamailio reads a message that viaduct did not send: %q", raw)
			continue
		}
		if all[i] != nil {
			read["messages"] = "2"
		}
		all[i] = read
	}
	return all
}

func parseReading(t *testing.T, line string) (raw string, r reading) {
	t.Helper()
	unhex := func(text string) string {
		b, err := hex.DecodeString(text)
		if err != nil {
			t.Fatalf("kamailio logs %q: %v", text, err)
		}
		return string(b)
	}
	hexed, rest, _ := strings.Cut(line, " ")
	fields := map[string]string{}
	for _, pair := range strings.Fields(rest) {
		name, value, _ := strings.Cut(pair, "=")
		fields[name] = value
	}
	text := func(name string) string { return unhex(fields[name]) }
	r = reading{
		"messages": "1", "method": text("method"), "uri": text("uri"), "call-id": strings.TrimSpace(text("callid")), "length": "-1", "body": text("body"),
		"from": text("from"), "from tag": text("fromtag"), "to": text("to"), "to tag": text("totag"),
	}
	if length, err := strconv.Atoi(strings.TrimSpace(text("length"))); err == nil {
		r["length"] = fmt.Sprint(length)
	}
	number, _ := strconv.Atoi(text("cseq"))
	r["cseq"] = fmt.Sprint(number, " ", text("cseqmethod"))
	for i := 1; i <= 3; i++ {
		parts := strings.Split(fields[fmt.Sprintf("via%d", i)], ":")
		if host := unhex(parts[0]); host != "" {
			port, _ := strconv.Atoi(unhex(parts[1]))
			r[fmt.Sprintf("via %d", i)] = fmt.Sprintf("%s:%d %s", strings.Trim(host, "[]"), port, noSpace(unhex(parts[2])))
		}
	}
	if uri := text("contact"); uri != "" {
		r["contact"] = uri
	}
	return unhex(hexed), r
}

// A difference is one that is known: a judge reads a field in another way where
// the message is as the pattern says.
type difference struct {
	judge, field string
	in           *regexp.Regexp
	what         string
}

type differences []difference

func (all differences) find(judge, field string, mine, theirs reading, raw string) string {
	for _, d := range all {
		if strings.HasPrefix(judge, d.judge) && d.field == field && d.in.MatchString(mine[field]+" → "+theirs[field]+"\n"+raw) {
			return d.what
		}
	}
	return ""
}

// knownDifferences reads the list: judge, field and pattern, then the RFC's words
// and the reason.
func knownDifferences(t *testing.T) (all differences) {
	t.Helper()
	text, err := os.ReadFile("testdata/readings.txt")
	if err != nil {
		t.Fatal(err)
	}
	for paragraph := range strings.SplitSeq(string(text), "\n\n") {
		if strings.HasPrefix(paragraph, "#") || strings.TrimSpace(paragraph) == "" {
			continue
		}
		lines := strings.SplitN(strings.TrimSpace(paragraph), "\n", 3)
		judge, fields, ok := strings.Cut(lines[0], ": ")
		if !ok || len(lines) != 3 || !strings.Contains(lines[2], "RFC ") {
			t.Fatalf("readings: %q", paragraph)
		}
		for field := range strings.SplitSeq(fields, ", ") {
			all = append(all, difference{judge, field, regexp.MustCompile(lines[1]), judge + ", " + field + ": " + lines[2]})
		}
	}
	return all
}
