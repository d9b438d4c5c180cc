package analyze_test

import (
	"context"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"memtrace/analyze"
	"memtrace/format"
	"memtrace/format/arch"
	"memtrace/replay"
	. "memtrace/replay/replaytest"
)

// failing is a call that fails on a path.
func failing(b *Builder, name, path string, errno int64) format.Step {
	nr, _ := arch.X86_64.Number(name)
	s := &format.Syscall{Arch: arch.X86_64, Nr: nr, Ret: -errno, Returned: true, Enter: 1 << 40}
	if path != "" {
		s.Bufs = []format.Buf{{Arg: 1, Addr: 0x1000, Data: []byte(path)}}
	}
	return b.Event(1, s)
}

// lasting is a call that began at the start of the log.
func lasting(b *Builder, name string) format.Step {
	nr, _ := arch.X86_64.Number(name)
	for range 20_000 { // events are a moment apart
		b.Call(1, "getpid", 100, nil)
	}
	return b.Event(1, &format.Syscall{Arch: arch.X86_64, Nr: nr, Returned: true})
}

// TestFindings: what was planted is found, first, and nothing else.
func TestFindings(t *testing.T) {
	exit := func(b *Builder, status uint32) {
		b.Event(1, &format.Exit{Status: status, Process: true}, &format.ThreadEnd{No: 1}, &format.MMDrop{MM: 1})
	}
	info := binary.LittleEndian.AppendUint64(make([]byte, 8, 32), 1) // SEGV_MAPERR
	info = binary.LittleEndian.AppendUint64(info, 8)
	binary.LittleEndian.PutUint32(info, 11)
	for name, c := range map[string]struct {
		plant func(*Builder)
		want  []string // the beginning of each
	}{
		"nothing": {func(b *Builder) {
			failing(b, "openat", "/etc/ld.so.preload", 2)
			failing(b, "close", "", 9)
			exit(b, 0)
		}, []string{"Nothing went wrong: exited with 0 after "}},
		"so far": {func(b *Builder) { b.Call(1, "getpid", 100, nil) }, []string{"Nothing went wrong so far: still running after "}},
		"null pointer": {func(b *Builder) {
			b.Event(1, &format.Signal{Signo: 11, Fatal: true, Info: info})
			exit(b, 11)
		}, []string{"CRASH: SIGSEGV accessing 0x8 (close to a null pointer), process 100, step 1."}},
		"killed": {func(b *Builder) {
			b.Event(1, &format.Signal{Signo: 15, Fatal: true})
			exit(b, 15)
		}, []string{"KILLED: prog (process 100) was killed by SIGTERM after "}},
		"descriptors": {func(b *Builder) {
			failing(b, "openat", "/usr/lib/libm.so", 2)
			for range 5 {
				failing(b, "openat", "/etc/passwd", 24)
			}
			exit(b, 0)
		}, []string{`FAILED: openat of "/etc/passwd" failed 5 times with EMFILE (Too many open files), first at step 2.`}},
		"again and again": {func(b *Builder) {
			for range 1000 {
				failing(b, "newfstatat", "/run/lock", 2)
			}
			exit(b, 0)
		}, []string{`FAILED: newfstatat of "/run/lock" failed 1000 times with ENOENT (No such file or directory), first at step 1.`}},
		"configuration": {func(b *Builder) {
			failing(b, "openat", "/etc/prog.conf", 2)
			failing(b, "openat", "/usr/share/locale/C/x.mo", 2)
			exit(b, 1<<8)
		}, []string{`STATUS: prog (process 100) exited with 1; the last call that failed before it was openat of "/etc/prog.conf": ENOENT (No such file or directory), at step 1.`}},
		"disk":    {func(b *Builder) { lasting(b, "fsync"); exit(b, 0) }, []string{"SLOW: fsync took "}},
		"waiting": {func(b *Builder) { lasting(b, "poll"); exit(b, 0) }, []string{"Nothing went wrong"}},
	} {
		t.Run(name, func(t *testing.T) {
			b := New(t)
			b.Event(1, &format.Exec{Path: "/bin/prog"}, &format.MMNew{MM: 1}, Thread(1, 100, 100, 1, 1, 0), Map(1, Text, 4, 5, "/bin/prog"))
			c.plant(b)
			tr := replay.New(Open(t, b.Bytes()))
			last, _ := tr.Last()
			var told []string
			r, err := analyze.EachFinding(context.Background(), tr, analyze.Options{To: last}, func(f *analyze.Finding) { told = append(told, f.Text) })
			if err != nil {
				t.Fatal(err)
			}
			for _, x := range r.Rows {
				i := slices.Index(told, x.Text)
				if i < 0 {
					t.Fatalf("%q was not told, or twice; %q were", x.Text, told)
				}
				told = slices.Delete(told, i, i+1)
			}
			if len(told) > 0 && len(r.Rows) < 4 {
				t.Errorf("%q are told, and not in the report", told)
			}
			if len(r.Rows) != len(c.want) {
				t.Fatalf("%+v", r.Rows)
			}
			for i, x := range r.Rows {
				if !strings.HasPrefix(x.Text, c.want[i]) {
					t.Errorf("%q, want %q", x.Text, c.want[i])
				}
			}
			sum, err := analyze.Summary(context.Background(), tr, analyze.Options{To: last})
			if err != nil {
				t.Fatal(err)
			}
			if sum.Findings.Rows[0].Text != r.Rows[0].Text {
				t.Errorf("the summary begins with %q", sum.Findings.Rows[0].Text)
			}
		})
	}
}
