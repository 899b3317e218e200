//go:build linux && amd64

package guard

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// A measure is one benchmark, of which valgrind counts what is below some
// functions: not what waits, schedules or collects garbage. Valgrind imitates
// one CPU, so that the counts are the same on all machines. A benchmark in which
// one goroutine sends and waits for the answer is none: it is moved between
// threads, and valgrind then loses where a function ends.
type measure struct {
	pkg       string // below the module
	benchmark string
	functions []string
}

const times = 500 // that a benchmark is run

var (
	scan  = []string{"viaduct/rewrite.(*Message).Scan"}
	relay = []string{"viaduct/gateway.(*Gateway).fromBrowser", "viaduct/gateway.(*Gateway).fromSIP"}

	measures = []measure{
		{"rewrite", "BenchmarkScan", scan},
		{"gateway", "BenchmarkRelayUp", relay},
		{"gateway", "BenchmarkResponseDown", relay},
		{"gateway", "BenchmarkRelayDown", relay},
		{"gateway", "BenchmarkResponseUp", relay},
		{"gateway", "BenchmarkRegisterUp", relay},
		{"gateway", "BenchmarkRegisterDown", relay},
	}
)

const (
	// tolerance is how much more than the baseline a count may be. Counts of the
	// same code differ by up to 2 %, since a socket may be full or empty.
	tolerance = 0.05
	tries     = 3 // the least counts, in the baseline the most
	baseline  = "testdata/instructions.txt"

	// renewing is the variable that has the baseline written instead.
	renewing = "VIADUCT_RENEW_INSTRUCTIONS"
)

// TestInstructions compares what a message costs with what it did.
func TestInstructions(t *testing.T) {
	if os.Getenv(renewing) != "" {
		renew(t)
		return
	}
	known := readBaseline(t)
	for _, m := range measures {
		t.Run(m.benchmark, func(t *testing.T) {
			want, ok := known[m.benchmark]
			if !ok {
				t.Fatalf("%s does not know it; `make instructions` renews that file", baseline)
			}
			limit := int(float64(want) * (1 + tolerance))
			got := m.count(t)
			for try := 1; try < tries && got > limit; try++ {
				got = min(got, m.count(t))
			}
			t.Logf("%d instructions, the baseline has %d", got, want)
			if got > limit {
				t.Errorf("%d instructions, %.1f %% more than the %d of %s, and at most %.0f %% are allowed.\n"+
					"If that is what it has to cost, `make instructions` renews the file (it was made with %s, this is %s).",
					got, 100*(float64(got)/float64(want)-1), want, baseline, 100*tolerance, madeWith(t), runtime.Version())
			}
		})
	}
}

// binaries are the test binaries, each built once and without the race detector.
var binaries = struct {
	sync.Mutex
	files map[string]string
}{files: map[string]string{}}

var buildDir = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "viaduct-guard-") })

func TestMain(m *testing.M) {
	status := m.Run()
	if dir, err := buildDir(); err == nil {
		_ = os.RemoveAll(dir)
	}
	os.Exit(status)
}

func (m measure) binary(t *testing.T) string {
	t.Helper()
	binaries.Lock()
	defer binaries.Unlock()
	if file := binaries.files[m.pkg]; file != "" {
		return file
	}
	dir, err := buildDir()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, m.pkg+".test")
	if out, err := exec.Command("go", "test", "-c", "-o", file, "viaduct/"+m.pkg).CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	binaries.files[m.pkg] = file
	return file
}

var counted = regexp.MustCompile(`Collected : (\d+)`)

// count returns the instructions of one turn of the benchmark.
func (m measure) count(t *testing.T) int {
	t.Helper()
	args := []string{"--tool=callgrind", "--callgrind-out-file=/dev/null", "--collect-atstart=no"}
	for _, function := range m.functions {
		args = append(args, "--toggle-collect="+function)
	}
	cmd := exec.Command("valgrind", append(args, m.binary(t), "-test.run=^$", "-test.bench=^"+m.benchmark+"$", fmt.Sprintf("-test.benchtime=%dx", times))...)
	cmd.Dir = filepath.Join("..", "..", "..", m.pkg)
	// Nothing that comes by chance: no collection, one thread of Go code.
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1", "GOGC=off", "GODEBUG=asyncpreemptoff=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("valgrind: %v\n%s", err, out)
	}
	found := counted.FindSubmatch(out)
	if found == nil {
		t.Fatalf("valgrind says no count:\n%s", out)
	}
	sum, err := strconv.Atoi(string(found[1]))
	if err != nil {
		t.Fatal(err)
	}
	if sum/times == 0 {
		t.Fatalf("nothing was counted; is there a benchmark %s that calls %q?\n%s", m.benchmark, m.functions, out)
	}
	return sum / times
}

// renew writes the baseline anew.
func renew(t *testing.T) {
	var text strings.Builder
	fmt.Fprintf(&text, "# Instructions of one message in the functions that read and relay it.\n"+
		"# `make instructions` has written this, with %s.\n", runtime.Version())
	for _, m := range measures {
		most := 0
		for range tries {
			most = max(most, m.count(t))
		}
		fmt.Fprintf(&text, "%s %d\n", m.benchmark, most)
	}
	if err := os.WriteFile(baseline, []byte(text.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

func readBaseline(t *testing.T) map[string]int {
	t.Helper()
	known := map[string]int{}
	for line := range strings.Lines(read(t)) {
		name, text, ok := strings.Cut(strings.TrimSpace(line), " ")
		if !ok || strings.HasPrefix(name, "#") {
			continue
		}
		count, err := strconv.Atoi(text)
		if err != nil {
			t.Fatalf("%s: %v", baseline, err)
		}
		known[name] = count
	}
	return known
}

// madeWith is the version of Go that the baseline was made with.
func madeWith(t *testing.T) string {
	t.Helper()
	_, version, _ := strings.Cut(read(t), "this, with ")
	version, _, _ = strings.Cut(version, ".\n")
	return version
}

func read(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(baseline)
	if err != nil {
		t.Fatalf("%v; `make instructions` makes it", err)
	}
	return string(text)
}
