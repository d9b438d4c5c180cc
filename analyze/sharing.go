package analyze

import (
	"context"
	"fmt"

	"memtrace/format/addr"
	"memtrace/replay"
)

// SharingReport is the table PRIVATE/SHARED x ANONYMOUS/FILE-BACKED of a process
// at a step.
type SharingReport struct {
	Title                 string
	Anonymous, FileBacked SharingRow
}

// SharingRow is memory of one sort, in bytes.
type SharingRow struct {
	Memory      string `col:"memory,"`
	Private     uint64 `col:"private,PRIVATE,bytes"`
	PrivateFrom string `col:"private_from,SUCH AS"`
	Shared      uint64 `col:"shared,SHARED,bytes"`
	SharedFrom  string `col:"shared_from,SUCH AS"`
}

// Sheet lays the report out.
func (r *SharingReport) Sheet() *Sheet {
	s := sheet("sharing", []SharingRow{r.Anonymous, r.FileBacked})
	s.Title = r.Title
	s.sum(SharingRow{Memory: "total", Private: r.Anonymous.Private + r.FileBacked.Private, Shared: r.Anonymous.Shared + r.FileBacked.Shared})
	return s
}

// Sharing tells how much memory is private and shared, anonymous and backed by
// files.
func Sharing(ctx context.Context, t *replay.Trace, o Options) (*SharingReport, error) {
	v, p, why, err := moment(ctx, t, o)
	if err != nil {
		return nil, err
	}
	r, err := SharingOf(p)
	if err == nil {
		r.Title = fmt.Sprintf("Memory of process %d at step %d%s", p.PID, v.Step, why)
	}
	return r, err
}

// SharingOf is that table of one process.
func SharingOf(p *replay.Process) (*SharingReport, error) {
	s, err := p.Space()
	if err != nil {
		return nil, err
	}
	r := &SharingReport{
		Anonymous:  SharingRow{Memory: "anonymous", PrivateFrom: "malloc, stacks, .bss", SharedFrom: "shm, memfd, fork"},
		FileBacked: SharingRow{Memory: "file-backed", PrivateFrom: "programs, libraries", SharedFrom: "mapped files"},
	}
	for m := range s.Mappings() {
		row := &r.FileBacked
		if m.Kind.Anonymous() {
			row = &r.Anonymous
		}
		if m.Prot&addr.Shared != 0 {
			row.Shared += m.Len()
		} else {
			row.Private += m.Len()
		}
	}
	return r, nil
}
