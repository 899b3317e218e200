//go:build linux

package answer

import (
	"bytes"
	"strconv"
)

// A request is where the lines of a SIP request are that its response repeats,
// each with its line end.
type request struct {
	method  []byte
	vias    []byte // all of them, next to each other
	routes  []byte // Record-Route, in the same way
	from    []byte
	to      []byte
	callID  []byte
	cseq    []byte
	contact []byte
	body    []byte
}

// scan finds the lines of msg. It takes what relays pass on: header names in
// full, and Vias next to each other.
func (r *request) scan(msg []byte) bool {
	*r = request{}
	line, rest, _ := bytes.Cut(msg, []byte("\r\n"))
	method, _, ok := bytes.Cut(line, []byte(" "))
	if !ok || bytes.HasPrefix(method, []byte("SIP/")) {
		return false
	}
	r.method = method
	for len(rest) > 0 {
		end := bytes.IndexByte(rest, '\n') + 1
		switch end {
		case 0:
			return false
		case 2:
			r.body = rest[2:]
			return r.vias != nil && r.from != nil && r.to != nil && r.callID != nil && r.cseq != nil
		}
		r.line(rest[:end])
		rest = rest[end:]
	}
	return false
}

func (r *request) line(line []byte) {
	name, _, _ := bytes.Cut(line, []byte(":"))
	switch string(name) {
	case "Via":
		r.vias = joined(r.vias, line)
	case "Record-Route":
		r.routes = joined(r.routes, line)
	case "From":
		r.from = line
	case "To":
		r.to = line
	case "Call-ID":
		r.callID = line
	case "CSeq":
		r.cseq = line
	case "Contact":
		r.contact = line
	}
}

// joined is lines with the one that lies right behind them in the message.
func joined(lines, line []byte) []byte {
	if lines == nil {
		return line
	}
	return lines[:len(lines)+len(line)]
}

// toTag is what this end adds to To.
const toTag = ";tag=answer"

// appendReply adds the response with that status line. own is the SIP URI of
// this end, the Contact of its dialogs.
func (r *request) appendReply(dst []byte, status, own string, body []byte) []byte {
	dst = append(dst, "SIP/2.0 "...)
	dst = append(dst, status...)
	dst = append(dst, "\r\n"...)
	dst = append(dst, r.vias...)
	dst = append(dst, r.routes...)
	dst = append(dst, r.from...)
	dst = append(dst, bytes.TrimSuffix(r.to, []byte("\r\n"))...)
	if !bytes.Contains(r.to, []byte(";tag=")) {
		dst = append(dst, toTag...)
	}
	dst = append(dst, "\r\n"...)
	dst = append(dst, r.callID...)
	dst = append(dst, r.cseq...)
	switch string(r.method) {
	case "REGISTER":
		dst = append(dst, r.contact...)
		dst = append(dst, "Expires: 600\r\n"...)
	case "INVITE":
		dst = append(dst, "Contact: <"...)
		dst = append(dst, own...)
		dst = append(dst, ">\r\n"...)
	}
	if len(body) > 0 {
		dst = append(dst, "Content-Type: application/sdp\r\n"...)
	}
	dst = append(dst, "Content-Length: "...)
	dst = strconv.AppendInt(dst, int64(len(body)), 10)
	dst = append(dst, "\r\n\r\n"...)
	return append(dst, body...)
}

// appendReplies calls send with each response to r, none for an ACK. dst is
// where they are built, and is returned grown.
func (r *request) replies(dst []byte, own string, send func(msg []byte)) []byte {
	reply := func(status string, body []byte) {
		begin := len(dst)
		dst = r.appendReply(dst, status, own, body)
		send(dst[begin:])
	}
	switch string(r.method) {
	case "ACK":
	case "INVITE":
		reply("180 Ringing", nil)
		reply("200 OK", r.body) // of a size as that of the offer
	default:
		reply("200 OK", nil)
	}
	return dst
}
