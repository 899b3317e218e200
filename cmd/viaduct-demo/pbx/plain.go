package pbx

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// A plainSession is the media of a phone without WebRTC, such as an rtpengine
// that bridges a browser: PCMU by RTP/AVP.
type plainSession struct {
	conn    *net.UDPConn
	ssrc    [4]byte
	version atomic.Uint64 // of our description
	held    atomic.Bool   // the phone does not want to hear us
	echoing sync.WaitGroup
}

func newPlainSession(addr netip.Addr) (*plainSession, error) {
	conn, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(addr, 0)))
	if err != nil {
		return nil, err
	}
	s := &plainSession{conn: conn}
	_, _ = rand.Read(s.ssrc[:]) // never fails
	s.echoing.Go(s.echo)
	return s, nil
}

// echo sends each packet back to where it came from until the session is closed.
func (s *plainSession) echo() {
	buf := make([]byte, 1500)
	for {
		n, from, err := s.conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		const header, ssrc = 12, 8 // RFC 3550 5.1
		if n < header || buf[0]>>6 != 2 || s.held.Load() {
			continue
		}
		// Under its own SSRC the sender would see a loop (RFC 3550 8.2).
		copy(buf[ssrc:header], s.ssrc[:])
		_, _ = s.conn.WriteToUDPAddrPort(buf[:n], from) // a packet may be lost
	}
}

// answer takes the first of the offer's streams that has audio (RFC 3264 6).
func (s *plainSession) answer(_ context.Context, offer string) (string, error) {
	var streams strings.Builder
	hold, taken := holdIn(offer), false
	for _, media := range mediaIn(offer) {
		if taken || !media.isPlainAudio() {
			fmt.Fprintf(&streams, "m=%s 0 %s %s\r\n", media.kind, media.protocol, strings.Join(media.formats, " "))
			continue
		}
		if !slices.Contains(media.formats, "0") {
			return "", errors.New("offer: no PCMU")
		}
		taken = true
		streams.WriteString(s.stream(media.telephoneEvent(), hold))
	}
	if !taken {
		return "", errors.New("offer: no audio by RTP/AVP")
	}
	s.held.Store(!hold.listens())
	return s.describe(streams.String()), nil
}

func (s *plainSession) offer(context.Context) (string, error) {
	return s.describe(s.stream("101", noHold)), nil
}

// accept needs nothing of the answer: audio goes back to where it comes from.
func (s *plainSession) accept(string) error { return nil }

// stream describes our audio; event is the payload type of key presses, if any.
func (s *plainSession) stream(event string, hold hold) string {
	formats, maps := "0", "a=rtpmap:0 PCMU/8000\r\n"
	if event != "" {
		formats, maps = "0 "+event, maps+"a=rtpmap:"+event+" telephone-event/8000\r\n"
	}
	return fmt.Sprintf("m=audio %d RTP/AVP %s\r\n%s%s", s.local().Port(), formats, maps, hold.show(noHold.line()))
}

// describe returns the session description with streams.
func (s *plainSession) describe(streams string) string {
	ip := s.local().Addr()
	return fmt.Sprintf("v=0\r\no=- 1 %d IN IP4 %s\r\ns=-\r\nc=IN IP4 %s\r\nt=0 0\r\n%s", s.version.Add(1), ip, ip, streams)
}

func (s *plainSession) local() netip.AddrPort { return s.conn.LocalAddr().(*net.UDPAddr).AddrPort() }

// gone is never closed: nothing is known of the phone but what it sends.
func (s *plainSession) gone() <-chan struct{} { return nil }

// close ends the media and waits until nothing of it runs.
func (s *plainSession) close() {
	_ = s.conn.Close() // an error is that it was closed before
	s.echoing.Wait()
}

// An offeredMedia is one stream of an offer (RFC 4566 5.14).
type offeredMedia struct {
	kind, protocol string
	port           string
	formats        []string
	attributes     string
}

func mediaIn(offer string) []offeredMedia {
	var list []offeredMedia
	for _, section := range strings.Split(offer, "\r\nm=")[1:] {
		line, attributes, _ := strings.Cut(section, "\r\n")
		if fields := strings.Fields(line); len(fields) > 3 {
			list = append(list, offeredMedia{fields[0], fields[2], fields[1], fields[3:], attributes})
		}
	}
	return list
}

func (m offeredMedia) isPlainAudio() bool {
	return m.kind == "audio" && m.protocol == "RTP/AVP" && m.port != "0"
}

// telephoneEvent returns the payload type of key presses beside PCMU
// (RFC 4733), or nothing.
func (m offeredMedia) telephoneEvent() string {
	for _, format := range m.formats {
		if strings.Contains(m.attributes, "a=rtpmap:"+format+" telephone-event/8000") {
			return format
		}
	}
	return ""
}
