//go:build !linux || goroutines

package transport

// wireGoroutines is how many a connection has that its peer does not read: one
// that reads, one that flushes.
const wireGoroutines = 2

func (w *wire) control(f func(fd uintptr)) { w.raw.Control(f) }

// memory is what w keeps, in bytes.
func (w *wire) memory() int {
	w.out.mu.Lock()
	defer w.out.mu.Unlock()
	return cap(w.out.queue)
}
