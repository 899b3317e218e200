package main

import (
	"math"
	"testing"
)

func TestConnectionsWithin(t *testing.T) {
	tests := []struct {
		descriptors uint64
		want        int
	}{
		{0, 1},
		{64, 32},
		{200, 100},
		{400, 200},
		{1024, 824},
		{1_048_576, 1_000_000},
		{math.MaxUint64, 1_000_000}, // unlimited
	}
	for _, tt := range tests {
		if got := connectionsWithin(tt.descriptors); got != tt.want {
			t.Errorf("%d descriptors: %d connections, want %d", tt.descriptors, got, tt.want)
		}
	}
}

func TestConnectionsAllowed(t *testing.T) {
	if got := connectionsAllowed(); got < 1 || got > mostConnections {
		t.Errorf("%d connections", got)
	}
}
