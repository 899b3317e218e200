package gateway

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"viaduct/rewrite"
)

// keyLab is a gateway whose key file the test edits.
type keyLab struct {
	*lab
	lines []string
}

func newKeyLab(t *testing.T) *keyLab {
	t.Helper()
	l := &keyLab{lab: preparedLab(t), lines: []string{rewrite.NewKeyLine()}}
	undisturbed(&l.cfg)
	l.cfg.TokenKeyFile = filepath.Join(t.TempDir(), "token.key")
	l.write(l.lines[0])
	l.start()
	return l
}

// write replaces the key file as an editor does.
func (l *keyLab) write(text string) {
	l.t.Helper()
	next := l.cfg.TokenKeyFile + ".new"
	if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
		l.t.Fatal(err)
	}
	if err := os.Rename(next, l.cfg.TokenKeyFile); err != nil {
		l.t.Fatal(err)
	}
}

// rotate puts a new key in front of those in the file.
func (l *keyLab) rotate() {
	l.t.Helper()
	l.use(append([]string{rewrite.NewKeyLine()}, l.lines...)...)
}

// use gives the file those keys and waits until they are in use.
func (l *keyLab) use(lines ...string) {
	l.t.Helper()
	l.lines = lines
	reloads := l.log.count("token keys reloaded")
	l.write(strings.Join(lines, ""))
	l.log.await("token keys reloaded", reloads+1)
}

// keyOf says with which key of the file, counted from 0, a token was made.
func (l *keyLab) keyOf(token string) int {
	l.t.Helper()
	_, opened, ok := l.gw.keys.Load().OpenToken(nil, []byte(tokenOf(token)))
	if !ok {
		l.t.Fatalf("no key opens %s", token)
	}
	for i, key := range l.gw.keys.Load().Keys() {
		if key == opened.Key {
			return i
		}
	}
	l.t.Fatal("the key that opened it is not there")
	return -1
}

// TestKeyRotation: a registered client keeps its token, on a new connection
// too; whoever comes new gets the new key.
func TestKeyRotation(t *testing.T) {
	l := newKeyLab(t)
	alice := l.phone("alice")
	token := l.registered(alice)
	call := l.up(alice, alice.invite("sip:bob@pbx.example"))
	l.rotate()

	if again := l.registered(alice); again != token {
		t.Errorf("a refresh changed the token from %s to %s", token, again)
	}
	l.down(alice, call.reply("200 OK")) // its seal is of the old key
	if got := l.up(alice, alice.invite("sip:bob@pbx.example")).contactURI(); got != call.contactURI() {
		t.Errorf("a call of a registered client has token %s, want %s", got, call.contactURI())
	}
	l.hangUp(alice.browser)
	alice = alice.again(l.lab)
	if again := l.registered(alice); again != token {
		t.Errorf("a reconnect changed the token from %s to %s", token, again)
	}
	l.expectReached(alice, token)

	bob := l.phone("bob")
	if key := l.keyOf(l.registered(bob)); key != 0 {
		t.Errorf("a new client's token is made with key %d", key)
	}
}

// TestKeyAfterUnregister: who unregisters takes the new key, and is still
// called by the old one.
func TestKeyAfterUnregister(t *testing.T) {
	for name, unregister := range map[string]func(*phone) sip{
		"by Contact":   func(p *phone) sip { return p.registerContact("<" + p.contact() + ">;expires=0") },
		"by wildcard":  func(p *phone) sip { return p.registerContact("*").add("Expires: 0") },
		"by reloading": nil,
	} {
		t.Run(name, func(t *testing.T) {
			l := newKeyLab(t)
			alice := l.phone("alice")
			old := l.registered(alice)
			l.rotate()
			if unregister != nil {
				l.down(alice, l.up(alice, unregister(alice)).reply("200 OK"))
			} else {
				alice.viaHost, alice.contactUser = "reloaded0000.invalid", "reloaded"
			}
			token := l.registered(alice)
			if key := l.keyOf(token); key != 0 {
				t.Errorf("registered anew with key %d", key)
			}
			if key := l.keyOf(l.up(alice, alice.invite("sip:bob@pbx.example")).contactURI()); key != 0 {
				t.Errorf("calls with key %d", key)
			}
			l.expectReached(alice, token)
			if unregister != nil {
				l.expectReached(alice, old)
			}
		})
	}
}

// TestKeyOfCaller: a caller that never registers keeps its token as long as it
// is connected, so that its calls can be answered and ended.
func TestKeyOfCaller(t *testing.T) {
	l := newKeyLab(t)
	p := l.phone("alice")
	token := l.up(p, p.invite("sip:bob@pbx.example")).contactURI()
	l.rotate()
	if again := l.up(p, p.invite("sip:bob@pbx.example").set("To", "<sip:bob@pbx.example>;tag=b")).contactURI(); again != token {
		t.Errorf("a re-INVITE changed the token from %s to %s", token, again)
	}
	l.answered(p, l.down(p, l.pbx.request("BYE", token)), "200 OK")
}

// TestRemovedKey: tokens of a removed key open no more, and whoever had one goes
// on with a new one.
func TestRemovedKey(t *testing.T) {
	l := newKeyLab(t)
	alice := l.phone("alice")
	token := l.registered(alice)
	sealed := l.up(alice, alice.request("MESSAGE", "sip:bob@pbx.example"))
	l.use(rewrite.NewKeyLine())

	before := l.dropped()
	req := l.pbx.request("INVITE", token)
	l.pbx.send(req)
	expectAnswer(t, req.receivedFrom(l.pbx.conn.LocalAddr()), l.pbx.read(), 403)
	l.expectDropped(before, ReasonForgedToken)

	before = l.dropped()
	l.pbx.send(sealed.reply("200 OK"))
	l.expectAlive(alice) // without a Contact: the client that it is named by has lost its key
	l.expectDropped(before, ReasonForgedSeal)

	req = l.up(alice, alice.registerContact(""))
	l.down(alice, req.reply("200 OK"))
	fresh := l.registered(alice)
	if fresh == token {
		t.Error("the token is of the removed key")
	}
	l.expectReached(alice, fresh)
}

// TestBrokenKeyFile: a file that cannot be used changes nothing.
func TestBrokenKeyFile(t *testing.T) {
	l := newKeyLab(t)
	alice := l.phone("alice")
	token := l.registered(alice)
	for i, broken := range []string{"not a key\n", "", "# nothing\n", l.lines[0] + "short\n", l.lines[0] + l.lines[0]} {
		l.write(broken)
		l.log.await("token keys not reloaded", i+1)
		l.expectReached(alice, token)
		if again := l.registered(alice); again != token {
			t.Errorf("after %q the token is %s", broken, again)
		}
	}
	if err := os.Remove(l.cfg.TokenKeyFile); err != nil {
		t.Fatal(err)
	}
	l.log.await("token keys not reloaded", 6)
	l.expectReached(alice, token)
	for _, entry := range l.log.All() {
		if strings.Contains(fmt.Sprint(entry), strings.TrimSpace(l.lines[0])) {
			t.Errorf("the log shows the key: %v", entry)
		}
	}
}

// TestKeyFileMade: a missing file is made, for its owner alone.
func TestKeyFileMade(t *testing.T) {
	l := newLab(t, func(c *Config) { c.TokenKeyFile = filepath.Join(t.TempDir(), "made", "too", "token.key") })
	info, err := os.Stat(l.cfg.TokenKeyFile)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 || l.bound.EphemeralKeys {
		t.Errorf("mode %v, EphemeralKeys %v", info.Mode(), l.bound.EphemeralKeys)
	}
	alice := l.phone("alice")
	l.expectReached(alice, l.registered(alice))
}
