package rtpengine

// Profile says how the engine makes a body for who gets it. The values are
// those of the ng protocol.
type Profile struct {
	Transport string // of each m= line
	ICE, DTLS string
	SDES      []string
	RTCPMux   []string
	Replace   []string // parts of the body outside the media
	Flags     []string
}

// Values that both profiles have.
var (
	// replaced: the addresses of the o= and the session's c= line are the engine's
	// as well. A PBX may take the latter for the media's.
	replaced = []string{"origin", "session-connection"}
	// sdesOff: no a=crypto. A PBX gets no encryption, and browsers know DTLS alone.
	sdesOff = []string{"off"}
)

// towardsPBX is the same for offers and answers.
var towardsPBX = Profile{
	Transport: "RTP/AVP",
	ICE:       "remove",          // candidates would lead past the engine
	DTLS:      "off",             // fingerprint and setup go
	SDES:      sdesOff,           // see there
	RTCPMux:   []string{"demux"}, // accepted of the browser, not offered to the PBX
	Replace:   replaced,
}

var offerTowardsBrowser = Profile{
	Transport: "UDP/TLS/RTP/SAVPF",
	ICE:       "force", // a PBX has none, and a browser wants it
	SDES:      sdesOff,
	RTCPMux:   []string{"offer"}, // browsers refuse media without it
	Replace:   replaced,
	Flags:     []string{"generate-mid"}, // a PBX gives no a=mid, to which a browser ties its transceivers
}

var answerTowardsBrowser = Profile{
	Transport: "UDP/TLS/RTP/SAVPF",
	ICE:       "force",
	SDES:      sdesOff,
	RTCPMux:   []string{"require"}, // the browser's offer had it, whatever the PBX answers
	Replace:   replaced,
	// No generate-mid: the answer has that of the browser's offer.
}

// TowardsPBX is how an offer or answer of a browser becomes one of plain RTP.
func TowardsPBX(Kind) Profile { return towardsPBX }

// TowardsBrowser is how an offer or answer of plain RTP becomes one of WebRTC.
func TowardsBrowser(k Kind) Profile {
	if k == KindAnswer {
		return answerTowardsBrowser
	}
	return offerTowardsBrowser
}
