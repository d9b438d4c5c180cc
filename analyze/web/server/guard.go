package server

import (
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/json"
	"net"
	"net/http"
	"path"
	"strings"
	"time"

	"memtrace/analyze/web"
)

// policy is what a page may do: load what is ours, and nothing else.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
	"frame-ancestors 'none'; base-uri 'none'; form-action 'none'"

// ServeHTTP answers what comes from the page that it served itself, on this machine, and
// refuses all else.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	api := strings.HasPrefix(r.URL.Path, "/api/")
	switch {
	case !s.o.Hosts(r.Host): // a name that somebody else's server gave this address
		refuse(w, http.StatusMisdirectedRequest, "this server is not known as "+r.Host)
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		h.Set("Allow", "GET, HEAD")
		refuse(w, http.StatusMethodNotAllowed, "want GET or HEAD")
	case !s.ours(r):
		refuse(w, http.StatusForbidden, "a page of another origin asks")
	case r.URL.Path != path.Clean(r.URL.Path):
		refuse(w, http.StatusNotFound, "there is nothing here")
	case r.URL.Path == "/api/enter":
		s.enter(w, r)
	case api && !s.knows(r):
		h.Set("WWW-Authenticate", "Bearer")
		refuse(w, http.StatusUnauthorized, "want the token of the address that memtrace printed")
	default:
		s.count(1)
		defer s.count(-1)
		s.mux.ServeHTTP(w, r)
	}
}

// ours says whether a request comes from our own page, or from the user.
func (s *Server) ours(r *http.Request) bool {
	scheme := "http://"
	if s.o.TLS {
		scheme = "https://"
	}
	for _, o := range r.Header.Values("Origin") {
		if o != scheme+r.Host {
			return false
		}
	}
	for _, site := range r.Header.Values("Sec-Fetch-Site") {
		if site != "same-origin" && site != "none" {
			return false
		}
	}
	return true
}

// bearer is what a request shows.
func bearer(r *http.Request) string {
	kind, text, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(kind, "Bearer") {
		return ""
	}
	return text
}

// same compares in a time that tells nothing of the secret.
func same(given, secret string) bool {
	a, b := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(secret))
	return secret != "" && subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// knows says whether a request has the token.
func (s *Server) knows(r *http.Request) bool {
	s.mu.Lock()
	revoked := s.revoked
	s.mu.Unlock()
	return same(bearer(r), s.token) && !revoked
}

// enter exchanges a code for the token. If it comes a second time, somebody has read it who
// should not have: the token is worth nothing from then on.
func (s *Server) enter(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	given := bearer(r)
	switch {
	case same(given, s.code) && time.Now().Before(s.expires) && !s.revoked:
		s.used, s.code, s.asked = s.code, "", time.Now()
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(web.Entered{Token: s.token})
		return
	case same(given, s.used) && !s.revoked:
		s.revoked = true
		s.o.Log.Print("the page was opened twice from one address: somebody else may have read it, and nobody is let in any more; start memtrace view again")
	}
	w.Header().Set("WWW-Authenticate", "Bearer")
	refuse(w, http.StatusUnauthorized, "this address was used already or is too old: take the one that memtrace printed")
}

// refuse answers that there is no answer.
func refuse(w http.ResponseWriter, status int, why string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(web.Error{Error: why}) // a client that has gone needs none
}

// At is the rule for a server that listens on a TCP address: the host has to be it, letter
// by letter, so that no name that leads here is taken.
func At(a net.Addr) func(string) bool {
	return func(host string) bool { return host == a.String() }
}

// Certified is the rule for a server with a certificate: the host has to be one that it is
// for.
func Certified(c *x509.Certificate) func(string) bool {
	return func(host string) bool { return c.VerifyHostname(hostOf(host)) == nil }
}

// Forwarded is the rule for a server on a socket of this machine that ssh forwards: the
// host has to be a loopback address, on any port.
func Forwarded(host string) bool {
	ip := net.ParseIP(hostOf(host))
	return ip != nil && ip.IsLoopback()
}

// hostOf is a host without its port.
func hostOf(host string) string {
	if h, _, err := net.SplitHostPort(host); err == nil {
		return h
	}
	return strings.Trim(host, "[]")
}
