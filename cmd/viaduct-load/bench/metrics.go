//go:build linux

package bench

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// ready asks viaduct whether it is.
func (s *server) ready() bool {
	response, err := http.Get("http://" + s.admin.String() + "/readyz")
	if err != nil {
		return false
	}
	defer func() { _ = response.Body.Close() }()
	return response.StatusCode == http.StatusOK
}

// metrics are viaduct's, those without labels.
type metrics map[string]float64

// Names of metrics.
const (
	mallocs   = "go_memstats_mallocs_total"
	heapInUse = "go_memstats_heap_inuse_bytes"
	stateless = "viaduct_stateless_total"
)

func (s *server) metrics() (metrics, error) {
	response, err := http.Get("http://" + s.admin.String() + "/metrics")
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	m := metrics{}
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		name, text, _ := strings.Cut(lines.Text(), " ")
		if value, err := strconv.ParseFloat(text, 64); err == nil && !strings.HasPrefix(name, "#") {
			m[name] = value
		}
	}
	if _, ok := m[mallocs]; !ok {
		return nil, fmt.Errorf("%s: no %s among the metrics", s.name, mallocs)
	}
	return m, lines.Err()
}

// collect has viaduct collect its garbage, if it has --admin-pprof.
func (b *bench) collect(s *server) (bool, error) {
	if !b.knows("--admin-pprof") {
		return false, nil
	}
	response, err := http.Get("http://" + s.admin.String() + "/debug/pprof/heap?gc=1")
	if err != nil {
		return false, err
	}
	defer func() { _ = response.Body.Close() }()
	_, err = io.Copy(io.Discard, response.Body)
	return response.StatusCode == http.StatusOK, err
}
