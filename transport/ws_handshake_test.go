package transport

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
)

func TestWSHandshake(t *testing.T) {
	const (
		ok   = http.StatusSwitchingProtocols
		bad  = http.StatusBadRequest
		need = http.StatusUpgradeRequired
	)
	good := handshake()
	without := func(field string) string {
		var kept []string
		for line := range strings.SplitSeq(good, "\r\n") {
			if !strings.HasPrefix(line, field+":") {
				kept = append(kept, line)
			}
		}
		return strings.Join(kept, "\r\n")
	}
	with := func(field, value string) string {
		return strings.Replace(without(field), "\r\n\r\n", "\r\n"+field+": "+value+"\r\n\r\n", 1)
	}
	own := []string(nil)
	for _, test := range []struct {
		name    string
		origins []string
		request string
		status  int
		why     Refusal
	}{
		{"plain", own, good, ok, accepted},
		{"Firefox's Connection", own, with("Connection", "keep-alive, Upgrade"), ok, accepted},
		{"two Connection lines", own, handshake("Connection: keep-alive"), ok, accepted},
		{"upper case", own, with("Upgrade", "WebSocket"), ok, accepted},
		{"compression offered", own, handshake("Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"), ok, accepted},
		{"sip among others", own, with("Sec-WebSocket-Protocol", "xmpp , sip"), ok, accepted},
		{"sip on a second line", own, with("Sec-WebSocket-Protocol", "xmpp\r\nSec-WebSocket-Protocol: sip"), ok, accepted},
		{"empty body", own, handshake("Content-Length: 0"), ok, accepted},
		{"query", own, strings.Replace(good, "/ws", "/ws?a=b", 1), ok, accepted},

		{"no subprotocol", own, without("Sec-WebSocket-Protocol"), bad, RefusedNoSubprotocol},
		{"other subprotocol", own, with("Sec-WebSocket-Protocol", "sips, xsip, SIP"), bad, RefusedSubprotocol},
		{"empty subprotocol", own, with("Sec-WebSocket-Protocol", ""), bad, RefusedSubprotocol},
		{"no version", own, without("Sec-WebSocket-Version"), need, RefusedVersion},
		{"old version", own, with("Sec-WebSocket-Version", "8"), need, RefusedVersion},
		{"two versions", own, handshake("Sec-WebSocket-Version: 13"), need, RefusedVersion},
		{"no key", own, without("Sec-WebSocket-Key"), need, RefusedNotWebSocket},
		{"short key", own, with("Sec-WebSocket-Key", "c2hvcnQ="), need, RefusedNotWebSocket},
		{"two keys", own, handshake("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), need, RefusedNotWebSocket},
		{"a page", own, "GET /ws HTTP/1.1\r\nHost: a\r\n\r\n", need, RefusedNotWebSocket},
		{"no Connection", own, without("Connection"), need, RefusedNotWebSocket},
		{"Connection close", own, with("Connection", "close"), need, RefusedNotWebSocket},
		{"Upgrade to h2c", own, with("Upgrade", "h2c"), need, RefusedNotWebSocket},
		{"HTTP/1.0", own, strings.Replace(good, "HTTP/1.1", "HTTP/1.0", 1), need, RefusedNotWebSocket},
		{"POST", own, strings.Replace(good, "GET", "POST", 1), http.StatusMethodNotAllowed, RefusedNotWebSocket},
		{"body", own, handshake("Content-Length: 4") + "body", bad, RefusedBody},
		{"chunked body", own, handshake("Transfer-Encoding: chunked") + "0\r\n\r\n", bad, RefusedBody},

		{"own origin", own, handshake("Origin: https://gw.example.com"), ok, accepted},
		{"own origin, default port", own, handshake("Origin: https://GW.example.com:443"), ok, accepted},
		{"own origin, Host with port", own, strings.Replace(handshake("Origin: http://gw.example.com"), "Host: gw.example.com", "Host: gw.example.com:80", 1), ok, accepted},
		{"own host, other port", own, handshake("Origin: https://gw.example.com:8443"), 403, RefusedOrigin},
		{"foreign origin", own, handshake("Origin: https://evil.example"), 403, RefusedOrigin},
		{"longer host", own, handshake("Origin: https://gw.example.com.evil.example"), 403, RefusedOrigin},
		{"userinfo", own, handshake("Origin: https://gw.example.com@evil.example"), 403, RefusedOrigin},
		{"null origin", own, handshake("Origin: null"), 403, RefusedOrigin},
		{"empty origin", own, handshake("Origin: "), bad, RefusedBadOrigin},
		{"second origin", own, handshake("Origin: https://gw.example.com", "Origin: https://gw.example.com"), bad, RefusedBadOrigin},
		{"listed", []string{"https://app.example"}, handshake("Origin: https://app.example"), ok, accepted},
		{"listed, default port", []string{"https://App.example:443"}, handshake("Origin: https://app.example"), ok, accepted},
		{"listed with another scheme", []string{"https://app.example"}, handshake("Origin: http://app.example"), 403, RefusedOrigin},
		{"a list replaces the own host", []string{"https://app.example"}, handshake("Origin: https://gw.example.com"), 403, RefusedOrigin},
		{"listed null", []string{"null"}, handshake("Origin: null"), ok, accepted},
		{"none with a list", []string{"https://app.example"}, good, ok, accepted},
		{"any", []string{"*"}, handshake("Origin: https://evil.example"), ok, accepted},
		{"any but empty", []string{"*"}, handshake("Origin: "), bad, RefusedBadOrigin},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := startWS(t, WSConfig{Origins: test.origins}, nil)
			conn, err := net.Dial("tcp", s.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			p := &wsPeer{conn, t, bufio.NewReader(conn)}
			p.raw([]byte(test.request))
			resp := p.response()
			if resp.StatusCode != test.status {
				t.Fatalf("%s, want %d", resp.Status, test.status)
			}
			if test.why == accepted {
				checkAccepted(t, resp)
				conn.Close()
				s.ends(t, next(t, s.opened), CauseLost)
				return
			}
			checkRefused(t, resp, next(t, s.refused), test.why)
		})
	}
}

func checkAccepted(t *testing.T, resp *http.Response) {
	t.Helper()
	for field, want := range map[string]string{
		"Sec-WebSocket-Protocol": "[sip]",
		// The example of RFC 6455 1.3.
		"Sec-WebSocket-Accept":     "[s3pPLMBiTxaQ9kYGzzhZRbK+xOo=]",
		"Sec-WebSocket-Extensions": "[]",
		"Upgrade":                  "[websocket]",
		"Connection":               "[Upgrade]",
	} {
		if got := fmt.Sprint(resp.Header.Values(field)); got != want {
			t.Errorf("%s: %s, want %s", field, got, want)
		}
	}
}

func checkRefused(t *testing.T, resp *http.Response, why, want Refusal) {
	t.Helper()
	if why != want {
		t.Errorf("refused for %v, want %v", why, want)
	}
	body, _ := io.ReadAll(resp.Body)
	if strings.TrimSpace(string(body)) == "" {
		t.Error("no word of why")
	}
	if want == RefusedNoSubprotocol || want == RefusedSubprotocol {
		if !strings.Contains(string(body), "Sec-WebSocket-Protocol: sip") {
			t.Errorf("does not name what is needed: %s", body)
		}
	}
	if resp.StatusCode == http.StatusUpgradeRequired {
		if resp.Header.Get("Sec-WebSocket-Version") != "13" || resp.Header.Get("Upgrade") != "websocket" {
			t.Errorf("426 does not say what to upgrade to: %v", resp.Header)
		}
	}
}

func TestWSHeaderTooLarge(t *testing.T) {
	s := startWS(t, WSConfig{}, nil)
	conn, err := net.Dial("tcp", s.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	p := &wsPeer{conn, t, bufio.NewReader(conn)}
	p.raw([]byte(handshake("Cookie: " + strings.Repeat("c", 40<<10))))
	if resp := p.response(); resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Error(resp.Status)
	}
}

func TestWSMaxConnections(t *testing.T) {
	s := startWS(t, WSConfig{MaxConnections: 2}, nil)
	first, c := s.dial(t)
	_, second := s.dial(t)

	refused := func(why Refusal) {
		t.Helper()
		conn, err := net.Dial("tcp", s.addr)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		p := &wsPeer{conn, t, bufio.NewReader(conn)}
		p.raw([]byte(handshake()))
		resp := p.response()
		if resp.StatusCode != http.StatusServiceUnavailable {
			t.Errorf("%s, want 503", resp.Status)
		}
		checkRefused(t, resp, next(t, s.refused), why)
	}
	refused(RefusedConnections)

	first.Close()
	s.ends(t, c, CauseLost)
	s.freed(t, 1)
	_, c = s.dial(t)
	c.Close(ws.StatusNormalClosure, "")
	s.ends(t, c, CauseLocal)
	second.Close(ws.StatusNormalClosure, "")
	s.ends(t, second, CauseLocal)
}

// freed waits until only n connections count against MaxConnections.
func (s *wsServer) freed(t *testing.T, n int) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.live > n {
		s.gone.Wait()
	}
}

// A listener whose connections are not TCP is a mistake in the caller's program.
func TestWSServeFails(t *testing.T) {
	l, err := net.Listen("unix", t.TempDir()+"/sock")
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	s, err := NewWSServer(WSConfig{Path: "/ws"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Serve(l, nil); err == nil || !strings.Contains(err.Error(), "not TCP") {
		t.Errorf("Serve: %v", err)
	}
	s.Close(ws.StatusGoingAway)
	conn.SetDeadline(time.Now().Add(patience))
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("the connection is served")
	}
}

func TestWSLabels(t *testing.T) {
	seen := map[string]bool{}
	for _, why := range CloseCauses() {
		seen["close "+why.String()] = true
	}
	for _, why := range Refusals() {
		seen["refuse "+why.String()] = true
	}
	if len(seen) != len(CloseCauses())+len(Refusals()) {
		t.Errorf("two labels are the same: %v", seen)
	}
	for label := range seen {
		if strings.Contains(label, "(") {
			t.Errorf("%s has no name", label)
		}
	}
}
