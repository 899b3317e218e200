package e2e

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// Baresip is a plain phone that this project has not written: baresip with
// PCMU on RTP/AVP, behind the PBX. It takes every call at once.
type Baresip struct {
	Events *Stream[BaresipEvent]

	addr    netip.AddrPort
	dir     string // has the recordings
	control net.Conn
}

// A BaresipEvent is one that baresip told of.
type BaresipEvent struct {
	Type  string `json:"type"`
	Param string `json:"param"`
}

const baresipConfig = `poll_method epoll
sip_listen %[1]s
net_interface %[2]s
rtp_ports 10000-19998
audio_player aubridge,nowhere
audio_alert aubridge,nowhere
audio_source ausine,%[3]d
ausrc_srate 48000
ausrc_channels 2
snd_path %[4]s
module_path /usr/lib/baresip/modules
module g711.so
module ausine.so
module aubridge.so
module sndfile.so
module_tmp account.so
module_app menu.so
module_app ctrl_tcp.so
ctrl_tcp_listen %[5]s
`

// Baresip starts a phone behind the PBX, whose audio is a tone of that frequency
// in Hz.
func (lab *Lab) Baresip(tone int) *Baresip {
	t := lab.t
	t.Helper()
	b := &Baresip{Events: NewStream[BaresipEvent](), addr: lab.Host.freePort(t), dir: tempDir(t)}
	control := lab.Host.freePort(t)
	for name, text := range map[string]string{
		"config": fmt.Sprintf(baresipConfig, b.addr, b.addr.Addr(), tone, b.dir, control),
		"accounts": fmt.Sprintf("<sip:%s@%s>;regint=0;answermode=auto;outbound=\"sip:%s\";audio_codecs=PCMU/8000/1\n",
			b.user(), domain, lab.PBX.UDP),
	} {
		if err := os.WriteFile(filepath.Join(b.dir, name), []byte(text), 0o600); err != nil {
			t.Fatalf("baresip: %v", err)
		}
	}
	process := startProcess(t, "baresip", lab.Host.command("baresip", "-f", b.dir))
	process.Output.WaitFor(t, "baresip to start", func(line string) bool { return strings.Contains(line, "baresip is ready") })
	var err error
	if b.control, err = net.Dial("tcp", control.String()); err != nil {
		t.Fatalf("baresip: %v", err)
	}
	lab.behind = append(lab.behind, b.addr)
	go b.listen()
	t.Cleanup(func() {
		_ = b.control.Close()
		if t.Failed() {
			t.Logf("baresip told of %v", b.Events.All())
		}
	})
	return b
}

func (b *Baresip) user() string { return fmt.Sprintf("9%05d", b.addr.Port()) }

// URI is where the PBX finds the phone.
func (b *Baresip) URI() string { return fmt.Sprintf("sip:%s@%s", b.user(), domain) }

// listen reads events, which come as netstrings, until baresip ends.
func (b *Baresip) listen() {
	reader := bufio.NewReader(b.control)
	for {
		digits, err := reader.ReadString(':')
		if err != nil {
			break
		}
		length, _ := strconv.Atoi(strings.TrimSuffix(digits, ":"))
		text := make([]byte, length+1) // with the comma behind it
		if _, err := io.ReadFull(reader, text); err != nil {
			break
		}
		var event BaresipEvent
		if json.Unmarshal(text[:length], &event) == nil && event.Type != "" {
			b.Events.Add(event)
		}
	}
	b.Events.End(fmt.Errorf("baresip has ended"))
}

// Do has baresip run one of its commands: dial, hangup, hold, resume.
func (b *Baresip) Do(t testing.TB, command, params string) {
	t.Helper()
	text, _ := json.Marshal(map[string]string{"command": command, "params": params})
	if _, err := fmt.Fprintf(b.control, "%d:%s,", len(text), text); err != nil {
		t.Fatalf("baresip: %v", err)
	}
}

// Wait waits for an event: CALL_ESTABLISHED, CALL_CLOSED, CALL_DTMF_START.
func (b *Baresip) Wait(t testing.TB, event string) BaresipEvent {
	t.Helper()
	return b.Events.WaitFor(t, "baresip to tell of "+event, func(e BaresipEvent) bool { return e.Type == event })
}

// Recorded is every frequency in Hz that baresip heard in calls that have ended.
func (b *Baresip) Recorded(t testing.TB) map[int]bool {
	t.Helper()
	files, _ := filepath.Glob(filepath.Join(b.dir, "dump-*-dec.wav"))
	heard := map[int]bool{}
	for _, file := range files {
		recording, err := os.ReadFile(file)
		if err != nil {
			t.Fatalf("baresip: %v", err)
		}
		for _, frequency := range frequencies(t, recording) {
			heard[frequency] = true
		}
	}
	return heard
}

// WantRecorded wants the frequency in the recording of a call that has ended.
func (b *Baresip) WantRecorded(t testing.TB, frequency int) {
	t.Helper()
	heard := b.Recorded(t)
	for one := range heard {
		if one != 0 && sounds(one, frequency) {
			return
		}
	}
	t.Errorf("baresip heard %v, want %s", heard, toneName(frequency))
}

// frequencies are those of the pieces of a recording: RIFF, 16 bit.
func frequencies(t testing.TB, recording []byte) (heard []int) {
	t.Helper()
	const header = 44
	if len(recording) < header {
		t.Fatalf("baresip recorded %d bytes", len(recording))
	}
	channels := int(binary.LittleEndian.Uint16(recording[22:]))
	if rate := binary.LittleEndian.Uint32(recording[24:]); rate != sampleRate {
		t.Fatalf("baresip recorded %d samples a second", rate)
	}
	var samples []float64
	for at := header; at+2 <= len(recording); at += 2 * channels {
		samples = append(samples, float64(int16(binary.LittleEndian.Uint16(recording[at:])))/32768)
		if len(samples) == earLength {
			heard = append(heard, loudest(samples))
			samples = nil
		}
	}
	return heard
}
