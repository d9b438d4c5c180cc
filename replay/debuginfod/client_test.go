package debuginfod

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestGet(t *testing.T) {
	asked := 0
	srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		if r.URL.Path != "/x/buildid/12ab/debuginfo" {
			http.NotFound(w, r)
			return
		}
		_, _ = io.WriteString(w, "the file")
	}))
	defer srv.Close()
	c := &Client{Servers: []string{"http://plain.example/", srv.URL + "/nothing", srv.URL + "/x"}, Dir: t.TempDir(), HTTP: srv.Client()}
	for range 2 { // the second time it is kept
		f, err := c.Get("12ab", "debuginfo")
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 20)
		n, _ := f.ReadAt(b, 0)
		if string(b[:n]) != "the file" {
			t.Errorf("%q", b[:n])
		}
		_ = f.Close()
	}
	if asked != 2 {
		t.Errorf("the servers were asked %d times", asked)
	}
	if _, err := c.Get("12ab", "executable"); err == nil || !strings.Contains(err.Error(), "404") {
		t.Errorf("%v", err)
	}
	for _, id := range []string{"", "../../etc", "12AB", strings.Repeat("a", 200)} {
		if _, err := c.Get(id, "debuginfo"); err == nil {
			t.Errorf("%q is a build id", id)
		}
	}
	c.Servers = c.Servers[:1]
	if _, err := c.Get("34cd", "debuginfo"); err == nil || !strings.Contains(err.Error(), "https") {
		t.Errorf("a server without https: %v", err)
	}
	left, _ := filepath.Glob(filepath.Join(c.Dir, "*", "part-*"))
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestNew(t *testing.T) {
	t.Setenv("DEBUGINFOD_URLS", "")
	if _, err := New(); err == nil {
		t.Error("a client of no server")
	}
	t.Setenv("DEBUGINFOD_URLS", "https://a.example https://b.example")
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv("HOME", os.TempDir())
	c, err := New()
	if err != nil || len(c.Servers) != 2 {
		t.Errorf("%v, %v", c, err)
	}
}
