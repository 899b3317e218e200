package main

import (
	"os"
	"path/filepath"
	"testing"
)

func TestDefaultKeyFile(t *testing.T) {
	dir := t.TempDir()
	file := writeFile(t, dir, "file", "") // below a file no directory can be made, even by root
	impossible := filepath.Join(file, "state")
	state := filepath.Join(dir, "systemd")
	xdg := filepath.Join(dir, "xdg")
	home := filepath.Join(dir, "home")

	tests := []struct {
		name                string
		stateDir, xdg, home string
		want                string
	}{
		{"systemd's directory first", state, xdg, home, filepath.Join(state, "token.key")},
		{"the first of systemd's", state + ":" + impossible, xdg, home, filepath.Join(state, "token.key")},
		{"systemd's cannot be written", impossible, xdg, home, filepath.Join(xdg, "viaduct", "token.key")},
		{"the user's", "", xdg, home, filepath.Join(xdg, "viaduct", "token.key")},
		{"the user's by default", "", "", home, filepath.Join(home, ".local", "state", "viaduct", "token.key")},
		{"a relative path does not count", "", "state", home, filepath.Join(home, ".local", "state", "viaduct", "token.key")},
		{"nothing can be written", impossible, impossible, home, ""},
		{"nothing is known", "", "", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Setenv("STATE_DIRECTORY", tt.stateDir)
			t.Setenv("XDG_STATE_HOME", tt.xdg)
			t.Setenv("HOME", tt.home)
			if got := defaultKeyFile(); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// TestDefaultKeyFileKeepsWhatIsThere: an existing file in a directory that
// cannot be written is taken, not passed over for a new key elsewhere.
func TestDefaultKeyFileKeepsWhatIsThere(t *testing.T) {
	dir := t.TempDir()
	want := writeFile(t, dir, "token.key", "whatever\n")
	if err := os.Chmod(dir, 0o500); err != nil {
		t.Fatal(err)
	}
	t.Setenv("STATE_DIRECTORY", dir)
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	if got := defaultKeyFile(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
