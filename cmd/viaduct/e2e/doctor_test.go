package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// doctorPatience bounds a doctor that gets answers, as these do.
const doctorPatience = 30 * time.Second

// runDoctor runs `viaduct doctor` for alice at the PBX, and returns the rows of
// its table, their columns one space apart and each with what to set, and its
// exit status.
func runDoctor(t *testing.T, pbx *Kamailio, proto, password string, flags ...string) (rows []string, status int) {
	t.Helper()
	file := filepath.Join(tempDir(t), "password")
	if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	args := append([]string{
		"doctor", "--upstream=" + pbx.Upstream(proto), "--user=alice@" + domain, "--password-file=" + file,
		"--upstream-ca=" + authority.File, "--sip-listen=" + loopback.IP.String() + ":0",
	}, flags...)
	process := startProcess(t, "viaduct doctor", loopback.command(viaductBinary, args...))
	select {
	case <-process.exited:
	case <-time.After(doctorPatience):
		t.Fatal("the doctor does not end")
	}
	columns := regexp.MustCompile(`  +`)
	for _, line := range process.Output.All() {
		for _, trouble := range []string{"DATA RACE", "panic:", "fatal error:", password} {
			if strings.Contains(line, trouble) {
				t.Errorf("the doctor says %q", line)
			}
		}
		line = columns.ReplaceAllString(strings.TrimSpace(line), " ")
		if strings.HasPrefix(line, "→") && len(rows) > 0 {
			rows[len(rows)-1] += " " + line
			continue
		}
		rows = append(rows, line)
	}
	t.Cleanup(func() {
		if t.Failed() {
			for _, message := range pbx.Messages.All() {
				t.Log(message.Raw)
			}
		}
	})
	return rows, process.cmd.ProcessState.ExitCode()
}

// wantFindings fails the test unless the rows that match the patterns are there,
// in order.
func wantFindings(t *testing.T, rows []string, patterns ...string) {
	t.Helper()
	left := rows
	for _, pattern := range patterns {
		at := slices.IndexFunc(left, regexp.MustCompile("^"+pattern+"$").MatchString)
		if at < 0 {
			t.Errorf("no row %s, or not in its place, in\n%s", pattern, strings.Join(rows, "\n"))
			return
		}
		left = left[at+1:]
	}
}

// TestDoctor: a PBX that is set up well has no finding by any transport, and is
// left as it was.
func TestDoctor(t *testing.T) {
	for _, proto := range []string{"udp", "tcp", "tls"} {
		t.Run(proto, func(t *testing.T) {
			t.Parallel()
			pbx := startKamailioWith(t, loopback, PBXOptions{NoTrunks: true})
			certFile, keyFile := issue(t, "doctor", loopback.IP.String())
			rows, status := runDoctor(t, pbx, proto, passwordOf("alice"),
				"--sip-tls-listen="+loopback.IP.String()+":0", "--sip-tls-cert="+certFile, "--sip-tls-key="+keyFile)
			if status != 0 {
				t.Errorf("exit status %d", status)
			}
			by := strings.ToUpper(proto)
			wantFindings(t, rows,
				`ok OPTIONS by `+by+` 200 OK after \S+`,
				`ok address as seen 127\.0\.0\.1:\d+, as it is told`,
				`ok REGISTER 200 OK with digest`,
				`ok Contact in the 200 whole, \d+ characters`,
				`ok call to itself came by `+by+` 127\.0\.0\.1:\d+ with the token whole`,
				`ok INVITE, no credentials from nobody: 403 Forbidden`,
				`ok INVITE, no credentials from alice: 407 Proxy Authentication Required`,
			)
			for _, row := range rows {
				if strings.HasPrefix(row, "warning certificate it ends on") {
					continue // those of the tests live for a day
				}
				if strings.HasPrefix(row, "warning") || strings.HasPrefix(row, "BLOCKER") {
					t.Error(row)
				}
			}
			wantNothingLeft(t, pbx)
		})
	}
}

// wantNothingLeft fails the test if the account is registered still, or an INVITE
// has no final response or that no ACK.
func wantNothingLeft(t *testing.T, pbx *Kamailio) {
	t.Helper()
	registered, open := "", map[string]bool{}
	for _, m := range pbx.Messages.All() {
		call := m.Header("Call-ID") + m.Header("CSeq")
		switch {
		case m.Sent && m.Response(200, "REGISTER"):
			registered = m.Header("Contact")
		case !m.Sent && m.Request("INVITE"):
			open[call] = true
		case !m.Sent && m.Request("ACK"):
			delete(open, strings.TrimSuffix(call, "ACK")+"INVITE")
		}
	}
	if registered != "" {
		t.Errorf("left registered: %s", registered)
	}
	for call := range open {
		t.Errorf("left open: the INVITE of %s", call)
	}
}

// TestDoctorFindsTrunk: a PBX that takes INVITEs from anybody at this address
// makes every browser a trunk.
func TestDoctorFindsTrunk(t *testing.T) {
	t.Parallel()
	pbx := startKamailio(t, loopback)
	rows, status := runDoctor(t, pbx, "udp", passwordOf("alice"))
	if status != 1 {
		t.Errorf("exit status %d", status)
	}
	wantFindings(t, rows,
		`ok datagram of 4096 bytes 200 OK after \S+`,
		`ok datagram of 8192 bytes 200 OK after \S+`,
		`BLOCKER INVITE, no credentials from nobody: put through: every browser is a trusted trunk → ask 127\.0\.0\.1 for credentials at the SIP server: .*`,
		`ok INVITE, no credentials from alice: 407 Proxy Authentication Required`,
	)
	wantNothingLeft(t, pbx)
}

// TestDoctorWrongPassword: what Kamailio refuses is said, and not what was tried.
func TestDoctorWrongPassword(t *testing.T) {
	t.Parallel()
	pbx := startKamailioWith(t, loopback, PBXOptions{NoTrunks: true})
	rows, status := runDoctor(t, pbx, "udp", "not-"+passwordOf("alice"))
	if status != 1 {
		t.Errorf("exit status %d", status)
	}
	wantFindings(t, rows,
		`BLOCKER REGISTER 401 Unauthorized to the credentials → --user and --password-file as the SIP server has them; .*`,
		`note call to itself skipped: the account is not registered → what is said above`,
		`ok INVITE, no credentials from nobody: 403 Forbidden`,
	)
}
