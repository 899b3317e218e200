package transport

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// watchDelay gathers the events of one change: a certificate and its key are
	// written one after the other.
	watchDelay = 100 * time.Millisecond
	// maxLinks is how many symbolic links of one path are followed, as many as
	// the kernel follows.
	maxLinks = 40
)

// WatchFiles calls changed, on a goroutine of its own that ends with ctx, after
// the content that any of the paths names may have changed: the file was
// written, replaced by a rename, came, or went, or a symbolic link on the way to
// it was turned elsewhere (Kubernetes swaps a directory's, certbot a file's). It
// returns once it watches; what changes later is not missed.
//
// The directories of the files must exist.
func WatchFiles(ctx context.Context, paths []string, changed func()) error {
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		return err
	}
	w := &fileWatch{notify: notify, paths: paths, changed: changed}
	if err := w.follow(); err != nil {
		return errors.Join(err, notify.Close())
	}
	w.seen = w.look()
	go w.run(ctx)
	return nil
}

// fileWatch watches directories, because a watch on a file ends when another is
// renamed over it, and compares the files themselves after each event.
type fileWatch struct {
	notify  *fsnotify.Watcher
	paths   []string
	changed func()
	seen    []os.FileInfo // of each path, nil where there is no file
}

func (w *fileWatch) run(ctx context.Context) {
	defer w.notify.Close()
	var due <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.notify.Events:
		case err := <-w.notify.Errors:
			if !errors.Is(err, fsnotify.ErrEventOverflow) {
				continue
			}
		case <-due:
			due = nil
			w.check()
			continue
		}
		// Not put off by further events: a busy directory would put it off for ever.
		if due == nil {
			due = time.After(watchDelay)
		}
	}
}

func (w *fileWatch) check() {
	// A directory on the way may be gone for the moment; an event on one above
	// it, which is watched, tells when it is back.
	_ = w.follow()
	now := w.look()
	if slices.EqualFunc(now, w.seen, sameContent) {
		return
	}
	w.seen = now
	w.changed()
}

func (w *fileWatch) look() []os.FileInfo {
	infos := make([]os.FileInfo, len(w.paths))
	for i, path := range w.paths {
		if info, err := os.Stat(path); err == nil {
			infos[i] = info
		}
	}
	return infos
}

func sameContent(a, b os.FileInfo) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return os.SameFile(a, b) && a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// follow watches every directory in which a change can make one of the paths
// name something else. Watching one twice does nothing.
func (w *fileWatch) follow() error {
	for _, path := range w.paths {
		path, err := filepath.Abs(path)
		if err != nil {
			return err
		}
		for range maxLinks {
			link, target, found := firstLink(path)
			if !found {
				break
			}
			if err := w.notify.Add(filepath.Dir(link)); err != nil {
				return err
			}
			path = target
		}
		if err := w.notify.Add(filepath.Dir(path)); err != nil {
			return err
		}
	}
	return nil
}

// firstLink finds the first symbolic link among the parts of an absolute path,
// and the path with it followed.
func firstLink(path string) (link, target string, found bool) {
	for at := 1; at <= len(path); at++ {
		if at < len(path) && path[at] != filepath.Separator {
			continue
		}
		to, err := os.Readlink(path[:at])
		if err != nil {
			continue
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(filepath.Dir(path[:at]), to)
		}
		return path[:at], filepath.Clean(to + strings.TrimRight(path[at:], "/")), true
	}
	return "", "", false
}
