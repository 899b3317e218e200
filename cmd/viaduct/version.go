package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
)

// version says what was built, from what the go command wrote into the binary:
// the module's version, which names the commit of a build from a clone.
func version() string {
	built := "(unknown)"
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		built = info.Main.Version
	}
	return fmt.Sprintf("viaduct %s (%s %s/%s)", built, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
