package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"text/template"
)

// sippSDP is the session description of every sipp: nothing is sent or
// expected at its address. Pages that talk to sipp use fixed SDP as well.
const sippSDP = `v=0
o=- 1 1 IN IP4 127.0.0.1
s=-
c=IN IP4 127.0.0.1
t=0 0
m=audio 9 UDP/TLS/RTP/SAVPF 0
a=rtpmap:0 PCMU/8000
a=sendrecv`

// A Sipp is one sipp that plays a ladder of steps behind the PBX. A step is a
// file of testdata/sipp without its extension: recv-invite, send-180, …
// A callee's first step is recv-…, a caller's send-…. Steps within a call let
// another ACK pass: a 2xx that is sent again, because this machine is slow,
// gets one more.
type Sipp struct {
	// Steps reports a step when it has received its last message. Steps that
	// only send are not reported: look for their message at the PBX.
	Steps *Stream[string]

	ladder  []string
	addr    netip.AddrPort
	process *Process
	dir     string // holds the message and the error log
}

// A SippOption changes how sipp is run.
type SippOption func(*sippRun)

type sippRun struct {
	calls, perSecond int
	user             string
	users            []string
	referUser        string
	tolerant         bool
	addr             netip.AddrPort
}

// Calls makes sipp play the ladder n times, all at once.
func Calls(n int) SippOption { return func(r *sippRun) { r.calls = n } }

// To names the user whom a caller calls at the PBX.
func To(user string) SippOption { return func(r *sippRun) { r.user = user } }

// ToEach makes a caller play the ladder once with each of the users, so many a second.
func ToEach(users []string, perSecond int) SippOption {
	return func(r *sippRun) { r.users, r.calls, r.perSecond = users, len(users), perSecond }
}

// At makes sipp use an address of Host.freePort's that was given away before.
func At(addr netip.AddrPort) SippOption { return func(r *sippRun) { r.addr = addr } }

// Tolerant makes sipp wait on when something comes that its ladder does not
// have next, as late copies do, and resend for 64·T1.
func Tolerant() SippOption { return func(r *sippRun) { r.tolerant = true } }

// ReferTo names the user that the step send-refer refers to.
func ReferTo(user string) SippOption { return func(r *sippRun) { r.referUser = user } }

// startSipp runs ladder against the PBX from host and returns when sipp's
// socket is open.
func startSipp(t testing.TB, host Host, pbx *Kamailio, ladder []string, options ...SippOption) *Sipp {
	t.Helper()
	run := sippRun{calls: 1, perSecond: 1000, user: "nobody", referUser: "nobody"}
	for _, option := range options {
		option(&run)
	}
	if !run.addr.IsValid() {
		run.addr = host.freePort(t)
	}
	s := &Sipp{Steps: NewStream[string](), ladder: ladder, addr: run.addr, dir: tempDir(t)}
	scenario := filepath.Join(s.dir, "scenario.xml")
	if err := os.WriteFile(scenario, run.address(composeLadder(t, ladder)), 0o600); err != nil {
		t.Fatalf("sipp: %v", err)
	}
	reader, writer, err := os.Pipe()
	if err != nil {
		t.Fatalf("sipp: %v", err)
	}
	cmd := host.command("sipp", pbx.UDP.String(),
		"-sf", scenario, "-i", s.addr.Addr().String(), "-p", fmt.Sprint(s.addr.Port()),
		"-m", fmt.Sprint(run.calls), "-r", fmt.Sprint(run.perSecond), "-s", run.user, "-key", "refer_user", run.referUser,
		"-nostdin", "-trace_logs", "-log_file", "/dev/fd/3",
		"-trace_err", "-error_file", filepath.Join(s.dir, "errors"),
		"-trace_msg", "-message_file", filepath.Join(s.dir, "messages"))
	cmd.Args = append(cmd.Args, run.arguments(t, s.dir)...)
	cmd.Dir = s.dir
	cmd.ExtraFiles = []*os.File{writer}
	s.process = startProcess(t, "sipp", cmd)
	_ = writer.Close()
	go followSteps(reader, s.Steps)
	t.Cleanup(func() { s.showOnFailure(t) })
	s.Steps.WaitFor(t, "sipp to open its socket", func(step string) bool { return step == "ready" })
	return s
}

// address makes the scenario's callee one of each call's own where there are several.
func (r *sippRun) address(scenario []byte) []byte {
	if r.users == nil {
		return scenario
	}
	return bytes.ReplaceAll(scenario, []byte("[service]"), []byte("[field0]"))
}

// arguments are those that the options add.
func (r *sippRun) arguments(t testing.TB, dir string) (args []string) {
	t.Helper()
	if r.tolerant {
		args = append(args, "-default_behaviors", "all,-abortunexp", "-max_non_invite_retrans", "11")
	}
	if r.users != nil {
		file := filepath.Join(dir, "users.csv")
		lines := "SEQUENTIAL\n" + strings.Join(r.users, "\n") + "\n"
		if err := os.WriteFile(file, []byte(lines), 0o600); err != nil {
			t.Fatalf("sipp: %v", err)
		}
		args = append(args, "-inf", file, "-l", fmt.Sprint(r.calls))
	}
	return args
}

// URI is where the PBX finds this sipp.
func (s *Sipp) URI() string { return fmt.Sprintf("sip:%s@%s", s.User(), domain) }

// User is the user part of URI.
func (s *Sipp) User() string { return fmt.Sprintf("9%05d", s.addr.Port()) }

// WaitStep waits until the step is done.
func (s *Sipp) WaitStep(t testing.TB, step string) {
	t.Helper()
	s.Steps.WaitFor(t, "sipp to do "+step, func(done string) bool { return done == step })
}

// Continue lets sipp go on after its step "wait", in the call with that Call-ID.
func (s *Sipp) Continue(t testing.TB, callID string) {
	t.Helper()
	conn, err := net.Dial("udp", s.addr.String())
	if err != nil {
		t.Fatalf("sipp: %v", err)
	}
	defer conn.Close()
	_, err = fmt.Fprintf(conn, "CONTINUE sip:sipp SIP/2.0\r\nVia: SIP/2.0/UDP %s;branch=z9hG4bKcontinue\r\n"+
		"From: <sip:e2e>;tag=e2e\r\nTo: <sip:sipp>\r\nCall-ID: %s\r\nCSeq: 1 CONTINUE\r\nContent-Length: 0\r\n\r\n",
		conn.LocalAddr(), callID)
	if err != nil {
		t.Fatalf("sipp: %v", err)
	}
}

// Wait waits until sipp has played its ladder to the end, and fails the test
// when that went otherwise than the ladder says.
func (s *Sipp) Wait(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	select {
	case <-s.process.exited:
	case <-ctx.Done():
		t.Fatalf("sipp does not end; ladder %q, done %q", s.ladder, s.Steps.All())
	}
	if s.process.err != nil {
		t.Fatalf("sipp: %v; ladder %q, done %q", s.process.err, s.ladder, s.Steps.All())
	}
}

func (s *Sipp) showOnFailure(t testing.TB) {
	if !t.Failed() {
		return
	}
	for _, name := range []string{"errors", "messages"} {
		if text, err := os.ReadFile(filepath.Join(s.dir, name)); err == nil {
			t.Logf("sipp %q %s:\n%s", s.ladder, name, text)
		}
	}
}

func followSteps(reader *os.File, steps *Stream[string]) {
	defer reader.Close()
	var text bytes.Buffer
	chunk := make([]byte, 4096)
	for {
		n, err := reader.Read(chunk)
		text.Write(chunk[:n])
		for {
			line, rest, found := strings.Cut(text.String(), "\n")
			if !found {
				break
			}
			steps.Add(line)
			text.Reset()
			text.WriteString(rest)
		}
		if err != nil {
			steps.End(fmt.Errorf("sipp has ended"))
			return
		}
	}
}

// composeLadder joins the files of the steps to one scenario.
func composeLadder(t testing.TB, ladder []string) []byte {
	t.Helper()
	var scenario bytes.Buffer
	scenario.WriteString(`<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE scenario SYSTEM "sipp.dtd">
<scenario name="e2e">
<init><nop><action><log message="ready"/></action></nop></init>
`)
	writer := ladderWriter{}
	steps := template.New("").Funcs(template.FuncMap{
		"done": writer.done, "sdp": func() string { return sippSDP }, "cseq": func() int { return writer.cseq },
		"branch": writer.branch, "callee": writer.callee, "open": writer.open,
		"initial": writer.initial, "request": writer.request, "hop": writer.hop,
		"answer": writer.answer, "reply": writer.reply, "ackFinal": writer.ackFinal,
	})
	for _, step := range ladder {
		writer.step = step
		file, err := steps.New(step).ParseFiles(filepath.Join("testdata", "sipp", step+".xml"))
		if err != nil {
			t.Fatalf("sipp step %s: %v", step, err)
		}
		if err := file.ExecuteTemplate(&scenario, step+".xml", nil); err != nil {
			t.Fatalf("sipp step %s: %v", step, err)
		}
	}
	// sipp refuses a variable that a scenario names only once or never sets.
	scenario.WriteString("<nop><action>\n")
	for _, variable := range []string{"via", "record_route", "remote", "local", "to", "cseq", "rseq"} {
		fmt.Fprintf(&scenario, "<assignstr assign_to=%q value=\"\"/>\n", variable)
	}
	scenario.WriteString(`</action></nop>
<Reference variables="via,record_route,remote,local,to,cseq,rseq"/>
</scenario>
`)
	return scenario.Bytes()
}

// A ladderWriter writes what the steps' messages have in common. sipp's own
// [cseq] and [branch] count messages; these follow transactions.
type ladderWriter struct {
	step string
	cseq int
}

// done is the action that reports the step.
func (w *ladderWriter) done() string { return fmt.Sprintf("<log message=%q/>", w.step) }

func (w *ladderWriter) branch() string {
	return fmt.Sprintf("z9hG4bK[pid]-[call_number]-%d", w.cseq)
}

func (w *ladderWriter) callee() string { return "<sip:[service]@" + domain + ">" }

// open names the local party of a caller.
func (w *ladderWriter) open() string {
	return `<nop><action><assignstr assign_to="local" value="&lt;sip:9[local_port]@` + domain +
		`&gt;;tag=[pid]-[call_number]"/></action></nop>`
}

// initial begins a request outside a dialog.
func (w *ladderWriter) initial(method string) string {
	w.cseq++
	return w.hop(method) + fmt.Sprintf("\nTo: %s\nContact: <sip:[local_ip]:[local_port]>", w.callee())
}

// hop begins a message of the transaction of the last initial request: that
// request itself, its CANCEL or the ACK of a non-2xx. The To is missing.
func (w *ladderWriter) hop(method string) string {
	return fmt.Sprintf(`%s sip:[service]@%s SIP/2.0
Via: SIP/2.0/UDP [local_ip]:[local_port];rport;branch=%s
Max-Forwards: 70
From: [$local]
Call-ID: [call_id]
CSeq: %d %[1]s`, method, domain, w.branch(), w.cseq)
}

// request begins a request in the dialog.
func (w *ladderWriter) request(method string) string {
	w.cseq++
	return fmt.Sprintf(`%s [next_url] SIP/2.0
Via: SIP/2.0/UDP [local_ip]:[local_port];rport;branch=%s
Max-Forwards: 70
[routes]
From: [$local]
To: [$remote]
Call-ID: [call_id]
CSeq: %d %[1]s
Contact: <sip:[local_ip]:[local_port]>`, method, w.branch(), w.cseq)
}

// answer begins a response to the INVITE of recv-invite, whatever came since.
func (w *ladderWriter) answer(status string) string {
	return fmt.Sprintf(`SIP/2.0 %s
[$via][$record_route]From: [$remote]
To: [$local]
Call-ID: [call_id]
CSeq: [$cseq] INVITE
Contact: <sip:[local_ip]:[local_port]>`, status)
}

// reply answers the request just received.
func (w *ladderWriter) reply(status string) string {
	return fmt.Sprintf(`<send>
<![CDATA[
SIP/2.0 %s
[last_Via:]
[last_Record-Route:]
[last_From:]
[last_To:]
[last_Call-ID:]
[last_CSeq:]
Contact: <sip:[local_ip]:[local_port]>
Content-Length: 0

]]>
</send>`, status)
}

// ackFinal acknowledges the non-2xx just received.
func (w *ladderWriter) ackFinal() string {
	return fmt.Sprintf(`<send>
<![CDATA[
%s
[last_To:]
Content-Length: 0

]]>
</send>`, w.hop("ACK"))
}
