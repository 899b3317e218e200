//go:build linux

package drive

import (
	"bytes"
	"errors"
	"strconv"
)

// A reply is what a response says.
type reply struct {
	status int
	branch int    // its number, that of a message
	call   int    // the number in its Call-ID, that of a transaction
	cseq   int    // the number in its CSeq
	method []byte // of the CSeq
	tagged bool   // To has a tag
}

// What is wrong with a response. Each is an error of the relay.
var (
	errStatus  = errors.New("no response that can be read")
	errVia     = errors.New("its Via is not the one of the request, or not the only one")
	errCallID  = errors.New("another Call-ID")
	errCSeq    = errors.New("another CSeq")
	errContact = errors.New("a REGISTER's Contact did not come back, or without expires")
	errLength  = errors.New("Content-Length is not that of the body")
)

// read reads a response to connection conn, and checks what needs no
// transaction. The one Via must be the browser's own byte for byte, unless
// loose: then a server may have added parameters.
func (r *reply) read(msg []byte, conn int, loose bool) error {
	*r = reply{}
	const version = "SIP/2.0 "
	line, rest, ok := bytes.Cut(msg, []byte("\r\n"))
	if !ok || len(line) < len(version)+3 || string(line[:len(version)]) != version {
		return errStatus
	}
	if r.status, ok = number(line[len(version) : len(version)+3]); !ok {
		return errStatus
	}
	vias, contact, length := 0, false, -1
	for {
		end := bytes.IndexByte(rest, '\n') + 1
		if end < 2 {
			return errStatus
		}
		line, rest = rest[:end-2], rest[end:]
		if len(line) == 0 {
			break
		}
		switch line[0] {
		case 'V':
			vias++
			if !r.via(line, conn, loose) {
				return errVia
			}
		case 'T':
			r.tagged = bytes.Contains(line, []byte(";tag="))
		case 'C':
			switch {
			case bytes.HasPrefix(line, []byte("Call-ID")):
				if !r.callID(line, conn) {
					return errCallID
				}
			case bytes.HasPrefix(line, []byte("CSeq: ")):
				digits, method, _ := bytes.Cut(line[len("CSeq: "):], []byte(" "))
				r.method = method
				if r.cseq, ok = number(digits); !ok {
					return errCSeq
				}
			case bytes.HasPrefix(line, []byte("Contact: ")):
				contact = isContact(line[len("Contact: "):], conn)
			case bytes.HasPrefix(line, []byte("Content-Length: ")):
				length, _ = number(line[len("Content-Length: "):])
			}
		}
	}
	switch {
	case vias != 1:
		return errVia
	case r.cseq == 0:
		return errCSeq
	case r.call == 0:
		return errCallID
	case length != len(rest):
		return errLength
	case string(r.method) == string(Register) && r.status == 200 && !contact:
		return errContact
	}
	return nil
}

func (r *reply) via(line []byte, conn int, loose bool) bool {
	const host = len(viaBegin) + numberLength
	const whole = host + len(viaMiddle) + numberLength
	if len(line) < whole || string(line[:len(viaBegin)]) != viaBegin || !numbered(line[len(viaBegin):host], conn) {
		return false
	}
	var ok bool
	if loose {
		_, branch, _ := bytes.Cut(line[host:], []byte(";branch=z9hG4bK"))
		r.branch, ok = number(branch[:min(len(branch), numberLength)])
		return ok
	}
	r.branch, ok = number(line[whole-numberLength:])
	return ok && len(line) == whole && string(line[host:host+len(viaMiddle)]) == viaMiddle
}

func (r *reply) callID(line []byte, conn int) bool {
	const begin = len(callIDBegin)
	if len(line) != begin+2*numberLength || string(line[:begin]) != callIDBegin || !numbered(line[begin:begin+numberLength], conn) {
		return false
	}
	var ok bool
	r.call, ok = number(line[begin+numberLength:])
	return ok
}

// isContact tells whether value has the Contact that connection conn
// registered, with its expires.
func isContact(value []byte, conn int) bool {
	var buf [64]byte
	uri := append(buf[:0], contactURI...)
	uri = appendNumber(uri, conn)
	uri = append(uri, contactHost...)
	uri = appendNumber(uri, conn)
	uri = append(append(uri, contactEnd...), '>')
	at := bytes.Index(value, uri)
	return at >= 0 && bytes.Contains(value[at:], []byte(";expires="))
}

func appendNumber(dst []byte, n int) []byte {
	var digits [numberLength]byte
	for k := numberLength - 1; k >= 0; k-- {
		digits[k] = byte('0' + n%10)
		n /= 10
	}
	return append(dst, digits[:]...)
}

// numbered tells whether text is n in seven digits.
func numbered(text []byte, n int) bool {
	var buf [numberLength]byte
	return string(text) == string(appendNumber(buf[:0], n))
}

// number is what text says, if it is digits alone.
func number(text []byte) (int, bool) {
	if len(text) == 0 || len(text) > numberLength {
		return 0, false
	}
	n := 0
	for _, c := range text {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int(c-'0')
	}
	return n, true
}

// first is as much of a message as an error shows.
func first(msg []byte) string { return strconv.Quote(string(msg[:min(len(msg), 400)])) }
