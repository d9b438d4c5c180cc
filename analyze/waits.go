package analyze

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/replay"
)

// waits is how threads spend their time in calls.
type waits struct {
	threads map[uint32]*threadTime // by number
	locks   map[lockKey]*lockWait
	longest idle // the most calls in a row that brought nothing
	spans   [numWaits]uint64
	alive   uint64 // ns that threads lived, together
	worked  uint64 // ns, when memtrace last wrote a sample, a sweep or a snapshot
	now     uint64 // ns, of the last event
	spaces  spaces
}

// threadTime is what is kept of a thread.
type threadTime struct {
	pid, tid    uint32
	first, last uint64 // ns
	idle        idle
	call        lastCall
	stuck       *stuckWait // for a lock, in its last call; nil: that call was another, or it got the lock
	endless     *endless   // its last call, if it is one; nil: it is another
}

// lastCall is the last call of a thread.
type lastCall struct {
	callKey
	step         format.Step
	since, until uint64 // ns
	open         bool   // it did not return, or a signal interrupted it and the kernel goes on with it
}

// stuckWait is a wait for a lock that did not end in having it.
type stuckWait struct {
	key          lockKey
	since, until uint64 // ns
	stack        format.StackNode
	interrupted  bool // by a signal: the kernel goes on with the call if the thread lives
	restarts     bool // the kernel goes on by itself, and does not tell the program
	died         bool // the thread has ended
}

// idle is a row of calls that brought nothing.
type idle struct {
	n           uint64
	first, last uint64 // ns
	step        format.Step
	name        string
	pid, tid    uint32
	many        bool // of several names
}

type lockKey struct {
	pid  uint32
	word addr.Addr
}

// lockWait is what was waited for one lock.
type lockWait struct {
	threads map[uint32]bool // by number
	total   uint64
	longest uint64
	step    format.Step
	stacks  map[format.StackNode]uint64 // ns that were waited there
	// A semaphore (of the value 0) is a lock if those that wait for it are those that wake others.
	semaphore bool
	wakers    map[uint32]bool // threads by number
}

// lock reports whether it is one, and no event that others bring about.
func (l *lockWait) lock() bool {
	if !l.semaphore {
		return true
	}
	both, foreign := 0, 0
	for no := range l.wakers {
		if l.threads[no] {
			both++
		} else {
			foreign++
		}
	}
	return both > foreign && 2*both >= len(l.threads)
}

// wait is a class of waiting.
type wait uint8

const (
	notWaiting wait = iota
	asleep
	forLock
	forChild
	forInput
	inFiles
	numWaits
)

var waitNames = [numWaits]string{"", "asleep", "waiting for locks", "waiting for children", "waiting for input", "in files"}

// Waits reports whether a call waits for something else than a file: for time to pass, a
// lock, a child or input.
func Waits(name string) bool {
	w := waitOf(name)
	return w != notWaiting && w != inFiles
}

// Wakes reports whether a call that Waits by its name does not wait: one of futex(2) that wakes
// others, or moves them.
func Wakes(s *format.Syscall, name string) bool {
	waits, _, _, _ := futexOf(s, name)
	return waitOf(name) == forLock && !waits
}

// waitOf is what a call waits for.
func waitOf(name string) wait {
	switch name {
	case "nanosleep", "clock_nanosleep", "clock_nanosleep_time64", "pause", "rt_sigsuspend", "rt_sigtimedwait", "sched_yield":
		return asleep
	case "futex", "futex_time64", "futex_wait", "futex_waitv":
		return forLock
	case "wait4", "waitid", "waitpid":
		return forChild
	case "poll", "ppoll", "select", "pselect6", "epoll_wait", "epoll_pwait", "epoll_pwait2", "accept", "accept4", "recvfrom", "recvmsg", "recvmmsg",
		"msgrcv", "semop", "semtimedop", "mq_timedreceive", "io_getevents", "io_uring_enter":
		return forInput
	case "read", "readv", "write", "writev":
		return inFiles
	}
	if works(name) {
		return inFiles
	}
	return notWaiting
}

// follow keeps how long threads live.
func (w *waits) follow(m *replay.Moment) {
	w.spaces.follow(m)
	w.now = m.Event.Time
	switch m.Event.Record.(type) {
	case *format.MemInfo, *format.Snapshot:
		w.worked = m.Event.Time
	}
	if m.Event.Thread == 0 {
		return
	}
	if w.threads == nil {
		w.threads = map[uint32]*threadTime{}
	}
	t := w.threads[m.Event.Thread]
	if t == nil {
		t = &threadTime{pid: m.Thread.TGID, tid: m.Thread.TID, first: m.Event.Time, last: m.Event.Time}
		w.threads[m.Event.Thread] = t
	}
	w.alive += m.Event.Time - t.last
	t.last = m.Event.Time
	t.waitEnds(m)
	if t.stuck == nil {
		return
	}
	switch r := m.Event.Record.(type) { // of a call that a signal interrupted, this tells whether it goes on
	case *format.Exit:
		t.stuck.died = true
	case *format.Signal:
		t.stuck.died = t.stuck.died || r.Fatal
	}
}

// held reports whether memtrace read memory while a call lasted: the call may have waited for that.
func (w *waits) held(s *format.Syscall) bool { return w.worked > 0 && w.worked >= s.Enter }

// call looks at how long a call took, and what it brought.
func (w *waits) call(m *replay.Moment, s *format.Syscall, name string) {
	d := m.Event.Time - min(s.Enter, m.Event.Time)
	class := waitOf(name)
	t := w.threads[m.Event.Thread]
	if t != nil {
		c := lastCall{callKey{s.Arch, s.Nr}, m.Event.Step, s.Enter, m.Event.Time, !s.Returned || restarts(s)}
		if t.call.open && t.call.callKey == c.callKey {
			c.since = t.call.since
		}
		t.call = c
		t.wait(m, s, name)
	}
	if class == forLock {
		class = w.futex(m, s, name, t, d)
	} else if t != nil && s.Returned {
		t.stuck = nil
	}
	if class != inFiles || !works(name) || slowStorage(name) || !w.held(s) {
		w.spans[class] += d
	}
	if t == nil || interrupted(s, name) { // the row goes on
		return
	}
	if !nothing(s, name, class) {
		t.idle = idle{}
		return
	}
	i := &t.idle
	if i.n == 0 {
		*i = idle{first: s.Enter, step: m.Event.Step, name: name, pid: t.pid, tid: t.tid}
	}
	i.n++
	i.last = m.Event.Time
	i.many = i.many || i.name != name
	if i.n > w.longest.n {
		w.longest = *i
	}
}

// nothing reports whether a call only looked whether there is something, and there was nothing.
func nothing(s *format.Syscall, name string, class wait) bool {
	switch class {
	case asleep:
		return s.Ret == 0
	case forInput:
		return s.Ret == 0 && (strings.Contains(name, "poll") || strings.Contains(name, "select")) || arch.ErrnoName(int(-s.Ret)) == "EAGAIN"
	case inFiles:
		return arch.ErrnoName(int(-s.Ret)) == "EAGAIN"
	}
	return false
}

// interrupted reports whether a call only tells that something came between: a signal or a
// snapshot, after which the kernel goes on with the call, or a call that then went on.
func interrupted(s *format.Syscall, name string) bool {
	return restarts(s) || name == "restart_syscall" && s.Ret == 0
}

// restarts reports whether a call ended for a signal, and the kernel calls it again if the
// thread lives.
func restarts(s *format.Syscall) bool {
	return s.Returned && s.Ret < 0 && strings.HasPrefix(arch.ErrnoName(int(-s.Ret)), "ERESTART")
}

// Of futex(2).
const (
	futexCommand    = 0x7f
	futexWaiters    = 1 << 31 // in the word of a lock that has its owner in it: of musl, and robust ones
	lockContended   = 2       // what a lock's word is while threads wait for it: of glibc, bionic and Rust
	semaphoreLocked = 0
)

// futexOf is what a futex call does: whether it waits, for a lock for sure, or for what may be a
// semaphore, or wakes others.
func futexOf(s *format.Syscall, name string) (waits, lock, semaphore, wakes bool) {
	op := s.Args[1] & futexCommand
	value := uint32(s.Args[2])
	switch name {
	case "futex", "futex_time64":
	case "futex_wake":
		return false, false, false, true
	case "futex_wait":
		return true, value == lockContended || value&futexWaiters != 0, value == semaphoreLocked, false
	case "futex_waitv":
		return true, false, false, false
	default:
		return false, false, false, false
	}
	switch op {
	case 0, 9: // FUTEX_WAIT, FUTEX_WAIT_BITSET
		return true, value == lockContended || value&futexWaiters != 0, value == semaphoreLocked && s.Args[3] == 0, false
	case 6, 13: // FUTEX_LOCK_PI, FUTEX_LOCK_PI2
		return true, true, false, false
	case 11: // FUTEX_WAIT_REQUEUE_PI
		return true, false, false, false
	}
	return false, false, false, op == 1 || op == 10 || op == 5 // FUTEX_WAKE, FUTEX_WAKE_BITSET, FUTEX_WAKE_OP
}

// mostLocks is how many locks are kept, and mostLockStacks how many stacks of each.
const (
	mostLocks      = 4096
	mostLockStacks = 64
)

// futex looks at a futex call, and says what it waited for.
func (w *waits) futex(m *replay.Moment, s *format.Syscall, name string, t *threadTime, d uint64) wait {
	waits, lock, semaphore, wakes := futexOf(s, name)
	if t == nil {
		if waits {
			return forLock
		}
		return notWaiting
	}
	before := t.stuck
	t.stuck = nil
	key := lockKey{t.pid, addr.Addr(s.Args[0])}
	if l := w.locks[key]; wakes && l != nil && l.semaphore {
		l.wakers[m.Event.Thread] = true
	}
	switch {
	case !waits:
		return notWaiting
	case lock || semaphore:
		w.lockCall(m, s, key, semaphore && !lock, d)
	}
	again := restarts(s)
	eintr := s.Returned && arch.ErrnoName(int(-s.Ret)) == "EINTR"
	if lock && (!s.Returned || again || eintr) {
		t.stuck = &stuckWait{key: key, since: s.Enter, until: m.Event.Time, stack: m.Event.Stack, interrupted: s.Returned, restarts: again}
		if before != nil && before.key == key {
			t.stuck.since = before.since
		}
	}
	return forLock
}

func (w *waits) lockCall(m *replay.Moment, s *format.Syscall, key lockKey, semaphore bool, d uint64) {
	l := w.locks[key]
	if l == nil {
		if len(w.locks) >= mostLocks {
			return
		}
		if w.locks == nil {
			w.locks = map[lockKey]*lockWait{}
		}
		l = &lockWait{threads: map[uint32]bool{}, stacks: map[format.StackNode]uint64{}, wakers: map[uint32]bool{}, semaphore: semaphore}
		w.locks[key] = l
	}
	if l.semaphore && !semaphore { // memory of a semaphore that is used again
		l.semaphore = false
	}
	l.threads[m.Event.Thread] = true
	l.total += d
	if d > l.longest {
		l.longest, l.step = d, m.Event.Step
	}
	if m.Event.Stack == 0 {
		return
	}
	if _, known := l.stacks[m.Event.Stack]; known || len(l.stacks) < mostLockStacks {
		l.stacks[m.Event.Stack] += d
	}
}

// never are the threads that waited for a lock in their last call and did not get it, by lock.
func (w *waits) never() map[lockKey][]*threadTime {
	of := map[lockKey][]*threadTime{}
	for _, no := range slices.Sorted(maps.Keys(w.threads)) {
		t := w.threads[no]
		k := t.stuck
		if k == nil || k.until-k.since < stuckLeast {
			continue
		}
		if !k.interrupted || k.restarts || k.died {
			of[k.key] = append(of[k.key], t)
		}
	}
	return of
}

// Waiting for locks is told of from these on.
const (
	stuckLeast = 1_000_000_000 // ns that a thread waited at its end
	lockLeast  = 100_000_000   // ns that threads waited for one lock
	lockShare  = 4             // a quarter of the time that they lived
)

// deadlock tells of threads that waited for locks and never got them.
func (w *waits) deadlock(t *replay.Trace, o Options, lives []replay.Life) (Finding, bool, error) {
	var words, tids []string
	var stuck []*threadTime
	var pid uint32
	since, until := uint64(0), uint64(0)
	never := w.never()
	for _, k := range slices.SortedFunc(maps.Keys(never), func(a, b lockKey) int { return cmp.Or(cmp.Compare(a.pid, b.pid), cmp.Compare(a.word, b.word)) }) {
		if pid != 0 && k.pid != pid {
			continue
		}
		pid = k.pid
		words = append(words, k.word.String())
		first, last := uint64(0), uint64(0)
		for i, x := range never[k] {
			tids = append(tids, fmt.Sprint(x.tid))
			stuck = append(stuck, x)
			if i == 0 || x.stuck.since < first {
				first = x.stuck.since
			}
			last = max(last, x.stuck.until)
		}
		since, until = max(since, first), max(until, last)
	}
	if len(tids) == 0 {
		return Finding{}, false, nil
	}
	text := fmt.Sprintf("DEADLOCK: %s %s of process %d waited for %s %s and never got %s: the last of them for %s until the end.",
		noun(len(tids), "thread"), list2(tids), pid, noun(len(words), "the lock", "the locks"), list2(words), noun(len(words), "it", "them"), Span(until-since))
	var where []string
	for _, x := range stuck {
		if x.stuck.stack == 0 {
			continue
		}
		at, err := lockSite(t, x.stuck.stack)
		if err != nil {
			return Finding{}, false, err
		}
		where = append(where, fmt.Sprintf("thread %d waited in %s", x.tid, at))
	}
	if len(where) > 0 {
		text += " " + upper(list2(where)) + "."
	} else {
		text += lockHint
	}
	x := Finding{Kind: "deadlock", Text: text, PID: &pid, Then: o.command("replay", fmt.Sprintf("--pid %d -e futex -t", pid))}
	w.atEnd(&x, o, lives)
	return x, true, nil
}

// lockHint says how to learn where threads wait.
const lockHint = " Record with -k=futex to see in which function."

// lockSite is the function that waited for a lock.
func lockSite(t *replay.Trace, node format.StackNode) (string, error) {
	n := newSiteNamer(t, Options{})
	n.libc = true
	x, err := n.find(node)
	if err != nil {
		return "", err
	}
	return x.name, nil
}

// waited is the call in which the first thread of a process had waited to the end for as long as
// stuckLeast at least.
func (w *waits) waited(pid uint32) (lastCall, bool) {
	for _, no := range slices.Sorted(maps.Keys(w.threads)) {
		if t := w.threads[no]; t.pid == pid && t.tid == pid {
			return t.call, t.call.open && t.call.until-t.call.since >= stuckLeast
		}
	}
	return lastCall{}, false
}

// noun is the word for n things; without a second form it takes an s.
func noun(n int, one string, many ...string) string {
	switch {
	case n == 1:
		return one
	case len(many) > 0:
		return many[0]
	}
	return one + "s"
}

// upper begins a sentence.
func upper(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// list2 is a list in words.
func list2(s []string) string {
	const most = 4
	if n := len(s); n > most {
		return strings.Join(s[:most], ", ") + fmt.Sprintf(" and %d more", n-most)
	}
	if n := len(s); n > 1 {
		return strings.Join(s[:n-1], ", ") + " and " + s[n-1]
	}
	return s[0]
}

// lock tells of the lock that threads waited for longest.
func (w *waits) lock(t *replay.Trace, o Options) (Finding, bool, error) {
	var key lockKey
	var most *lockWait
	never := w.never()
	for k, l := range w.locks {
		if len(never[k]) == 0 && l.lock() && (most == nil || l.total > most.total || l.total == most.total && k.word < key.word) {
			key, most = k, l
		}
	}
	if most == nil || most.total < lockLeast {
		return Finding{}, false, nil
	}
	lived := uint64(0)
	for no := range most.threads {
		t := w.threads[no]
		lived += t.last - t.first
	}
	if most.total < lived/lockShare {
		return Finding{}, false, nil
	}
	text := fmt.Sprintf("LOCK: %s of process %d waited %s in all for the lock at %v, %.0f %% of %s time; the longest wait was %s, at step %d.",
		plural(uint64(len(most.threads)), "thread", "threads"), key.pid, Span(most.total), key.word, percent(most.total, lived), noun(len(most.threads), "its", "their"),
		Span(most.longest), most.step)
	where, share, err := most.site(t)
	if err != nil {
		return Finding{}, false, err
	}
	if where != "" {
		text += fmt.Sprintf(" %.0f %% of it in %s.", share, where)
	} else {
		text += lockHint
	}
	return Finding{
		Kind: "lock", Text: text, Step: &most.step, PID: &key.pid, Then: o.command("replay", fmt.Sprintf("--pid %d -e futex -t -T", key.pid)),
	}, true, nil
}

// site is where a lock was waited for most, and how much of the time; "" if the log has no stacks
// of it.
func (l *lockWait) site(t *replay.Trace) (where string, share float64, err error) {
	by := map[string]uint64{}
	for node, d := range l.stacks {
		at, err := lockSite(t, node)
		if err != nil {
			return "", 0, err
		}
		by[at] += d
	}
	for _, at := range slices.Sorted(maps.Keys(by)) {
		if where == "" || by[at] > by[where] {
			where = at
		}
	}
	return where, percent(by[where], l.total), nil
}

// Looking for something over and over is told of if a thread does it that often in a row,
// and that fast.
const (
	pollLeast = 500
	pollEvery = 2_000_000 // ns
)

// polling tells of a thread that looks over and over whether something has happened.
func (w *waits) polling(o Options) (Finding, bool) {
	i := &w.longest
	if i.n < pollLeast || (i.last-i.first)/i.n > pollEvery {
		return Finding{}, false
	}
	name := i.name
	if i.many {
		name += " and others"
	}
	return Finding{
		Kind: "polling", Text: fmt.Sprintf("POLLING: thread %d of process %d called %s %d times in a row and got nothing, %d times a second, from step %d on.",
			i.tid, i.pid, name, i.n, i.n*1e9/max(i.last-i.first, 1), i.step),
		Step: &i.step, PID: &i.pid, Then: o.command("replay", fmt.Sprintf("--from %d --pid %d -t", i.step, i.tid)),
	}, true
}

// shares says how threads spent their time, "" if the log does not tell: calls that are not
// recorded take time too.
func (w *waits) shares() string {
	if w.alive < 1e6 {
		return ""
	}
	var parts []string
	sum := uint64(0)
	order := []wait{asleep, forLock, forChild, forInput, inFiles}
	slices.SortStableFunc(order, func(a, b wait) int { return cmp.Compare(w.spans[b], w.spans[a]) })
	for _, c := range order {
		sum += w.spans[c]
		if p := percent(w.spans[c], w.alive); p >= 0.5 {
			parts = append(parts, fmt.Sprintf("%.0f %% %s", p, waitNames[c]))
		}
	}
	if sum > w.alive {
		return ""
	}
	parts = append(parts, fmt.Sprintf("%.0f %% running or in other calls", percent(w.alive-sum, w.alive)))
	return strings.Join(parts, ", ")
}
