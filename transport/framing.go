package transport

import (
	"bytes"
	"errors"
	"sync"
)

// Framing errors. After any of them the start of the next message cannot be
// found: the stream has to be closed.
var (
	// ErrNotSIP means the bytes where a message should start cannot be a start-line.
	ErrNotSIP = errors.New("transport: not a SIP message")
	// ErrNoContentLength means a message without Content-Length. RFC 3261 18.3:
	// "The Content-Length header field MUST be used with stream oriented transports."
	ErrNoContentLength = errors.New("transport: no Content-Length on a stream")
	// ErrBadContentLength means a Content-Length that is not a number, or two that differ.
	ErrBadContentLength = errors.New("transport: malformed Content-Length")
	// ErrTooLarge means a header section or a message above the limit.
	ErrTooLarge = errors.New("transport: message too large")
)

// maxHeader bounds the header section, start-line included, in bytes.
const maxHeader = 32 << 10

var (
	crlf     = []byte("\r\n")
	crlfcrlf = []byte("\r\n\r\n")
)

// framer cuts the bytes of a stream into SIP messages by Content-Length
// (RFC 3261 18.3). It is pushed whatever was read, however the network split
// it; only the incomplete end of that is copied.
type framer struct {
	max     int
	message func(msg []byte) // msg is valid until message returns
	ping    func()           // a keepalive that asks for an answer, RFC 5626 4.4.1

	crlfs   int     // bytes of "\r\n\r\n" seen in the gap before the next message
	started bool    // the start-line of the message under way was found plausible
	scanned int     // bytes of the message under way known not to end its header section
	total   int     // length of the message under way once its header section is complete, else 0
	partial *[]byte // the message under way if it spans reads, else nil
}

// partials are the buffers of messages that span reads, shared by all streams:
// few are incomplete at any moment.
var partials = sync.Pool{New: func() any { return new([]byte) }}

// consume takes the next bytes of the stream and hands up every message they
// complete. After an error the framer takes no more.
func (f *framer) consume(p []byte) (err error) {
	for len(p) > 0 && err == nil {
		if f.partial != nil {
			p, err = f.extend(p)
		} else if p = f.skipGap(p); len(p) > 0 {
			p, err = f.begin(p)
		}
	}
	return err
}

// begin takes p, which starts with a message, up to that message's end, and
// returns the rest. Without an end it keeps a copy.
func (f *framer) begin(p []byte) (rest []byte, err error) {
	if err := f.measure(p); err != nil {
		return nil, err
	}
	n := f.total
	if n == 0 || n > len(p) {
		f.partial = partials.Get().(*[]byte)
		*f.partial = append((*f.partial)[:0], p...)
		return nil, nil
	}
	f.deliver(p[:n])
	return p[n:], nil
}

// extend is begin for a message that began in an earlier read.
func (f *framer) extend(p []byte) (rest []byte, err error) {
	had := len(*f.partial)
	take := len(p)
	if f.total > 0 {
		take = min(take, f.total-had)
	}
	*f.partial = append(*f.partial, p[:take]...)
	if err := f.measure(*f.partial); err != nil {
		return nil, err
	}
	if f.total == 0 || f.total > len(*f.partial) {
		return p[take:], nil
	}
	rest = p[f.total-had:]
	f.deliver((*f.partial)[:f.total])
	f.release()
	return rest, nil
}

// release gives the buffer of an incomplete message back and reports whether
// there was one.
func (f *framer) release() bool {
	if f.partial == nil {
		return false
	}
	partials.Put(f.partial)
	f.partial = nil
	return true
}

func (f *framer) deliver(msg []byte) {
	f.started, f.scanned, f.total, f.crlfs = false, 0, 0, 0
	f.message(msg)
}

// skipGap drops what may stand between messages. RFC 3261 7.5: "implementations
// processing SIP messages over stream-oriented transports MUST ignore any CRLF
// appearing before the start-line".
func (f *framer) skipGap(p []byte) []byte {
	for i, b := range p {
		switch {
		case b == crlfcrlf[f.crlfs]:
			f.crlfs++
		case b == '\r':
			f.crlfs = 1
		case b == '\n':
			f.crlfs = 0
		default:
			return p[i:]
		}
		if f.crlfs == len(crlfcrlf) {
			f.crlfs = 0
			f.ping()
		}
	}
	return nil
}

// measure sets f.total once p, the message under way so far, holds its whole
// header section. Its verdict depends on the bytes alone, not on how many of
// the following ones have arrived already.
func (f *framer) measure(p []byte) error {
	if f.total > 0 {
		return nil
	}
	limit := min(f.max, maxHeader)
	head := p[:min(len(p), limit)]
	if err := f.checkStart(head); err != nil {
		return err
	}
	from := max(0, f.scanned-len(crlfcrlf)+1)
	end := bytes.Index(head[from:], crlfcrlf)
	if end < 0 {
		f.scanned = len(head)
		if len(head) == limit {
			return ErrTooLarge
		}
		return nil
	}
	end += from
	length, err := contentLength(head[:end+len(crlf)], f.max)
	if err != nil {
		return err
	}
	f.total = end + len(crlfcrlf) + length
	if f.total > f.max {
		return ErrTooLarge
	}
	return nil
}

// checkStart refuses what cannot be SIP as early as possible: a TLS handshake
// at its first byte, an HTTP request at its first line.
func (f *framer) checkStart(head []byte) error {
	if f.started {
		return nil
	}
	if !isToken(head[0]) {
		return ErrNotSIP
	}
	from := max(0, f.scanned-len(crlf)+1)
	end := bytes.Index(head[from:], crlf)
	if end < 0 {
		return nil
	}
	if !plausibleStart(head[:from+end]) {
		return ErrNotSIP
	}
	f.started = true
	return nil
}

// plausibleStart tells whether line has a SIP-Version at one of the two places
// where it may stand. The version's number and the spaces are the business of
// who reads the message: a wrong one deserves an answer.
func plausibleStart(line []byte) bool {
	if version(line) {
		return true
	}
	line = bytes.TrimRight(line, " \t")
	return version(line[bytes.LastIndexByte(line, ' ')+1:])
}

func version(p []byte) bool {
	return len(p) > 4 && bytes.EqualFold(p[:4], []byte("SIP/"))
}

// contentLength returns the value of Content-Length in a header section whose
// lines all end in CRLF. A value above limit is ErrTooLarge.
func contentLength(header []byte, limit int) (int, error) {
	length := -1
	_, header = cutLine(header) // the start-line
	for len(header) > 0 {
		var line []byte
		line, header = cutLine(header)
		value, ok := lengthField(line)
		if !ok {
			continue
		}
		n, err := parseLength(value, limit)
		if err != nil {
			return 0, err
		}
		if length >= 0 && n != length {
			return 0, ErrBadContentLength
		}
		length = n
	}
	if length < 0 {
		return 0, ErrNoContentLength
	}
	return length, nil
}

// cutLine splits off the first line with its continuation lines (RFC 3261
// 7.3.1: folded where the next line starts with a space or tab).
func cutLine(p []byte) (line, rest []byte) {
	end := 0
	for {
		i := bytes.Index(p[end:], crlf)
		if i < 0 {
			return p, nil
		}
		end += i + len(crlf)
		if end == len(p) || p[end] != ' ' && p[end] != '\t' {
			return p[:end], p[end:]
		}
	}
}

// lengthField returns the value of line if its name is Content-Length, in
// either form, with white space before the colon or not.
func lengthField(line []byte) (value []byte, ok bool) {
	name, value, found := bytes.Cut(line, []byte(":"))
	if !found {
		return nil, false
	}
	name = bytes.TrimRight(name, " \t")
	switch len(name) {
	case len("l"):
		return value, name[0]|0x20 == 'l'
	case len("Content-Length"):
		return value, bytes.EqualFold(name, []byte("Content-Length"))
	}
	return nil, false
}

// parseLength reads 1*DIGIT between optional white space.
func parseLength(value []byte, limit int) (int, error) {
	value = bytes.Trim(value, " \t\r\n")
	if len(value) == 0 {
		return 0, ErrBadContentLength
	}
	n := 0
	for _, b := range value {
		if b < '0' || b > '9' {
			return 0, ErrBadContentLength
		}
		n = min(n*10+int(b-'0'), limit+1)
	}
	if n > limit {
		return 0, ErrTooLarge
	}
	return n, nil
}

// isToken tells whether b may stand in a method, RFC 3261 25.1: token.
func isToken(b byte) bool {
	switch {
	case 'a' <= b && b <= 'z', 'A' <= b && b <= 'Z', '0' <= b && b <= '9':
		return true
	}
	return bytes.IndexByte([]byte("-.!%*_+`'~"), b) >= 0
}
