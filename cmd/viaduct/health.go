package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// healthFlags are those of `viaduct health`.
type healthFlags struct {
	adminFlag
}

func (h *healthFlags) validate() error {
	if _, _, err := net.SplitHostPort(h.Admin); err != nil {
		return fmt.Errorf("--admin: %q is not host:port", h.Admin)
	}
	return nil
}

const (
	healthTimeout = 3 * time.Second // for the whole answer
	maxHealthText = 4096            // bytes of it that are read
)

func (h *healthFlags) do(ctx context.Context, _ io.Writer) (status int, err error) {
	if err := h.ask(ctx); err != nil {
		return exitFailed, err
	}
	return exitOK, nil
}

// ask returns nil if the viaduct at --admin is ready, else what it says is
// missing, or why it says nothing.
func (h *healthFlags) ask(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, fromHere("http://"+h.Admin)+"/readyz", http.NoBody)
	if err != nil {
		return err
	}
	// A transport of its own: the default one would ask the environment's proxy.
	response, err := (&http.Transport{DisableKeepAlives: true}).RoundTrip(request)
	if err != nil {
		return fmt.Errorf("--admin: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode == http.StatusOK {
		return nil
	}
	text, err := io.ReadAll(io.LimitReader(response.Body, maxHealthText))
	if err != nil {
		return fmt.Errorf("--admin: %w", err)
	}
	lines := strings.FieldsFunc(string(text), func(c rune) bool { return c == '\n' })
	return errors.New(cmp.Or(strings.Join(lines, "; "), response.Status))
}
