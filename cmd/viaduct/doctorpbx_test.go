package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/ghettovoice/gosip/sip"
)

const (
	doctorUser     = "alice"
	doctorPassword = "open sesame 4711"
)

// A doctorPBX is a SIP server on real sockets with a registrar, digest, and calls
// to who is registered, that has the faults of its script.
type doctorPBX struct {
	doctorScript
	ip    string // an address of loopback that it has for itself, ports 5060 and 5061
	udp   *net.UDPConn
	other *net.UDPConn // at another address

	running sync.WaitGroup

	mu      sync.Mutex
	got     []string                       // start lines of what came
	contact string                         // of the account, as it was kept; "" if there is none
	calls   map[string]func(status string) // INVITEs that are under way, by Call-ID
}

// A doctorScript is what is wrong with a doctorPBX.
type doctorScript struct {
	silent      bool
	onlyOptions bool // silent to all else
	noTCP       bool
	maxDatagram int                 // larger ones are lost
	received    string              // where it sees requests come from
	register    string              // the answer to every REGISTER
	noChallenge bool                // registers without credentials
	algorithm   string              // of its digest
	keep        func(string) string // what it makes of a Contact
	expires     int                 // that it grants
	open        string              // the answer to an INVITE without credentials
	stranger    string              // the answer to that from who has no account
	uncallable  string              // the answer to a call to the account
	target      func(string) string // the Request-URI of a call to a Contact
	broken      bool                // that call has a header twice
	elsewhere   bool                // calls come from another address
	path        bool                // keeps Path
	called      func()              // called for a call to the account; nil: nothing
}

func startDoctorPBX(t *testing.T, script doctorScript) *doctorPBX {
	t.Helper()
	p := &doctorPBX{doctorScript: script, calls: map[string]func(string){}}
	for range 100 { // until the address is nobody's
		p.ip = fmt.Sprintf("127.%d.%d.%d", 1+rand.N(250), rand.N(250), 2+rand.N(250))
		addr, err := net.ResolveUDPAddr("udp", p.ip+":5060")
		if err != nil {
			t.Fatal(err)
		}
		if p.udp, err = net.ListenUDP("udp", addr); err == nil {
			break
		}
	}
	if p.udp == nil {
		t.Fatal("no address for the PBX")
	}
	var err error
	if p.other, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
		t.Fatal(err)
	}
	p.running.Go(func() { p.readDatagrams(p.udp) })
	p.running.Go(func() { p.readDatagrams(p.other) })
	t.Cleanup(func() {
		p.udp.Close()
		p.other.Close()
		p.running.Wait()
		if t.Failed() {
			t.Logf("the PBX got:\n%s", strings.Join(p.heard(), "\n"))
		}
	})
	if !script.noTCP {
		p.serve(t, mustListen(t, p.ip+":5060"))
	}
	return p
}

func (p *doctorPBX) serve(t *testing.T, l net.Listener) {
	t.Cleanup(func() { l.Close() })
	p.running.Go(func() { p.accept(t, l) })
}

// serveTLS adds a TLS listener.
func (p *doctorPBX) serveTLS(t *testing.T, config *tls.Config) {
	t.Helper()
	p.serve(t, tls.NewListener(mustListen(t, p.ip+":5061"), config))
}

func mustListen(t *testing.T, addr string) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func (p *doctorPBX) heard() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.got)
}

func (p *doctorPBX) readDatagrams(conn *net.UDPConn) {
	buf := make([]byte, 65536)
	for {
		n, from, err := conn.ReadFromUDP(buf)
		if err != nil {
			return
		}
		if p.maxDatagram > 0 && n > p.maxDatagram {
			continue
		}
		p.take(string(buf[:n]), from.String(), func(text string) { conn.WriteToUDP([]byte(text), from) })
	}
}

func (p *doctorPBX) accept(t *testing.T, l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			stop := context.AfterFunc(t.Context(), func() { conn.Close() })
			defer stop()
			for lines := bufio.NewReader(conn); ; {
				text, err := readSIP(lines)
				if err != nil {
					return
				}
				p.take(text, conn.RemoteAddr().String(), func(text string) { io.WriteString(conn, text) })
			}
		}()
	}
}

// readSIP reads one message of a stream.
func readSIP(lines *bufio.Reader) (string, error) {
	var text strings.Builder
	for {
		line, err := lines.ReadString('\n')
		if err != nil {
			return "", err
		}
		if text.WriteString(line); line == "\r\n" {
			break
		}
	}
	length, err := strconv.Atoi(headerOf(text.String(), "Content-Length"))
	if err != nil {
		return "", err
	}
	body := make([]byte, length)
	_, err = io.ReadFull(lines, body)
	return text.String() + string(body), err
}

// headerOf returns the value of a message's first header of that name.
func headerOf(text, name string) string {
	for line := range strings.Lines(text) {
		if key, value, _ := strings.Cut(line, ":"); strings.EqualFold(key, name) {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

func userOf(uri string) string {
	_, rest, _ := strings.Cut(uri, ":")
	user, _, _ := strings.Cut(rest, "@")
	return user
}

// take serves one message.
func (p *doctorPBX) take(text, from string, send func(string)) {
	start, _, _ := strings.Cut(text, "\r\n")
	p.mu.Lock()
	p.got = append(p.got, start)
	p.mu.Unlock()
	method, rest, _ := strings.Cut(start, " ")
	if p.silent || p.onlyOptions && method != "OPTIONS" {
		return
	}
	uri, _, _ := strings.Cut(rest, " ")
	answer := func(status string, headers ...string) { send(p.response(text, from, status, headers...)) }
	switch method {
	case "SIP/2.0":
		p.finish(text)
	case "OPTIONS":
		answer("200 OK")
	case "REGISTER":
		p.onRegister(text, answer)
	case "INVITE":
		p.onInvite(text, uri, answer)
	case "CANCEL":
		answer("200 OK")
		p.end(headerOf(text, "Call-ID"), "487 Request Terminated")
	case "BYE":
		answer("200 OK")
	}
}

func (p *doctorPBX) response(request, from, status string, headers ...string) string {
	host, port, _ := net.SplitHostPort(from)
	if p.received != "" {
		host, port, _ = net.SplitHostPort(p.received)
	}
	via := strings.Replace(headerOf(request, "Via"), ";rport", ";rport="+port+";received="+host, 1)
	to := headerOf(request, "To")
	if !strings.Contains(to, ";tag=") {
		to += ";tag=of-the-pbx"
	}
	lines := []string{"SIP/2.0 " + status, "Via: " + via, "To: " + to}
	for _, name := range []string{"From", "Call-ID", "CSeq"} {
		lines = append(lines, name+": "+headerOf(request, name))
	}
	lines = append(lines, headers...)
	return strings.Join(append(lines, "Content-Length: 0", "", ""), "\r\n")
}

// proved reports whether a request has the account's credentials, and answers it
// if it has none or wrong ones.
func (p *doctorPBX) proved(text string, status, ask, give string, answer func(string, ...string)) bool {
	given := headerOf(text, give)
	if given == "" {
		algorithm := p.algorithm
		if algorithm == "" {
			algorithm = "MD5"
		}
		answer(status, fmt.Sprintf(`%s: Digest realm="pbx", nonce="n0", qop="auth", opaque="o0", algorithm=%s`, ask, algorithm))
		return false
	}
	method, _, _ := strings.Cut(text, " ")
	auth := sip.AuthFromValue(given)
	right := auth.Response()
	if auth.SetMethod(method).SetPassword(doctorPassword).CalcResponse() != right || auth.Username() != doctorUser ||
		!strings.Contains(given, `opaque="o0"`) {
		answer("403 Forbidden")
		return false
	}
	return true
}

func (p *doctorPBX) onRegister(text string, answer func(string, ...string)) {
	if p.register != "" {
		answer(p.register)
		return
	}
	if !p.noChallenge && !p.proved(text, "401 Unauthorized", "WWW-Authenticate", "Authorization", answer) {
		return
	}
	contact := headerOf(text, "Contact")
	if strings.HasSuffix(contact, ";expires=0") {
		p.setContact("")
		answer("200 OK")
		return
	}
	if p.keep != nil {
		contact = p.keep(contact)
	}
	if p.expires > 0 {
		contact = strings.Replace(contact, ";expires=600", fmt.Sprintf(";expires=%d", p.expires), 1)
	}
	p.setContact(contact)
	headers := []string{"Contact: " + contact}
	if path := headerOf(text, "Path"); p.path && path != "" {
		headers = append(headers, "Path: "+path)
	}
	answer("200 OK", headers...)
}

func (p *doctorPBX) setContact(contact string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.contact = contact
}

func (p *doctorPBX) registered() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.contact
}

func (p *doctorPBX) onInvite(text, uri string, answer func(string, ...string)) {
	_, from, _ := strings.Cut(headerOf(text, "From"), "<")
	status := p.open
	if p.stranger != "" && userOf(from) != doctorUser {
		status = p.stranger
	}
	if status == "" && !p.proved(text, "407 Proxy Authentication Required", "Proxy-Authenticate", "Proxy-Authorization", answer) {
		return
	}
	callID := headerOf(text, "Call-ID")
	p.mu.Lock()
	p.calls[callID] = func(status string) { answer(status, "Contact: <sip:pbx@"+p.ip+">") }
	p.mu.Unlock()
	answer("100 Trying")
	contact := p.registered()
	switch {
	case status != "":
		answer(status, "Contact: <sip:pbx@"+p.ip+">")
	case userOf(uri) != doctorUser || contact == "":
		p.end(callID, "404 Not Found")
	case p.called != nil:
		p.called()
	case p.uncallable != "":
		p.end(callID, p.uncallable)
	default:
		p.forward(text, contact, callID)
	}
}

// forward calls a Contact for a call.
func (p *doctorPBX) forward(text, contact, callID string) {
	_, rest, _ := strings.Cut(contact, "<")
	uri, _, _ := strings.Cut(rest, ">")
	_, at, _ := strings.Cut(uri, "@")
	hostport, _, _ := strings.Cut(at, ";")
	if p.target != nil {
		uri = p.target(uri)
	}
	conn := p.udp
	if p.elsewhere {
		conn = p.other
	}
	to, err := net.ResolveUDPAddr("udp", hostport)
	if err != nil {
		p.end(callID, "503 Service Unavailable")
		return
	}
	twice := ""
	if p.broken {
		twice = "Max-Forwards: 70\r\n"
	}
	fmt.Fprintf(writerTo{conn, to}, "INVITE %s SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bK-%s;rport\r\nFrom: %s\r\nTo: <%s>\r\n"+
		"Call-ID: %s\r\nCSeq: 7 INVITE\r\nMax-Forwards: 69\r\n%sContact: <sip:pbx@%s>\r\nContent-Length: 0\r\n\r\n",
		uri, conn.LocalAddr(), callID, headerOf(text, "From"), uri, callID, twice, p.ip)
}

type writerTo struct {
	conn *net.UDPConn
	to   *net.UDPAddr
}

func (w writerTo) Write(text []byte) (int, error) { return w.conn.WriteToUDP(text, w.to) }

// finish ends a call as the one who was called did.
func (p *doctorPBX) finish(response string) {
	if _, status, _ := strings.Cut(response, " "); status[0] != '1' {
		line, _, _ := strings.Cut(status, "\r\n")
		p.end(headerOf(response, "Call-ID"), line)
	}
}

// end gives a call its final response, if it has none yet.
func (p *doctorPBX) end(callID, status string) {
	p.mu.Lock()
	answer := p.calls[callID]
	delete(p.calls, callID)
	p.mu.Unlock()
	if answer != nil {
		answer(status)
	}
}
