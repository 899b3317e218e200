// Package ladder shows in a browser what passes a gateway while it passes: a
// custom element, <sip-ladder>, and the stream of events that feeds it. A page
// of the same origin uses it by two lines:
//
//	<script type="module" src="/ladder/ladder.js"></script>
//	<sip-ladder src="/ladder/events"></sip-ladder>
//
// The element needs no script and no style that is not in a file, so it works
// under a Content-Security-Policy of `default-src 'self'`.
package ladder

import (
	"embed"
	"net/http"
	"path"

	"viaduct/gateway"
)

//go:embed *.js *.css
var files embed.FS

// page is the element on a page of its own, where what is shown can be chosen.
//
//go:embed page
var page embed.FS

// Handler serves ladder.js, the files that it loads, and events; mount it with
// [http.StripPrefix] under a path that ends in a slash. Whoever can ask for
// events sees everybody's calls, but no credentials: guarding it is the
// caller's part.
func Handler(g *gateway.Gateway) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{file}", serveFile)
	mux.Handle("GET /events", &stream{gateway: g, heartbeat: heartbeat})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		if !gateway.SameOrigin(r) {
			http.Error(w, "only for pages of the same origin", http.StatusForbidden)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// Page serves a page with the ladder at its root, and with it what [Handler]
// does; mount it likewise.
func Page(g *gateway.Gateway) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", Handler(g))
	mux.HandleFunc("GET /{$}", servePage("page.html", "text/html; charset=utf-8"))
	mux.HandleFunc("GET /page.js", servePage("page.js", contentTypes[".js"]))
	mux.HandleFunc("GET /page.css", servePage("page.css", contentTypes[".css"]))
	mux.HandleFunc("GET /icon.svg", servePage("icon.svg", "image/svg+xml"))
	return mux
}

// servePage serves a file of the page, which may load what is here and nothing else.
func servePage(name, contentType string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", contentType)
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "+
			"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'")
		http.ServeFileFS(w, r, page, "page/"+name)
	}
}

var contentTypes = map[string]string{
	".js":  "text/javascript; charset=utf-8",
	".css": "text/css; charset=utf-8",
}

func serveFile(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("file")
	text, err := files.ReadFile(name)
	if err != nil {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", contentTypes[path.Ext(name)])
	w.Header().Set("Cache-Control", "no-cache") // the files of the next version have the same names
	_, _ = w.Write(text)
}
