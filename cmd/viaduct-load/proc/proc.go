//go:build linux

// Package proc reads what the kernel counts of a process and all it started.
package proc

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"
)

// clockTick is the unit of CPU times in /proc, the same on all of Linux.
const clockTick = 10 * time.Millisecond

// CPU is the time that the process and its living descendants have used.
func CPU(pid int) (time.Duration, error) {
	var sum time.Duration
	for _, pid := range tree(pid) {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, err
		}
		// The name may have spaces; it ends with the last parenthesis.
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		const user, system = 11, 12
		for _, at := range []int{user, system} {
			ticks, err := strconv.Atoi(string(fields[at]))
			if err != nil {
				return 0, fmt.Errorf("/proc/%d/stat: %w", pid, err)
			}
			sum += time.Duration(ticks) * clockTick
		}
	}
	return sum, nil
}

// Busy is the time that all processes of the machine have used, and the time
// that the machine was kept from running by its host.
func Busy() (time.Duration, error) {
	stat, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := bytes.Cut(stat, []byte("\n"))
	var sum time.Duration
	for i, field := range bytes.Fields(line)[1:] {
		const idle, ioWait, guest = 3, 4, 8 // guest is in user already
		if i == idle || i == ioWait || i >= guest {
			continue
		}
		ticks, err := strconv.Atoi(string(field))
		if err != nil {
			return 0, fmt.Errorf("/proc/stat: %w", err)
		}
		sum += time.Duration(ticks) * clockTick
	}
	return sum, nil
}

// Memory is what a process and its descendants hold, in bytes. PSS counts a
// page that several share in parts.
type Memory struct{ PSS, RSS int }

// MemoryOf reads the memory of the process and its living descendants.
func MemoryOf(pid int) (Memory, error) {
	var sum Memory
	for _, pid := range tree(pid) {
		rollup, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return sum, err
		}
		lines := bufio.NewScanner(bytes.NewReader(rollup))
		for lines.Scan() {
			fields := strings.Fields(lines.Text())
			if len(fields) < 2 {
				continue
			}
			kilobytes, _ := strconv.Atoi(fields[1])
			switch fields[0] {
			case "Pss:":
				sum.PSS += kilobytes << 10
			case "Rss:":
				sum.RSS += kilobytes << 10
			}
		}
	}
	return sum, nil
}

// tree is pid and all its living descendants.
func tree(pid int) []int {
	pids := []int{pid}
	for i := 0; i < len(pids); i++ {
		tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pids[i])) // it may have ended
		for _, task := range tasks {
			children, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/children", pids[i], task.Name()))
			for _, child := range bytes.Fields(children) {
				if pid, err := strconv.Atoi(string(child)); err == nil {
					pids = append(pids, pid)
				}
			}
		}
	}
	return pids
}
