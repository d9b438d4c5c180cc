// Package server serves logs to a browser on this machine: the page, and the data of
// docs/view.md. What it lets in is in guard.go.
package server

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"io/fs"
	"log"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"memtrace/analyze/web"
)

// Limits of what is done at once.
const (
	mostLong    = 4  // long answers; more wait
	mostWaiting = 32 // long answers, those that wait too; more are refused
	mostPrompt  = 8  // others; more wait
)

// Options say what is served, and to whom.
type Options struct {
	Page fs.FS    // index.html and what it loads
	Info web.Info // the beginning of /api/info: the logs' part is added
	// Hosts says whether a host is one that the server is known by, as the header Host has it.
	Hosts func(host string) bool
	TLS   bool
	Idle  time.Duration // without requests, after which Serve returns; 0: never
	Log   *log.Logger   // of what goes wrong in the server itself
}

// Server serves logs. It is made by New.
type Server struct {
	o     Options
	mux   *http.ServeMux
	token string
	long  chan struct{}
	short chan struct{}
	// waiting are the long answers that are given or wait.
	waiting atomic.Int32

	mu      sync.Mutex
	logs    []*heldLog
	code    string    // may be exchanged for the token, once; "" if there is none
	used    string    // the code that was
	expires time.Time // of the code
	revoked bool
	busy    int       // requests
	asked   time.Time // when the last one ended
}

// New makes a server of one log, or of two that are compared.
func New(logs []*web.Log, o Options) *Server {
	s := &Server{
		o: o, mux: http.NewServeMux(), token: secret(), long: make(chan struct{}, mostLong), short: make(chan struct{}, mostPrompt),
		asked: time.Now(),
	}
	for _, l := range logs {
		s.logs = append(s.logs, &heldLog{Log: l, users: 1})
	}
	s.routes()
	return s
}

// heldLog is a log, or what a growing one was at some time.
type heldLog struct {
	*web.Log
	users int // questions, and the server itself as long as this is what the log is
	gone  func()
}

// Replace has questions from now on be about l in the place of log i, which has grown. gone is called
// when the last question about l has been answered after it was replaced itself.
func (s *Server) Replace(i int, l *web.Log, gone func()) {
	s.mu.Lock()
	old := s.logs[i]
	s.logs[i] = &heldLog{Log: l, users: 1, gone: gone}
	s.mu.Unlock()
	s.release([]*heldLog{old})
}

// acquire are the logs as they are now, until release.
func (s *Server) acquire() []*heldLog {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := slices.Clone(s.logs)
	for _, l := range list {
		l.users++
	}
	return list
}

func (s *Server) release(list []*heldLog) {
	var over []*heldLog
	s.mu.Lock()
	for _, l := range list {
		if l.users--; l.users == 0 {
			over = append(over, l)
		}
	}
	s.mu.Unlock()
	for _, l := range over {
		l.Close()
		if l.gone != nil {
			l.gone()
		}
	}
}

// secret is 192 random bits as text.
func secret() string {
	b := make([]byte, 24)
	_, _ = rand.Read(b) // it never fails
	return base64.RawURLEncoding.EncodeToString(b)
}

// Token is what a page has to send with each question.
func (s *Server) Token() string { return s.token }

// codeLife is how long a code can be exchanged.
const codeLife = time.Minute

// Code makes a text that a page can exchange for the token once, within a minute: for
// places where others may read it, as the command line of a browser.
func (s *Server) Code() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.code, s.used, s.expires = secret(), "", time.Now().Add(codeLife)
	return s.code
}

// Serve answers on a listener until ctx ends, or nobody has asked for the time of
// Options.Idle; it returns nil then.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	h := &http.Server{
		Handler: s, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10, ErrorLog: s.o.Log,
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	done := make(chan struct{})
	defer close(done)
	go func() {
		defer h.Close()
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-done:
				return
			case <-tick.C:
				if s.idle() {
					return
				}
			}
		}
	}()
	if err := h.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// idle says whether nobody has asked for so long.
func (s *Server) idle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.o.Idle > 0 && s.busy == 0 && time.Since(s.asked) > s.o.Idle
}

// count counts the requests that are being answered.
func (s *Server) count(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy += n
	s.asked = time.Now()
}
