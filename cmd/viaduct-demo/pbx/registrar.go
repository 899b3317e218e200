package pbx

import (
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ghettovoice/gosip/sip"
)

const (
	defaultExpiry = 10 * time.Minute
	longestExpiry = time.Hour

	// Reloading a page leaves its old contact behind until it expires.
	mostContacts = 5
)

// A binding is one contact of an address-of-record (RFC 3261 10.3).
type binding struct {
	contact *sip.ContactHeader // as it was registered
	until   time.Time
	callID  string
	seq     uint32
}

// A registrar knows where users are. It is safe for concurrent use.
type registrar struct {
	mu    sync.Mutex
	users map[string][]binding
}

func newRegistrar() *registrar { return &registrar{users: make(map[string][]binding)} }

// register applies what req asks for user and returns the Contact headers of
// the answer: all current bindings.
func (r *registrar) register(user string, req sip.Request, now time.Time) ([]sip.Header, *refusal) {
	contacts, refused := contactsOf(req)
	if refused != nil {
		return nil, refused
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	current := live(r.users[user], now)
	for _, contact := range contacts {
		if current, refused = bind(current, contact, req, now); refused != nil {
			return nil, refused
		}
	}
	r.users[user] = current[max(0, len(current)-mostContacts):]
	return listed(r.users[user], now), nil
}

// contacts returns where user can be called, the latest registered last.
func (r *registrar) contacts(user string, now time.Time) []sip.Uri {
	r.mu.Lock()
	defer r.mu.Unlock()
	var uris []sip.Uri
	for _, b := range live(r.users[user], now) {
		uris = append(uris, b.contact.Address.Clone())
	}
	return uris
}

func contactsOf(req sip.Request) ([]*sip.ContactHeader, *refusal) {
	var contacts []*sip.ContactHeader
	wildcard := false
	for _, header := range req.GetHeaders("Contact") {
		contact, ok := header.(*sip.ContactHeader)
		if !ok {
			return nil, &refusal{400, "Bad Contact"}
		}
		contacts = append(contacts, contact)
		wildcard = wildcard || contact.Address.IsWildcard()
	}
	// "The REGISTER-specific Contact header field value of "*" applies to all
	// registrations, but it MUST NOT be used unless the Expires header field is
	// present with a value of "0"." (RFC 3261 10.2.2)
	if wildcard && (len(contacts) > 1 || expiry(contacts[0], req) != 0) {
		return nil, &refusal{400, "Bad Contact"}
	}
	return contacts, nil
}

// bind returns bindings with contact added, renewed or removed.
func bind(bindings []binding, contact *sip.ContactHeader, req sip.Request, now time.Time) ([]binding, *refusal) {
	callID, seq := callIDOf(req), seqOf(req)
	kept := make([]binding, 0, len(bindings)+1)
	for _, b := range bindings {
		if !contact.Address.IsWildcard() && b.contact.Address.String() != contact.Address.String() {
			kept = append(kept, b)
			continue
		}
		// "If it does agree, [the registrar] MUST remove the binding only if the
		// CSeq in the request is higher than the value stored for that binding.
		// Otherwise, the update MUST be aborted and the request fails." (10.3)
		if b.callID == callID && seq <= b.seq {
			return nil, &refusal{500, "Out of Order"}
		}
	}
	lifetime := expiry(contact, req)
	if lifetime == 0 {
		return kept, nil
	}
	return append(kept, binding{asRegistered(contact), now.Add(lifetime), callID, seq}), nil
}

// asRegistered returns contact with its parameters quoted as they came. gosip
// parses the quotes of +sip.instance away and without them writes %3C for <;
// JsSIP then finds no contact of its own in the response.
func asRegistered(contact *sip.ContactHeader) *sip.ContactHeader {
	contact = contact.Clone().(*sip.ContactHeader)
	for key, value := range contact.Params.Items() {
		if value != nil && strings.ContainsAny(value.String(), `<>@,;:\/[]?={} `) {
			contact.Params.Add(key, sip.String{Str: `"` + value.String() + `"`})
		}
	}
	return contact
}

// expiry returns how long contact asks to be bound, within our limits.
func expiry(contact *sip.ContactHeader, req sip.Request) time.Duration {
	asked := defaultExpiry
	if headers := req.GetHeaders("Expires"); len(headers) > 0 {
		asked = seconds(headers[0].Value(), asked)
	}
	if contact.Params != nil {
		if value, ok := contact.Params.Get("expires"); ok && value != nil {
			asked = seconds(value.String(), asked)
		}
	}
	return min(asked, longestExpiry)
}

func seconds(value string, otherwise time.Duration) time.Duration {
	n, err := strconv.ParseUint(value, 10, 32)
	if err != nil {
		return otherwise
	}
	return time.Duration(n) * time.Second
}

func live(bindings []binding, now time.Time) []binding {
	var kept []binding
	for _, b := range bindings {
		if b.until.After(now) {
			kept = append(kept, b)
		}
	}
	return kept
}

func listed(bindings []binding, now time.Time) []sip.Header {
	var headers []sip.Header
	for _, b := range bindings {
		contact := b.contact.Clone().(*sip.ContactHeader)
		left := int((b.until.Sub(now) + time.Second/2) / time.Second)
		contact.Params.Add("expires", sip.String{Str: strconv.Itoa(left)})
		headers = append(headers, contact)
	}
	return headers
}
