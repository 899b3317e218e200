//go:build linux

package main

import (
	"bytes"
	"io"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// built builds a command of this module.
func built(t *testing.T, name string) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), name)
	if out, err := exec.Command("go", "build", "-o", binary, "viaduct/cmd/"+name).CombinedOutput(); err != nil {
		t.Fatalf("build %s: %v\n%s", name, err, out)
	}
	return binary
}

// TestBenchQuick is all of the measurement but its length: each answer comes, by
// UDP and TCP, and is what it should be.
func TestBenchQuick(t *testing.T) {
	page := filepath.Join(t.TempDir(), "page.md")
	out, err := exec.Command(built(t, "viaduct-load"), "bench", "--quick", "--viaduct="+built(t, "viaduct"), "--write="+page).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{"CPU of a pair by UDP", "CPU of a pair by TCP", "| null |", "| viaduct |", "relayed without keeping them to be sent again: 0."} {
		if !strings.Contains(string(out), want) {
			t.Errorf("it does not say %q:\n%s", want, out)
		}
	}
}

func TestLoopbackAlone(t *testing.T) {
	for _, args := range [][]string{
		{"drive", "--to=192.0.2.1:80"},
		{"drive", "--to=0.0.0.0:80"},
		{"drive", "--to=[::1]:80"},
		{"drive", "--to=example.com:80"},
		{"drive", "--to=127.0.0.1:80", "--answerer=192.0.2.1:5060"},
		{"null", "--upstream=192.0.2.1:5060"},
		{"null", "--upstream=127.0.0.1:5060", "--listen=0.0.0.0:80"},
		{"answer", "--listen=0.0.0.0:5060"},
	} {
		if _, err := parse(args, io.Discard); err == nil {
			t.Errorf("%q was accepted", args)
		}
	}
	if _, err := parse([]string{"drive", "--to=127.1.2.3:80"}, io.Discard); err != nil {
		t.Errorf("another address of loopback: %v", err)
	}
}

func TestBounds(t *testing.T) {
	for _, flag := range []string{"--connections=20001", "--connections=0", "--threads=0", "--at-once=20001", "--rate=1000001", "--time=0s", "--time=2h", "--warm-up=2h"} {
		if _, err := parse([]string{"drive", "--to=127.0.0.1:80", flag}, io.Discard); err == nil {
			t.Errorf("%s was accepted", flag)
		}
	}
	for _, flag := range []string{"--rounds=0", "--rounds=101", "--time=0s", "--time=2m", "--patience=-1", "--parts=all", "--servers=asterisk"} {
		if _, err := parse([]string{"bench", flag}, io.Discard); err == nil {
			t.Errorf("%s was accepted", flag)
		}
	}
}

func TestUsage(t *testing.T) {
	var stderr bytes.Buffer
	if status := run(t.Context(), []string{"drive"}, io.Discard, &stderr); status != exitUsage || !strings.Contains(stderr.String(), "--to") {
		t.Errorf("status %d, %q", status, stderr.String())
	}
}
