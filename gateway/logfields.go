package gateway

// LogField describes one field of the log, for the documentation. Its name means
// the same in every line.
type LogField struct{ Name, Text string }

// LogFields lists the fields of the gateway's log. Those that every line has, its
// time, level and message, are not among them.
func LogFields() []LogField {
	return []LogField{
		{"client", "the browser's IP address"},
		{"remote", "address and port of that browser, or of who spoke on the SIP side"},
		{"user", "the address-of-record that a browser has registered, else the one it goes by"},
		{"host", "Host of the WebSocket handshake"},
		{"lasted", "how long a connection was open, or an upstream silent"},
		{"up", "messages that were relayed from that browser to the SIP server"},
		{"down", "messages that were relayed to that browser"},
		{"cause", "what ended the connection, as in viaduct_connections_closed_total"},
		{"reason", "why something was refused: a message as in the table above, a handshake as in viaduct_handshakes_total"},
		{"side", "where what was refused came from: browser or sip"},
		{"transport", "UDP, TCP or TLS, on the SIP side"},
		{"method", "the request's, or that of the request that was answered"},
		{"status", "of the response that was refused, or that refused credentials"},
		{"call_id", "the message's Call-ID"},
		{"message", "the message that was refused, or the line of the log that was left out; credentials and tokens are masked"},
		{"direction", "up or down"},
		{"before", "the message as it came, with credentials and tokens masked"},
		{"after", "the message as it was sent on, masked likewise"},
		{"origin", "the handshake's Origin"},
		{"admit_with", "the flag that would have admitted the handshake"},
		{"upstream", "the SIP server as --upstream names it"},
		{"alias", "a name of --upstream's ;alias="},
		{"engine", "the rtpengine as --rtpengine names it"},
		{"collector", "--hep"},
		{"kind", "what kind of body waited for rtpengine"},
		{"call", "rtpengine's name for a call"},
		{"url", "--auth-url"},
		{"file", "the file that is watched"},
		{"expired", "when a certificate has"},
		{"keys", "how many token keys there are"},
		{"connections", "how many are open"},
		{"timeout", "--drain-timeout"},
		{"error", "what failed, in words"},
	}
}
