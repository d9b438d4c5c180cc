package main

import (
	"bufio"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"memtrace/analyze/web"
	"memtrace/replay/replaytest"
)

// viewing is a memtrace view that runs.
type viewing struct {
	t     *testing.T
	said  string // its first line
	token string
	end   func() int // ends it, and is its exit status
}

var tokenText = regexp.MustCompile(`#token=([A-Za-z0-9_-]{32})(?:\s|$)`)

// view starts memtrace view with some arguments.
func view(t *testing.T, args ...string) *viewing {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	ended := make(chan int, 1)
	go func() {
		ended <- run(ctx, append([]string{"view", "--no-open"}, args...), strings.NewReader(""), io.Discard, w)
		w.Close()
	}()
	in := bufio.NewReader(r)
	line, err := in.ReadString('\n')
	if err != nil {
		t.Fatalf("view %q said nothing: %v", args, err)
	}
	go func() { _, _ = io.Copy(io.Discard, in) }()
	v := &viewing{t: t, said: line}
	if m := tokenText.FindStringSubmatch(line); m != nil {
		v.token = m[1]
	}
	v.end = func() int { cancel(); n := <-ended; ended <- n; return n }
	t.Cleanup(func() { v.end() })
	return v
}

// info asks a server.
func (v *viewing) info(c *http.Client, base, host string) (int, web.Info) {
	v.t.Helper()
	r, err := http.NewRequest("GET", base+"/api/info", nil)
	if err != nil {
		v.t.Fatal(err)
	}
	r.Host = host
	r.Header.Set("Authorization", "Bearer "+v.token)
	res, err := c.Do(r)
	if err != nil {
		v.t.Fatal(err)
	}
	defer res.Body.Close()
	var i web.Info
	if err := json.NewDecoder(res.Body).Decode(&i); err != nil {
		v.t.Error(err)
	}
	return res.StatusCode, i
}

func TestView(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, name := range []string{defaultLog, "other.data"} {
		if err := os.WriteFile(name, replaytest.Log(t), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	v := view(t, "--at", "crash", "--pid", "101")
	base := regexp.MustCompile(`http://127\.0\.0\.1:\d+`).FindString(v.said)
	status, i := v.info(http.DefaultClient, base, "")
	if status != 200 || len(i.Logs) != 1 || i.At == nil || *i.At != 10 || i.PID != 101 || i.Logs[0].File != defaultLog || i.Logs[0].Steps != 19 {
		t.Errorf("status %d, %+v; said %q", status, i, v.said)
	}
	res, err := http.Get(base + "/")
	if err != nil {
		t.Fatal(err)
	}
	page, _ := io.ReadAll(res.Body)
	res.Body.Close()
	if res.StatusCode != 200 || !strings.Contains(string(page), "app.js") {
		t.Errorf("the page is %d, %.100q", res.StatusCode, page)
	}
	if n := v.end(); n != 0 {
		t.Errorf("exit status %d after Ctrl-C", n)
	}
	v = view(t, defaultLog, "other.data", "--for", "1ns")
	if n := v.end(); n != 0 || !tokenText.MatchString(v.said) {
		t.Errorf("two logs: exit status %d, said %q", n, v.said)
	}
}

func TestViewUnix(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile(defaultLog, replaytest.Log(t), 0o600); err != nil {
		t.Fatal(err)
	}
	v := view(t, "--unix", "socket")
	if fi, err := os.Stat("socket"); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("the socket is %v, %v", fi, err)
	}
	c := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", "socket")
	}}}
	defer c.CloseIdleConnections()
	for host, want := range map[string]int{"127.0.0.1:8123": 200, "evil.example:8123": 421} {
		if status, _ := v.info(c, "http://"+host, host); status != want {
			t.Errorf("%s: status %d, want %d", host, status, want)
		}
	}
}

func TestViewRemote(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile(defaultLog, replaytest.Log(t), 0o600); err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"box.example"}, NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string]*pem.Block{"cert.pem": {Type: "CERTIFICATE", Bytes: cert}, "key.pem": {Type: "PRIVATE KEY", Bytes: der}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	v := view(t, "--remote", "--tls-cert", "cert.pem", "--tls-key", "key.pem")
	m := regexp.MustCompile(`https://box\.example:(\d+)/#token=`).FindStringSubmatch(v.said)
	if m == nil {
		t.Fatalf("said %q", v.said)
	}
	c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}} // the name in it is nobody's
	defer c.CloseIdleConnections()
	for host, want := range map[string]int{"box.example:" + m[1]: 200, "evil.example:" + m[1]: 421, "127.0.0.1:" + m[1]: 421} {
		if status, _ := v.info(c, "https://127.0.0.1:"+m[1], host); status != want {
			t.Errorf("%s: status %d, want %d", host, status, want)
		}
	}
}

// TestViewRefuses has command lines that are mistakes.
func TestViewRefuses(t *testing.T) {
	log := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(log, replaytest.Log(t), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ args, want string }{
		{"--listen 0.0.0.0:0", "--remote lets others connect"},
		{"--listen :8080", "--remote lets others connect"},
		{"--listen 10.0.0.1:0", "--remote lets others connect"},
		{"--listen evil.example:80", "--remote lets others connect"},
		{"--listen 8080", "want HOST:PORT"},
		{"--remote", "needs --tls-cert and --tls-key"},
		{"--remote --tls-cert x", "needs --tls-cert and --tls-key"},
		{"--tls-cert x --tls-key y", "go with --remote"},
		{"--unix s --remote", "without --remote"},
		{"--for -1s", "want a time"},
		{"--at 99999", "lies after the last"},
		{"--pid 99999", "no such process"},
		{"--no-open a b c", "accepts at most 2"},
	} {
		status, _, errw := invoke(t, "", append([]string{"view", log}, strings.Fields(c.args)...)...)
		if status == 0 || !strings.Contains(errw, c.want) {
			t.Errorf("view %s: status %d, %q; want %q", c.args, status, errw, c.want)
		}
	}
	empty := filepath.Join(t.TempDir(), "empty")
	if err := os.WriteFile(empty, replaytest.New(t).Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	if status, _, errw := invoke(t, "", "view", empty); status == 0 || !strings.Contains(errw, "no events") {
		t.Errorf("an empty log: status %d, %q", status, errw)
	}
}
