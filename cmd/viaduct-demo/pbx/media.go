package pbx

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/pion/ice/v4"
	"github.com/pion/interceptor"
	"github.com/pion/webrtc/v4"
)

// media makes the sessions of extensions, at one address.
type media struct {
	addr netip.Addr
	api  *webrtc.API
}

// A session is the media of one call: it sends back what it receives.
type session interface {
	// answer returns the answer to the phone's first or a later offer.
	answer(ctx context.Context, offer string) (string, error)
	// offer returns our first offer.
	offer(ctx context.Context) (string, error)
	// accept takes the phone's answer to our offer.
	accept(answer string) error
	// gone is closed when the phone is no longer there.
	gone() <-chan struct{}
	// close ends the media and waits until nothing of it runs.
	close()
}

func newMedia(addr netip.Addr) (*media, error) {
	codecs := &webrtc.MediaEngine{}
	err := codecs.RegisterCodec(webrtc.RTPCodecParameters{RTPCodecCapability: opus, PayloadType: 111}, webrtc.RTPCodecTypeAudio)
	if err != nil {
		return nil, err
	}
	settings := webrtc.SettingEngine{}
	// Lite: the browser checks which of its addresses reach ours. It hides them
	// behind mDNS names until it may use the microphone.
	settings.SetLite(true)
	settings.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled)
	settings.SetIncludeLoopbackCandidate(true)
	settings.SetNetworkTypes([]webrtc.NetworkType{webrtc.NetworkTypeUDP4})
	settings.SetIPFilter(func(ip net.IP) bool { return ip.Equal(addr.AsSlice()) })
	return &media{addr, webrtc.NewAPI(
		webrtc.WithMediaEngine(codecs),
		webrtc.WithSettingEngine(settings),
		webrtc.WithInterceptorRegistry(&interceptor.Registry{}),
	)}, nil
}

var opus = webrtc.RTPCodecCapability{
	MimeType: webrtc.MimeTypeOpus, ClockRate: 48000, Channels: 2, SDPFmtpLine: "minptime=10;useinbandfec=1",
}

// A webSession is the media of a browser: Opus over DTLS-SRTP.
type webSession struct {
	pc    *webrtc.PeerConnection
	track *webrtc.TrackLocalStaticRTP
	held  atomic.Bool // the phone does not want to hear us

	lost     chan struct{} // closed when the phone is no longer there
	lostOnce sync.Once
}

func (m *media) newWebSession() (*webSession, error) {
	track, err := webrtc.NewTrackLocalStaticRTP(opus, "audio", "echo")
	if err != nil {
		return nil, err
	}
	pc, err := m.api.NewPeerConnection(webrtc.Configuration{})
	if err != nil {
		return nil, err
	}
	s := &webSession{pc: pc, track: track, lost: make(chan struct{})}
	pc.OnTrack(func(from *webrtc.TrackRemote, _ *webrtc.RTPReceiver) { s.echo(from) })
	pc.OnConnectionStateChange(func(state webrtc.PeerConnectionState) {
		if state == webrtc.PeerConnectionStateFailed || state == webrtc.PeerConnectionStateClosed {
			s.lostOnce.Do(func() { close(s.lost) })
		}
	})
	sender, err := pc.AddTrack(track)
	if err != nil {
		s.close()
		return nil, err
	}
	go drain(sender)
	return s, nil
}

// drain reads the receiver reports, as pion asks, until the session is closed.
func drain(sender *webrtc.RTPSender) {
	buf := make([]byte, 1500)
	for {
		if _, _, err := sender.Read(buf); err != nil {
			return
		}
	}
}

// echo ends when the session is closed.
func (s *webSession) echo(from *webrtc.TrackRemote) {
	for {
		packet, _, err := from.ReadRTP()
		if err != nil {
			return
		}
		if s.held.Load() {
			continue
		}
		// The numbers of header extensions are the sender's own.
		packet.Extension, packet.Extensions = false, nil
		if err := s.track.WriteRTP(packet); err != nil {
			return
		}
	}
}

// answer returns a session for a phone's offer, and the answer to it.
func (m *media) answer(ctx context.Context, offer string) (session, string, error) {
	s, err := m.sessionFor(offer)
	if err != nil {
		return nil, "", err
	}
	answer, err := s.answer(ctx, offer)
	if err != nil {
		s.close()
		return nil, "", err
	}
	return s, answer, nil
}

// sessionFor returns the session that the offer's audio needs.
func (m *media) sessionFor(offer string) (session, error) {
	if slices.ContainsFunc(mediaIn(offer), offeredMedia.isPlainAudio) {
		return newPlainSession(m.addr)
	}
	return m.newWebSession()
}

func (s *webSession) answer(ctx context.Context, offer string) (string, error) {
	hold := holdIn(offer)
	err := s.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeOffer, SDP: hold.hide(offer)})
	if err != nil {
		return "", fmt.Errorf("offer: %w", err)
	}
	ours, err := s.pc.CreateAnswer(nil)
	if err != nil {
		return "", fmt.Errorf("answer: %w", err)
	}
	answer, err := s.describe(ctx, ours)
	if err != nil {
		return "", fmt.Errorf("answer: %w", err)
	}
	s.held.Store(!hold.listens())
	return hold.show(answer), nil
}

// offer returns a session and our offer to the phone whose own offer was
// theirs: it is called back with the media it has.
func (m *media) offer(ctx context.Context, theirs string) (session, string, error) {
	s, err := m.sessionFor(theirs)
	if err != nil {
		return nil, "", err
	}
	offer, err := s.offer(ctx)
	if err != nil {
		s.close()
		return nil, "", err
	}
	return s, offer, nil
}

func (s *webSession) offer(ctx context.Context) (string, error) {
	ours, err := s.pc.CreateOffer(nil)
	if err != nil {
		return "", err
	}
	return s.describe(ctx, ours)
}

func (s *webSession) accept(answer string) error {
	return s.pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: answer})
}

// describe sets our description and returns it with all candidates in it.
func (s *webSession) describe(ctx context.Context, ours webrtc.SessionDescription) (string, error) {
	gathered := webrtc.GatheringCompletePromise(s.pc)
	if err := s.pc.SetLocalDescription(ours); err != nil {
		return "", err
	}
	select {
	case <-gathered:
		return s.pc.LocalDescription().SDP, nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

func (s *webSession) gone() <-chan struct{} { return s.lost }

func (s *webSession) close() {
	// An error here is one of a socket that is gone.
	_ = s.pc.GracefulClose()
}
