//go:build linux

// This file keeps what a ring has in a file of its own, and says what was kept.

package ring

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"memtrace/format"
)

// dump keeps all that the ring has, in a file of its own. The recording goes on meanwhile.
func (r *Ring) dump(due *due, now uint64) error {
	if err := r.next(now); err != nil {
		due.end(Dump{Why: due.why, Err: err})
		return err
	}
	r.keep(due, r.segs[:len(r.segs)-1])
	r.trim(now)
	return nil
}

// keep joins segments beside the recording.
func (r *Ring) keep(due *due, segs []*segment) {
	why := due.why
	segs = append([]*segment(nil), segs...)
	for _, s := range segs {
		s.users.Add(1)
	}
	to := r.State().Step
	r.later(func() {
		begin := time.Now()
		d := Dump{Why: why}
		r.mu.Lock()
		d.Name = r.name(len(r.kept) + 1)
		r.mu.Unlock()
		d.Info, d.Err = join(d.Name, segs, format.Part{To: to, Before: r.before, Reason: "kept: " + why, Options: []string{"kept=" + strings.ReplaceAll(why, " ", "_")}})
		for _, s := range segs {
			s.users.Done()
		}
		d.Took = time.Since(begin)
		r.mu.Lock()
		r.kept = append(r.kept, d)
		r.mu.Unlock()
		r.opt.Say(d.text())
		due.end(d)
	})
}

func (d *Dump) text() string {
	if d.Err != nil {
		return fmt.Sprintf("%s: the ring could not be kept: %v", d.Why, d.Err)
	}
	return fmt.Sprintf("%s: kept %d events, steps %d to %d, in %s", d.Why, d.Info.Steps-d.Info.First, d.Info.First, d.Info.Steps-1, d.Name)
}

// name is that of dump n.
func (r *Ring) name(n int) string {
	name := strings.ReplaceAll(r.opt.Output, "%p", strconv.Itoa(r.pid))
	if strings.Contains(name, "%n") {
		return strings.ReplaceAll(name, "%n", strconv.Itoa(n))
	}
	if n > 1 {
		name += "." + strconv.Itoa(n)
	}
	return name
}

// Program says which pid %p is.
func (r *Ring) Program(pid int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pid = pid
}

// Kept are the logs that were kept. It may be called after Close.
func (r *Ring) Kept() []Dump { return r.kept }

// Status is what the ring has, in words. It may be called from any goroutine.
func (r *Ring) Status() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var b strings.Builder
	where := "memory"
	if r.opt.Dir != "" {
		where = r.opt.Dir
	}
	fmt.Fprintf(&b, "recorder   %d\n", os.Getpid())
	fmt.Fprintf(&b, "program    %d\n", r.pid)
	fmt.Fprintf(&b, "step       %d at %.3f s\n", r.steps[1], float64(r.times[1])/1e9)
	fmt.Fprintf(&b, "ring       %d parts in %s, %d bytes, the last %.3f s\n", len(r.segs), where, r.bytes, float64(r.times[1]-r.segs[0].begin)/1e9)
	if r.store != nil {
		fmt.Fprintf(&b, "memory     %d pages from before, of at most %d; %d times there was no room for a page\n", r.pages[0], r.opt.Room>>12, r.pages[1])
	}
	fmt.Fprintf(&b, "keeps on   %s\n", r.opt.Keep)
	fmt.Fprintf(&b, "kept       %d of at most %d; %d times more a condition came true\n", len(r.kept), r.opt.Max, r.more)
	for _, d := range r.kept {
		if d.Err != nil {
			fmt.Fprintf(&b, "           %s: %v\n", d.Why, d.Err)
		} else {
			fmt.Fprintf(&b, "           %s: %s\n", d.Why, d.Name)
		}
	}
	return b.String()
}
