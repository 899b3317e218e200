package transport

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"
)

// fileSteps is a directory in which the test does things.
type fileSteps struct {
	t   *testing.T
	dir string
}

func (f fileSteps) path(name string) string { return filepath.Join(f.dir, name) }

func (f fileSteps) must(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f fileSteps) write(name, content string) {
	f.t.Helper()
	f.must(os.WriteFile(f.path(name), []byte(content), 0o600))
}

func (f fileSteps) mkdir(name string) { f.t.Helper(); f.must(os.Mkdir(f.path(name), 0o700)) }

func (f fileSteps) rename(from, to string) {
	f.t.Helper()
	f.must(os.Rename(f.path(from), f.path(to)))
}

func (f fileSteps) link(target, name string) {
	f.t.Helper()
	f.must(os.Symlink(target, f.path(name)))
}

// relink turns a symbolic link elsewhere as Kubernetes does, by a rename.
func (f fileSteps) relink(target, name string) {
	f.t.Helper()
	f.link(target, name+"_tmp")
	f.rename(name+"_tmp", name)
}

func TestWatchFiles(t *testing.T) {
	for name, test := range map[string]struct {
		before, change func(f fileSteps)
		want           string // "" for no file
	}{
		"written": {
			func(f fileSteps) { f.write("file", "old") },
			func(f fileSteps) { f.write("file", "newer") }, "newer"},
		"same size": {
			func(f fileSteps) { f.write("file", "old") },
			func(f fileSteps) { f.write("file", "new") }, "new"},
		"renamed over": {
			func(f fileSteps) { f.write("file", "old") },
			func(f fileSteps) { f.write("tmp", "new"); f.rename("tmp", "file") }, "new"},
		"came": {
			func(fileSteps) {},
			func(f fileSteps) { f.write("file", "new") }, "new"},
		"went": {
			func(f fileSteps) { f.write("file", "old") },
			func(f fileSteps) { f.must(os.Remove(f.path("file"))) }, ""},
		"Kubernetes": {
			func(f fileSteps) {
				f.mkdir("..1")
				f.write("..1/file", "old")
				f.link("..1", "..data")
				f.link("..data/file", "file")
			},
			func(f fileSteps) {
				f.mkdir("..2")
				f.write("..2/file", "new")
				f.relink("..2", "..data")
				f.must(os.RemoveAll(f.path("..1")))
			}, "new"},
		"certbot": {
			func(f fileSteps) {
				f.mkdir("archive")
				f.mkdir("live")
				f.write("archive/1", "old")
				f.link("../archive/1", "live/cert")
				f.link("live/cert", "file")
			},
			func(f fileSteps) {
				f.write("archive/2", "new")
				f.relink("../archive/2", "live/cert")
			}, "new"},
		"behind a link": {
			func(f fileSteps) {
				f.mkdir("elsewhere")
				f.write("elsewhere/real", "old")
				f.link(f.path("elsewhere/real"), "file")
			},
			func(f fileSteps) { f.write("elsewhere/real", "newer") }, "newer"},
	} {
		t.Run(name, func(t *testing.T) {
			f := fileSteps{t, t.TempDir()}
			test.before(f)
			changed := make(chan struct{}, 10)
			f.must(WatchFiles(t.Context(), []string{f.path("file")}, func() { changed <- struct{}{} }))
			test.change(f)
			for {
				next(t, changed)
				if got, _ := os.ReadFile(f.path("file")); string(got) == test.want {
					break
				}
			}
		})
	}
}

// After a Kubernetes swap the next one is seen too.
func TestWatchFollowsSwaps(t *testing.T) {
	f := fileSteps{t, t.TempDir()}
	f.mkdir("0")
	f.write("0/file", "0")
	f.link("0", "data")
	changed := make(chan string, 10)
	f.must(WatchFiles(t.Context(), []string{f.path("data/file")}, func() {
		content, _ := os.ReadFile(f.path("data/file"))
		changed <- string(content)
	}))
	becomes := func(want string) {
		for next(t, changed) != want { // a file is empty for a moment before it is written
		}
	}
	for _, generation := range []string{"1", "2", "3"} {
		f.mkdir(generation)
		f.write(generation+"/file", generation)
		f.relink(generation, "data")
		becomes(generation)
		f.write(generation+"/file", generation+" in place")
		becomes(generation + " in place")
	}
}

// What happens beside the files is nobody's business, and the two writes of
// one change are one.
func TestWatchComparesFiles(t *testing.T) {
	f := fileSteps{t, t.TempDir()}
	notify, err := fsnotify.NewWatcher()
	f.must(err)
	defer notify.Close()
	calls := 0
	w := &fileWatch{notify: notify, paths: []string{f.path("cert"), f.path("key")}, changed: func() { calls++ }}
	w.seen = w.look()
	for _, step := range []struct {
		files []string
		calls int
	}{{nil, 0}, {[]string{"beside"}, 0}, {[]string{"cert", "key"}, 1}, {nil, 1}, {[]string{"beside"}, 1}} {
		for _, name := range step.files {
			f.write(name, "x")
		}
		w.check()
		if calls != step.calls {
			t.Errorf("after writing %v: %d calls, want %d", step.files, calls, step.calls)
		}
	}
}

func TestWatchFilesFails(t *testing.T) {
	if err := WatchFiles(t.Context(), []string{t.TempDir() + "/missing/file"}, func() {}); err == nil {
		t.Error("a missing directory is watched")
	}
}

func TestWatchEndsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	if err := WatchFiles(ctx, []string{t.TempDir() + "/file"}, func() {}); err != nil {
		t.Fatal(err)
	}
	cancel()
	watching := func() bool {
		buf := make([]byte, 1<<20)
		return strings.Contains(string(buf[:runtime.Stack(buf, true)]), "(*fileWatch).run")
	}
	for deadline := time.Now().Add(patience); watching(); runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("still watching")
		}
	}
}
