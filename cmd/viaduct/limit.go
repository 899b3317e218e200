package main

import "golang.org/x/sys/unix"

const (
	mostConnections = 1_000_000
	// ownDescriptors is kept back for listeners, connections to the SIP
	// servers, watched files and the handshakes that are being refused.
	ownDescriptors = 200
)

// connectionsAllowed is how many browsers the descriptor limit has room for.
// The Go runtime has raised the limit to what the process may have.
func connectionsAllowed() int {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return mostConnections
	}
	return connectionsWithin(limit.Cur)
}

func connectionsWithin(descriptors uint64) int {
	switch {
	case descriptors >= mostConnections+ownDescriptors:
		return mostConnections
	case descriptors <= 2*ownDescriptors:
		return max(1, int(descriptors/2))
	}
	return int(descriptors - ownDescriptors)
}
