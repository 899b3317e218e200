package gateway

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"go.uber.org/zap"

	"viaduct/rewrite"
)

// loadKeys reads the key file, which it makes if there is none. Without a file
// the keys live as long as the process.
func loadKeys(path string, old *rewrite.Keyring) (*rewrite.Keyring, error) {
	if path == "" {
		return rewrite.ParseKeyring([]byte(rewrite.NewKeyLine()), old)
	}
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) && old == nil {
		text, err = makeKeyFile(path)
	}
	if err != nil {
		return nil, err
	}
	return rewrite.ParseKeyring(text, old)
}

// makeKeyFile writes a file with a new key that only its owner can read. If two
// processes do so at once, both use the one that came first.
func makeKeyFile(path string) ([]byte, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	text := []byte("# viaduct: keys of tokens and seals. The first signs, all verify. Keep it secret.\n" + rewrite.NewKeyLine())
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return os.ReadFile(path)
	}
	if err != nil {
		return nil, err
	}
	_, err = file.Write(text)
	return text, errors.Join(err, file.Sync(), file.Close())
}

// reloadKeys takes over a changed key file; a broken one changes nothing.
func (g *Gateway) reloadKeys() {
	old := g.keys.Load()
	keys, err := loadKeys(g.cfg.TokenKeyFile, old)
	if err != nil {
		g.log.Error("token keys not reloaded", zap.Error(fmt.Errorf("%s: %w", g.cfg.TokenKeyFile, err)))
		return
	}
	if slices.Equal(keys.Keys(), old.Keys()) {
		return
	}
	g.keys.Store(keys)
	g.log.Info("token keys reloaded", zap.Int("keys", len(keys.Keys())))
}
