package pbx

import (
	"context"
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/ghettovoice/gosip/sip"
)

// noContact keeps a phone from adding its own Contact.
const noContact = "Subject: no Contact: here"

func contactsIn(res heard) []string {
	var values []string
	for line := range strings.SplitSeq(res.raw, "\r\n") { // gosip would write it its own way
		if value, ok := strings.CutPrefix(line, "Contact: "); ok {
			values = append(values, value)
		}
	}
	return values
}

var expires = regexp.MustCompile(`[0-9]+$`) // what ends a contact

// expectContacts takes up to nine seconds off for a busy machine.
func expectContacts(t *testing.T, res heard, want ...string) {
	t.Helper()
	got := contactsIn(res)
	for i, contact := range got {
		got[i] = expires.ReplaceAllStringFunc(contact, func(digits string) string {
			left, _ := strconv.Atoi(digits) // they are digits
			return strconv.Itoa((left + 9) / 10 * 10)
		})
	}
	if res.kind() != "200 REGISTER" || fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("got %s with contacts\n%q\nexpected\n%q", res.kind(), got, want)
	}
}

func TestRegister(t *testing.T) {
	p := startPBX(t, quick)
	alice := newPhone(t, p, "alice")
	contact := func(user, params string) string { return fmt.Sprintf("<sip:%s@%s>%s", user, alice.addr, params) }
	own := contact("alice", ";expires=60")

	expectContacts(t, alice.register("a-secret"), contact("alice", ";expires=600"))
	expectContacts(t, alice.register("a-secret", "Expires: 60"), own)

	// Header parameters come back: by them a phone knows its own contact.
	const instance = `;+sip.instance="<urn:uuid:00000000-0000-4000-8000-000000000001>"`
	second := alice.register("a-secret", "Contact: "+contact("other", instance+";expires=90"))
	expectContacts(t, second, own, contact("other", instance+";expires=90"))

	// Gone are those that ask for no time.
	third := alice.register("a-secret", "Contact: "+contact("other", ";expires=0"))
	expectContacts(t, third, own)
	expectContacts(t, alice.register("a-secret", "Expires: 0"))
}

func TestUnregisterAll(t *testing.T) {
	p := startPBX(t, quick)
	alice := registered(t, p, "alice")
	l := alice.leg("alice")
	if res := alice.registerIn(l, "a-secret", "Contact: *"); res.kind() != "400 REGISTER" {
		t.Errorf("* without Expires: 0 got %s", res.kind())
	}
	expectContacts(t, alice.registerIn(l, "a-secret", "Contact: *", "Expires: 0"))
}

func TestFetch(t *testing.T) {
	p := startPBX(t, quick)
	alice := registered(t, p, "alice")
	l := alice.leg("alice")
	expectContacts(t, alice.registerIn(l, "a-secret", noContact), fmt.Sprintf("<sip:alice@%s>;expires=600", alice.addr))
}

func TestTooManyContacts(t *testing.T) {
	p := startPBX(t, quick)
	alice := newPhone(t, p, "alice")
	l := alice.leg("alice")
	var want []string
	for i := range 2 * mostContacts {
		contact := fmt.Sprintf("<sip:tab%d@%s>", i, alice.addr)
		alice.registerIn(l, "a-secret", "Contact: "+contact)
		want = append(want, contact+";expires=600")
	}
	expectContacts(t, alice.registerIn(l, "a-secret", noContact), want[mostContacts:]...)
}

func TestWrongCredentials(t *testing.T) {
	p := startPBX(t, quick)
	for user, password := range map[string]string{"alice": "wrong", "carol": "unknown"} {
		if res := newPhone(t, p, user).register(password); res.kind() != "403 REGISTER" {
			t.Errorf("%s got %s", user, res.kind())
		}
	}
	alice := newPhone(t, p, "alice")
	if res := alice.registerIn(alice.leg("bob"), "a-secret"); res.kind() != "403 REGISTER" {
		t.Errorf("alice registering bob got %s", res.kind())
	}
	l := alice.leg("bob")
	l.send("INVITE", offer)
	challenge := alice.expect("407 INVITE")
	l.refuse(challenge)
	l.send("INVITE", offer, l.credentials("INVITE", challenge, "wrong"))
	l.refuse(alice.expect("403 INVITE"))
}

func TestNonceExpires(t *testing.T) {
	a := newAuthority([]Account{{"alice", "a-secret"}})
	made := time.Unix(1e9, 0)
	with := func(nonce string) sip.Request {
		auth := sip.AuthFromValue(fmt.Sprintf(`Digest realm="%s", nonce="%s"`, realm, nonce)).
			SetMethod("REGISTER").SetUri("sip:pbx").SetUsername("alice").SetPassword("a-secret")
		auth.SetResponse(auth.CalcResponse())
		return sip.NewRequest("", sip.REGISTER, &sip.SipUri{FHost: "pbx"}, "SIP/2.0",
			[]sip.Header{&sip.GenericHeader{HeaderName: "Authorization", Contents: auth.String()}}, "", nil)
	}
	for _, test := range []struct {
		nonce string
		age   time.Duration
		want  verdict
	}{
		{a.nonce(made), nonceLives, proven},
		{a.nonce(made), nonceLives + 1, stale},
		{newAuthority(nil).nonce(made), 0, unproven},
		{"", 0, unproven},
	} {
		if _, got := a.check(with(test.nonce), registrarChallenge, made.Add(test.age)); got != test.want {
			t.Errorf("nonce %q after %s: %d, expected %d", test.nonce, test.age, got, test.want)
		}
	}
	if header := a.header(proxyChallenge, stale, made).Value(); !strings.Contains(header, "stale=true") {
		t.Errorf("a stale nonce is answered with %s", header)
	}
}

func TestRegistrationExpires(t *testing.T) {
	r := newRegistrar()
	now := time.Unix(1e9, 0)
	callID := sip.CallID("a")
	req := sip.NewRequest("", sip.REGISTER, &sip.SipUri{FHost: "pbx"}, "SIP/2.0", []sip.Header{
		&callID, &sip.CSeq{SeqNo: 7, MethodName: sip.REGISTER},
		&sip.ContactHeader{Address: &sip.SipUri{FUser: sip.String{Str: "x"}, FHost: "y"}, Params: sip.NewParams()},
	}, "", nil)
	if _, refused := r.register("alice", req, now); refused != nil {
		t.Fatal(refused)
	}
	if _, refused := r.register("alice", req, now); refused == nil || refused.status != 500 {
		t.Errorf("the same CSeq again: %v", refused)
	}
	if n := len(r.contacts("alice", now.Add(defaultExpiry-1))); n != 1 {
		t.Errorf("%d contacts before the end", n)
	}
	if n := len(r.contacts("alice", now.Add(defaultExpiry))); n != 0 {
		t.Errorf("%d contacts after it", n)
	}
}

func TestStartRefuses(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for reason, cfg := range map[string]Config{
		"no address":  {Listen: "localhost"},
		"unspecified": {Listen: "0.0.0.0:0"},
		"IPv6":        {Listen: "[::1]:0"},
		"taken":       {Listen: taken.Addr().String()},
		"reserved":    {Listen: "127.0.0.1:0", Accounts: []Account{{User: "echo"}}},
	} {
		if p, err := Start(context.Background(), cfg); err == nil {
			p.Close()
			t.Errorf("%s: started", reason)
		}
	}
	noGoroutines(t)
}

func TestStopsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	if _, err := Start(ctx, Config{Listen: "127.0.0.1:0"}); err != nil {
		t.Fatal(err)
	}
	cancel()
	noGoroutines(t)
}
