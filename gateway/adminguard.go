package gateway

import (
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"net/url"
	"time"
)

// onlyHere serves clients on this machine alone: in a cluster the admin listener
// has to be open for probes and scrapes, and asks for no password. A tunnel, by
// ssh or kubectl port-forward, ends here too. Pages of other sites are refused,
// whatever name they have this machine called by (DNS rebinding).
func onlyHere(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Referrer-Policy", "no-referrer")
		switch {
		case !isHere(r):
			say(w, http.StatusForbidden, "only for clients on this machine: connect to 127.0.0.1, through a tunnel (ssh -L, kubectl port-forward) from elsewhere")
		case !namesHere(r.Host):
			say(w, http.StatusForbidden, "only by the name localhost or a loopback address")
		case !SameOrigin(r):
			say(w, http.StatusForbidden, "only for pages of the same origin")
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// isHere reports whether a request was made on this machine. Other addresses of
// loopback are those of proxies: the sidecar of a service mesh passes on what
// came from anywhere as from 127.0.0.6.
func isHere(r *http.Request) bool {
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil || isPassedOn(r.Header) {
		return false
	}
	addr := from.Addr().Unmap()
	return addr == netip.AddrFrom4([4]byte{127, 0, 0, 1}) || addr == netip.IPv6Loopback()
}

// namesHere reports whether a Host header can only mean this machine.
func namesHere(host string) bool {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = host
	}
	ip := net.ParseIP(name)
	return name == "localhost" || ip != nil && ip.IsLoopback()
}

// SameOrigin reports whether a request is of no page, or of one of the same origin:
// those of other sites could not read an answer, but make work and take places.
func SameOrigin(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none":
	default:
		return false
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && u.Host == r.Host
}

// profiles are those of net/http/pprof, at their usual paths.
func profiles() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// The request is read: the limit for that would end a profile that takes longer.
		_ = http.NewResponseController(w).SetReadDeadline(time.Time{})
		mux.ServeHTTP(w, r)
	})
}

// isPassedOn reports whether a proxy says that it asks for somebody else.
func isPassedOn(h http.Header) bool {
	for _, field := range [...]string{"X-Forwarded-For", "X-Real-Ip", "Forwarded"} {
		if len(h[field]) > 0 {
			return true
		}
	}
	return false
}
