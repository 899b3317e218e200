package e2e

import (
	"bufio"
	"context"
	"crypto/md5"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

// A WebClient is a SIP WebSocket whose messages a test writes by hand, for what
// no browser's stack does. Its Page, which has the messages of all connections
// of this client, is judged like any other.
type WebClient struct {
	*Page
	Local netip.AddrPort

	url     string
	tcp     *net.TCPConn
	conn    net.Conn // tcp, or the TLS session on it
	writing sync.Mutex
	ended   chan struct{} // closed when nothing will be received any more
	err     error         // why; read after ended
}

// newWebClient connects to the lab's viaduct. Of its Origin nothing is said, as
// programs do.
func (lab *Lab) newWebClient() *WebClient {
	lab.t.Helper()
	page := newWebClientPage()
	lab.pages = append(lab.pages, page)
	return dialWebClient(lab.t, lab.Via.WebSocket, page)
}

// Again is a second connection of the same client, whatever became of this one.
func (c *WebClient) Again(t testing.TB) *WebClient {
	t.Helper()
	return dialWebClient(t, c.url, c.Page)
}

func newWebClientPage() *Page {
	return &Page{Events: NewStream[Event](), Frames: NewStream[Frame](), name: "web client"}
}

// dialWebClient connects to a WebSocket URL. The connection ends with the test.
func dialWebClient(t testing.TB, url string, page *Page) *WebClient {
	t.Helper()
	c := &WebClient{Page: page, url: url, ended: make(chan struct{})}
	dialer := ws.Dialer{
		Protocols: []string{"sip"},
		Timeout:   patience,
		TLSConfig: &tls.Config{RootCAs: authority.Pool()},
		NetDial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			conn, err := new(net.Dialer).DialContext(ctx, network, addr)
			if err == nil {
				c.tcp = conn.(*net.TCPConn)
			}
			return conn, err
		},
	}
	conn, early, _, err := dialer.Dial(t.Context(), url)
	if err != nil {
		t.Fatalf("%s: %v", url, err)
	}
	if early == nil {
		early = bufio.NewReader(conn)
	}
	c.conn = conn
	c.Local = conn.LocalAddr().(*net.TCPAddr).AddrPort()
	go c.receive(early)
	t.Cleanup(func() {
		_ = c.tcp.Close()
		<-c.ended
		if t.Failed() {
			t.Logf("%s %s:\n%s", c.name, c.Local, c.story())
		}
	})
	return c
}

// Write sends a whole frame; several goroutines may.
func (c *WebClient) Write(frame []byte) (int, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	return c.conn.Write(frame)
}

// receive records messages, and answers pings, until the connection ends.
func (c *WebClient) receive(conn io.Reader) {
	defer close(c.ended)
	for {
		payload, op, err := wsutil.ReadServerData(struct {
			io.Reader
			io.Writer
		}{conn, c})
		if err != nil {
			c.err = err
			return
		}
		c.Frames.Add(Frame{Message: newMessage(string(payload)), Binary: op == ws.OpBinary})
	}
}

// Send sends one message.
func (c *WebClient) Send(t testing.TB, message string) {
	t.Helper()
	c.Frames.Add(Frame{Message: newMessage(message), Sent: true})
	if err := wsutil.WriteClientText(c, []byte(message)); err != nil {
		t.Fatalf("web client: %v", err)
	}
}

// Reset ends the connection by RST.
func (c *WebClient) Reset() {
	_ = c.tcp.SetLinger(0)
	_ = c.tcp.Close()
}

// WaitClosed waits until the server closes the WebSocket and returns its code.
func (c *WebClient) WaitClosed(t testing.TB) ws.StatusCode {
	t.Helper()
	select {
	case <-c.ended:
	case <-time.After(patience):
		t.Fatal("the server does not close the WebSocket")
	}
	var closed wsutil.ClosedError
	if !errors.As(c.err, &closed) {
		t.Fatalf("the connection ended without a close frame: %v", c.err)
	}
	return closed.Code
}

// Fence returns when everything that viaduct had sent to this client before has
// arrived: it asks the PBX for an OPTIONS and has the answer.
func (c *WebClient) Fence(t testing.TB) {
	t.Helper()
	fence := newRequest("OPTIONS", "sip:"+domain, Identity{AoR: "sip:fence@fence.test", ViaHost: "fence.invalid"})
	c.Do(t, fence)
}

// Requests are the methods of the requests that the client has received.
func (c *WebClient) Requests(t testing.TB) []string {
	t.Helper()
	c.Fence(t)
	var methods []string
	for _, frame := range c.Frames.All() {
		if !frame.Sent && frame.IsRequest() {
			methods = append(methods, frame.Method())
		}
	}
	return methods
}

// An Identity is all by which a client names itself.
type Identity struct {
	AoR     string
	ViaHost string
	Contact string // URI; requests have none where it is empty

	User, Password string // credentials; none where empty
}

// account is the identity of a client that has the account's credentials, and a
// name of its own such as the browsers' stacks make up.
func account(user string) Identity {
	var random [6]byte
	_, _ = rand.Read(random[:]) // never fails
	name := hex.EncodeToString(random[:])
	return Identity{
		AoR:     fmt.Sprintf("sip:%s@%s", user, domain),
		ViaHost: name + ".invalid",
		Contact: fmt.Sprintf("sip:%s@%s.invalid;transport=ws", name[:8], name),
		User:    user, Password: passwordOf(user),
	}
}

// A WebRequest is a request that a test writes, with its transaction.
type WebRequest struct {
	Method, URI string
	To          string // URI, or the whole value with its tag
	CallID      string
	CSeq        int
	Branch      string
	Headers     []string
	Body        string

	from Identity
}

// newRequest begins a request outside a dialog.
func newRequest(method, uri string, from Identity) *WebRequest {
	r := &WebRequest{
		Method: method, URI: uri, To: uri, CallID: rand.Text(), CSeq: 1, Branch: "z9hG4bK" + rand.Text()[:7], from: from,
	}
	switch method {
	case "REGISTER":
		r.To = from.AoR
	case "INVITE":
		r.Headers, r.Body = []string{"Content-Type: application/sdp"}, strings.ReplaceAll(sippSDP+"\n", "\n", "\r\n")
	}
	return r
}

// Text is the request as it is sent.
func (r *WebRequest) Text() string {
	lines := append([]string{
		fmt.Sprintf("%s %s SIP/2.0", r.Method, r.URI),
		fmt.Sprintf("Via: SIP/2.0/WS %s;branch=%s", r.from.ViaHost, r.Branch),
		"Max-Forwards: 69",
		fmt.Sprintf("From: <%s>;tag=%.10s", r.from.AoR, r.CallID),
		"To: " + nameAddr(r.To),
		"Call-ID: " + r.CallID,
		fmt.Sprintf("CSeq: %d %s", r.CSeq, r.Method),
	}, r.Headers...)
	if r.from.Contact != "" && r.Method != "CANCEL" && r.Method != "ACK" {
		lines = append(lines, "Contact: <"+r.from.Contact+">;expires=600")
	}
	lines = append(lines, fmt.Sprintf("Content-Length: %d", len(r.Body)), "", r.Body)
	return strings.Join(lines, "\r\n")
}

func nameAddr(value string) string {
	if strings.Contains(value, "<") {
		return value
	}
	return "<" + value + ">"
}

// hop is a message of the request's own transaction: its CANCEL, or the ACK of
// a refusal.
func (r *WebRequest) hop(method, to string) string {
	hop := *r
	hop.Method, hop.To, hop.Headers, hop.Body = method, to, nil, ""
	return hop.Text()
}

// Cancel is the request's CANCEL.
func (r *WebRequest) Cancel() string { return r.hop("CANCEL", r.To) }

// Ack is the ACK of a refusal of the request.
func (r *WebRequest) Ack(refusal Message) string { return r.hop("ACK", refusal.Header("To")) }

// AckAnswer is the ACK of a 2xx to the request: RFC 3261 13.2.2.4.
func (r *WebRequest) AckAnswer(answer Message) string {
	ack := *r
	ack.Method, ack.URI, ack.To, ack.Body = "ACK", uriOf(answer.Header("Contact")), answer.Header("To"), ""
	ack.Branch = "z9hG4bK" + rand.Text()[:7]
	ack.Headers = nil
	routes := answer.Values("Record-Route")
	for _, route := range slices.Backward(routes) {
		ack.Headers = append(ack.Headers, "Route: "+route)
	}
	return ack.Text()
}

// answered matches a response to the request as it was sent last.
func (r *WebRequest) answered(m Message) bool {
	return !m.IsRequest() && m.Status() > 100 && m.Header("Call-ID") == r.CallID &&
		m.Header("CSeq") == fmt.Sprintf("%d %s", r.CSeq, r.Method)
}

// Do sends a request, with the credentials of its identity once they are asked
// for, and returns the first response above 100. r is then the request that was
// sent last.
func (c *WebClient) Do(t testing.TB, r *WebRequest) Message {
	t.Helper()
	c.Send(t, r.Text())
	response := c.ReceivedFrame(t, "answer to "+r.Method, r.answered)
	if response.Status() != 401 && response.Status() != 407 {
		return response
	}
	if r.Method == "INVITE" {
		c.Send(t, r.Ack(response))
	}
	if r.from.Password == "" {
		return response
	}
	c.Send(t, r.answering(t, response).Text())
	return c.ReceivedFrame(t, "answer to "+r.Method+" with credentials", r.answered)
}

// answering makes r the request with credentials that follows a challenge.
func (r *WebRequest) answering(t testing.TB, challenge Message) *WebRequest {
	t.Helper()
	r.CSeq++
	r.Branch = "z9hG4bK" + rand.Text()[:7]
	r.Headers = append(r.Headers, credentials(t, challenge, r))
	return r
}

// Register registers and wants a 200.
func (c *WebClient) Register(t testing.TB, who Identity) {
	t.Helper()
	if response := c.Do(t, newRequest("REGISTER", "sip:"+domain, who)); response.Status() != 200 {
		t.Fatalf("REGISTER of %s: %s", who.AoR, response)
	}
}

var challengeParam = regexp.MustCompile(`(realm|nonce)="([^"]*)"`)

// credentials is the header that answers a challenge: RFC 2617 with qop=auth.
func credentials(t testing.TB, challenge Message, r *WebRequest) string {
	t.Helper()
	header, value := "Authorization", challenge.Header("WWW-Authenticate")
	if challenge.Status() == 407 {
		header, value = "Proxy-Authorization", challenge.Header("Proxy-Authenticate")
	}
	params := map[string]string{}
	for _, match := range challengeParam.FindAllStringSubmatch(value, -1) {
		params[match[1]] = match[2]
	}
	if params["nonce"] == "" {
		t.Fatalf("no nonce in the challenge %q", value)
	}
	const count, cnonce = "00000001", "e2e"
	hash := func(parts ...string) string { return fmt.Sprintf("%x", md5.Sum([]byte(strings.Join(parts, ":")))) }
	response := hash(hash(r.from.User, params["realm"], r.from.Password), params["nonce"], count, cnonce, "auth", hash(r.Method, r.URI))
	return fmt.Sprintf(`%s: Digest username="%s", realm="%s", nonce="%s", uri="%s", qop=auth, nc=%s, cnonce="%s", response="%s", algorithm=MD5`,
		header, r.from.User, params["realm"], params["nonce"], r.URI, count, cnonce, response)
}
