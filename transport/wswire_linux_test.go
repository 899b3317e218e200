//go:build linux && !goroutines

package transport

// wireGoroutines is how many a connection has that its peer does not read.
const wireGoroutines = 0

func (w *wire) control(f func(fd uintptr)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f(uintptr(w.fd))
}

// memory is what w keeps, in bytes.
func (w *wire) memory() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.unsent == nil {
		return 0
	}
	return cap(w.unsent.queue)
}
