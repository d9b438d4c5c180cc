package server

import (
	"bufio"
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"memtrace/analyze/web"
	"memtrace/replay"
	"memtrace/replay/replaytest"
)

// served is a server that runs.
type served struct {
	*Server
	t    *testing.T
	host string
	said bytes.Buffer
	stop func()
}

// serve serves some logs until the test ends.
func serve(t *testing.T, logs int, idle time.Duration) *served {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	x := &served{t: t, host: l.Addr().String()}
	var list []*web.Log
	for range logs {
		v := web.New(replay.New(replaytest.Open(t, replaytest.Log(t))), "the.log")
		if err := v.Prepare(t.Context()); err != nil {
			t.Fatal(err)
		}
		list = append(list, v)
	}
	x.Server = New(list, Options{
		Page: fstest.MapFS{"index.html": {Data: []byte("<title>page</title>")}, "app.js": {Data: []byte("1")}},
		Info: web.Info{Version: "v"}, Hosts: At(l.Addr()), Idle: idle, Log: log.New(&x.said, "", 0),
	})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- x.Serve(ctx, l) }()
	x.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		ended <- nil
		for _, v := range list {
			v.Close()
		}
	}
	t.Cleanup(x.stop)
	return x
}

// ask sends a request; headers are pairs. The first may be Host.
func (x *served) ask(method, path string, headers ...string) (*http.Response, string) {
	x.t.Helper()
	r, err := http.NewRequest(method, "http://"+x.host+path, nil)
	if err != nil {
		x.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
			continue
		}
		r.Header.Add(headers[i], headers[i+1])
	}
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		x.t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		x.t.Fatal(err)
	}
	return res, string(b)
}

func (x *served) get(path string) (int, string) {
	x.t.Helper()
	res, body := x.ask("GET", path, "Authorization", "Bearer "+x.Token())
	return res.StatusCode, body
}

// TestGuard has each rule of who is let in.
func TestGuard(t *testing.T) {
	x := serve(t, 1, 0)
	_, port, _ := net.SplitHostPort(x.host)
	auth := []string{"Authorization", "Bearer " + x.Token()}
	for _, c := range []struct {
		name, method, path string
		headers            []string
		want               int
	}{
		{"page", "GET", "/", nil, 200},
		{"script", "GET", "/app.js", nil, 200},
		{"head", "HEAD", "/", nil, 200},
		{"no such file", "GET", "/none.js", nil, 404},
		{"way out", "GET", "/../../../etc/passwd", nil, 404},
		{"way out by the question", "GET", "/api/../../etc/passwd", auth, 404},
		{"way out, escaped", "GET", "/%2e%2e/%2e%2e/etc/passwd", nil, 404},
		{"typed", "GET", "/", []string{"Sec-Fetch-Site", "none"}, 200},
		{"question", "GET", "/api/info", auth, 200},
		{"question of our page", "GET", "/api/info", append([]string{"Sec-Fetch-Site", "same-origin", "Origin", "http://" + x.host}, auth...), 200},
		{"no token", "GET", "/api/info", nil, 401},
		{"wrong token", "GET", "/api/info", []string{"Authorization", "Bearer " + strings.Repeat("A", 32)}, 401},
		{"token of another kind", "GET", "/api/info", []string{"Authorization", "Basic " + x.Token()}, 401},
		{"part of the token", "GET", "/api/info", []string{"Authorization", "Bearer " + x.Token()[:31]}, 401},
		{"no bearer", "GET", "/api/info", []string{"Authorization", x.Token()}, 401},
		{"token in the query", "GET", "/api/info?token=" + x.Token(), nil, 401},
		{"no such question, no token", "GET", "/api/none", nil, 401},
		{"no such question", "GET", "/api/none", auth, 404},
		{"localhost", "GET", "/api/info", append([]string{"Host", "localhost:" + port}, auth...), 421},
		{"rebound name", "GET", "/api/info", append([]string{"Host", "evil.example:" + port}, auth...), 421},
		{"rebound name, page", "GET", "/", []string{"Host", "evil.example:" + port}, 421},
		{"no port", "GET", "/", []string{"Host", "127.0.0.1"}, 421},
		{"another loopback address", "GET", "/", []string{"Host", "127.0.0.2:" + port}, 421},
		{"name that begins alike", "GET", "/", []string{"Host", x.host + ".evil.example"}, 421},
		{"post", "POST", "/api/info", auth, 405},
		{"put", "PUT", "/", auth, 405},
		{"delete", "DELETE", "/api/info", auth, 405},
		{"options", "OPTIONS", "/api/info", []string{"Origin", "http://evil.example", "Access-Control-Request-Method", "GET"}, 405},
		{"another origin", "GET", "/api/info", append([]string{"Origin", "http://evil.example"}, auth...), 403},
		{"another port of this machine", "GET", "/api/info", append([]string{"Origin", "http://127.0.0.1:1"}, auth...), 403},
		{"no origin of its own", "GET", "/api/info", append([]string{"Origin", "null"}, auth...), 403},
		{"other scheme", "GET", "/api/info", append([]string{"Origin", "https://" + x.host}, auth...), 403},
		{"two origins", "GET", "/api/info", append([]string{"Origin", "http://" + x.host, "Origin", "http://evil.example"}, auth...), 403},
		{"cross-site", "GET", "/api/info", append([]string{"Sec-Fetch-Site", "cross-site"}, auth...), 403},
		{"same site", "GET", "/api/info", append([]string{"Sec-Fetch-Site", "same-site"}, auth...), 403},
		{"cross-site, page", "GET", "/", []string{"Sec-Fetch-Site", "cross-site"}, 403},
	} {
		res, body := x.ask(c.method, c.path, c.headers...)
		if res.StatusCode != c.want {
			t.Errorf("%s: status %d, want %d: %s", c.name, res.StatusCode, c.want, body)
		}
		if res.StatusCode != 200 && strings.Contains(body, "the.log") {
			t.Errorf("%s: refused with data: %s", c.name, body)
		}
		for name, want := range map[string]string{
			"Content-Security-Policy":      "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
			"X-Content-Type-Options":       "nosniff",
			"Referrer-Policy":              "no-referrer",
			"Cross-Origin-Resource-Policy": "same-origin",
			"Cross-Origin-Opener-Policy":   "same-origin",
			"Cache-Control":                "no-store",
			"Access-Control-Allow-Origin":  "",
		} {
			if got := res.Header.Get(name); got != want {
				t.Errorf("%s: %s is %q, want %q", c.name, name, got, want)
			}
		}
	}
	if n := len(x.Token()); n != 32 { // 192 bits
		t.Errorf("the token has %d characters", n)
	}
}

// TestEnter has a code let one page in, and nobody if it comes twice.
func TestEnter(t *testing.T) {
	x := serve(t, 1, 0)
	enter := func(code string) (int, string) {
		res, body := x.ask("GET", "/api/enter", "Authorization", "Bearer "+code)
		return res.StatusCode, body
	}
	if n, _ := enter(""); n != 401 {
		t.Errorf("entered without a code: %d", n)
	}
	code := x.Code()
	if n, _ := enter(code + "x"); n != 401 {
		t.Errorf("entered with another code: %d", n)
	}
	if n, _ := enter(x.Token()); n != 401 {
		t.Errorf("entered with the token: %d", n)
	}
	n, body := enter(code)
	var got web.Entered
	if err := json.Unmarshal([]byte(body), &got); n != 200 || err != nil || got.Token != x.Token() {
		t.Fatalf("status %d, %s", n, body)
	}
	if n, _ := x.get("/api/info"); n != 200 {
		t.Errorf("status %d after entering", n)
	}
	if res, _ := x.ask("GET", "/api/info", "Authorization", "Bearer "+code); res.StatusCode != 401 {
		t.Errorf("a code is taken for a token: %d", res.StatusCode)
	}
	if n, _ := enter(code); n != 401 {
		t.Errorf("entered twice: %d", n)
	}
	if n, _ := x.get("/api/info"); n != 401 {
		t.Errorf("status %d after a code came twice", n)
	}
	x.stop()
	if !strings.Contains(x.said.String(), "twice") {
		t.Errorf("said %q", x.said.String())
	}
}

func TestHosts(t *testing.T) {
	for _, c := range []struct {
		host string
		want bool
	}{
		{"127.0.0.1:8123", true}, {"127.0.0.1", true}, {"[::1]:9", true}, {"[::1]", true}, {"localhost:8123", false}, {"evil.example:8123", false}, {"10.0.0.1:1", false}, {"", false},
	} {
		if got := Forwarded(c.host); got != c.want {
			t.Errorf("Forwarded(%q) = %v", c.host, got)
		}
	}
	known := Certified(&x509.Certificate{DNSNames: []string{"box.example"}, IPAddresses: []net.IP{net.IPv4(10, 0, 0, 7)}})
	for host, want := range map[string]bool{"box.example:443": true, "10.0.0.7:1": true, "evil.example:443": false, "box.example.evil": false, "": false} {
		if got := known(host); got != want {
			t.Errorf("Certified: %q is %v", host, got)
		}
	}
}

// last is the last line of a long answer, which must be one.
func last(t *testing.T, body string) (done json.RawMessage, failed string) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(body), "\n")
	if !strings.HasPrefix(lines[0], `{"progress":`) {
		t.Errorf("the first line is %q", lines[0])
	}
	var x struct {
		Done  json.RawMessage
		Error string
	}
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &x); err != nil || x.Done == nil && x.Error == "" {
		t.Errorf("the last line is %q: %v", lines[len(lines)-1], err)
	}
	return x.Done, x.Error
}

// TestEndpoints asks everything once.
func TestEndpoints(t *testing.T) {
	x := serve(t, 2, 0)
	for _, p := range []string{
		"info", "series", "series?by=mapped&n=7&log=1", "series?by=rss", "series?by=system", "lanes?n=10", "events?at=3&before=2&after=2", "events?at=3&filter=failed",
		"maps?at=3", "mem?at=3&addr=0x7fffffffe000&len=64", "threads?at=3", "resolve?q=3", "resolve?q=open", `resolve?q=%22text%22`,
	} {
		n, body := x.get("/api/" + p)
		if n != 200 || !json.Valid([]byte(body)) {
			t.Errorf("%s: status %d: %s", p, n, body)
		}
	}
	for _, p := range []string{
		"findings", "count?filter=failed", "diff?from=1&to=5", "diff?from=5&to=1", "stacks", "charts/hot", "report/errors", "compare/summary", "find?bytes=abc",
		"history?addr=0x7fffffffe000&len=8",
	} {
		n, body := x.get("/api/" + p)
		if n != 200 {
			t.Errorf("%s: status %d: %s", p, n, body)
			continue
		}
		if _, failed := last(t, body); failed != "" {
			t.Errorf("%s: %s", p, failed)
		}
	}
	for p, want := range map[string]int{
		"series?n=4001": 400, "series?n=0": 400, "series?n=x": 400, "series?by=none": 400, "events?before=600&after=600": 400, "events?at=999999": 400,
		"events?filter=nosuchcall": 400, "maps?at=3&cells=0": 400, "maps?at=3&cells=513": 400, "mem?at=3&addr=0&len=65537": 400, "info?log=2": 400,
		"info?log=../x": 400, "maps?at=3&pid=99999": 404, "info?pid=-1": 400, "events?at=" + strings.Repeat("9", 5000): 400, "info?x=" + strings.Repeat("y", 13<<10): 400,
		"resolve?q=" + strings.Repeat("a", 5000): 400,
	} {
		n, body := x.get("/api/" + p)
		var e web.Error
		if err := json.Unmarshal([]byte(body), &e); n != want || err != nil || e.Error == "" {
			t.Errorf("%.40s: status %d, want %d: %.100s", p, n, want, body)
		}
	}
	for _, p := range []string{"report/nope", "report/..%2fetc", "charts/errors", "compare/nope", "stacks?metric=x", "history?addr=nowhere", "history?addr=0&len=5000", "find?bytes="} {
		if _, body := x.get("/api/" + p); strings.Contains(body, `{"done"`) || !strings.Contains(body, `{"error":`) {
			t.Errorf("%s: %s", p, body)
		}
	}
}

// TestLimits has a fifth long answer wait, and not hold up prompt ones; when too many wait,
// one is refused.
func TestLimits(t *testing.T) {
	x := serve(t, 1, 0)
	for range mostLong {
		x.long <- struct{}{}
	}
	answered := make(chan string, 1)
	go func() {
		r, err := http.NewRequest("GET", "http://"+x.host+"/api/findings", nil)
		if err != nil {
			answered <- err.Error()
			return
		}
		r.Header.Set("Authorization", "Bearer "+x.Token())
		res, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			answered <- err.Error()
			return
		}
		defer res.Body.Close()
		in := bufio.NewReader(res.Body)
		line, _ := in.ReadString('\n')
		answered <- line
		rest, _ := io.ReadAll(in)
		answered <- string(rest)
	}()
	if line := <-answered; line != "{\"progress\":0}\n" {
		t.Errorf("the first line of one that waits is %q", line)
	}
	if n, _ := x.get("/api/info"); n != 200 {
		t.Errorf("long answers hold up a prompt one: status %d", n)
	}
	select {
	case rest := <-answered:
		t.Errorf("a fifth long answer was given: %s", rest)
	default:
	}
	<-x.long
	if rest := <-answered; !strings.Contains(rest, `{"done":`) {
		t.Errorf("when there was room: %s", rest)
	}
	x.waiting.Add(mostWaiting)
	if n, body := x.get("/api/findings"); n != http.StatusTooManyRequests {
		t.Errorf("status %d: %s", n, body)
	}
}

// TestStreamStops has a long answer end when its client goes.
func TestStreamStops(t *testing.T) {
	x := serve(t, 1, 0)
	begun, ended := make(chan struct{}), make(chan error, 1)
	x.stream("/api/forever", func(q *question, _ *stream) (any, error) {
		close(begun)
		<-q.ctx.Done()
		ended <- q.ctx.Err()
		return nil, q.ctx.Err()
	})
	ctx, cancel := context.WithCancel(t.Context())
	r, err := http.NewRequestWithContext(ctx, "GET", "http://"+x.host+"/api/forever", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+x.Token())
	res, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if line, err := bufio.NewReader(res.Body).ReadString('\n'); err != nil || line != "{\"progress\":0}\n" {
		t.Errorf("the first line is %q, %v", line, err)
	}
	<-begun // the first line comes before: an answer that nobody wants any more is not begun
	cancel()
	if err := <-ended; err == nil {
		t.Error("the answer went on")
	}
}

// TestIdle has Serve return when nobody asks.
func TestIdle(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := New(nil, Options{Page: fstest.MapFS{}, Hosts: At(l.Addr()), Idle: time.Nanosecond, Log: log.New(io.Discard, "", 0)})
	s.count(1) // a question that is being answered keeps it alive
	if s.idle() {
		t.Error("idle while it answers")
	}
	s.count(-1)
	if err := s.Serve(t.Context(), l); err != nil {
		t.Error(err)
	}
}

// TestHostileLogs asks everything of logs that were made to do harm: each answer is JSON,
// an error where there is no other.
func TestHostileLogs(t *testing.T) {
	logs, err := filepath.Glob("../../../format/testdata/hostile/*.mtl")
	if err != nil || len(logs) < 5 {
		t.Fatal(logs, err)
	}
	for _, name := range logs {
		if base := filepath.Base(name); base != "names.mtl" && base != "cycle.mtl" && os.Getenv("MEMTRACE_LONG") == "" {
			continue // the others take seconds to be refused
		}
		tr, err := replay.Open(name, nil)
		if err != nil {
			continue // refused at once
		}
		l := web.New(tr, "")
		s := New([]*web.Log{l}, Options{Page: fstest.MapFS{}, Hosts: func(string) bool { return true }, Log: log.New(io.Discard, "", 0)})
		_ = l.Prepare(t.Context()) // /api/info tells of it
		for _, q := range []string{
			"info", "series?by=kind", "series?by=mapped", "series?by=rss", "lanes", "events?at=0", "maps?at=0", "mem?at=0&addr=0x1000", "threads?at=0", "resolve?q=stack",
			"findings", "count?filter=failed", "diff?from=0", "report/maps", "report/summary", "history?addr=0x1000", "find?bytes=abc", "charts/hot",
		} {
			r := httptest.NewRequest("GET", "/api/"+q, nil)
			r.Header.Set("Authorization", "Bearer "+s.Token())
			w := httptest.NewRecorder()
			s.ServeHTTP(w, r)
			for line := range strings.Lines(w.Body.String()) {
				if !json.Valid([]byte(line)) {
					t.Errorf("%s, %s: status %d, %.100q", filepath.Base(name), q, w.Code, line)
				}
			}
		}
		l.Close()
		if err := tr.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestReplace: questions are about what a log is when they come. What it was is given back when nobody asks about
// it any more.
func TestReplace(t *testing.T) {
	x := serve(t, 2, 0)
	steps := func() (list []uint64) {
		status, body := x.get("/api/info")
		var i web.Info
		if err := json.Unmarshal([]byte(body), &i); status != 200 || err != nil {
			t.Fatalf("%d %s", status, body)
		}
		for _, l := range i.Logs {
			list = append(list, l.Steps)
		}
		return list
	}
	all := steps()
	longer := func() *web.Log {
		v := web.New(replay.New(replaytest.Open(t, replaytest.Every(t))), "the.log")
		v.Growing(true)
		return v
	}
	gone := make(chan int, 2)
	x.Replace(1, longer(), func() { gone <- 1 })
	if now := steps(); now[0] != all[0] || now[1] == all[1] {
		t.Errorf("steps %d, then %d", all, now)
	}
	held := x.acquire() // a question
	x.Replace(1, longer(), func() { gone <- 2 })
	steps()
	select {
	case n := <-gone:
		t.Errorf("log %d was given back while it was asked about", n)
	default:
	}
	if held[1].LogInfo().Steps == all[1] || !held[1].LogInfo().Growing {
		t.Error("a question is about another log than when it came")
	}
	x.release(held)
	if n := <-gone; n != 1 {
		t.Errorf("log %d was given back", n)
	}
	for _, l := range x.acquire() {
		if l.users != 2 {
			t.Errorf("%d use a log, want the server and this test", l.users)
		}
	}
}
