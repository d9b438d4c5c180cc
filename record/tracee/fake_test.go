//go:build linux

package tracee_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"memtrace/format/arch"
	"memtrace/record/tracee"
	"memtrace/record/tracee/traceetest"
)

// teller is a Handler that writes down what it is told, checks that it makes
// sense, and asks its hooks for answers.
type teller struct {
	t    testing.TB
	g    *tracee.Group
	k    *traceetest.Kernel
	told []fact

	// Hooks, nil for none.
	began     func(t *tracee.Thread, b tracee.Birth)
	entered   func(t *tracee.Thread, c *tracee.Call) bool
	returned  func(t *tracee.Thread, c *tracee.Call)
	signalled func(t *tracee.Thread, s *tracee.Signal) bool
	stopped   func(t *tracee.Thread, sig int)
	paused    func(t *tracee.Thread)

	known     map[uint32]*life
	completed *tracee.Call // one that comes from no stop
}

// life is what a thread is known to be in the middle of.
type life struct {
	pending             *tracee.Call
	ending, gone, ended bool
}

// fact is one call of the Handler.
type fact struct {
	what  string
	no    uint32
	tid   int
	name  string // of the call
	ret   int64
	sig   int
	birth tracee.Birth
	err   string
	last  bool
	at    uint32 // status
}

func (h *teller) note(t *tracee.Thread, f fact) *life {
	f.no, f.tid = t.No, t.TID
	h.told = append(h.told, f)
	l := h.known[t.No]
	if l == nil && f.what != "began" {
		h.t.Errorf("%s of thread %d, which has not begun", f.what, t.TID)
		l = &life{}
	}
	return l
}

func nameOf(c *tracee.Call) string {
	row, _ := c.Arch.Syscall(c.Nr)
	return row.Name
}

func (h *teller) Began(t *tracee.Thread, b tracee.Birth) {
	for u := range t.Space.Threads { // those of an attached process begin together
		if u == t || b.How == tracee.Attached {
			if h.known[u.No] == nil {
				h.known[u.No] = &life{}
			}
		}
	}
	if b.How == tracee.Executed {
		h.known[t.No].ending = false
	}
	h.note(t, fact{what: "began", birth: b})
	if h.began != nil {
		h.began(t, b)
	}
}

func (h *teller) Seen(t *tracee.Thread) { h.note(t, fact{what: "seen"}) }

func (h *teller) Entered(t *tracee.Thread, c *tracee.Call) (wait bool) {
	l := h.note(t, fact{what: "entered", name: nameOf(c)})
	if l.pending != nil || l.ending || l.gone {
		h.t.Errorf("thread %d enters %s: %+v", t.TID, nameOf(c), l)
	}
	if t.Call() != c {
		h.t.Errorf("thread %d is not in the call that it enters", t.TID)
	}
	copied := *c
	l.pending = &copied
	return h.entered != nil && h.entered(t, c)
}

func (h *teller) Returned(t *tracee.Thread, c *tracee.Call) {
	if c == h.completed {
		h.returned(t, c)
		return
	}
	l := h.note(t, fact{what: "returned", name: nameOf(c), ret: c.Ret})
	if l.pending != nil && (l.pending.Nr != c.Nr || l.pending.Args != c.Args) || l.ending || l.gone || !c.Returned {
		h.t.Errorf("thread %d returns from %s: %+v", t.TID, nameOf(c), l)
	}
	l.pending = nil
	if h.returned != nil {
		h.returned(t, c)
	}
}

func (h *teller) Restarted(t *tracee.Thread, c *tracee.Call) {
	l := h.note(t, fact{what: "restarted", name: nameOf(c)})
	if l.pending == nil {
		h.t.Errorf("thread %d makes a call again that it has not made", t.TID)
	}
	l.pending = nil
}

func (h *teller) Abandoned(t *tracee.Thread, c *tracee.Call) {
	l := h.note(t, fact{what: "abandoned", name: nameOf(c)})
	if l.pending == nil && c.Enter != 0 || l.ending || l.gone { // 0: it was attached to in the call
		h.t.Errorf("thread %d leaves %s: %+v", t.TID, nameOf(c), l)
	}
	l.pending = nil
}

func (h *teller) Signalled(t *tracee.Thread, s *tracee.Signal) (deliver bool) {
	h.note(t, fact{what: "signal", sig: s.No, last: s.Fatal})
	return h.signalled == nil || h.signalled(t, s)
}

func (h *teller) Stopped(t *tracee.Thread, sig int) {
	h.note(t, fact{what: "stopped", sig: sig})
	if h.stopped != nil {
		h.stopped(t, sig)
	}
}

func (h *teller) Paused(t *tracee.Thread) {
	h.note(t, fact{what: "paused"})
	if h.paused != nil {
		h.paused(t)
	}
}

func (h *teller) Ending(t *tracee.Thread, status uint32) {
	l := h.note(t, fact{what: "ending", at: status})
	if l.ending || l.gone {
		h.t.Errorf("thread %d ends: %+v", t.TID, l)
	}
	l.pending, l.ending = nil, true
}

func (h *teller) Removed(t *tracee.Thread) {
	l := h.note(t, fact{what: "removed"})
	if l.gone || t.State() != tracee.Ended {
		h.t.Errorf("thread %d is removed: %+v, %v", t.TID, l, t.State())
	}
	if _, there := t.Space.Threads[t]; there || h.g.Thread(t.TID) == t {
		h.t.Errorf("thread %d is removed and still there", t.TID)
	}
	l.gone = true
}

func (h *teller) Ended(t *tracee.Thread, status uint32, process bool) {
	l := h.note(t, fact{what: "ended", at: status, last: process})
	if !l.gone || l.ended {
		h.t.Errorf("thread %d has ended: %+v", t.TID, l)
	}
	l.ended = true
}

func (h *teller) Lost(t *tracee.Thread, what string) {
	h.note(t, fact{what: "lost", err: what})
	h.t.Errorf("thread %d: %s", t.TID, what)
}

// seq are the facts of a thread as words: what, and of which call.
func (h *teller) seq(no uint32) (words []string) {
	for _, f := range h.told {
		if f.no != no {
			continue
		}
		switch f.what {
		case "entered", "returned", "restarted", "abandoned":
			words = append(words, f.what+" "+f.name)
		case "signal", "stopped":
			words = append(words, fmt.Sprint(f.what, " ", f.sig))
		default:
			words = append(words, f.what)
		}
	}
	return words
}

// count is how many facts of a kind there are.
func (h *teller) count(what string) (n int) {
	for _, f := range h.told {
		if f.what == what {
			n++
		}
	}
	return n
}

// everyCall is the set of all calls.
func everyCall(t testing.TB) arch.Set {
	set, err := arch.ParseSet("all")
	if err != nil {
		t.Fatal(err)
	}
	return set
}

// newGroup makes a Group of a simulated kernel, which follows everything.
func newGroup(t testing.TB, seed uint64, change ...func(*tracee.Options)) *teller {
	o := tracee.Options{Calls: everyCall(t), Follow: true, NoPin: true}
	for _, c := range change {
		c(&o)
	}
	h := &teller{t: t, k: traceetest.New(seed), known: map[uint32]*life{}}
	h.g = tracee.New(h.k, h, time.Now(), o)
	return h
}

// launch has a program served from its exec to its end.
func (h *teller) launch(p traceetest.Program, filter *arch.Set) {
	h.t.Helper()
	h.k.Launch(p)
	h.serve(func() error { return h.g.Launch(&tracee.Program{Path: "/p", Argv: []string{"p"}}, filter) })
}

// attach has a program served that runs already.
func (h *teller) attach(pid int) {
	h.t.Helper()
	h.serve(func() error { return h.g.Attach(pid) })
}

func (h *teller) serve(begin func() error) {
	h.t.Helper()
	if err := h.g.Serve(begin, func() {}); err != nil {
		h.t.Fatal(err)
	}
	for _, m := range h.k.Misuse() {
		h.t.Error(m)
	}
}

// wantSeq compares what was told of a thread with what should have been.
func (h *teller) wantSeq(no uint32, want ...string) {
	h.t.Helper()
	if got := h.seq(no); !slices.Equal(got, want) {
		h.t.Errorf("thread %d:\n got %q\nwant %q", no, got, want)
	}
}
