package main

import (
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"strings"

	"viaduct/cmd/viaduct-demo/pbx"
	"viaduct/gateway"
)

// phoneFiles are the page's own files, and its script if that was built before
// this binary: dist is otherwise empty.
//
//go:embed phone/*.html phone/*.css phone/*.svg all:phone/dist
var phoneFiles embed.FS

// script is the page's script, which make demo builds.
const script = "phone/dist/phone.js"

// account is one of the embedded PBX's accounts, as the page shows it.
type account struct {
	User     string `json:"user"`
	Password string `json:"password"`
	Name     string `json:"name"`
}

// extension is a number of the embedded PBX that is no account.
type extension struct {
	Number string `json:"number"`
	Name   string `json:"name"`
	About  string `json:"about"`
}

// site is the phone page and what it is told.
type site struct {
	WebSocket  string      `json:"path"`
	Upstream   string      `json:"upstream"`
	Domain     string      `json:"domain"`
	DTMF       string      `json:"dtmf"` // as JsSIP names it
	Accounts   []account   `json:"accounts"`
	Extensions []extension `json:"extensions"`

	Host    string `json:"-"` // the listener's
	AnyHost bool   `json:"-"`
}

// newSite is the page in front of a real PBX, of which nothing is known.
func newSite(f *flags) *site {
	return &site{
		WebSocket: webSocketPath, DTMF: "RFC2833",
		Accounts: []account{}, Extensions: []extension{},
		Host: f.Listen, AnyHost: f.AllowRemote,
	}
}

// serves names the PBX on the page, and its domain until a user writes another.
func (s *site) serves(upstream gateway.Upstream) {
	s.Upstream, s.Domain = upstream.String(), upstream.Host
	if strings.Contains(s.Domain, ":") {
		s.Domain = "[" + s.Domain + "]" // IPv6, in a URI
	}
}

// demoAccounts are those of the embedded PBX. Their passwords are no secret:
// the PBX is on loopback, and the page gives them to whoever opens it.
var demoAccounts = []account{
	{User: "1001", Password: "arch-one", Name: "Alice"},
	{User: "1002", Password: "arch-two", Name: "Bob"},
	{User: "1003", Password: "arch-three", Name: "Carol"},
}

// demoExtensions are the numbers that the embedded PBX serves itself.
var demoExtensions = []extension{
	{Number: "600", Name: "Echo", About: "Sends back what you say"},
	{Number: "601", Name: "Goodbye", About: "Hangs up after five seconds"},
	{Number: "602", Name: "Busy", About: "Is always busy"},
	{Number: "603", Name: "Ringing", About: "Rings, and nobody answers"},
	{Number: "604", Name: "Call back", About: "Declines, then calls you: an echo"},
}

// embedded makes the page that of the embedded PBX.
func (s *site) embedded() {
	s.Accounts, s.Extensions = demoAccounts, demoExtensions
	s.DTMF = "INFO" // seen on the ladder, and by the other side's page
}

func accounts() []pbx.Account {
	var list []pbx.Account
	for _, a := range demoAccounts {
		list = append(list, pbx.Account{User: a.User, Password: a.Password})
	}
	return list
}

// built tells whether the page's script is part of this binary.
func (s *site) built() bool {
	_, err := fs.Stat(phoneFiles, script)
	return err == nil
}

// pages serves the phone page, its files and config.json.
func (s *site) pages() http.Handler {
	files, err := fs.Sub(phoneFiles, "phone")
	if err != nil {
		panic(err) // only for a malformed path
	}
	index := "index.html"
	if !s.built() {
		index = "unbuilt.html"
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { http.ServeFileFS(w, r, files, index) })
	mux.HandleFunc("GET /phone.js", func(w http.ResponseWriter, r *http.Request) { http.ServeFileFS(w, r, phoneFiles, script) })
	for _, name := range []string{"phone.css", "icon.svg", "chevron.svg"} {
		mux.HandleFunc("GET /"+name, func(w http.ResponseWriter, r *http.Request) { http.ServeFileFS(w, r, files, name) })
	}
	mux.HandleFunc("GET /config.json", s.serveConfig)
	return mux
}

func (s *site) serveConfig(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(s) // what fails is the connection
}

// guard adds the headers that confine the pages. A request that names a host
// which is not this machine is refused: another site's name may have been made
// to point here (DNS rebinding), and its page must not read the passwords.
func (s *site) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = r.Host
		}
		if !s.AnyHost && !isLoopback(host) {
			http.Error(w, fmt.Sprintf("This page is at http://%s/. For other names and machines there is --allow-remote.", s.Host), http.StatusForbidden)
			return
		}
		h := w.Header()
		h.Set("Content-Security-Policy", fmt.Sprintf("default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "+
			"connect-src 'self' ws://%[1]s wss://%[1]s; base-uri 'none'; form-action 'none'; frame-ancestors 'none'", r.Host))
		h.Set("Cache-Control", "no-cache")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		next.ServeHTTP(w, r)
	})
}
