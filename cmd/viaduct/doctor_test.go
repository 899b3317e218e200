package main

import (
	"bytes"
	"context"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// doctorRows are the rows of a table that the doctor printed, each with what to
// set, their columns one space apart.
func doctorRows(printed string) []string {
	columns := regexp.MustCompile(`  +`)
	var rows []string
	for line := range strings.Lines(printed) {
		line = columns.ReplaceAllString(strings.TrimSpace(line), " ")
		if strings.HasPrefix(line, "→") && len(rows) > 0 {
			rows[len(rows)-1] += " " + line
			continue
		}
		rows = append(rows, line)
	}
	return rows
}

// doctorRun runs the doctor and returns what it found.
func doctorRun(t *testing.T, args ...string) (rows []string, status int) {
	t.Helper()
	printed, status := doctorPrints(t.Context(), t, args...)
	return doctorRows(printed), status
}

// doctorAccount is the flags for the account of a doctorPBX.
func doctorAccount(t *testing.T) []string {
	return []string{"--user=" + doctorUser, "--password-file=" + writeFile(t, t.TempDir(), "password", doctorPassword+"\n")}
}

// doctorPrints runs the doctor and returns what it prints.
func doctorPrints(ctx context.Context, t *testing.T, args ...string) (printed string, status int) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	status = run(ctx, append([]string{"doctor", "--sip-listen=127.0.0.1:0"}, args...), &stdout, &stderr)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("exit status %d\n%s%s", status, stdout.String(), stderr.String())
		}
	})
	if printed := stdout.String() + stderr.String(); strings.Contains(printed, doctorPassword) {
		t.Error("the password is shown")
	}
	return stdout.String(), status
}

// TestDoctor: each fault of a SIP server is found, and said with what to set.
func TestDoctor(t *testing.T) {
	cut := func(contact string) string { // the user part in 20 characters
		user := userOf(contact)
		return strings.Replace(contact, user, user[:min(20, len(user))], 1)
	}
	tests := []struct {
		name    string
		script  doctorScript
		args    []string
		anyone  bool // no account
		blocked bool
		want    []string // of the rows, in order; \d is a digit
		sees    []string // of what the PBX gets, in order
	}{
		{
			name: "as it should be", script: doctorScript{path: true},
			want: []string{
				`ok address 127\.\S+:5060, which is shown 127\.0\.0\.1:\d+`,
				`ok OPTIONS by UDP 200 OK after \S+`,
				`ok OPTIONS by TCP 200 OK after \S+`,
				`note OPTIONS by TLS connection refused → nothing, as long as --upstream does not say transport=tls`,
				`ok address as seen 127\.0\.0\.1:\d+, as it is told`,
				`ok datagram of 4096 bytes 200 OK after \S+`,
				`ok datagram of 8192 bytes 200 OK after \S+`,
				`ok REGISTER 200 OK with digest`,
				`ok Contact in the 200 whole, \d+ characters`,
				`ok call to itself came by UDP 127\.\S+:5060 with the token whole`,
				`ok INVITE, no credentials from nobody: 407 Proxy Authentication Required`,
				`ok INVITE, no credentials from alice: 407 Proxy Authentication Required`,
				`ok Path kept`,
			},
		},
		{
			name: "no account", anyone: true,
			want: []string{
				`note REGISTER skipped: no account → --user and --password-file of a test account`,
				`note Contact in the 200 skipped: no account → --user and --password-file of a test account`,
				`note call to itself skipped: no account → --user and --password-file of a test account`,
				`note Path skipped: no account → --user and --password-file of a test account`,
				`ok INVITE, no credentials from nobody: 407 Proxy Authentication Required`,
			},
		},
		{
			name: "no answer", script: doctorScript{silent: true}, blocked: true,
			want: []string{
				`BLOCKER OPTIONS by UDP no answer → the address of a running SIP server in --upstream; the SIP server's UDP port open for this address`,
				`note OPTIONS by TCP no answer → nothing, .*`,
				`note REGISTER skipped: the SIP server does not answer → what is said above`,
				`note INVITE, no credentials skipped: the SIP server does not answer → what is said above`,
			},
		},
		{
			name: "no answer but to OPTIONS", script: doctorScript{onlyOptions: true}, blocked: true,
			want: []string{
				`BLOCKER REGISTER no answer → a registrar at the SIP server that takes requests from this address`,
				`note INVITE, no credentials no answer → nothing, if the SIP server ignores such INVITEs on purpose`,
			},
		},
		{
			name: "no TCP", script: doctorScript{noTCP: true},
			want: []string{`note OPTIONS by TCP connection refused → nothing, as long as --upstream does not say transport=tcp`},
		},
		{
			name: "no TCP, which is asked for", script: doctorScript{noTCP: true}, args: []string{"transport=tcp"}, blocked: true,
			want: []string{`BLOCKER OPTIONS by TCP connection refused → transport=udp in --upstream, by which it answers; or the SIP server's TCP port open for this address`},
		},
		{
			name: "big datagrams are lost", script: doctorScript{maxDatagram: 1500},
			want: []string{
				`warning datagram of 4096 bytes lost: no answer → --tcp-above=1300, or transport=tcp in --upstream: .*`,
				`ok REGISTER 200 OK with digest`,
			},
		},
		{
			name: "very big datagrams are lost, and there is no TCP", script: doctorScript{maxDatagram: 5000, noTCP: true},
			want: []string{
				`ok datagram of 4096 bytes .*`,
				`warning datagram of 8192 bytes lost: no answer → TCP at the SIP server, and --tcp-above=1300 here; or let IP fragments pass: .*`,
			},
		},
		{
			name: "behind NAT", script: doctorScript{received: "192.0.2.7:4711"},
			want: []string{`warning address as seen the SIP server sees 192\.0\.2\.7:4711, and is told 127\.0\.0\.1:\d+ → --advertise=192\.0\.2\.7:4711 if that stays; a route without NAT is better`},
		},
		{
			name: "a name is advertised", args: []string{"--advertise=localhost"},
			want: []string{`note address as seen the SIP server is told a name, localhost → --advertise with an IP address: .*`},
		},
		{
			name: "403 to REGISTER", script: doctorScript{register: "403 Forbidden"}, blocked: true,
			want: []string{
				`BLOCKER REGISTER 403 Forbidden before credentials are asked for → --user=USER@DOMAIN as the SIP server has it; .*`,
				`note call to itself skipped: the account is not registered → what is said above`,
			},
		},
		{
			name: "another account", args: []string{"--user=bob"}, blocked: true,
			want: []string{`BLOCKER REGISTER 403 Forbidden to the credentials → --user and --password-file as the SIP server has them; .*`},
		},
		{
			name: "no MD5", script: doctorScript{algorithm: "SHA-256"}, blocked: true,
			want: []string{`BLOCKER REGISTER the SIP server asks for no digest with MD5, .* → digest with MD5 at the SIP server: JsSIP and SIP\.js know no other`},
		},
		{
			name: "anyone may register", script: doctorScript{noChallenge: true}, blocked: true,
			want: []string{`BLOCKER REGISTER 200 OK without credentials: any browser can register as anyone → authentication of alice at the SIP server`},
		},
		{
			name: "Contact cut short", script: doctorScript{keep: cut}, blocked: true,
			want: []string{
				`BLOCKER Contact in the 200 cut short: 20 of 40 characters of the user part → a wider column for contacts at the SIP server: .*`,
				`BLOCKER call to itself cut short: 20 of 40 characters of the user part came → a wider column for contacts at the SIP server: .*`,
			},
		},
		{
			name: "Contact rewritten", script: doctorScript{keep: func(c string) string { return regexp.MustCompile(`@[^>]*>`).ReplaceAllString(c, "@192.0.2.7:4711>") },
				uncallable: "480 Temporarily Unavailable"}, blocked: true,
			want: []string{`warning Contact in the 200 rewritten: 192\.0\.2\.7:4711 stands where 127\.0\.0\.1:\d+ did → rewrite_contact=no \(PJSIP\), nat=no \(chan_sip\), or --advertise=192\.0\.2\.7:4711 if calls shall come there`},
		},
		{
			name: "Contact not listed, and another is", script: doctorScript{keep: func(string) string { return "<sip:phone@192.0.2.7>" }, uncallable: "486 Busy Here"},
			want: []string{
				`warning Contact in the 200 it is not there \(1 others are\) → a registrar that lists every contact in its answer .*`,
				`warning call to itself not put through: 486 Busy Here → a dial plan in which sip:alice@\S+ can be called; then run this again`,
			},
		},
		{
			name: "somebody else has the account too", script: doctorScript{keep: func(c string) string { return "<sip:phone@192.0.2.7>, " + c }, uncallable: "486 Busy Here"},
			want: []string{`note Contact in the 200 1 others are there, and will ring → --user of an account that nobody uses`},
		},
		{
			name: "shorter expiry", script: doctorScript{expires: 120},
			want: []string{`note Contact in the 200 for 120 s, where 600 were asked for → nothing: browsers go by it`},
		},
		{
			name: "far too short an expiry", script: doctorScript{expires: 20},
			want: []string{`warning Contact in the 200 for 20 s, where 600 were asked for → a longer least expiry at the SIP server: .*`},
		},
		{
			name: "the call does not come", script: doctorScript{uncallable: "408 Request Timeout"}, blocked: true,
			want: []string{`BLOCKER call to itself it does not come: 408 Request Timeout → --advertise with an address where the SIP server reaches this machine, and let it reach 127\.0\.0\.1:\d+ by UDP`},
		},
		{
			name: "the call gets nowhere", script: doctorScript{called: func() {}}, blocked: true,
			want: []string{`BLOCKER call to itself it does not come → --advertise with an address where .*`},
			sees: []string{"INVITE", "ACK", "INVITE", "CANCEL", "ACK"},
		},
		{
			name: "the transport of the Contact is lost", args: []string{"transport=tcp"},
			script: doctorScript{keep: func(c string) string { return strings.Replace(c, ";transport=tcp", "", 1) }},
			want: []string{
				`warning Contact in the 200 rewritten: 127\.0\.0\.1:\d+ stands where 127\.0\.0\.1:\d+;transport=tcp did → .*`,
				`note call to itself came by UDP 127\.\S+:5060 with the token whole, for 127\.0\.0\.1:\d+ instead of 127\.0\.0\.1:\d+;transport=tcp → nothing: viaduct goes by the token`,
			},
		},
		{
			name: "the call comes from another address", script: doctorScript{elsewhere: true}, blocked: true,
			want: []string{`BLOCKER call to itself something came from 127\.0\.0\.1, which is not the upstream → alias=127\.0\.0\.1 in --upstream, or --allow-peer=127\.0\.0\.1/32`},
		},
		{
			name: "it does, and that is allowed", script: doctorScript{elsewhere: true}, args: []string{"--allow-peer=127.0.0.1/32"},
			want: []string{`ok call to itself came by UDP 127\.0\.0\.1:\d+ with the token whole`},
		},
		{
			name:   "the call is for the account, not its Contact",
			script: doctorScript{target: func(uri string) string { return strings.Replace(uri, userOf(uri), doctorUser, 1) }}, blocked: true,
			want: []string{`BLOCKER call to itself it came for sip:alice@127\.0\.0\.1:\d+ → the Contact's URI for the Request-URI of calls at the SIP server .*`},
		},
		{
			name: "the call is broken", script: doctorScript{broken: true}, blocked: true,
			want: []string{`BLOCKER call to itself it came, and viaduct would refuse it: duplicate.header → whatever writes such messages .*`},
		},
		{
			name: "an INVITE without credentials rings", script: doctorScript{open: "180 Ringing"}, blocked: true,
			want: []string{
				`BLOCKER INVITE, no credentials from nobody: 180 Ringing: every browser is a trusted trunk → ask 127\.0\.0\.1 for credentials at the SIP server: .*`,
				`BLOCKER INVITE, no credentials from alice: 180 Ringing: .*`,
			},
			sees: []string{"CANCEL", "ACK", "INVITE", "CANCEL", "ACK"},
		},
		{
			name: "an INVITE without credentials is answered", script: doctorScript{stranger: "200 OK"}, anyone: true, blocked: true,
			want: []string{`BLOCKER INVITE, no credentials from nobody: 200 OK: every browser is a trusted trunk → .*`},
			sees: []string{"INVITE", "ACK", "BYE"},
		},
		{
			name: "an INVITE without credentials is refused for its number", script: doctorScript{open: "404 Not Found"}, anyone: true,
			want: []string{`warning INVITE, no credentials from nobody: 404 Not Found for sip:doctor-\S+, and not asked who calls → .*`},
		},
		{
			name: "no rtpengine", args: []string{"--rtpengine=127.0.0.1:1"}, blocked: true,
			want: []string{`rtpengine`, `BLOCKER 127\.0\.0\.1:1 connection refused → --rtpengine with the listen-ng of one that runs: .*`},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			pbx := startDoctorPBX(t, tt.script)
			upstream, args := "--upstream=sip:"+pbx.ip, []string{}
			for _, arg := range tt.args {
				if strings.HasPrefix(arg, "transport=") {
					upstream += ";" + arg
					continue
				}
				args = append(args, arg)
			}
			if !tt.anyone {
				args = append(doctorAccount(t), args...)
			}
			begun := time.Now()
			rows, status := doctorRun(t, append([]string{upstream}, args...)...)
			if took := time.Since(begun); took > time.Minute {
				t.Errorf("it took %v", took)
			}
			if want := map[bool]int{false: exitOK, true: exitFailed}[tt.blocked]; status != want {
				t.Errorf("exit status %d, want %d", status, want)
			}
			wantRows(t, rows, tt.want)
			wantSteps(t, pbx.heard(), tt.sees)
			if answered := tt.script.stranger == "200 OK"; !answered && slices.ContainsFunc(pbx.heard(), func(line string) bool {
				return strings.HasPrefix(line, "ACK sip:pbx@")
			}) {
				t.Error("the ACK of a refusal goes to the refusal's Contact")
			}
			if left := pbx.registered(); left != "" {
				t.Errorf("left registered: %s", left)
			}
		})
	}
}

// wantRows fails the test unless the rows that match want are there, in order.
func wantRows(t *testing.T, rows, want []string) {
	t.Helper()
	for _, pattern := range want {
		whole := regexp.MustCompile("^" + pattern + "$")
		at := slices.IndexFunc(rows, whole.MatchString)
		if at < 0 {
			t.Errorf("no row %s, or not in its place, in\n%s", pattern, strings.Join(rows, "\n"))
			return
		}
		rows = rows[at+1:]
	}
}

// wantSteps fails the test unless requests of these methods came in that order.
func wantSteps(t *testing.T, got, want []string) {
	t.Helper()
	for _, method := range want {
		at := slices.IndexFunc(got, func(line string) bool { return strings.HasPrefix(line, method+" ") })
		if at < 0 {
			t.Errorf("no %s, or not in its place, of %q", method, want)
			return
		}
		got = got[at+1:]
	}
}

// TestDoctorBesideViaduct: a port that is taken is said, and another is used.
func TestDoctorBesideViaduct(t *testing.T) {
	taken := mustListen(t, "127.0.0.1:0")
	defer taken.Close()
	pbx := startDoctorPBX(t, doctorScript{})
	rows, status := doctorRun(t, "--upstream=sip:"+pbx.ip, "--sip-listen="+taken.Addr().String(), "--advertise="+taken.Addr().String())
	if status != exitOK {
		t.Errorf("exit status %d", status)
	}
	wantRows(t, rows, []string{
		`warning address --sip-listen is in use, by a running viaduct perhaps: another port was tried → stop viaduct and run this again: .*`,
		`ok address 127\.\S+:5060, which is shown 127\.0\.0\.1:\d+`,
		`ok address as seen .*`,
	})
	if slices.ContainsFunc(rows, func(row string) bool { return strings.Contains(row, "shown "+taken.Addr().String()) }) {
		t.Errorf("the SIP server is shown an address where somebody else is")
	}
}

// TestDoctorInterrupted: what was begun is ended, and nothing is blamed for it.
func TestDoctorInterrupted(t *testing.T) {
	ctx, interrupt := context.WithCancel(t.Context())
	pbx := startDoctorPBX(t, doctorScript{called: interrupt})
	printed, status := doctorPrints(ctx, t, append(doctorAccount(t), "--upstream=sip:"+pbx.ip, "--upstream=sip:127.0.0.1:1")...)
	if status != exitOK || strings.Contains(printed, "127.0.0.1:1\n") {
		t.Errorf("exit status %d", status)
	}
	wantRows(t, doctorRows(printed), []string{
		`ok REGISTER 200 OK with digest`,
		`note call to itself skipped: context canceled → nothing: run this again`,
	})
	wantSteps(t, pbx.heard(), []string{"REGISTER", "INVITE", "CANCEL", "ACK", "REGISTER"})
	if left := pbx.registered(); left != "" {
		t.Errorf("left registered: %s", left)
	}
}

// TestDoctorUsage: what is wrong is said in one line, and nothing is tried.
func TestDoctorUsage(t *testing.T) {
	file := writeFile(t, t.TempDir(), "password", doctorPassword)
	tests := []struct {
		name string
		args []string
		says string
	}{
		{"no upstream", nil, "--upstream"},
		{"no URI", []string{"--upstream=10.0.0.5"}, "--upstream"},
		{"no password", []string{"--upstream=sip:10.0.0.5", "--user=alice"}, "--password-file"},
		{"no user", []string{"--upstream=sip:10.0.0.5", "--password-file=" + file}, "--user"},
		{"a user that breaks messages", []string{"--upstream=sip:10.0.0.5", "--user=a b", "--password-file=" + file}, "--user"},
		{"no such file", []string{"--upstream=sip:10.0.0.5", "--user=alice", "--password-file=" + file + "x"}, "--password-file"},
		{"no certificate", []string{"--upstream=sip:10.0.0.5", "--upstream-ca=" + file}, "--upstream-ca"},
		{"no address", []string{"--upstream=sip:10.0.0.5", "--sip-listen=5070"}, "--sip-listen"},
		{"no engine", []string{"--upstream=sip:10.0.0.5", "--rtpengine=5070"}, "--rtpengine"},
		{"a flag of the gateway's", []string{"--upstream=sip:10.0.0.5", "--path=/ws"}, "--path"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			status := run(t.Context(), append([]string{"doctor"}, tt.args...), &stdout, &stderr)
			if status != exitUsage || !strings.Contains(stderr.String(), tt.says) || strings.Count(stderr.String(), "\n") != 1 {
				t.Errorf("exit status %d: %s", status, stderr.String())
			}
			if stdout.Len() > 0 {
				t.Errorf("printed %s", stdout.String())
			}
		})
	}
}
