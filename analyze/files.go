package analyze

import (
	"cmp"
	"context"
	"slices"

	"memtrace/format"
	"memtrace/replay"
)

// FilesReport tells which files calls were about.
type FilesReport struct {
	Rows []FileRow // those that took most time first
	rest uint64    // calls that named a file beyond the most that are kept
}

// FileRow is one file, socket or pipe, by its name.
type FileRow struct {
	Calls   uint64      `col:"calls,CALLS"`
	Errors  uint64      `col:"errors,ERRORS,drop=2"`
	Read    uint64      `col:"read,READ,bytes"`
	Written uint64      `col:"written,WRITTEN,bytes"`
	Time    uint64      `col:"time,TIME,ns"`
	Longest uint64      `col:"longest,LONGEST,ns,drop=3"`
	First   format.Step `col:"first_step,FROM,drop=1"`
	Last    format.Step `col:"last_step,TO,drop=1"`
	Name    string      `col:"path,FILE,cut=end,least=30"`
}

// mostFiles is how many files are kept.
const mostFiles = 1 << 18

// Sheet lays the report out.
func (r *FilesReport) Sheet() *Sheet {
	s := sheet("files", r.Rows)
	s.Title = "Files, by the time of the calls that name them"
	if len(r.Rows) == 0 {
		s.Notes = append(s.Notes, "no call named a file")
	}
	if r.rest > 0 {
		s.Notes = append(s.Notes, plural(r.rest, "call", "calls")+" of more files are not counted.")
	}
	return s
}

// Files tells which files calls were about, by paths and by descriptors whose name is
// known: how many calls, what they read and wrote, and how long they took. A call of two
// files counts for both.
func Files(ctx context.Context, t *replay.Trace, o Options) (*FilesReport, error) {
	by := map[string]*FileRow{}
	r := &FilesReport{}
	err := eachCall(ctx, t, o, func(p *replay.Printer, m *replay.Moment, s *format.Syscall) {
		for i, name := range filesOf(p, m) {
			f := by[name]
			if f == nil {
				if len(by) == mostFiles {
					r.rest++
					continue
				}
				f = &FileRow{Name: name, First: m.Event.Step}
				by[name] = f
			}
			f.Last = m.Event.Step
			f.Calls++
			if failed(s) {
				f.Errors++
			}
			d := replay.Elapsed(m.Event, s)
			f.Time += d
			f.Longest = max(f.Longest, d)
			if s.Ret > 0 && s.Returned {
				read, written := moves(replay.CallName(s.Arch, s.Nr), i)
				if read {
					f.Read += uint64(s.Ret)
				}
				if written {
					f.Written += uint64(s.Ret)
				}
			}
		}
	})
	for _, f := range by {
		r.Rows = append(r.Rows, *f)
	}
	slices.SortFunc(r.Rows, func(a, b FileRow) int {
		return cmp.Or(cmp.Compare(b.Time, a.Time), cmp.Compare(b.Calls, a.Calls), cmp.Compare(a.Name, b.Name))
	})
	return r, err
}

// MovesData says whether the result of a call is how many bytes it has read or written.
func MovesData(call string) bool {
	read, written := moves(call, 0)
	return read || written
}

// moves says whether the result of a call is how many bytes it has read from or written
// to its file number i.
func moves(call string, i int) (read, written bool) {
	switch call {
	case "read", "pread64", "readv", "preadv", "preadv2", "recvfrom", "recvmsg", "recv":
		return i == 0, false
	case "write", "pwrite64", "writev", "pwritev", "pwritev2", "sendto", "sendmsg", "send", "vmsplice":
		return false, i == 0
	case "copy_file_range", "splice", "tee":
		return i == 0, i == 1
	case "sendfile", "sendfile64":
		return i == 1, i == 0
	}
	return false, false
}
