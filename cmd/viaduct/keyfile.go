package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// defaultKeyFile is where the token keys are kept when no flag says it:
// token.key in $STATE_DIRECTORY, which systemd sets, else in the user's state
// directory. The gateway makes the file. It returns "" if neither can be
// written; the keys then live as long as the process.
func defaultKeyFile() string {
	for _, dir := range stateDirs() {
		file := filepath.Join(dir, "token.key")
		if usable(file) {
			return file
		}
	}
	return ""
}

func stateDirs() []string {
	var dirs []string
	// systemd.exec(5): "If multiple directories are set, then in the
	// environment variable the paths are concatenated with colon".
	if set := filepath.SplitList(os.Getenv("STATE_DIRECTORY")); len(set) > 0 {
		dirs = append(dirs, set[0])
	}
	if dir := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return append(dirs, filepath.Join(dir, "viaduct"))
	}
	if home, err := os.UserHomeDir(); err == nil {
		dirs = append(dirs, filepath.Join(home, ".local", "state", "viaduct"))
	}
	return dirs
}

// usable tells whether file is there, or can be made once its directory is. A
// file that is there and cannot be read stays the choice: to pass over it in
// silence would cut off every call that its keys still hold.
func usable(file string) bool {
	_, err := os.Stat(file)
	if err == nil {
		return true
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return false
	}
	dir := filepath.Dir(file)
	if os.MkdirAll(dir, 0o700) != nil {
		return false
	}
	return unix.Access(dir, unix.W_OK|unix.X_OK) == nil
}
