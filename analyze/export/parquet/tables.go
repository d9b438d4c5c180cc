package parquet

import (
	"fmt"
	"slices"
	"strings"
)

// Schema is the version of the tables. It is in the metadata of each file, under
// schemaKey. Columns are added without a new version; one that changes its meaning gets one.
const Schema = 1

const schemaKey = "memtrace.schema"

// Tables are the names of all tables, in the order in which a run is put into a lake: runs
// comes last, so that a run that is listed there is whole.
var Tables = []string{"processes", "events", "calls", "mappings", "snapshots", "samples", "stacks", "frames", "refs", "runs"}

// ParseTables reads a list of tables with commas between. An empty one means all.
func ParseTables(list string) ([]string, error) {
	if list == "" {
		return Tables, nil
	}
	var names []string
	for _, n := range strings.Split(list, ",") {
		if !slices.Contains(Tables, n) {
			return nil, fmt.Errorf("no table %q: want %s", n, strings.Join(Tables, ", "))
		}
		if !slices.Contains(names, n) {
			names = append(names, n)
		}
	}
	return names, nil
}

// The rows. docs/fleet.md says what each column means. Numbers without a sign are INT64, as
// two's complement where they do not fit: other engines read the unsigned types of Parquet
// differently. A nil pointer is NULL. Run is left out where the folder says it (Options.Flat).
// What may be NULL has to be a pointer: of others parquet-go 0.32 writes some zero values as
// NULL, and some not.

type runRow struct {
	Run        string            `parquet:"run,dict"`
	Schema     int32             `parquet:"schema"`
	Started    *int64            `parquet:"started,optional,timestamp(microsecond)"`
	DurationNS int64             `parquet:"duration_ns"`
	Host       *string           `parquet:"host,optional,dict"`
	Kernel     *string           `parquet:"kernel,optional,dict"`
	Program    *string           `parquet:"program,optional,dict"`
	Argv       []string          `parquet:"argv,list"`
	BuildID    *string           `parquet:"build_id,optional,dict"`
	Commit     *string           `parquet:"commit,optional,dict"`
	Labels     map[string]string `parquet:"labels"`
	Log        *string           `parquet:"log,optional,dict"`
	FirstStep  int64             `parquet:"first_step"`
	Steps      int64             `parquet:"steps"`
	ExitCode   *int32            `parquet:"exit_code,optional"`
	ExitSignal *string           `parquet:"exit_signal,optional,dict"`
	PeakRSS    *int64            `parquet:"peak_rss,optional"`
	PeakMapped *int64            `parquet:"peak_mapped,optional"`
	Verdict    *string           `parquet:"verdict,optional,dict"`
	LeakBPS    *int64            `parquet:"leak_bps,optional"`
	Whole      bool              `parquet:"whole"`
	Recorder   *string           `parquet:"recorder,optional,dict"`
}

type processRow struct {
	Run        string   `parquet:"run,dict"`
	Proc       int64    `parquet:"proc,delta"`
	PID        int64    `parquet:"pid"`
	Parent     *int64   `parquet:"parent,optional"`
	Program    *string  `parquet:"program,optional,dict"`
	Argv       []string `parquet:"argv,list"`
	FirstStep  int64    `parquet:"first_step,delta"`
	LastStep   int64    `parquet:"last_step,delta"`
	BeginNS    int64    `parquet:"begin_ns,delta"`
	EndNS      int64    `parquet:"end_ns,delta"`
	ExitCode   *int32   `parquet:"exit_code,optional"`
	ExitSignal *string  `parquet:"exit_signal,optional,dict"`
	Threads    int64    `parquet:"threads"`
	Calls      int64    `parquet:"calls"`
	PeakBytes  *int64   `parquet:"peak_bytes,optional"`
	PeakStep   *int64   `parquet:"peak_step,optional"`
}

type eventRow struct {
	Run  string  `parquet:"run,dict"`
	Step int64   `parquet:"step,delta"`
	TNS  int64   `parquet:"t_ns,delta"`
	Proc *int64  `parquet:"proc,optional"`
	PID  *int64  `parquet:"pid,optional"`
	TID  *int64  `parquet:"tid,optional"`
	Type string  `parquet:"type,dict"`
	Text *string `parquet:"text,optional"`
}

// The columns of eventRow, in its order.
const (
	_ = iota // the run
	eventStep
	eventTNS
	eventProc
	eventPID
	eventTID
	eventType
	eventText
)

type callRow struct {
	Run    string  `parquet:"run,dict"`
	Step   int64   `parquet:"step,delta"`
	TNS    int64   `parquet:"t_ns,delta"`
	DurNS  *int64  `parquet:"dur_ns,optional"`
	Proc   *int64  `parquet:"proc,optional"`
	TID    *int64  `parquet:"tid,optional"`
	Arch   string  `parquet:"arch,dict"`
	Name   string  `parquet:"name,dict"`
	Class  string  `parquet:"class,dict"`
	Ret    *int64  `parquet:"ret,optional"`
	Errno  *string `parquet:"errno,optional,dict"`
	FDPath *string `parquet:"fd_path,optional,dict"`
	Path   *string `parquet:"path,optional,dict"`
	Bytes  *int64  `parquet:"bytes,optional"`
	A0     *int64  `parquet:"a0,optional"`
	A1     *int64  `parquet:"a1,optional"`
	A2     *int64  `parquet:"a2,optional"`
	A3     *int64  `parquet:"a3,optional"`
	A4     *int64  `parquet:"a4,optional"`
	A5     *int64  `parquet:"a5,optional"`
	Stack  *int64  `parquet:"stack,optional"`
}

// The columns of callRow, in its order.
const (
	_ = iota // the run
	callStep
	callTNS
	callDurNS
	callProc
	callTID
	callArch
	callName
	callClass
	callRet
	callErrno
	callFDPath
	callPath
	callBytes
	callA0
	callA1
	callA2
	callA3
	callA4
	callA5
	callStack
)

type mappingRow struct {
	Run          string  `parquet:"run,dict"`
	Proc         *int64  `parquet:"proc,optional"`
	Addr         int64   `parquet:"addr"`
	Bytes        int64   `parquet:"bytes"`
	Perms        string  `parquet:"perms,dict"`
	Kind         string  `parquet:"kind,dict"`
	Path         *string `parquet:"path,optional,dict"`
	OffsetBytes  *int64  `parquet:"offset_bytes,optional"`
	MappedStep   int64   `parquet:"mapped_step"`
	MappedNS     int64   `parquet:"mapped_ns"`
	UnmappedStep *int64  `parquet:"unmapped_step,optional"`
	UnmappedNS   *int64  `parquet:"unmapped_ns,optional"`
	LeftStep     *int64  `parquet:"left_step,optional"`
	ByCall       string  `parquet:"by_call,dict"`
	Stack        *int64  `parquet:"stack,optional"`
	PeakWritten  *int64  `parquet:"peak_written,optional"`
}

type snapshotRow struct {
	Run        string `parquet:"run,dict"`
	Step       int64  `parquet:"step,delta"`
	TNS        int64  `parquet:"t_ns,delta"`
	Proc       *int64 `parquet:"proc,optional"`
	Reason     string `parquet:"reason,dict"`
	Kind       string `parquet:"kind,dict"`
	InUse      int64  `parquet:"in_use"`
	WrittenNew int64  `parquet:"written_new"`
	Zero       int64  `parquet:"zero"`
	FilePages  int64  `parquet:"file_pages"`
	PauseNS    int64  `parquet:"pause_ns"`
}

type sampleRow struct {
	Run   string  `parquet:"run,dict"`
	TNS   int64   `parquet:"t_ns,delta"`
	Step  int64   `parquet:"step,delta"`
	Proc  int64   `parquet:"proc,dict"`
	Name  string  `parquet:"name,dict"`
	Value float64 `parquet:"value"`
}

type stackRow struct {
	Run   string `parquet:"run,dict"`
	Stack int64  `parquet:"stack,delta"`
	Depth int64  `parquet:"depth,delta"`
	Frame int64  `parquet:"frame"`
	Site  bool   `parquet:"site"`
	How   string `parquet:"how,dict"`
	Ends  string `parquet:"ends,dict"`
}

type frameRow struct {
	Run         string  `parquet:"run,dict"`
	Frame       int64   `parquet:"frame,delta"`
	Module      string  `parquet:"module,dict"`
	BuildID     *string `parquet:"build_id,optional,dict"`
	OffsetBytes int64   `parquet:"offset_bytes"`
	Function    *string `parquet:"function,optional"`
	File        *string `parquet:"file,optional,dict"`
	Line        *int64  `parquet:"line,optional"`
}

type refRow struct {
	Run   string `parquet:"run,dict"`
	No    int64  `parquet:"no,delta"`
	Step  int64  `parquet:"step,delta"`
	OwnNS int64  `parquet:"own_ns,delta"`
	Proc  *int64 `parquet:"proc,optional"`
	TID   *int64 `parquet:"tid,optional"`
	Phase int64  `parquet:"phase,delta"`
	Kind  string `parquet:"kind,dict"`
	Page  int64  `parquet:"page"`
	IP    *int64 `parquet:"ip,optional"`
}
