package web

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"memtrace/analyze"
	"memtrace/format"
	"memtrace/replay"
)

// severities are how bad findings are; those that are not here are "warn".
var severities = map[string]string{"crash": "bad", "deadlock": "bad", "stuck": "bad", "killed": "bad", "leak": "bad", "status": "bad", "child": "bad", "cut": "bad", "none": "ok"}

// Findings are what went wrong, worst first. each is told of each as soon as it is found, in
// the order in which that happens; it may be nil.
func (l *Log) Findings(ctx context.Context, q Query, progress func(float64), each func(*Finding)) (*Findings, error) {
	tell := func(v any) {
		if each != nil {
			each(v.(*Finding))
		}
	}
	v, err := l.piecemeal(ctx, key("findings", q), progress, tell, func(ctx context.Context, progress func(float64), part func(any)) (any, error) {
		o := l.options(q)
		o.Progress = passes(l.t, progress)
		number := func() func(*analyze.Finding) Finding {
			count := map[string]int{}
			return func(x *analyze.Finding) Finding {
				count[x.Kind]++
				return finding(x, fmt.Sprintf("%s-%d", x.Kind, count[x.Kind]))
			}
		}
		early, last := number(), number()
		f, err := analyze.EachFinding(ctx, l.t, o, func(x *analyze.Finding) { part(ptr(early(x))) })
		if err != nil {
			return nil, err
		}
		r := &Findings{Rows: []Finding{}}
		for i := range f.Rows {
			r.Rows = append(r.Rows, last(&f.Rows[i]))
		}
		return r, nil
	})
	if err != nil {
		return nil, err
	}
	return v.(*Findings), nil
}

func key(name string, q Query) string { return fmt.Sprintf("%s %d %d %d", name, q.From, q.To, q.PID) }

// passes turns the steps that a report tells of into the part that is done. How often a
// report reads the log is not known: each pass takes half of what is left.
func passes(t *replay.Trace, progress func(float64)) func(format.Step) {
	if progress == nil {
		return nil
	}
	done, left, last := 0.0, 1.0, format.Step(0)
	return func(step format.Step) {
		if step < last {
			done, left = done+left/2, left/2
		}
		last = step
		progress(done + left/2*float64(step-min(step, t.First()))/float64(max(t.Count(), 1)))
	}
}

// finding is one for a page.
func finding(f *analyze.Finding, id string) Finding {
	text := shown(f.Text)
	title, rest, ok := strings.Cut(text, ": ")
	if !ok {
		title, rest = text, ""
	}
	x := Finding{
		ID: id, Kind: f.Kind, Severity: "warn", Title: title, Text: text, Parts: parts(rest), PID: f.PID, Said: said(f.Said), Actions: []Action{},
	}
	if s := severities[f.Kind]; s != "" {
		x.Severity = s
	}
	if f.Step != nil {
		x.Step = ptr(uint64(*f.Step))
		x.Actions = append(x.Actions, Action{Do: "goto", Label: fmt.Sprintf("step %d", *f.Step), Step: x.Step, PID: f.PID})
	}
	for _, c := range []string{f.Then, f.Also} {
		if c != "" {
			x.Actions = append(x.Actions, action(c, &x)...)
		}
	}
	if f.Kind == "crash" {
		if m := faultAddr.FindStringSubmatch(rest); m != nil {
			x.Addr = &m[1]
		}
		if command, ok := strings.CutPrefix(strings.Replace(f.Also+" ", "memtrace replay ", "memtrace gdb ", 1), "memtrace gdb "); ok && f.Step != nil {
			file, _, _ := strings.Cut(command, "--")
			x.Actions = append(x.Actions, Action{Do: "command", Label: "open in gdb", Command: strings.TrimSpace(fmt.Sprintf("memtrace gdb %s--at %d", file, *f.Step))})
		}
	}
	return x
}

// said is what a program wrote, line by line.
func said(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = shown(lines[i])
	}
	return strings.Join(lines, "\n")
}

var (
	faultAddr   = regexp.MustCompile(`(?:reading|writing|accessing) (0x[0-9a-f]+)`)
	links       = regexp.MustCompile(`\bsteps? (\d+)\b|\b0x[0-9a-f]{4,16}\b`)
	findFlag    = regexp.MustCompile(`--find (0x[0-9a-f]+)`)
	historyFlag = regexp.MustCompile(`--history (0x[0-9a-f]+):(\d+)`)
	reportWord  = regexp.MustCompile(`^memtrace report (?:.* )?([a-z-]+)$`)
)

// parts are the pieces of a text, those that name a step or an address apart.
func parts(s string) []Part {
	out := []Part{}
	at := 0
	for _, m := range links.FindAllStringSubmatchIndex(s, -1) {
		if m[0] > at {
			out = append(out, Part{Text: s[at:m[0]]})
		}
		p := Part{Text: s[m[0]:m[1]]}
		if m[2] >= 0 {
			if n, err := strconv.ParseUint(s[m[2]:m[3]], 10, 64); err == nil {
				p.Step = &n
			}
		} else {
			p.Addr = ptr(p.Text)
		}
		out = append(out, p)
		at = m[1]
	}
	if at < len(s) {
		out = append(out, Part{Text: s[at:]})
	}
	return out
}

// action is what a command that a finding proposes is on the page, and the command itself.
func action(command string, f *Finding) (list []Action) {
	command = shown(command)
	if m := historyFlag.FindStringSubmatch(command); m != nil {
		if n, err := strconv.ParseUint(m[2], 10, 32); err == nil {
			list = append(list, Action{Do: "history", Label: "who wrote this pointer", Addr: m[1], Len: n, Step: f.Step, PID: f.PID})
		}
	}
	if m := findFlag.FindStringSubmatch(command); m != nil {
		list = append(list, Action{Do: "find", Label: "where else this value is", Bytes: m[1], PID: f.PID})
	}
	if m := reportWord.FindStringSubmatch(command); m != nil {
		list = append(list, Action{Do: "report", Label: "all " + m[1], Name: m[1]})
	}
	return append(list, Action{Do: "command", Label: command, Command: command})
}

// Table is a report as memtrace report NAME --format json writes it.
// A top of 0 is the report's own choice of rows.
func (l *Log) Table(ctx context.Context, name string, q Query, top int, progress func(float64)) (json.RawMessage, error) {
	r, err := report(name)
	if err != nil {
		return nil, err
	}
	v, err := l.once(ctx, key(fmt.Sprintf("table %s %d", r.Name, top), q), progress, func(ctx context.Context, progress func(float64)) (any, error) {
		o := l.options(q)
		o.Progress, o.Top = passes(l.t, progress), top
		s, err := r.Make(ctx, l.t, o)
		if err != nil {
			return nil, err
		}
		return sheetJSON(s)
	})
	if err != nil {
		return nil, err
	}
	return v.(json.RawMessage), nil
}

// report finds a report by its whole name.
func report(name string) (*analyze.Report, error) {
	r, err := analyze.Find(name)
	if err == nil && r.Name != name {
		err = fmt.Errorf("no report %q", name)
	}
	return r, err
}

// mostTable is how large a table is at most.
const mostTable = 32 << 20

var errLarge = errors.New("the table is too large for a page: memtrace report writes it")

func sheetJSON(s *analyze.Sheet) (json.RawMessage, error) {
	var b bytes.Buffer
	shownSheet(s)
	if err := s.Write(&b, analyze.JSON); err != nil {
		return nil, err
	}
	if b.Len() > mostTable {
		return nil, errLarge
	}
	return bytes.TrimSpace(b.Bytes()), nil
}

// shownSheet makes the texts of a table fit for a page.
func shownSheet(s *analyze.Sheet) {
	list := func(row []any) {
		for i, v := range row {
			if text, ok := v.(string); ok {
				row[i] = said(text)
			}
		}
	}
	for _, row := range s.Rows {
		list(row)
	}
	list(s.Total)
	for i := range s.Notes {
		s.Notes[i] = said(s.Notes[i])
	}
	for _, p := range s.Parts {
		shownSheet(p)
	}
}

// Compare is a table of what differs between two logs, as memtrace diff A B --format json
// writes it.
func Compare(ctx context.Context, a, b *Log, table string, progress func(float64)) (json.RawMessage, error) {
	v, err := a.once(ctx, "compare "+table, progress, func(ctx context.Context, _ func(float64)) (any, error) {
		c, err := analyze.Compare(ctx, []*replay.Trace{a.t}, []*replay.Trace{b.t}, analyze.CompareOptions{Align: analyze.Aligns[0], Tables: []string{table}})
		if err != nil {
			return nil, err
		}
		return sheetJSON(c.Sheet(table, true))
	})
	if err != nil {
		return nil, err
	}
	return v.(json.RawMessage), nil
}
