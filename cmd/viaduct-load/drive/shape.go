//go:build linux

package drive

import (
	"bytes"
	"fmt"
	"strings"

	"github.com/gobwas/ws"

	"viaduct/cmd/viaduct-load/socket"
)

// A Method is what browsers do all the time of a run.
type Method string

// What browsers can do.
const (
	Options  Method = "OPTIONS"
	Register Method = "REGISTER" // with credentials
	Message  Method = "MESSAGE"
	Invite   Method = "INVITE" // with 3 kB, 180, 200, ACK, BYE, 200
)

// Pairs is how many pairs of messages are relayed each time.
func (m Method) Pairs() int {
	if m == Invite {
		return 3
	}
	return 1
}

// Numbers have seven digits in messages, so that each is put in without moving
// the rest: a run of seven of these bytes is where one goes.
const (
	markSeq    = '\x01' // that of the transaction
	markSecond = '\x02' // one more
	markThird  = '\x03' // two more
	markConn   = '\x04' // that of the connection
)

const numberLength = 7

// Numbers of transactions. Each transaction has numbersEach to itself.
const (
	firstNumber = 1_000_000
	lastNumber  = 9_999_999
	numbersEach = 4
)

func mark(m byte) string { return strings.Repeat(string(rune(m)), numberLength) }

// A shape is a frame of a browser with room for the numbers.
type shape struct {
	frame  []byte // masked; the numbers of the last message are in it
	fields []field
}

type field struct {
	at   int // in frame
	mark byte
	mask [numberLength]byte
}

// mask is that of each frame. A browser takes another one each time, which
// costs the server nothing.
var mask = [4]byte{0x5a, 0xc3, 0x17, 0x8e}

func newShape(payload string) *shape {
	s := &shape{frame: socket.AppendHeader(nil, ws.OpText, len(payload), mask)}
	header := len(s.frame)
	s.frame = append(s.frame, payload...)
	for _, m := range []byte{markSeq, markSecond, markThird, markConn} {
		for at := 0; ; at += numberLength {
			next := strings.Index(payload[at:], mark(m))
			if next < 0 {
				break
			}
			at += next
			f := field{at: header + at, mark: m}
			for i := range f.mask {
				f.mask[i] = mask[(at+i)%len(mask)]
			}
			s.fields = append(s.fields, f)
		}
	}
	ws.Cipher(s.frame[header:], mask, 0)
	return s
}

// numbered returns the frame with those numbers, valid until the next call.
func (s *shape) numbered(conn, seq int) []byte {
	for i := range s.fields {
		f := &s.fields[i]
		n := seq + int(f.mark-markSeq)
		if f.mark == markConn {
			n = conn
		}
		for k := numberLength - 1; k >= 0; k-- {
			s.frame[f.at+k] = byte('0'+n%10) ^ f.mask[k]
			n /= 10
		}
	}
	return s.frame
}

// The parts of messages that are the same in all.
const (
	viaBegin    = "Via: SIP/2.0/WS l"
	viaMiddle   = "oad.invalid;branch=z9hG4bK"
	callIDBegin = "Call-ID: 3obng"
	contactURI  = "<sip:u"
	contactHost = "@l"
	contactEnd  = "oad.invalid;transport=ws"
	domain      = "pbx.test"
)

// message is a request as JsSIP writes it. n marks its number: a branch is that
// of one message, a Call-ID that of the whole transaction.
func message(method Method, uri string, n byte, toTag, headers, body string) string {
	conn := mark(markConn)
	to := "sip:echo@" + domain
	if method == Register {
		to = "sip:" + conn + "@" + domain
	}
	cseq := n
	if method == "ACK" {
		cseq = markSeq // RFC 3261 13.2.2.4: that of the INVITE
	}
	return fmt.Sprintf("%s %s SIP/2.0\r\n", method, uri) +
		viaBegin + conn + viaMiddle + mark(n) + "\r\n" +
		"Max-Forwards: 69\r\n" +
		"To: <" + to + ">" + toTag + "\r\n" +
		"From: <sip:" + conn + "@" + domain + ">;tag=gub7a6v7sj\r\n" +
		callIDBegin + conn + mark(markSeq) + "\r\n" +
		fmt.Sprintf("CSeq: %s %s\r\n", mark(cseq), method) +
		headers +
		"User-Agent: JsSIP 3.13.8\r\n" +
		fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body)
}

// shapes are the requests of browsers. answerer is the address of the SIP
// server, the remote target of calls.
type shapes struct {
	first map[Method]*shape
	ack   *shape
	bye   *shape
}

func newShapes(answerer string) *shapes {
	const allow = "Allow: INVITE,ACK,CANCEL,BYE,UPDATE,MESSAGE,OPTIONS,REFER,INFO,NOTIFY,SUBSCRIBE\r\n"
	contact := contactURI + mark(markConn) + contactHost + mark(markConn) + contactEnd
	echo, target := "sip:echo@"+domain, "sip:answer@"+answerer
	credentials := `Authorization: Digest algorithm=MD5, username="` + mark(markConn) + `", realm="` + domain + `", ` +
		`nonce="65a1c0bb5d3f4e1c9f7d2a6be08c4173", uri="sip:` + domain + `", response="8ca523f5e9506fed4657c9700eebdbec", ` +
		`opaque="5ccc069c403ebaf9f0171e9517f40e41", qop=auth, cnonce="f2fb3a8e7c1d", nc=00000001` + "\r\n"
	const toTag = ";tag=answer"
	return &shapes{
		first: map[Method]*shape{
			Options: newShape(message(Options, echo, markSeq, "",
				"Contact: "+contact+">\r\n"+allow+"Supported: ice,replaces,outbound\r\n", "")),
			Register: newShape(message(Register, "sip:"+domain, markSeq, "",
				credentials+"Contact: "+contact+`>;+sip.ice;reg-id=1;+sip.instance="<urn:uuid:8a5b1f6e-2f0e-4a0c-9a0b-0a1f1e1d1c1b>";expires=600`+
					"\r\nExpires: 600\r\n"+allow+"Supported: path,gruu,outbound\r\n", "")),
			Message: newShape(message(Message, echo, markSeq, "",
				"Content-Type: text/plain\r\n"+allow+"Supported: outbound\r\n", "I shall be five minutes late, please start without me.")),
			Invite: newShape(message(Invite, echo, markSeq, "",
				"Contact: "+contact+";ob>\r\nContent-Type: application/sdp\r\nSession-Expires: 90\r\n"+allow+
					"Supported: timer,ice,replaces,outbound\r\n", offer())),
		},
		ack: newShape(message("ACK", target, markSecond, toTag, "Supported: outbound\r\n", "")),
		bye: newShape(message("BYE", target, markThird, toTag, "Supported: outbound\r\n", "")),
	}
}

// offer is a description of a session as long as that of Chromium, so that the
// whole INVITE has 3 kB.
func offer() string {
	var sdp bytes.Buffer
	sdp.WriteString("v=0\r\no=- 4345205599146386941 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n" +
		"a=extmap-allow-mixed\r\na=msid-semantic: WMS 84e11d67-2904-4617-8748-a83cefa556e0\r\n" +
		"m=audio 9 UDP/TLS/RTP/SAVPF 111 63 9 0 8 13 110 126\r\nc=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0\r\n")
	for i := range 13 {
		fmt.Fprintf(&sdp, "a=candidate:378383793%d 1 udp 2113937151 1b6cfe9c-00c7-4a3f-ae4a-3b469fbd20%02d.local 461%02d "+
			"typ host generation 0 network-cost 999\r\n", i%10, i, i)
	}
	sdp.WriteString("a=ice-ufrag:5M+u\r\na=ice-pwd:J1aR7gPpmcJrq5MQ1yV0Cf1B\r\na=ice-options:trickle\r\n" +
		"a=fingerprint:sha-256 6C:31:5B:5F:02:60:64:5E:5F:AB:0D:B4:3A:95:30:3B:BA:0A:4B:9E:F7:2E:E1:4C:67:3C:2B:47:17:1E:0E:35\r\n" +
		"a=setup:actpass\r\na=mid:0\r\na=sendrecv\r\na=rtcp-mux\r\na=rtpmap:111 opus/48000/2\r\na=rtcp-fb:111 transport-cc\r\n" +
		"a=fmtp:111 minptime=10;useinbandfec=1\r\na=rtpmap:63 red/48000/2\r\na=fmtp:63 111/111\r\na=rtpmap:9 G722/8000\r\n" +
		"a=rtpmap:0 PCMU/8000\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:13 CN/8000\r\na=rtpmap:110 telephone-event/48000\r\n" +
		"a=rtpmap:126 telephone-event/8000\r\n")
	return sdp.String()
}
