// Package web is what the viewer shows: the data of the page, for the server of
// memtrace view and for the file that report --html writes. This file has the JSON
// of every answer; docs/view.md lists the endpoints.
//
// Times are in ns since the start of the recording, sizes in bytes, addresses texts
// as "0x7f00". A step is the number of an event. null is what the log does not know.
// Texts are those of the traced program: a page must set them as text, never as HTML.
package web

import "encoding/json"

// Info answers /api/info: what there is to look at, and where to begin.
type Info struct {
	Version string    `json:"version"` // of memtrace
	Logs    []LogInfo `json:"logs"`    // two where two logs are compared
	At      *uint64   `json:"at"`      // the step to begin at (--at); null: the page's choice
	PID     uint32    `json:"pid"`     // the process to begin with (--pid), 0: all
}

// LogInfo is what a log says of itself.
type LogInfo struct {
	File     string   `json:"file"` // its name, without folders
	Bytes    int64    `json:"bytes"`
	Whole    bool     `json:"whole"`             // false: the log was cut
	Growing  bool     `json:"growing,omitempty"` // it is still being written: another Info has more of it
	Program  string   `json:"program"`           // the command line
	Argv     []string `json:"argv"`              // may be empty
	Started  string   `json:"started"`           // RFC 3339, UTC
	Duration uint64   `json:"duration"`          // time of the last event
	First    uint64   `json:"first"`             // the first step: 0, but in a log that begins in the middle of its run
	Steps    uint64   `json:"steps"`             // the step after the last
	Arch     string   `json:"arch"`              // x86_64, aarch64
	Kernel   string   `json:"kernel"`
	Host     string   `json:"host"`
	// Ready is the part of the log that the summary covers, 0 to 1. Series, lanes and
	// processes are whole at 1.
	Ready float64 `json:"ready"`
	// Failed says why the summary cannot get further, "" if it can.
	Failed    string     `json:"failed,omitempty"`
	Processes []ProcInfo `json:"processes"` // in the order of their birth; those found so far
	Kinds     []KindInfo `json:"kinds"`     // of memory: the order and names of series
	Classes   []string   `json:"classes"`   // of calls: the keys of a lane's "calls"
	Features  Features   `json:"features"`
}

// ProcInfo is one process.
type ProcInfo struct {
	No       uint32   `json:"no"` // the log's number; a pid may come twice
	PID      uint32   `json:"pid"`
	Parent   uint32   `json:"parent"` // a no; 0: none that was traced
	Name     string   `json:"name"`
	Argv     []string `json:"argv"` // null: not known
	First    uint64   `json:"first"`
	Last     uint64   `json:"last"`
	Begin    uint64   `json:"begin"`
	End      uint64   `json:"end"`
	Status   string   `json:"status"`    // "exited with 0", "killed by SIGSEGV", "" while it lives
	Bad      bool     `json:"bad"`       // killed, or a status other than 0
	Fatal    *uint64  `json:"fatal"`     // the step of the signal that killed it
	Peak     uint64   `json:"peak"`      // most bytes mapped at once
	PeakStep uint64   `json:"peak_step"` // when that was
	Threads  int      `json:"threads"`   // in all
	Events   uint64   `json:"events"`
}

// KindInfo is a kind of memory.
type KindInfo struct {
	ID    string `json:"id"`    // as in maps and tables: "heap", "anonymous private", ...
	Group string `json:"group"` // heap, anonymous, shared, stacks, files, system: its colour
}

// Features say what the log has.
type Features struct {
	Snapshots  uint64 `json:"snapshots"`   // memory contents; 0 before Ready is 1
	Samples    bool   `json:"samples"`     // RSS and the system's memory (--meminfo)
	Stacks     bool   `json:"stacks"`      // call stacks of any events
	CallStacks bool   `json:"call_stacks"` // call stacks of calls (record -k): the flame graph
	Refs       bool   `json:"refs"`        // page references (--page-trace): heat map, miss curve
}

// Findings answers /api/findings.
type Findings struct {
	Rows []Finding `json:"rows"` // worst first; one of kind "none" if nothing went wrong
}

// Finding is one thing that went wrong.
type Finding struct {
	ID       string   `json:"id"`       // "crash-1": stable for a log
	Kind     string   `json:"kind"`     // crash deadlock stuck killed leak failures child status slow lock polling forks cut none
	Severity string   `json:"severity"` // bad, warn, ok
	Title    string   `json:"title"`    // a few words: "DEADLOCK", "LEAK"
	Text     string   `json:"text"`     // all of it, title included
	Parts    []Part   `json:"parts"`    // Text after the title, with what can be clicked
	Step     *uint64  `json:"step"`     // to look at
	PID      *uint32  `json:"pid"`
	Addr     *string  `json:"addr"`    // of the fault
	Said     string   `json:"said"`    // what the process wrote to standard error last
	Actions  []Action `json:"actions"` // what more there is to see
}

// Part is a piece of a text. Without step and addr it is plain.
type Part struct {
	Text string  `json:"text"`
	Step *uint64 `json:"step,omitempty"`
	Addr *string `json:"addr,omitempty"`
}

// Action is something to do about a finding.
type Action struct {
	// Do is "goto" (Step, PID), "history" (Addr, Len, PID at Step: who wrote it),
	// "find" (Bytes, for /api/find), "report" (Name, as in /api/report/NAME), or "command"
	// (Command, to copy).
	Do      string  `json:"do"`
	Label   string  `json:"label"`
	Step    *uint64 `json:"step,omitempty"`
	PID     *uint32 `json:"pid,omitempty"`
	Addr    string  `json:"addr,omitempty"`
	Len     uint64  `json:"len,omitempty"`
	Bytes   string  `json:"bytes,omitempty"`
	Name    string  `json:"name,omitempty"`
	Command string  `json:"command,omitempty"`
}

// Series answers /api/series?by=kind|mapped|rss|system&n=1200: memory over time, in N
// buckets of equal time from From to To: bucket i begins at From + (To-From)*i/N.
type Series struct {
	By    string   `json:"by"`
	From  uint64   `json:"from"` // ns
	To    uint64   `json:"to"`   // ns
	N     int      `json:"n"`
	Ready float64  `json:"ready"`
	Step  []uint64 `json:"step"` // the last step in a bucket or before it, as far as the summary tells steps apart
	// Sampled are the buckets in which values were looked at, in order; null: all.
	Sampled []int `json:"sampled"`
	// Series are, by kind and by mapped: those of Kinds that ever had bytes, in that
	// order; by rss: rss, anonymous, file, shared, swapped, virtual, peaks first;
	// by system: committed_as, anon_pages, mem_free, swap_free, cached.
	Series []OneSeries `json:"series"`
}

// OneSeries is a line, or a band of a stack. Values stay until the next that is known;
// null comes before the first.
type OneSeries struct {
	ID  string `json:"id"`
	Min Values `json:"min"`
	Max Values `json:"max"`
	// Last is the value at the end of the bucket.
	Last Values `json:"last"`
}

// Values have a number for each bucket; -1 is one that is not known. In JSON they are
// runs of equal ones, pairs of how many and which: [[3,null],[2,4096]].
type Values []int64

// Lanes answers /api/lanes?n=1200: what threads did, in buckets of equal time as those of
// Series.
type Lanes struct {
	From  uint64   `json:"from"`
	To    uint64   `json:"to"`
	N     int      `json:"n"`
	Ready float64  `json:"ready"`
	Step  []uint64 `json:"step"`
	// Exact says that each event is in its bucket. Else events were counted in groups of
	// neighbours, and a group is in the bucket that its middle is in.
	Exact bool       `json:"exact"`
	Lanes []Lane     `json:"lanes"` // by process, then by thread, in the order of birth; 200 at most
	Left  int        `json:"left"`  // threads without a lane
	Marks []LaneMark `json:"marks"` // in order; 500 at most, the gravest
	More  int        `json:"more"`  // marks left out
}

// Lane is one thread. Buckets in which nothing ended are left out: the columns have one
// value for each bucket of At.
type Lane struct {
	PID   uint32 `json:"pid"`
	TID   uint32 `json:"tid"`
	Proc  uint32 `json:"proc"`  // ProcInfo.No
	First uint64 `json:"first"` // its first step
	Last  uint64 `json:"last"`
	Begin uint64 `json:"begin"` // ns
	End   uint64 `json:"end"`
	At    []int  `json:"at"` // numbers of buckets, in order
	// Calls are the numbers of calls by class, those of Info's classes that are not 0.
	Calls map[string][]uint32 `json:"calls"`
	// Time is the ns that calls of a class took that ended in the bucket.
	Time        map[string][]uint64 `json:"time"`
	Failed      []uint32            `json:"failed"`
	Longest     []uint64            `json:"longest"` // ns that the longest call took, 0: none
	LongestStep []uint64            `json:"longest_step"`
}

// LaneMark is an event that is drawn by itself.
type LaneMark struct {
	Step uint64 `json:"step"`
	T    uint64 `json:"t"`
	PID  uint32 `json:"pid"`
	TID  uint32 `json:"tid"`
	// Kind is fatal, signal, exec, fork, thread, exit, snapshot, phase, lost or check.
	Kind string `json:"kind"`
	Text string `json:"text"`
}

// Events answers /api/events?at&before&after&filter: lines around a step.
type Events struct {
	At   uint64     `json:"at"`
	Rows []EventRow `json:"rows"` // in order; the step itself among them, if the filter shows it
	// Prev is where to look on for earlier rows (as at, with after=0), Next for later
	// ones (before=0); null at the ends of the log. There may be fewer rows than asked
	// for, and a Prev or Next: matches are rare there.
	Prev *uint64 `json:"prev"`
	Next *uint64 `json:"next"`
}

// EventRow is one event.
type EventRow struct {
	Step  uint64  `json:"step"`
	T     uint64  `json:"t"`
	Dur   *uint64 `json:"dur"` // ns from entry to return; null: it is no call, or did not return
	PID   uint32  `json:"pid"` // 0: memtrace itself
	TID   uint32  `json:"tid"`
	Type  string  `json:"type"`  // syscall, signal, exec, ... as replay --json
	Class string  `json:"class"` // of a call: one of Info's classes; "" else
	Name  string  `json:"name"`  // of the call, of the signal; "" else
	Err   string  `json:"err"`   // ENOENT, ...; "" if it did not fail
	Bad   bool    `json:"bad"`   // it failed, or killed the process
	Text  string  `json:"text"`  // strace's notation, escapes for what is not printable
	Stack bool    `json:"stack"` // a call stack was logged: /api/threads has it
}

// Count answers /api/count?filter (long): how many events a filter shows.
type Count struct {
	Total uint64   `json:"total"`
	Leaf  uint64   `json:"leaf"` // events a leaf
	Hits  []uint32 `json:"hits"` // of each leaf, from step 0 on, also where the log begins later
}

// Maps answers /api/maps?at&cells=128: the address space of a process.
type Maps struct {
	At       uint64    `json:"at"`
	PID      uint32    `json:"pid"`
	Last     *uint64   `json:"last"` // the last snapshot at or before At; null: none
	Mappings []Mapping `json:"mappings"`
	// Left is how many mappings, and LeftBytes how many bytes, were left out: of very
	// many the largest are there.
	Left      int    `json:"left"`
	LeftBytes uint64 `json:"left_bytes"`
	Total     Known  `json:"total"`
}

// Known are bytes by what is known of them.
type Known struct {
	Bytes   uint64 `json:"bytes"`
	Written uint64 `json:"written"` // captured, or written by a call
	Zero    uint64 `json:"zero"`    // known to be zero, untouched
	File    uint64 `json:"file"`    // as in the file
	Unknown uint64 `json:"unknown"` // not in the log
}

// Mapping is a line of /proc/PID/maps.
type Mapping struct {
	Start  string `json:"start"`
	End    string `json:"end"`
	Perms  string `json:"perms"`
	Kind   string `json:"kind"` // Info's kinds
	Name   string `json:"name"` // of the file, or [heap]; "" for none
	Offset string `json:"offset"`
	// Since is the step that mapped its lowest address, By the call that did ("exec" and
	// others are types of events); null and "" where the summary does not know.
	Since *uint64 `json:"since"`
	By    string  `json:"by"`
	Known
	// Cells are runs: pairs of how many cells and what they are. 0: not in the log, 1:
	// zero, 2: from the file, 3: written, 4: written and changed since the snapshot before
	// the last. A cell of several pages is the greatest of theirs.
	Cells [][2]int `json:"cells"`
}

// Mem answers /api/mem?at&addr&len: bytes. addr may be a name ("[heap]", a symbol, rsp).
type Mem struct {
	At     uint64  `json:"at"`
	PID    uint32  `json:"pid"`
	Addr   string  `json:"addr"`
	Len    uint64  `json:"len"` // 65536 at most
	Pieces []Piece `json:"pieces"`
}

// Piece is a stretch of memory of which the same is known.
type Piece struct {
	Start string `json:"start"`
	End   string `json:"end"`
	// Bytes are hexadecimal, null if they are not known; Unknown says why then.
	Bytes   *string `json:"bytes"`
	Unknown string  `json:"unknown,omitempty"`
	// Exact says that the bytes are those at the step. Else they were captured or
	// confirmed at AsOf last.
	Exact bool   `json:"exact"`
	AsOf  uint64 `json:"as_of"`
	Call  bool   `json:"call"` // the call of step AsOf wrote them
	// It changed to this after step After, and not later than Changed. After is Changed
	// where nothing was known before.
	After   uint64 `json:"after"`
	Changed uint64 `json:"changed"`
}

// Era is a line of /api/history?addr&len (long): what was at an address, from when to when.
type Era struct {
	From     uint64 `json:"from"`
	To       uint64 `json:"to"`
	FromTime uint64 `json:"from_time"`
	ToTime   uint64 `json:"to_time"`
	Exact    bool   `json:"exact"`  // it changed at From; else after Since and not later
	ToEnd    bool   `json:"to_end"` // To is the last step
	Since    uint64 `json:"since"`
	Seen     uint64 `json:"seen,omitempty"`
	Unknown  string `json:"unknown,omitempty"` // why it is not known whole
	Call     string `json:"call,omitempty"`    // that wrote it
	Bytes    string `json:"bytes"`
}

// Found is a line of /api/find?bytes (long): where a pattern is in memory, and how long.
type Found struct {
	Addr     string `json:"addr"`
	From     uint64 `json:"from"`
	To       uint64 `json:"to"`
	FromTime uint64 `json:"from_time"`
	ToTime   uint64 `json:"to_time"`
	Exact    bool   `json:"exact"`
	ToEnd    bool   `json:"to_end"`
	Call     string `json:"call,omitempty"`
	PID      uint32 `json:"pid"`
	Path     string `json:"path"`   // the name of the mapping
	Count    uint64 `json:"count"`  // places with the same story, up to Last
	Stride   uint64 `json:"stride"` // between them, 0: uneven
	Last     string `json:"last"`
}

// Threads answers /api/threads?at: the threads of a process.
type Threads struct {
	At      uint64   `json:"at"`
	PID     uint32   `json:"pid"`
	Threads []Thread `json:"threads"` // 200 at most; the one of the step first, then by birth
	Left    int      `json:"left"`
}

// Thread is a thread at a step.
type Thread struct {
	TID uint32 `json:"tid"`
	// AsOf is the step that its registers are of; null: they are not in the log.
	AsOf      *uint64    `json:"as_of"`
	Registers []Register `json:"registers"`
	Frames    []Frame    `json:"frames"` // the innermost first; empty if they are not known
	Why       string     `json:"why"`    // there are no frames, or no more; "" if the stack is whole
	Logged    bool       `json:"logged"` // the stack was taken while the program ran
}

// Register is one register.
type Register struct {
	Name  string `json:"name"`
	Value string `json:"value"` // "0x…"
}

// Frame is a function that is being carried out.
type Frame struct {
	Addr     string `json:"addr"`
	Module   string `json:"module"`   // the path of the file
	Function string `json:"function"` // "" if it is not known
	Offset   uint64 `json:"offset"`   // from the begin of the function
	File     string `json:"file"`     // of the source, "" if it is not known
	Line     int    `json:"line"`
	Inlined  bool   `json:"inlined"` // into the next
	Sure     bool   `json:"sure"`    // false: others may be missing before it
}

// Diff answers /api/diff?from&to (long): what differs between two steps.
type Diff struct {
	From     uint64        `json:"from"`
	To       uint64        `json:"to"`
	FromTime uint64        `json:"from_time"`
	ToTime   uint64        `json:"to_time"`
	PID      uint32        `json:"pid"`
	Replaced bool          `json:"replaced"` // the process runs another program since
	Kinds    []KindDiff    `json:"kinds"`    // that differ, the most first
	Mappings []MappingDiff `json:"mappings"`
	Pages    []PageRun     `json:"pages"`
	More     int           `json:"more"` // mappings and runs of pages left out
}

// KindDiff is how bytes of a kind changed.
type KindDiff struct {
	Kind string `json:"kind"`
	From int64  `json:"from"` // mapped
	To   int64  `json:"to"`
	UseA *int64 `json:"use_from"` // in use, as snapshots saw it; null: not known
	UseB *int64 `json:"use_to"`
}

// MappingDiff is a part of the address space that is mapped otherwise.
type MappingDiff struct {
	What  string `json:"what"` // mapped, unmapped, changed
	Start string `json:"start"`
	End   string `json:"end"`
	Name  string `json:"name"`
	Kind  string `json:"kind"`
	Old   string `json:"old"` // permissions and name before; "" if there was none
	New   string `json:"new"`
}

// PageRun is a run of pages that fared alike.
type PageRun struct {
	Start string `json:"start"`
	End   string `json:"end"`
	What  string `json:"what"` // changed, new, lost
	Name  string `json:"name"`
}

// Stacks answers /api/stacks?metric=live|net|mapped|calls|time (long): who asked for memory,
// as a tree of functions from the outermost. live is what is still there at the end, net
// what was mapped (Grew) and what was unmapped (Shrank). Parts under 0.1 % are summed up as
// "(other)".
type Stacks struct {
	Metric string `json:"metric"`
	Unit   string `json:"unit"` // bytes, calls or ns
	Why    string `json:"why"`  // there is nothing; "" if there is
	Root   *Node  `json:"root"` // null where there is nothing
}

// Node is a function in its callers. What grew and what shrank stand apart: a node's width
// is Grew+Shrank.
type Node struct {
	Name     string  `json:"name"`
	Module   string  `json:"module,omitempty"`
	File     string  `json:"file,omitempty"`
	Line     int     `json:"line,omitempty"`
	Grew     int64   `json:"grew"`   // of it and all below, 0 or more
	Shrank   int64   `json:"shrank"` // of it and all below, 0 or more
	Children []*Node `json:"children,omitempty"`
}

// Charts answers /api/charts/NAME (long): the drawings of a report, where the log has what
// it takes: memory-curve, what-if, working-set, hot, phases, timeline.
type Charts struct {
	Name   string  `json:"name"`
	Why    string  `json:"why"` // there is none; "" if there is
	Charts []Chart `json:"charts"`
}

// Chart is one drawing.
type Chart struct {
	Title string      `json:"title"`
	X     string      `json:"x"` // time (s), program time (s), size (bytes, logarithmic), or a title
	Y     string      `json:"y"` // bytes, or a title of plain numbers
	Lines []Line      `json:"lines"`
	Stack []Line      `json:"stack"` // on each other, the first at the bottom
	Bands []Band      `json:"bands"`
	Heat  *Heat       `json:"heat"`
	Marks []ChartMark `json:"marks"`
}

// Line is points in order.
type Line struct {
	Name   string    `json:"name"`
	X      []float64 `json:"x"`
	Y      []float64 `json:"y"`
	Dashed bool      `json:"dashed"`
}

// Band is what lies between two lines.
type Band struct {
	Name string    `json:"name"`
	X    []float64 `json:"x"`
	Low  []float64 `json:"low"`
	High []float64 `json:"high"`
}

// Heat is what happened where and when.
type Heat struct {
	Cells  [][]float64 `json:"cells"`  // columns (X) of rows (places, the first at the bottom); 0 is nothing
	Width  float64     `json:"width"`  // of a column, in units of X
	Labels []HeatLabel `json:"labels"` // names of rows
	Cuts   []float64   `json:"cuts"`   // lines to draw, in units of X
}

// HeatLabel names rows from one on.
type HeatLabel struct {
	Row  int    `json:"row"`
	Name string `json:"name"`
}

// ChartMark is an event in a drawing.
type ChartMark struct {
	X     float64 `json:"x"`
	Name  string  `json:"name"`
	Grave bool    `json:"grave"`
}

// Resolved answers /api/resolve?q: what a text typed into the search field can mean, the
// likeliest first.
type Resolved struct {
	Rows []Meaning `json:"rows"`
}

// Meaning is one of these.
type Meaning struct {
	// What is step, time (both: Step), addr (Addr, Len), find (Bytes, for /api/find), or
	// filter (Filter, for /api/events and /api/count).
	What   string  `json:"what"`
	Label  string  `json:"label"` // "go to step 3656 (2.94 s)"
	Step   *uint64 `json:"step,omitempty"`
	Addr   string  `json:"addr,omitempty"`
	Len    uint64  `json:"len,omitempty"`
	Bytes  string  `json:"bytes,omitempty"`
	Filter string  `json:"filter,omitempty"`
}

// Error is the answer where there is none: with a status of 400 and above, or as a line
// of a long answer.
type Error struct {
	Error string `json:"error"`
}

// A long answer is lines (NDJSON), each one of these objects. The last is done or error.

// Progress is a line that says how far a long answer is, 0 to 1.
type Progress struct {
	Progress float64 `json:"progress"`
}

// Item is a line with one of several things: an Era, a Found.
type Item struct {
	Item any `json:"item"`
}

// Done is the last line of an answer that is complete: the answer itself (Findings, Count,
// Diff, Stacks, Charts, a table), or null (or More) after items.
type Done struct {
	Done any `json:"done"`
}

// More is the last answer after items if there are others.
type More struct {
	More bool `json:"more"`
}

// Entered answers /api/enter, which takes the code of the page's address instead of the
// token, once.
type Entered struct {
	Token string `json:"token"`
}

// Report is all data of a page that needs no server.
type Report struct {
	Info     Info              `json:"info"`
	Findings Findings          `json:"findings"`
	Series   map[string]Series `json:"series"` // by "kind", "mapped", "rss", "system", of all processes
	Lanes    Lanes             `json:"lanes"`
	// Tables are as /api/report/NAME answers; one that the log has nothing for is missing.
	Tables  map[string]json.RawMessage `json:"tables"`
	Moments []Moment                   `json:"moments"` // in the order of steps
	Spaces  []Maps                     `json:"spaces"`  // of the first process, at steps between the moments, in their order
	Stacks  map[string]Stacks          `json:"stacks"`  // by metric
	Charts  map[string]Charts          `json:"charts"`  // by name
	// Limits are what was left out to keep it small, in sentences.
	Limits []string `json:"limits"`
}

// Moment is a step that the report shows in full.
type Moment struct {
	Step    uint64   `json:"step"`
	Why     []string `json:"why"` // IDs of findings, "peak", "end"
	PID     uint32   `json:"pid"`
	Maps    *Maps    `json:"maps"`    // null: not known
	Threads *Threads `json:"threads"` // null: not known
	Events  *Events  `json:"events"`
	// Mem and History are there if memory was asked for.
	Mem     []Mem    `json:"mem"`
	History *History `json:"history"`
}

// History is what was at an address, from when to when (of a finding's action).
type History struct {
	Addr string `json:"addr"`
	Len  uint64 `json:"len"`
	Eras []Era  `json:"eras"`
}
