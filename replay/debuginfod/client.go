// Package debuginfod gets programs and their debug information from debuginfod servers,
// by build id.
package debuginfod

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// MaxSize is the largest file that is fetched, in bytes.
const MaxSize = 1 << 30

// Client asks servers one after the other, and keeps what they send.
type Client struct {
	Servers []string // URLs, as DEBUGINFOD_URLS has them; only https is asked
	Dir     string   // where files are kept
	HTTP    *http.Client
	down    map[string]bool // hosts that did not answer are not asked again
}

// New makes a client of the environment: DEBUGINFOD_URLS, and the user's cache.
func New() (*Client, error) {
	servers := strings.Fields(os.Getenv("DEBUGINFOD_URLS"))
	if len(servers) == 0 {
		return nil, errors.New("DEBUGINFOD_URLS names no server")
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return nil, err
	}
	return &Client{
		Servers: servers, Dir: filepath.Join(dir, "memtrace", "debuginfod"),
		HTTP: &http.Client{Timeout: 5 * time.Minute},
	}, nil
}

// Get fetches a file, "debuginfo" or "executable", by its build id in hexadecimal. Whether
// it is the right one is for its caller to find out.
func (c *Client) Get(id, kind string) (*os.File, error) {
	if id == "" || strings.Trim(id, "0123456789abcdef") != "" || len(id) > 128 {
		return nil, fmt.Errorf("%q is not a build id", id)
	}
	name := filepath.Join(c.Dir, id, kind)
	if f, err := os.Open(name); err == nil {
		return f, nil
	}
	why := errors.New("no server was asked")
	for _, s := range c.Servers {
		u, err := url.Parse(s)
		if err != nil || u.Scheme != "https" || u.Host == "" {
			why = fmt.Errorf("debuginfod server %q: want an https URL", s)
			continue
		}
		if c.down[u.Host] {
			continue
		}
		f, err := c.fetch(u.JoinPath("buildid", id, kind).String(), name)
		if err == nil {
			return f, nil
		}
		why = err
		if _, silent := errors.AsType[*url.Error](err); silent {
			if c.down == nil {
				c.down = map[string]bool{}
			}
			c.down[u.Host] = true
		}
	}
	return nil, why
}

// fetch gets a URL into a file that appears when it is whole.
func (c *Client) fetch(from, name string) (f *os.File, err error) {
	r, err := c.HTTP.Get(from)
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", from, r.Status)
	}
	if r.Request.URL.Scheme != "https" {
		return nil, fmt.Errorf("%s: sent on to where it is not https", from)
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return nil, err
	}
	if f, err = os.CreateTemp(filepath.Dir(name), "part-*"); err != nil {
		return nil, err
	}
	n, err := io.Copy(f, io.LimitReader(r.Body, MaxSize+1))
	if err == nil && n > MaxSize {
		err = fmt.Errorf("%s: more than %d bytes", from, MaxSize)
	}
	if err = cmp.Or(err, os.Rename(f.Name(), name)); err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	return f, nil
}
