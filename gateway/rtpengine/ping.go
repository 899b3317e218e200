package rtpengine

import (
	"context"
	"sync"
)

// Ping asks the engine at an address, "host:port", how it is, and returns nil if
// it answers. The error is one of Ask's, or says what is wrong with the address.
func Ping(ctx context.Context, address string) error {
	c, err := New(Config{Engines: []string{address}})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	outcome := make(chan error, 1)
	c.engines[0].ask(&Command{Kind: kindPing}, func(_ Answer, err error) { outcome <- err })
	running.Go(func() { c.Run(ctx) })
	return <-outcome
}
