package rewrite

import (
	"strings"
	"testing"
)

func TestStale(t *testing.T) {
	tests := []struct {
		name, line string
		want       bool
	}{
		{"nothing of the kind", `WWW-Authenticate: Digest realm="r", nonce="n"`, false},
		{"a token", `WWW-Authenticate: Digest realm="r", nonce="n", stale=true`, true},
		{"in front", `Proxy-Authenticate: Digest stale=TRUE, realm="r"`, true},
		{"quoted, with white space", "www-authenticate: Digest realm=\"r\",\r\n\tStale = \"true\"", true},
		{"false", `WWW-Authenticate: Digest realm="r", stale=false`, false},
		{"not only true", `WWW-Authenticate: Digest stale=truer`, false},
		{"inside the realm", `WWW-Authenticate: Digest realm="a, stale=true"`, false},
		{"behind an escaped quote", `WWW-Authenticate: Digest realm="a\", stale=true"`, false},
		{"the end of another name", `WWW-Authenticate: Digest x-stale=true`, false},
		{"another header", `X-Authenticate: Digest stale=true`, false},
		{"the second challenge", "WWW-Authenticate: Digest realm=\"a\"\r\nWWW-Authenticate: Digest stale=true", true},
		{"a realm that does not end", `WWW-Authenticate: Digest realm="r, stale=true`, false},
		{"a name alone", `WWW-Authenticate: Digest stale`, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var m Message
			challenge := strings.Replace(soundResponse, "\r\n", "\r\n"+tt.line+"\r\n", 1)
			if d := m.Scan([]byte(challenge)); d != Sound {
				t.Fatal(d)
			}
			if m.Stale() != tt.want {
				t.Errorf("stale: %v, want %v", m.Stale(), tt.want)
			}
		})
	}
}
