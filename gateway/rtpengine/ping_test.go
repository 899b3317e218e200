package rtpengine

import (
	"errors"
	"syscall"
	"testing"
)

func TestPing(t *testing.T) {
	d := newDaemon(t)
	if err := Ping(t.Context(), d.addr); err != nil {
		t.Error(err)
	}
	d.freeze()
	if err := Ping(t.Context(), d.addr); !errors.Is(err, ErrTimeout) {
		t.Errorf("an engine that says nothing: %v", err)
	}
	d.kill()
	if err := Ping(t.Context(), d.addr); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("an engine that is gone: %v", err)
	}
	if err := Ping(t.Context(), "127.0.0.1"); err == nil {
		t.Error("an address without a port is pinged")
	}
}
