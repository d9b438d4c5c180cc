package server

import (
	"encoding/json"
	"net/http"
	"sync"

	"memtrace/analyze/web"
)

// stream is a long answer: lines of JSON.
type stream struct {
	mu    sync.Mutex
	w     http.ResponseWriter
	flush func() error
	enc   *json.Encoder
	last  float64 // progress that was told
	err   error   // of writing: the client has gone
}

// newStream begins an answer; the first line says that nothing is done yet.
func newStream(w http.ResponseWriter) *stream {
	w.Header().Set("Content-Type", "application/x-ndjson")
	s := &stream{w: w, flush: http.NewResponseController(w).Flush, enc: json.NewEncoder(w), last: -1}
	s.progress(0)
	return s
}

// line writes a line.
func (s *stream) line(v any) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		if s.err = s.enc.Encode(v); s.err == nil {
			s.err = s.flush()
		}
	}
	return s.err
}

// progress tells how far it is, if that has changed.
func (s *stream) progress(f float64) {
	s.mu.Lock()
	told := f-s.last < 0.005
	if !told {
		s.last = f
	}
	s.mu.Unlock()
	if !told {
		_ = s.line(web.Progress{Progress: f}) // kept in s.err
	}
}
