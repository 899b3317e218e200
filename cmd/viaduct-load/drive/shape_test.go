//go:build linux

package drive

import (
	"strings"
	"testing"

	"viaduct/cmd/viaduct-load/socket"
)

// TestShapes reads what browsers send: every number is in it, and it is as long
// as it says.
func TestShapes(t *testing.T) {
	all := newShapes("127.0.0.1:5060")
	for name, test := range map[string]struct {
		shape *shape
		want  []string
		size  [2]int // least and most bytes
	}{
		"OPTIONS":  {all.first[Options], []string{"branch=z9hG4bK1000004\r\n", "Call-ID: 3obng00000421000004\r\n", "CSeq: 1000004 OPTIONS\r\n"}, [2]int{400, 700}},
		"REGISTER": {all.first[Register], []string{"To: <sip:0000042@pbx.test>\r\n", "Authorization: Digest ", `username="0000042"`, "<sip:u0000042@l0000042oad.invalid;transport=ws>"}, [2]int{700, 1300}},
		"MESSAGE":  {all.first[Message], []string{"Content-Type: text/plain\r\n"}, [2]int{400, 700}},
		"INVITE":   {all.first[Invite], []string{"CSeq: 1000004 INVITE\r\n", "m=audio 9 UDP/TLS/RTP/SAVPF"}, [2]int{2800, 3300}},
		"ACK":      {all.ack, []string{"ACK sip:answer@127.0.0.1:5060 SIP/2.0\r\n", "branch=z9hG4bK1000005\r\n", "CSeq: 1000004 ACK\r\n", ";tag=answer\r\n", "Call-ID: 3obng00000421000004\r\n"}, [2]int{300, 500}},
		"BYE":      {all.bye, []string{"branch=z9hG4bK1000006\r\n", "CSeq: 1000006 BYE\r\n", ";tag=answer\r\n", "Call-ID: 3obng00000421000004\r\n"}, [2]int{300, 500}},
	} {
		t.Run(name, func(t *testing.T) {
			frame := append([]byte(nil), test.shape.numbered(42, 1000004)...)
			f, err := socket.ReadFrame(frame)
			if err != nil || f.Length != len(frame) {
				t.Fatalf("a frame of %d bytes, not %d: %v", f.Length, len(frame), err)
			}
			f.Unmask()
			text := string(f.Payload)
			if strings.ContainsAny(text, "\x01\x02\x03\x04") {
				t.Errorf("a number is missing: %q", text)
			}
			for _, want := range test.want {
				if !strings.Contains(text, want) {
					t.Errorf("no %q in %q", want, text)
				}
			}
			if socket.MessageLength(f.Payload) != len(f.Payload) {
				t.Errorf("Content-Length is wrong: %q", text)
			}
			if len(text) < test.size[0] || len(text) > test.size[1] {
				t.Errorf("%d bytes", len(text))
			}
		})
	}
}
