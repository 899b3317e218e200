package rewrite

// Defect says what makes a message unfit to be relayed. The zero value is no
// defect. It is an error, so that callers can wrap and compare it.
type Defect uint8

// The defects, each with the answer that [Defect.Answer] gives for it.
const (
	Sound Defect = iota
	NotSIP
	BadVersion
	BadStartLine
	BareLineEnd
	BadHeaderLine
	NoHeaderEnd
	TooLong
	TooManyLines
	TooManyVias
	TooManyRoutes
	TooManyContacts
	DuplicateHeader
	MissingHeader
	MissingVia
	BadVia
	BadCSeq
	BadCallID
	BadMaxForwards
	BadAddress
	BadContentLength
	BodyTooShort
	BodyTooLong

	// NumDefects is how many there are, with Sound.
	NumDefects = int(iota)
)

var defects = [NumDefects]struct {
	name, phrase string
	status       int
}{
	Sound:            {"sound", "OK", 200},
	NotSIP:           {"not_sip", "Not SIP", 400},
	BadVersion:       {"bad_version", "Version Not Supported", 505},
	BadStartLine:     {"bad_start_line", "Malformed Start Line", 400},
	BareLineEnd:      {"bare_line_end", "NUL, Bare CR Or Bare LF", 400},
	BadHeaderLine:    {"bad_header_line", "Malformed Header Line", 400},
	NoHeaderEnd:      {"no_header_end", "Headers Not Ended", 400},
	TooLong:          {"too_long", "Message Too Large", 513},
	TooManyLines:     {"too_many_lines", "Too Many Header Lines", 400},
	TooManyVias:      {"too_many_vias", "Too Many Vias", 400},
	TooManyRoutes:    {"too_many_routes", "Too Many Routes", 400},
	TooManyContacts:  {"too_many_contacts", "Too Many Contacts", 400},
	DuplicateHeader:  {"duplicate_header", "Duplicate Header", 400},
	MissingHeader:    {"missing_header", "Missing Header", 400},
	MissingVia:       {"missing_via", "Missing Via", 400},
	BadVia:           {"bad_via", "Malformed Via", 400},
	BadCSeq:          {"bad_cseq", "Malformed CSeq", 400},
	BadCallID:        {"bad_call_id", "Malformed Call-ID", 400},
	BadMaxForwards:   {"bad_max_forwards", "Malformed Max-Forwards", 400},
	BadAddress:       {"bad_address", "Malformed Address", 400},
	BadContentLength: {"bad_content_length", "Bad Content-Length", 400},
	BodyTooShort:     {"body_too_short", "Body Shorter Than Content-Length", 400},
	BodyTooLong:      {"body_too_long", "Body Longer Than Content-Length", 400},
}

// String returns the defect's stable name, fit for a log field or a metric label.
func (d Defect) String() string { return defects[d].name }

// Error returns the same text as String.
func (d Defect) Error() string { return defects[d].name }

// Answer returns the status and reason phrase of the response that tells the
// sender of a request about the defect.
func (d Defect) Answer() (status int, phrase string) {
	return defects[d].status, defects[d].phrase
}
