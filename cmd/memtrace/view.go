package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"memtrace/analyze/web"
	"memtrace/analyze/web/dist"
	"memtrace/analyze/web/server"
	"memtrace/replay"
)

// viewOptions are the flags of view.
type viewOptions struct {
	listen, cert, key, unix, at string
	remote, noOpen, follow      bool
	pid                         uint32
	idle                        time.Duration
}

func newViewCmd() *cobra.Command {
	var o viewOptions
	cmd := &cobra.Command{
		Use:   "view [FILE] [FILE]",
		Short: "Look at a log in the browser, or at two beside each other",
		Long: `view shows a log in the browser: what went wrong, memory over time, and at each
step the events, the address space, memory with its history, and threads. Two
logs are compared.

The page is served on this machine to whoever has the address that view prints,
until Ctrl-C or until no page has asked for anything for 30 minutes.`,
		Example: `  memtrace view
  memtrace view memtrace.data --at crash
  memtrace view before.data after.data`,
		Args: cobra.MaximumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				args = []string{defaultLog}
			}
			return runView(cmd, args, &o)
		},
		ValidArgsFunction: logFiles,
	}
	f := cmd.Flags()
	f.StringVar(&o.listen, "listen", "127.0.0.1:0", "serve at `ADDR`, HOST:PORT; others than this machine only with --remote")
	f.BoolVar(&o.remote, "remote", false, "let other machines connect (needs --tls-cert and --tls-key)")
	f.StringVar(&o.cert, "tls-cert", "", "the certificate of --remote, a PEM `FILE`")
	f.StringVar(&o.key, "tls-key", "", "its key, a PEM `FILE`")
	f.StringVar(&o.unix, "unix", "", "serve at the socket `PATH`, for ssh -L PORT:PATH")
	f.BoolVar(&o.noOpen, "no-open", false, "start no browser")
	f.StringVar(&o.at, "at", "", "begin at `STEP`")
	f.Uint32Var(&o.pid, "pid", 0, "begin with the process `PID`")
	f.DurationVar(&o.idle, "for", 30*time.Minute, "end when no page has asked for anything for `TIME`; 0: never")
	f.BoolVar(&o.follow, "follow", false, "go on with a log that is still being written")
	addSymbolFlags(cmd)
	return cmd
}

func runView(cmd *cobra.Command, names []string, o *viewOptions) error {
	if err := o.check(); err != nil {
		return err
	}
	var logs []*web.Log
	var traces []*replay.Trace
	var growing []*replay.Growing
	var made sync.WaitGroup
	ctx, stop := context.WithCancel(cmd.Context())
	defer func() {
		stop()
		for _, l := range logs {
			l.Close()
		}
		made.Wait()
		for _, t := range traces {
			_ = t.Close() // nothing was written
		}
		for _, g := range growing {
			_ = g.Close()
		}
	}()
	for _, name := range names {
		var t *replay.Trace
		var err error
		if o.follow {
			g, gerr := openBegun(cmd, name)
			if gerr != nil {
				return untilEnd(gerr)
			}
			growing = append(growing, g)
			t, err = now(cmd, g)
		} else {
			t, err = openTrace(cmd, name)
		}
		if err != nil {
			return err
		}
		traces = append(traces, t)
		if t.Count() == 0 {
			return fmt.Errorf("view %s: %w", name, replay.ErrEmpty)
		}
		logs = append(logs, web.New(t, shownLog(name)))
	}
	so := server.Options{Page: dist.Files, Info: web.Info{Version: versionLine()}, Idle: o.idle, Log: log.New(cmd.ErrOrStderr(), "memtrace: view: ", 0)}
	if err := o.begin(ctx, traces[0], &so.Info); err != nil {
		return fmt.Errorf("view %s: %w", names[0], err)
	}
	l, base, err := o.listener(&so)
	if err != nil {
		return fmt.Errorf("view: %w", err)
	}
	s := server.New(logs, so)
	for _, l := range logs {
		made.Go(func() { _ = l.Prepare(ctx) }) // the page says where it failed
	}
	for i, g := range growing {
		logs[i].Growing(g.BeingWritten())
		made.Go(func() {
			if err := followView(ctx, cmd, s, i, g, names[i]); err != nil && ctx.Err() == nil {
				so.Log.Printf("%s: %v", names[i], err)
			}
		})
	}
	o.say(cmd, s, base, l.Addr())
	if err := s.Serve(ctx, l); err != nil {
		return fmt.Errorf("view: %w", err)
	}
	return nil
}

// openBegun opens a log that may still be written to, and waits until it has an event.
func openBegun(cmd *cobra.Command, name string) (*replay.Growing, error) {
	g, err := openGrowing(cmd, name)
	if err != nil {
		return nil, err
	}
	for more := true; more && g.Count() == 0; {
		if more, err = g.Grow(cmd.Context()); err != nil {
			return nil, errors.Join(reading(name, err), g.Close())
		}
	}
	if g.Count() == 0 && g.Truncated() {
		return nil, errors.Join(reading(name, errNoEvent), g.Close())
	}
	return g, nil
}

// now is a growing log as it is at the moment, for questions.
func now(cmd *cobra.Command, g *replay.Growing) (*replay.Trace, error) {
	t := g.Now()
	if err := useSymbols(cmd, t); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

// followView has the server show more of a log as it grows. What is shown is made ready before, and that takes
// no more than a fifth of the time.
func followView(ctx context.Context, cmd *cobra.Command, s *server.Server, i int, g *replay.Growing, name string) error {
	for wait, more := followEvery, true; more; {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
		var err error
		if more, err = g.Grow(ctx); err != nil {
			return err
		}
		t, err := now(cmd, g)
		if err != nil {
			return err
		}
		l := web.New(t, shownLog(name))
		l.Growing(more && g.BeingWritten())
		began := time.Now()
		if err := l.Prepare(ctx); err != nil {
			l.Close()
			return errors.Join(err, t.Close())
		}
		wait = max(followEvery, 4*time.Since(began))
		s.Replace(i, l, func() { _ = t.Close() }) // nothing was written
	}
	return nil
}

// check says what does not go together.
func (o *viewOptions) check() error {
	switch {
	case o.idle < 0:
		return usagef("--for %v: want a time, or 0", o.idle)
	case o.unix != "":
		if o.remote || o.cert != "" || o.key != "" {
			return usagef("--unix is of this machine: it goes without --remote, --tls-cert and --tls-key")
		}
		return nil
	case o.remote && (o.cert == "" || o.key == ""):
		return usagef("--remote needs --tls-cert and --tls-key: what a log holds would cross the network in clear; or --unix PATH and ssh -L PORT:PATH")
	case !o.remote && (o.cert != "" || o.key != ""):
		return usagef("--tls-cert and --tls-key go with --remote")
	}
	host, _, err := net.SplitHostPort(o.listen)
	if err != nil {
		return usagef("--listen %s: want HOST:PORT", o.listen)
	}
	if ip := net.ParseIP(host); !o.remote && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return usagef("--listen %s: want an address of this machine only, as 127.0.0.1:8080; --remote lets others connect", o.listen)
	}
	return nil
}

// begin says where the page begins.
func (o *viewOptions) begin(ctx context.Context, t *replay.Trace, i *web.Info) error {
	if o.at != "" {
		n, err := t.StepOf(o.at)
		if err != nil {
			return err
		}
		at := uint64(n)
		i.At = &at
	}
	if o.pid == 0 {
		return nil
	}
	var err error
	if i.PID, err = t.PIDOf(ctx, o.pid); err == nil {
		_, err = t.LastAlive(ctx, i.PID)
	}
	return err
}

// listener opens what the flags say, and says which hosts it goes by. base is the begin of
// the page's address, "" of a socket.
func (o *viewOptions) listener(so *server.Options) (l net.Listener, base string, err error) {
	if o.unix != "" {
		so.Hosts = server.Forwarded
		l, err := listenPrivate(o.unix)
		return l, "", err
	}
	if !o.remote {
		if l, err = net.Listen("tcp", o.listen); err != nil {
			return nil, "", err
		}
		so.Hosts = server.At(l.Addr())
		return l, "http://" + l.Addr().String(), nil
	}
	pair, err := tls.LoadX509KeyPair(o.cert, o.key)
	if err != nil {
		return nil, "", err
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		return nil, "", err
	}
	if l, err = tls.Listen("tcp", o.listen, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}); err != nil {
		return nil, "", err
	}
	so.TLS, so.Hosts = true, server.Certified(leaf)
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return l, "https://" + net.JoinHostPort(certName(leaf), port), nil
}

// certName is a name that a certificate is for.
func certName(c *x509.Certificate) string {
	switch {
	case len(c.DNSNames) > 0:
		return c.DNSNames[0]
	case len(c.IPAddresses) > 0:
		return c.IPAddresses[0].String()
	}
	return "HOST"
}

// say prints the page's address and opens it, where there is a screen.
func (o *viewOptions) say(cmd *cobra.Command, s *server.Server, base string, a net.Addr) {
	w := cmd.ErrOrStderr()
	if base == "" {
		fmt.Fprintf(w, "memtrace: on your machine, type ssh -L 8123:%s HOST, and open http://127.0.0.1:8123/#token=%s\n", a, s.Token())
		return
	}
	fmt.Fprintf(w, "memtrace: %s/#token=%s (Ctrl-C ends it)\n", base, s.Token())
	if o.noOpen || o.remote {
		return
	}
	// Others on this machine can read a command line: it has a code that is good for once.
	if err := openBrowser(base + "/#code=" + s.Code()); err != nil {
		fmt.Fprintf(w, "memtrace: no browser was started: %v\n", err)
	}
}

// openBrowser starts the user's browser.
func openBrowser(url string) error {
	var argv []string
	switch runtime.GOOS {
	case "darwin":
		argv = []string{"open"}
	case "windows":
		argv = []string{"rundll32", "url.dll,FileProtocolHandler"}
	default:
		if os.Getenv("DISPLAY") == "" && os.Getenv("WAYLAND_DISPLAY") == "" {
			return errors.New("there is no display")
		}
		argv = []string{"xdg-open"}
	}
	c := exec.Command(argv[0], append(argv[1:], url)...)
	if err := c.Start(); err != nil {
		return errors.New(strings.TrimPrefix(err.Error(), "exec: "))
	}
	go func() { _ = c.Wait() }() // what becomes of it is the user's to see
	return nil
}

// listenPrivate listens at a socket that only its owner can reach.
func listenPrivate(name string) (net.Listener, error) {
	l, err := net.Listen("unix", name)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(name, 0o600); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}
