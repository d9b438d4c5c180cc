package server

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"

	"memtrace/analyze"
	"memtrace/analyze/web"
	"memtrace/format"
	"memtrace/replay"
)

// question is a request to the API.
type question struct {
	ctx context.Context
	q   url.Values
	l   *web.Log
	of  web.Query
	// logs are all that there are, as long as the question is answered.
	logs []*heldLog
	// name is the last part of the path where it has one.
	name string
}

func (s *Server) routes() {
	s.mux.HandleFunc("/", s.page)
	s.prompt("/api/info", func(x *question) (any, error) {
		i := s.o.Info
		for _, l := range x.logs {
			i.Logs = append(i.Logs, l.LogInfo())
		}
		return i, nil
	})
	s.prompt("/api/series", func(x *question) (any, error) {
		n, err := x.number("n", 1200)
		if err != nil {
			return nil, err
		}
		return x.l.Series(x.ctx, x.text("by", "kind"), x.of, n)
	})
	s.prompt("/api/lanes", func(x *question) (any, error) {
		n, err := x.number("n", 1200)
		if err != nil {
			return nil, err
		}
		return x.l.Lanes(x.of, n)
	})
	s.prompt("/api/events", events)
	s.prompt("/api/maps", func(x *question) (any, error) {
		at, err := x.step("at")
		if err != nil {
			return nil, err
		}
		cells, err := x.number("cells", 128)
		if err != nil {
			return nil, err
		}
		return x.l.Maps(at, x.of.PID, cells)
	})
	s.prompt("/api/mem", func(x *question) (any, error) {
		at, err := x.step("at")
		if err != nil {
			return nil, err
		}
		n, err := x.number("len", 256)
		if err != nil {
			return nil, err
		}
		return x.l.Mem(at, x.of.PID, x.q.Get("addr"), uint64(max(n, 0)))
	})
	s.prompt("/api/threads", func(x *question) (any, error) {
		at, err := x.step("at")
		if err != nil {
			return nil, err
		}
		return x.l.Threads(x.ctx, at, x.of.PID)
	})
	s.prompt("/api/resolve", func(x *question) (any, error) {
		at, err := x.step("at")
		if err != nil {
			return nil, err
		}
		return x.l.Resolve(x.q.Get("q"), at, x.of.PID)
	})
	s.longRoutes()
}

func (s *Server) longRoutes() {
	s.stream("/api/findings", func(x *question, out *stream) (any, error) {
		return x.l.Findings(x.ctx, x.of, out.progress, func(f *web.Finding) { _ = out.line(web.Item{Item: f}) }) // an error is kept in out
	})
	s.stream("/api/count", func(x *question, out *stream) (any, error) {
		return x.l.Count(x.ctx, x.q.Get("filter"), x.of.PID, out.progress)
	})
	s.stream("/api/diff", func(x *question, out *stream) (any, error) {
		return x.l.Diff(x.ctx, x.of.From, x.of.To, x.of.PID, out.progress)
	})
	s.stream("/api/stacks", func(x *question, out *stream) (any, error) {
		return x.l.Stacks(x.ctx, x.text("metric", web.Metrics[0].Name), x.of, out.progress)
	})
	s.stream("/api/charts/{name}", func(x *question, out *stream) (any, error) { return x.l.Charts(x.ctx, x.name, x.of, out.progress) })
	s.stream("/api/report/{name}", func(x *question, out *stream) (any, error) {
		return x.l.Table(x.ctx, x.name, x.of, 0, out.progress)
	})
	s.stream("/api/compare/{name}", func(x *question, out *stream) (any, error) {
		switch {
		case len(x.logs) != 2:
			return nil, errors.New("there is one log only: memtrace view A B compares two")
		case !slices.Contains(analyze.ComparisonTables, x.name):
			return nil, fmt.Errorf("no table %q of a comparison", x.name)
		}
		return web.Compare(x.ctx, x.logs[0].Log, x.logs[1].Log, x.name, out.progress)
	})
	s.stream("/api/history", func(x *question, out *stream) (any, error) {
		n, err := x.number("len", 8)
		if err != nil {
			return nil, err
		}
		return items(func(item func(any) error) error {
			return x.l.History(x.ctx, x.of.PID, x.q.Get("addr"), uint64(max(n, 0)), out.progress, func(e *web.Era) error { return item(e) })
		}, out)
	})
	s.stream("/api/find", func(x *question, out *stream) (any, error) {
		return items(func(item func(any) error) error {
			return x.l.Find(x.ctx, x.of.PID, x.q.Get("bytes"), out.progress, func(f *web.Found) error { return item(f) })
		}, out)
	})
}

// mostItems is how many items a long answer has.
const mostItems = 10_000

var errEnough = errors.New("enough")

// items writes a line for each item that walk finds.
func items(walk func(item func(any) error) error, out *stream) (any, error) {
	n := 0
	err := walk(func(v any) error {
		if n++; n > mostItems {
			return errEnough
		}
		return out.line(web.Item{Item: v})
	})
	if errors.Is(err, errEnough) {
		return web.More{More: true}, nil
	}
	return nil, err
}

func events(x *question) (any, error) {
	at, err := x.step("at")
	if err != nil {
		return nil, err
	}
	before, err := x.number("before", 100)
	if err != nil {
		return nil, err
	}
	after, err := x.number("after", 100)
	if err != nil {
		return nil, err
	}
	return x.l.Events(x.ctx, at, before, after, x.q.Get("filter"), x.of.PID)
}

// prompt adds an endpoint that answers at once.
func (s *Server) prompt(path string, answer func(*question) (any, error)) {
	s.mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
		select {
		case s.short <- struct{}{}:
			defer func() { <-s.short }()
		case <-r.Context().Done():
			return
		}
		logs := s.acquire()
		defer s.release(logs)
		x, err := asked(r, logs)
		var v any
		if err == nil {
			v, err = answer(x)
		}
		var b []byte
		if err == nil {
			b, err = json.Marshal(v)
		}
		if err != nil {
			refuse(w, status(err), err.Error())
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(b) // a client that has gone needs none
	})
}

// stream adds an endpoint that takes long.
func (s *Server) stream(path string, answer func(*question, *stream) (any, error)) {
	s.mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
		if n := s.waiting.Add(1); n > mostWaiting {
			s.waiting.Add(-1)
			w.Header().Set("Retry-After", "1")
			refuse(w, http.StatusTooManyRequests, "too much is asked at once")
			return
		}
		defer s.waiting.Add(-1)
		logs := s.acquire()
		defer s.release(logs)
		x, err := asked(r, logs)
		if err != nil {
			refuse(w, status(err), err.Error())
			return
		}
		out := newStream(w)
		select {
		case s.long <- struct{}{}:
			defer func() { <-s.long }()
		case <-r.Context().Done():
			return
		}
		v, err := answer(x, out)
		switch {
		case out.err != nil || r.Context().Err() != nil: // the client has gone
		case err != nil:
			_ = out.line(web.Error{Error: err.Error()})
		default:
			_ = out.line(web.Done{Done: v})
		}
	})
}

// status is that of an error.
func status(err error) int {
	switch {
	case errors.Is(err, replay.ErrNoProcess), errors.Is(err, replay.ErrUnknown), errors.Is(err, replay.ErrUnmapped), errors.Is(err, web.ErrGone), errors.Is(err, replay.ErrEmpty):
		return http.StatusNotFound
	case errors.Is(err, format.ErrCorrupt), errors.Is(err, format.ErrLimit), errors.As(err, new(*fs.PathError)):
		return http.StatusInternalServerError
	}
	return http.StatusBadRequest
}

// mostQuery is how long a request's parameters may be.
const mostQuery = 12 << 10

// asked reads what all endpoints take.
func asked(r *http.Request, logs []*heldLog) (*question, error) {
	if len(r.URL.RawQuery) > mostQuery {
		return nil, fmt.Errorf("the question is too long: want at most %d bytes", mostQuery)
	}
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, err
	}
	x := &question{ctx: r.Context(), q: q, l: logs[0].Log, logs: logs, name: r.PathValue("name")}
	switch n := q.Get("log"); {
	case n == "" || n == "0":
	case n == "1" && len(logs) > 1:
		x.l = logs[1].Log
	default:
		return nil, fmt.Errorf("log=%s: there is no such log", n)
	}
	x.of = x.l.All()
	if p := q.Get("pid"); p != "" {
		n, err := strconv.ParseUint(p, 10, 32)
		if err != nil {
			return nil, fmt.Errorf("pid=%s: want a number", p)
		}
		x.of.PID = uint32(n)
	}
	if q.Get("from") != "" {
		if x.of.From, err = x.step("from"); err != nil {
			return nil, err
		}
	}
	if q.Get("to") != "" {
		if x.of.To, err = x.step("to"); err != nil {
			return nil, err
		}
	}
	x.of.From, x.of.To = min(x.of.From, x.of.To), max(x.of.From, x.of.To)
	return x, nil
}

// step is a parameter that is a step; without it, the last of what was asked for.
func (x *question) step(name string) (format.Step, error) {
	v := x.q.Get(name)
	if v == "" {
		return x.of.To, nil
	}
	return x.l.StepOf(v)
}

func (x *question) text(name, usual string) string {
	if v := x.q.Get(name); v != "" {
		return v
	}
	return usual
}

func (x *question) number(name string, usual int) (int, error) {
	v := x.q.Get(name)
	if v == "" {
		return usual, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		return 0, fmt.Errorf("%s=%s: want a number", name, v)
	}
	return n, nil
}

// types are the kinds of files that a page has.
var types = map[string]string{".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8"}

// page serves the files of the page, which are the same for everybody.
func (s *Server) page(w http.ResponseWriter, r *http.Request) {
	name := cmp.Or(strings.TrimPrefix(r.URL.Path, "/"), "index.html")
	kind := types[path.Ext(name)]
	b, err := fs.ReadFile(s.o.Page, name)
	if kind == "" || err != nil {
		refuse(w, http.StatusNotFound, "there is nothing here")
		return
	}
	w.Header().Set("Content-Type", kind)
	_, _ = w.Write(b) // a client that has gone needs none
}
