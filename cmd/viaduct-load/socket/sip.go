//go:build linux

package socket

import (
	"bytes"
	"strconv"
)

var contentLength = []byte("\r\nContent-Length: ")

// MessageLength is how long the SIP message is that a stream's data begins
// with, 0 while it is not there whole. Every end of this tool writes
// Content-Length in full, and so do the relays.
func MessageLength(data []byte) int {
	end := bytes.Index(data, []byte("\r\n\r\n"))
	if end < 0 {
		return 0
	}
	at := bytes.LastIndex(data[:end], contentLength) // it stands last, mostly
	if at < 0 {
		return end + 4
	}
	value, _, _ := bytes.Cut(data[at+len(contentLength):end+2], []byte("\r\n"))
	body, err := strconv.Atoi(string(value))
	if err != nil || len(data) < end+4+body {
		return 0
	}
	return end + 4 + body
}
