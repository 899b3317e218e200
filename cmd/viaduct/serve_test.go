package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

// TestServe starts viaduct as a process, reads what it says at start, asks its
// listener for a page that is not there, and ends it by each signal.
func TestServe(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(signal.String(), func(t *testing.T) {
			pbx := startPBX(t)
			state := t.TempDir()
			v := startViaduct(t, []string{"STATE_DIRECTORY=" + state},
				"--listen=127.0.0.1:0", "--sip-listen=127.0.0.1:0", "--upstream=sip:"+pbx)

			listening := v.line("listening")
			url := listening["websocket"].([]any)[0].(string)
			if !strings.HasPrefix(url, "ws://127.0.0.1:") || !strings.HasSuffix(url, "/ws") {
				t.Errorf("websocket: %q", url)
			}
			sip := listening["sip"].(string)
			if advertised := listening["advertised"].([]any)[0]; advertised != "UDP "+sip {
				t.Errorf("advertised %q, want UDP %s", advertised, sip)
			}
			if _, there := listening["sip_tls"]; there {
				t.Error("sip_tls without --sip-tls-listen")
			}
			if answer := v.line("upstream answered")["answer"]; answer != "404 Not Found" {
				t.Errorf("answer %q", answer)
			}
			wantStatus(t, "http"+strings.TrimSuffix(strings.TrimPrefix(url, "ws"), "/ws")+"/other", http.StatusNotFound)
			admin := listening["admin"].(string)
			wantStatus(t, admin+"/healthz", http.StatusOK)
			wantStatus(t, admin+"/readyz", http.StatusOK)
			wantStatus(t, admin+"/metrics", http.StatusOK)
			wantMode(t, filepath.Join(state, "token.key"), 0o600)

			v.end(signal)
		})
	}
}

// TestServeWithoutState: where no key can be kept, it says what that costs.
func TestServeWithoutState(t *testing.T) {
	impossible := filepath.Join(writeFile(t, t.TempDir(), "file", ""), "state")
	v := startViaduct(t, []string{"STATE_DIRECTORY=" + impossible, "XDG_STATE_HOME=" + impossible},
		"--listen=127.0.0.1:0", "--sip-listen=127.0.0.1:0", "--upstream=sip:"+startPBX(t))
	warning := v.line("calls will not survive a restart: the token keys live as long as this process")
	if warning["level"] != "warn" || warning["flag"] != "--token-key-file" {
		t.Errorf("warning: %v", warning)
	}
	v.end(syscall.SIGTERM)
}

// TestServeTLS: wss, and SIP by TLS on the other side.
func TestServeTLS(t *testing.T) {
	cert, key := writeCertificate(t, t.TempDir())
	v := startViaduct(t, []string{"STATE_DIRECTORY=" + t.TempDir()},
		"--listen=127.0.0.1:0", "--listen=127.0.0.1:0", "--path=/sip", "--tls-cert="+cert, "--tls-key="+key,
		"--sip-listen=127.0.0.1:0", "--sip-tls-listen=127.0.0.1:0", "--sip-tls-cert="+cert, "--sip-tls-key="+key,
		"--upstream=sip:"+startPBX(t))
	listening := v.line("listening")
	urls := listening["websocket"].([]any)
	if len(urls) != 2 {
		t.Fatalf("websocket: %q", urls)
	}
	for _, url := range urls {
		if url := url.(string); !strings.HasPrefix(url, "wss://127.0.0.1:") || !strings.HasSuffix(url, "/sip") {
			t.Errorf("websocket: %q", url)
		}
	}
	if sipTLS, _ := listening["sip_tls"].(string); !strings.HasPrefix(sipTLS, "127.0.0.1:") {
		t.Errorf("sip_tls: %q", sipTLS)
	}
	v.end(syscall.SIGTERM)
}

// TestSecondSignal: a drain that waits for a call is ended at once.
func TestSecondSignal(t *testing.T) {
	v := startViaduct(t, []string{"STATE_DIRECTORY=" + t.TempDir()},
		"--listen=127.0.0.1:0", "--sip-listen=127.0.0.1:0", "--upstream=sip:"+startPBX(t), "--drain-timeout=1h")
	call(t, v.line("listening")["websocket"].([]any)[0].(string))
	v.signal(syscall.SIGTERM)
	v.line("draining")
	v.signal(syscall.SIGTERM)
	var ended *exec.ExitError
	if err := v.cmd.Wait(); !errors.As(err, &ended) || ended.Sys().(syscall.WaitStatus).Signal() != syscall.SIGTERM {
		t.Errorf("ended with %v, want the signal", err)
	}
}

// call begins a call by WebSocket and returns when it rings.
func call(t *testing.T, url string) {
	t.Helper()
	dialer := ws.Dialer{Protocols: []string{"sip"}}
	conn, _, _, err := dialer.Dial(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(time.Minute))
	if err := wsutil.WriteClientText(conn, []byte(invite)); err != nil {
		t.Fatal(err)
	}
	answer, err := wsutil.ReadServerText(conn)
	if err != nil || !strings.HasPrefix(string(answer), "SIP/2.0 180 ") {
		t.Fatalf("answered %q, %v", answer, err)
	}
}

const invite = "INVITE sip:bob@pbx.example SIP/2.0\r\n" +
	"Via: SIP/2.0/WSS alice.invalid;branch=z9hG4bK1\r\n" +
	"From: <sip:alice@pbx.example>;tag=1\r\nTo: <sip:bob@pbx.example>\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\n" +
	"Contact: <sip:alice@alice.invalid;transport=ws>\r\nContent-Length: 0\r\n\r\n"

// process is a running viaduct and its log.
type process struct {
	t   *testing.T
	cmd *exec.Cmd
	log *bufio.Scanner
}

// startViaduct runs this test binary as viaduct, with its admin listener at any
// port; see TestMain.
func startViaduct(t *testing.T, env []string, args ...string) *process {
	t.Helper()
	cmd := exec.Command(os.Args[0], append([]string{"--admin=127.0.0.1:0"}, args...)...)
	cmd.Env = append(append(os.Environ(), asViaduct+"=1"), env...)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// A process that hangs must fail the test, not stop it.
	watchdog := time.AfterFunc(time.Minute, func() { _ = cmd.Process.Kill() })
	t.Cleanup(func() {
		watchdog.Stop()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return &process{t: t, cmd: cmd, log: bufio.NewScanner(stderr)}
}

// line waits for the log line with that message and returns its fields.
func (p *process) line(message string) map[string]any {
	p.t.Helper()
	var seen []string
	for p.log.Scan() {
		seen = append(seen, p.log.Text())
		var fields map[string]any
		if json.Unmarshal(p.log.Bytes(), &fields) == nil && fields["msg"] == message {
			return fields
		}
	}
	p.t.Fatalf("the log ended without %q:\n%s", message, strings.Join(seen, "\n"))
	return nil
}

// waitFor waits for a line of the log, of any format, that has a text.
func (p *process) waitFor(text string) string {
	p.t.Helper()
	for p.log.Scan() {
		if strings.Contains(p.log.Text(), text) {
			return p.log.Text()
		}
	}
	p.t.Fatalf("the log ended without %q", text)
	return ""
}

func (p *process) signal(signal syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(signal); err != nil {
		p.t.Fatal(err)
	}
}

// end sends signal and expects an orderly exit.
func (p *process) end(signal syscall.Signal) {
	p.t.Helper()
	p.signal(signal)
	var rest strings.Builder
	for p.log.Scan() {
		rest.WriteString(p.log.Text() + "\n")
	}
	if err := p.cmd.Wait(); err != nil {
		p.t.Errorf("after %v: %v\n%s", signal, err, rest.String())
	}
}

// startPBX answers every request with 404, which is how an Asterisk without
// a matching extension answers OPTIONS, and returns its address. An INVITE rings
// for ever.
func startPBX(t *testing.T) string {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	go func() {
		buf := make([]byte, 65535)
		for {
			n, from, err := conn.ReadFrom(buf)
			if err != nil {
				return
			}
			_, _ = conn.WriteTo(answerTo(string(buf[:n])), from)
		}
	}()
	return conn.LocalAddr().String()
}

func answerTo(request string) []byte {
	lines := strings.Split(request, "\r\n")
	lines[0] = "SIP/2.0 404 Not Found"
	if strings.HasPrefix(request, "INVITE ") {
		lines[0] = "SIP/2.0 180 Ringing"
	}
	return []byte(strings.Join(lines, "\r\n"))
}

func wantStatus(t *testing.T, url string, want int) {
	t.Helper()
	response, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if _, err := io.Copy(io.Discard, response.Body); err != nil {
		t.Error(err)
	}
	if response.StatusCode != want {
		t.Errorf("%s: %s, want %d", url, response.Status, want)
	}
}

func wantMode(t *testing.T, file string, want os.FileMode) {
	t.Helper()
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if got := info.Mode().Perm(); got != want {
		t.Errorf("%s: mode %o, want %o", file, got, want)
	}
}
