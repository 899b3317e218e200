//go:build linux

package proc

import (
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
)

// TestTree has a child of a child, as Kamailio has.
func TestTree(t *testing.T) {
	cmd := exec.Command("sh", "-c", "sleep 60 & echo; wait")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		_ = cmd.Wait()
	}()
	if _, err := out.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	pids := tree(os.Getpid())
	if !slices.Contains(pids, cmd.Process.Pid) || len(pids) < 3 {
		t.Errorf("%v of %d, whose child is %d", pids, os.Getpid(), cmd.Process.Pid)
	}
	whole, err := MemoryOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	part, err := MemoryOf(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if part.PSS <= 0 || whole.PSS <= part.PSS || whole.RSS < whole.PSS {
		t.Errorf("%+v, of which %+v", whole, part)
	}
}

// TestCPU burns some, in this process; the machine was busy as long.
func TestCPU(t *testing.T) {
	before, err := CPU(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	busy, err := Busy()
	if err != nil {
		t.Fatal(err)
	}
	for {
		used, err := CPU(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		if used-before < 10*clockTick {
			continue
		}
		now, err := Busy()
		if err != nil {
			t.Fatal(err)
		}
		if now-busy < used-before-2*clockTick {
			t.Errorf("the machine was busy for %v while this process was for %v", now-busy, used-before)
		}
		return
	}
}
