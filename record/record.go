//go:build linux

package record

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/vma"
	"memtrace/record/procfs"
	"memtrace/record/ptrace"
)

// Options say what is recorded. The zero value follows nothing, records no call
// but those that are always recorded, and reads no memory: see DefaultOptions.
type Options struct {
	// Trace is the set of calls to record. Those that change an address space,
	// name a descriptor, make a process or rename a file are recorded always.
	Trace arch.Set
	// Follow traces child processes too; threads are always traced.
	Follow bool
	// Snapshot says when memory is read.
	Snapshot Policy
	// Dir, if not "", is where the program starts; User, if not nil, as whom.
	Dir  string
	User *User
	// MaxBytes, MaxTime and MaxEvents end the recording; the program runs on.
	// 0 is no limit.
	MaxBytes  int64
	MaxTime   time.Duration
	MaxEvents uint64
	// Check compares the log's table with the kernel's after every event that
	// changed a mapping.
	Check bool
	// NoPin leaves a program with one thread on all its CPUs. Without it the
	// program is kept beside the recorder, which it cannot see.
	NoPin bool
	// MemInfo samples what the system and the kernel say about memory, every
	// MemInfoInterval; 0 leaves the pace to the recorder.
	MemInfo         bool
	MemInfoInterval time.Duration
	// DataLimit is how many bytes are kept of what each call writes into the
	// program's memory, StringLimit of what it reads there; 0 keeps none.
	DataLimit, StringLimit int
	// NoTrack reads and compares memory at each snapshot instead of finding what
	// was written with a userfaultfd in the program.
	NoTrack bool
	// StdoutToStderr gives the program standard error as its standard output,
	// because the log goes to the latter.
	StdoutToStderr bool
	// NoStdin gives the program an empty standard input.
	NoStdin bool
	// NoOutput throws its output away.
	NoOutput bool
	// Started, if not nil, is told the program's pid; Stopped, that job control
	// has stopped it and by which signal, or with 0 that it goes on.
	Started func(pid int)
	Stopped func(sig int)
	// Observe, if not nil, is called with each event as it is written. It must
	// not keep it.
	Observe func(*format.Event)
	// Pause, if not nil, is called on the tracing thread whenever a thread is at
	// a stop: before and after each call, and after every other event.
	Pause func(*Pause)
	// Warn, if not nil, is told once of what a person should know.
	Warn func(string)
}

// DefaultOptions record every call of the program and its children.
func DefaultOptions() Options {
	return Options{Trace: arch.AllCalls(), Follow: true, Snapshot: DefaultPolicy(), MemInfo: true, DataLimit: 4096, StringLimit: 32}
}

// filtered says whether calls outside the set are to run untouched, by a seccomp
// filter. A program with such a filter cannot go on without its tracer: it is not
// used where the program may outlive the recording.
func (o *Options) filtered() bool {
	return !o.Trace.All() && o.Follow && o.Pause == nil && o.MaxBytes == 0 && o.MaxTime == 0 && o.MaxEvents == 0
}

// Result is how a recording ended.
type Result struct {
	// Status is the wait status of the program (of Run), if it ended.
	Status unix.WaitStatus
	Ended  bool
	// Reason is "exit" or what ended the recording before the program did.
	Reason           string
	Events           uint64
	Checks, Differed uint64
	// InPart is how many processes had more memory at their end than was saved,
	// see Policy.Spare.
	InPart int
	// Err is what kept the log from being written to the end; the program was
	// left alone from then on.
	Err error
}

// Interrupted is the Reason of a recording that its context ended, Detached of
// one that Pause.Detach did.
const (
	Interrupted = "interrupted"
	Detached    = "detached"
)

// Errors of this package.
var (
	// ErrNotFound and ErrNotExecutable: the program could not be started.
	ErrNotFound      = errors.New("not found")
	ErrNotExecutable = errors.New("cannot execute")
	// ErrPerm: the kernel does not let us trace; the text says what to do.
	ErrPerm = ptrace.ErrPerm
)

// Recorder records into one log.
type Recorder struct {
	w    *format.Writer
	opts Options

	start time.Time // time 0 of the log, with its monotonic reading
	set   arch.Set  // what is recorded: opts.Trace and what always is
	filt  bool

	threads map[int]*thread     // by tid
	orphans map[int]ptrace.Stop // last reports of new tracees whose parent has not told of them
	backlog []ptrace.Stop       // reports that came while threads were being held
	lastNo  uint32              // newest thread number
	lastMM  uint32
	mms     map[*space]struct{}
	main    int // pid whose status is the result

	uffds       bool // some program has made a userfaultfd
	event       format.Event
	changes     []format.Change
	given       int // how many of them the writer has already
	vm          procfs.VMReader
	found       []vma.VMA
	fdName      [4096]byte
	regions     []procfs.Region
	stale       []format.Pages
	still       []format.Pages // read while the program ran, and not written since
	restless    []addr.Range   // written since
	copying     bool           // what is read is kept in copies, and handed over when its owner goes on
	copies      [][]byte
	copied      []format.Pages // in copies
	copiedBytes int
	regs        [27]uint64
	xbuf        []byte
	readErr     error               // of readSpace: the memory that could not be read
	narrowed    bool                // readSpace has read by faults
	exitSpent   time.Duration       // saving memory at ends of processes, see Policy.Spare
	files       map[string]fileFate // by the name of a mapping, see changing
	filesFrom   uint64              // when they have to have been looked at since

	result Result
	stop   bool // leave the loop: the recording is over

	mapsText  []byte
	lastEvery uint64
	buf       []byte
	noQuery   bool // the kernel has no PROCMAP_QUERY
	pidns     bool // a traced process may be in a PID namespace of its own
	warned    map[string]bool
	pin       pinner
	sampler   sampler
	keep      bool // the signal at hand is not to be delivered
	pausing   bool // Interrupt was called

	// wake is how other goroutines reach the thread that waits.
	mu      sync.Mutex
	asked   []func()
	pending atomic.Bool
	intr    *ptrace.Interrupter
	ringing atomic.Bool
}

// New makes a recorder that writes to w. Closing w stays with the caller.
func New(w *format.Writer, o Options) *Recorder {
	r := &Recorder{
		w: w, opts: o, start: time.Now(), set: o.Trace, filt: o.filtered(),
		threads: map[int]*thread{}, orphans: map[int]ptrace.Stop{}, mms: map[*space]struct{}{}, warned: map[string]bool{},
	}
	go startHandlers() // reading them takes a moment
	if o.Snapshot.any() {
		w.ExpectPages()
	}
	r.set.Add(arch.ChangesMM | arch.NamesFD | arch.Renames | arch.NoReturn)
	for _, name := range []string{"fork", "vfork", "clone", "clone3", "unshare", "setns", "userfaultfd"} {
		if s, err := arch.ParseSet("?" + name); err == nil {
			r.set = r.set.Union(s)
		}
	}
	return r
}

// Run starts path with argv and env, and records until the last traced process
// has ended or the recording is. ctx's end ends the recording and leaves the
// program running, unless it depends on its tracer (see Options.filtered): then
// it is killed.
func (r *Recorder) Run(ctx context.Context, path string, argv, env []string) (*Result, error) {
	return r.onThread(ctx, func() error { return r.launch(path, argv, env) })
}

// Attach records running processes, all their threads, until they have ended or
// the recording is. It leaves them running.
func (r *Recorder) Attach(ctx context.Context, pids ...int) (*Result, error) {
	r.filt = false
	return r.onThread(ctx, func() error { return r.attach(pids) })
}

// onThread makes the tracees with begin and serves them, on one OS thread of its
// own. When that thread ends, the kernel lets go of whatever is still traced,
// running threads without so much as a stop (kernel/exit.c, exit_notify).
func (r *Recorder) onThread(ctx context.Context, begin func() error) (*Result, error) {
	type outcome struct {
		res *Result
		err error
	}
	done := make(chan outcome)
	var run func()
	tid := 0
	run = func() {
		runtime.LockOSThread() // and never unlocked
		if unix.Gettid() == unix.Getpid() {
			// The main thread cannot end. It is held here, so that the next is
			// another.
			go run()
			<-ctx.Done()
			return
		}
		tid = unix.Gettid()
		res, err := r.serve(ctx, begin)
		r.release()
		done <- outcome{res, err}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go run()
	o := <-done
	for path := fmt.Sprintf("/proc/self/task/%d", tid); r.stop && unix.Access(path, unix.F_OK) == nil; {
		time.Sleep(100 * time.Microsecond) // until it is gone nobody has been let go
	}
	return o.res, o.err
}

func (r *Recorder) serve(ctx context.Context, begin func() error) (*Result, error) {
	if err := ptrace.Quiet(); err != nil {
		return nil, err
	}
	intr, err := ptrace.NewInterrupter()
	if err != nil {
		return nil, err
	}
	r.intr = intr
	r.startGuard()
	if err := begin(); err != nil {
		return nil, err
	}
	stopAsking := context.AfterFunc(ctx, func() {
		r.Ask(func() { r.finish(Interrupted) })
	})
	defer stopAsking()
	stopTimers := r.startTimers()
	defer stopTimers()
	stopSampling := r.startSampling()
	defer stopSampling()
	if err := r.loop(); err != nil {
		return nil, err
	}
	r.result.Events = uint64(r.w.State().Step) + 1
	if r.result.Reason == "" {
		r.result.Reason = "exit"
	}
	return &r.result, nil
}

// Ask has f called on the tracing thread, between two events.
func (r *Recorder) Ask(f func()) {
	r.mu.Lock()
	r.asked = append(r.asked, f)
	r.mu.Unlock()
	r.pending.Store(true)
	if !r.ringing.CompareAndSwap(false, true) {
		return
	}
	go r.ring()
}

// ring interrupts the tracing thread until it has heard: a signal just before the
// wait is lost.
func (r *Recorder) ring() {
	for {
		for pause := 100 * time.Microsecond; ; pause = min(2*pause, 20*time.Millisecond) {
			time.Sleep(pause) // a busy thread comes by on its own
			if !r.pending.Load() {
				break
			}
			r.intr.Interrupt()
		}
		r.ringing.Store(false)
		if !r.pending.Load() || !r.ringing.CompareAndSwap(false, true) {
			return // or somebody asked between the two, and left it to us
		}
	}
}

func (r *Recorder) answer() {
	r.pending.Store(false)
	r.mu.Lock()
	fs := r.asked
	r.asked = nil
	r.mu.Unlock()
	for _, f := range fs {
		f()
	}
}

// startTimers begins what happens by the clock.
func (r *Recorder) startTimers() (stop func()) {
	var timers []func()
	if t := r.opts.MaxTime; t > 0 {
		x := time.AfterFunc(t, func() { r.Ask(func() { r.finish("max-time") }) })
		timers = append(timers, func() { x.Stop() })
	}
	if d := r.opts.Snapshot.Interval; d > 0 {
		x := time.NewTicker(d)
		quit := make(chan struct{})
		var asked atomic.Bool
		go func() {
			for {
				select {
				case <-x.C:
					if asked.CompareAndSwap(false, true) {
						r.Ask(func() { r.intervalSnapshot(); asked.Store(false) })
					}
				case <-quit:
					return
				}
			}
		}()
		timers = append(timers, func() { x.Stop(); close(quit) })
	}
	return func() {
		for _, f := range timers {
			f()
		}
	}
}

// finish ends the recording; the program goes on if it can.
func (r *Recorder) finish(reason string) {
	if r.stop {
		return
	}
	r.stop = true
	r.result.Reason = reason
}

func (r *Recorder) warn(format string, args ...any) {
	s := fmt.Sprintf(format, args...)
	if r.opts.Warn != nil && !r.warned[s] {
		r.warned[s] = true
		r.opts.Warn(s)
	}
}

// now is the log's time in ns.
func (r *Recorder) now() uint64 { return uint64(time.Since(r.start)) }
