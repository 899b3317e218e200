package main

import (
	"bytes"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

// TestFail2ban: Debian's fail2ban finds the browser's address in the line that
// viaduct writes when credentials are refused, in each format, from a file and as
// the journal has it; and no address that the browser made up.
func TestFail2ban(t *testing.T) {
	for _, format := range []string{"json", "console"} {
		t.Run(format, func(t *testing.T) {
			line := refusedCredentials(t, format)
			if strings.Contains(line, "top-secret") || !strings.Contains(line, "192.0.2.66") {
				t.Errorf("logged %s", line)
			}
			journal := time.Now().Format("2006-01-02T15:04:05-07:00") + " edge viaduct[42]: " + line
			other := strings.Replace(line, "authentication failed", "refused", 1)
			log := strings.Join([]string{line, journal, other, ""}, "\n")
			if got := banned(t, writeFile(t, t.TempDir(), "log", log)); !slices.Equal(got, []string{"127.0.0.1", "127.0.0.1"}) {
				t.Errorf("fail2ban finds %q in\n%s", got, log)
			}
		})
	}
	t.Logf("attack: %s | %s | %s", "an address to ban is made up in a From", "fail2ban's filter finds the browser's own address alone", "viaduct_authentication_failures_total")
}

// refusedCredentials returns the line that viaduct writes for a browser which puts
// what looks like the rest of such a line in its From.
func refusedCredentials(t *testing.T, format string) string {
	t.Helper()
	v := startViaduct(t, []string{"STATE_DIRECTORY=" + t.TempDir()},
		"--listen=127.0.0.1:0", "--sip-listen=127.0.0.1:0", "--upstream=sip:"+startPBX(t), "--log-format="+format)
	url := regexp.MustCompile(`ws://[^"]+`).FindString(v.waitFor("listening"))
	dialer := ws.Dialer{Protocols: []string{"sip"}}
	conn, _, _, err := dialer.Dial(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const forged = `x","client":"192.0.2.66","msg":"authentication failed","client":"192.0.2.66",`
	request := strings.ReplaceAll(invite, "INVITE", "REGISTER")
	request = strings.Replace(request, "From: <sip:alice@", "Authorization: Digest response=\"top-secret\"\r\nFrom: <sip:"+forged+"@", 1)
	if err := wsutil.WriteClientText(conn, []byte(request)); err != nil {
		t.Fatal(err)
	}
	line := v.waitFor("authentication failed")
	v.end(syscall.SIGTERM)
	return line
}

// banned returns the addresses that Debian's fail2ban finds in a log.
func banned(t *testing.T, log string) []string {
	t.Helper()
	filter, err := filepath.Abs(filepath.Join("..", "..", "deploy", "fail2ban", "filter.conf"))
	if err != nil {
		t.Fatal(err)
	}
	var out, trouble bytes.Buffer
	cmd := exec.Command("fail2ban-regex", "--out", "ip", log, filter)
	cmd.Stdout, cmd.Stderr = &out, &trouble
	if err := cmd.Run(); trouble.Len() > 0 || err != nil && cmd.ProcessState.ExitCode() != 1 { // 1: nothing is found
		t.Fatalf("fail2ban-regex: %v: %s", err, trouble.String())
	}
	return strings.Fields(out.String())
}
