package gateway

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/net/netutil"
)

// Bounds of the admin listener: whoever asks there is few and quick.
const (
	maxAdminConnections = 64
	maxAdminHeader      = 8 << 10 // bytes
	maxScrapes          = 4       // at once
	adminReadTimeout    = 5 * time.Second
	adminWriteTimeout   = 30 * time.Second
	adminIdleTimeout    = 2 * time.Minute
)

// admin is the listener for those who operate the gateway. Without one all its
// methods do nothing.
type admin struct {
	listener net.Listener
	server   *http.Server
}

// openAdmin opens the admin listener, if there is to be one.
func (g *Gateway) openAdmin() error {
	if g.cfg.Admin == "" {
		return nil
	}
	listener, err := net.Listen("tcp", g.cfg.Admin)
	if err != nil {
		return fmt.Errorf("--admin: %w", err)
	}
	g.admin.listener = netutil.LimitListener(listener, maxAdminConnections)
	g.admin.server = &http.Server{
		Handler:        g.adminPages(),
		ReadTimeout:    adminReadTimeout,
		WriteTimeout:   adminWriteTimeout,
		IdleTimeout:    adminIdleTimeout,
		MaxHeaderBytes: maxAdminHeader,
		ErrorLog:       debugLog(g.log),
	}
	return nil
}

// serve answers until close, which is after the end of all else: who waits for a
// drain looks here.
func (a *admin) serve(failed chan<- error) {
	if a.server != nil {
		go func() { failed <- a.server.Serve(a.listener) }()
	}
}

func (a *admin) close() {
	if a.server != nil {
		_ = a.listener.Close() // the server knows it only once it serves
		_ = a.server.Close()
	}
}

// url is where the pages are, empty if nowhere.
func (a *admin) url() string {
	if a.server == nil {
		return ""
	}
	return "http://" + a.listener.Addr().String()
}

func (g *Gateway) adminPages() http.Handler {
	scrape := promhttp.HandlerFor(g.registry(), promhttp.HandlerOpts{ErrorLog: debugLog(g.log), MaxRequestsInFlight: maxScrapes})
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { say(w, http.StatusOK, "ok") })
	mux.HandleFunc("GET /readyz", g.sayReady)
	mux.Handle("GET /metrics", scrape)
	if g.cfg.AdminPprof {
		mux.Handle("GET /debug/pprof/", onlyHere(profiles()))
	}
	if g.cfg.AdminOther != nil {
		mux.Handle("GET /", onlyHere(g.cfg.AdminOther))
	}
	return mux
}

// sayReady answers 200 if new browsers are welcome, else 503 with a line for
// each thing that is missing.
func (g *Gateway) sayReady(w http.ResponseWriter, _ *http.Request) {
	if missing := g.unready(); len(missing) > 0 {
		say(w, http.StatusServiceUnavailable, strings.Join(missing, "\n"))
		return
	}
	say(w, http.StatusOK, "ok")
}

func say(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text+"\n") // who asked is gone otherwise
}

// unready says what is missing for a browser to be served, a line each. Keys are
// not: New fails without.
func (g *Gateway) unready() (missing []string) {
	if !g.serving.Load() {
		missing = append(missing, "listeners: not open yet")
	}
	if g.answeringUpstreams() == 0 {
		missing = append(missing, fmt.Sprintf("upstreams: none of %d answers", len(g.upstreams)))
	}
	if g.draining.Load() {
		missing = append(missing, "drain: has begun")
	}
	return missing
}

func (g *Gateway) answeringUpstreams() (n int) {
	for _, up := range g.upstreams {
		if up.answers() {
			n++
		}
	}
	return n
}

// answers reports whether an upstream is alive and has shown it: one that was not
// heard of yet is alive to those who have something to send, to others it is not.
func (u *upstream) answers() bool {
	_, since := u.condition()
	return u.alive() && (u.rtt.Load() > 0 || !since.IsZero())
}
