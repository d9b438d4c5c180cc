//go:build linux

// This file has the ring: the segments that there are, the oldest of which goes when a new one
// begins.

package ring

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"memtrace/format"
)

// Ring is a record.Log. Its methods are for the tracing thread, but for those that say
// otherwise.
type Ring struct {
	*format.Writer
	opt   Options
	conds []cond
	segs  []*segment // the oldest first, the last one is being written
	sizes sized
	due   *due // what is going to be kept
	// Ask, if it is not nil, has Saved called soon, on the tracing thread between two events.
	Ask    func()
	asked  bool
	pid    int    // of the program, for names
	id     string // of this ring, in the names of its parts
	pause  time.Duration
	closed bool
	failed error // why the ring cannot go on

	mu    sync.Mutex // for what Status and the dumps use
	kept  []Dump
	took  int // of Options.Max
	last  time.Time
	more  int // times that a condition came true and nothing was kept
	dumps sync.WaitGroup
	todo  []func() // what is done beside the recording, one after the other
	doing bool
	early int       // segments in todo that were dropped
	pages [2]uint64 // that were known before the ring begins, and that there was no room for

	before *format.Before // of todo
	store  *os.File       // its pages
	bytes  int64          // of segments that are whole
	steps  [2]format.Step
	times  [2]uint64
}

// Dump is a log that was kept.
type Dump struct {
	Name string
	Why  string
	Info *format.Info
	Err  error
	Took time.Duration
}

// due is what a condition that came true is waiting for.
type due struct {
	why   string
	proc  uint32 // the end of this process; 0: memory
	since uint64
	ready bool // nothing any more

	dump Dump // what it has come to, when done is closed
	done chan struct{}
}

func newDue(why string, since uint64) *due {
	return &due{why: why, since: since, done: make(chan struct{})}
}

// end says what it has come to.
func (d *due) end(dump Dump) {
	d.dump = dump
	close(d.done)
}

// wait waits for that.
func (d *due) wait() Dump {
	<-d.done
	return d.dump
}

// New begins a ring with the log of header h.
func New(h *format.Header, o Options) (*Ring, error) {
	conds, err := parseConds(o.Keep)
	if err != nil {
		return nil, fmt.Errorf("--keep-on %w", err)
	}
	if o.Size == 0 && o.Dir == "" {
		o.Size = MemorySize
	}
	r := &Ring{opt: o, conds: conds, sizes: sized{}}
	if err := r.writable(); err != nil {
		return nil, err
	}
	if o.Every > 0 {
		if o.Room == 0 {
			r.opt.Room = MemoryRoom
		}
		var err error
		if r.store, err = anonymous(o.Dir); err != nil {
			return nil, err
		}
		r.before = format.NewBefore(r.store, r.opt.Room)
	}
	s, err := r.first()
	if err != nil {
		return nil, err
	}
	h.Segment = 1
	// Events count once they are in the file: small parts are of small groups.
	var w format.WriterOptions
	if o.Size > 0 {
		w.GroupSteps = int(max(64, min(o.Size/parts/64, 8192)))
	}
	if r.Writer, err = format.NewWriter(s.file, h, &w); err != nil {
		s.unused()
		return nil, err
	}
	r.segs = []*segment{s}
	return r, nil
}

// writable makes sure that something can be kept, before it has to be.
func (r *Ring) writable() error {
	dir := filepath.Dir(r.opt.Output)
	sweep(dir)
	f, err := unfinished(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return os.Remove(f.Name())
}

// first makes the first segment. A memtrace that was killed, or one in another container, may have
// had the pid of this one, and parts in the same folder: those are left alone.
func (r *Ring) first() (*segment, error) {
	r.id = strconv.Itoa(os.Getpid())
	if r.opt.Dir == "" {
		return r.segment(1, 0)
	}
	for n := 2; ; n++ {
		there, err := r.parts()
		if err != nil {
			return nil, err
		}
		if !there {
			s, err := r.segment(1, 0)
			if !errors.Is(err, fs.ErrExist) {
				return s, err
			}
		}
		r.id = fmt.Sprintf("%d-%d", os.Getpid(), n)
	}
}

// parts reports whether the folder has parts of a ring of this name.
func (r *Ring) parts() (bool, error) {
	files, err := os.ReadDir(r.opt.Dir)
	if err != nil {
		return false, err
	}
	return slices.ContainsFunc(files, func(e fs.DirEntry) bool { return strings.HasPrefix(e.Name(), "memtrace-ring."+r.id+".") }), nil
}

// partName is the name of a segment in a folder.
func (r *Ring) partName(no string) string {
	return filepath.Join(r.opt.Dir, "memtrace-ring."+r.id+"."+no+".mtl")
}

// segment makes the file of a segment.
func (r *Ring) segment(no uint64, begin uint64) (*segment, error) {
	s := &segment{begin: begin, ready: make(chan struct{})}
	var err error
	if r.opt.Dir == "" {
		s.file, err = anonymous("")
		return s, err
	}
	s.name = r.partName(fmt.Sprintf("%06d", no))
	s.file, err = os.OpenFile(s.name, os.O_RDWR|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	return s, err
}

// next begins another segment.
func (r *Ring) next(now uint64) error {
	begin := time.Now()
	old := r.segs[len(r.segs)-1]
	s, err := r.segment(r.Header().Segment+1, now)
	if err != nil {
		return fmt.Errorf("the next part of the ring: %w", err)
	}
	no := r.Header().Segment
	err = r.Continue(s.file, "goes on", r.opt.Facts, func(size int64, err error) {
		old.size, old.err = size, err
		r.mu.Lock()
		r.bytes += size
		r.mu.Unlock()
		close(old.ready)
	})
	if r.Header().Segment == no { // nothing has changed
		s.unused()
		return err
	}
	r.mu.Lock()
	r.segs = append(r.segs, s)
	r.mu.Unlock()
	r.pause = max(r.pause, time.Since(begin))
	return err
}

// trim drops the oldest segments if those after them are enough.
func (r *Ring) trim(now uint64) {
	for len(r.segs) > 2 {
		rest := int64(0)
		for _, s := range r.segs[1 : len(r.segs)-1] {
			<-s.ready
			rest += s.size
		}
		enough := r.opt.Size > 0 && rest >= r.opt.Size || r.opt.Age > 0 && now-r.segs[1].begin >= uint64(r.opt.Age)
		if !enough {
			return
		}
		r.mu.Lock()
		s := r.segs[0]
		r.segs = r.segs[1:]
		<-s.ready
		r.bytes -= s.size
		r.mu.Unlock()
		r.takeOver(s)
		s.drop()
	}
}

// later has something done beside the recording, after what is waiting already.
func (r *Ring) later(f func()) {
	r.dumps.Add(1)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.todo = append(r.todo, f)
	if r.doing {
		return
	}
	r.doing = true
	go func() {
		for {
			r.mu.Lock()
			if len(r.todo) == 0 {
				r.doing = false
				r.mu.Unlock()
				return
			}
			f := r.todo[0]
			r.todo = r.todo[1:]
			r.mu.Unlock()
			f()
			r.dumps.Done()
		}
	}()
}

// takeOver keeps what a segment that is dropped knows of memory. Of a ring that goes round too
// fast nothing is kept: what is known begins with a later segment then.
func (r *Ring) takeOver(s *segment) {
	if r.before == nil {
		return
	}
	r.mu.Lock()
	busy := r.early >= earlyMost
	if !busy {
		r.early++
	}
	r.mu.Unlock()
	if busy {
		return
	}
	s.users.Add(1)
	r.later(func() {
		defer s.users.Done()
		<-s.ready
		if s.err == nil {
			if l, err := format.NewReader(s.file, s.size, nil); err == nil {
				_ = r.before.Advance(l) // else nothing is known, and a later segment is a new beginning
			}
		}
		n, lost := r.before.Pages()
		r.mu.Lock()
		r.early--
		r.pages = [2]uint64{uint64(n), lost}
		r.mu.Unlock()
	})
}
