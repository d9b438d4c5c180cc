package parquet

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/replay"
)

// told is what replay --json says of a log, in the words of the tables. It is made from the
// text: nothing of the exporter takes part.
type told struct {
	name   string
	tr     *replay.Trace
	events []map[string]any
	refs   []map[string]any
}

func tell(t *testing.T, name string, tr *replay.Trace) *told {
	t.Helper()
	w := &told{name: name, tr: tr}
	last, ok := tr.Last()
	if !ok {
		return w
	}
	var b bytes.Buffer
	if err := tr.List(context.Background(), &b, replay.ListOptions{PrintOptions: replay.PrintOptions{Stacks: replay.StackLines}, JSON: true, To: last, AllCalls: true}); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	w.events = objects(t, &b)
	if tr.HasRefs() {
		if err := tr.ListRefs(context.Background(), &b, replay.RefListOptions{To: last, JSON: true}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		w.refs = slices.DeleteFunc(objects(t, &b), func(o map[string]any) bool { return o["type"] != "ref" })
	}
	return w
}

func objects(t *testing.T, b *bytes.Buffer) (list []map[string]any) {
	t.Helper()
	d := json.NewDecoder(b)
	d.UseNumber()
	for d.More() {
		var o map[string]any
		if err := d.Decode(&o); err != nil {
			t.Fatal(err)
		}
		list = append(list, o)
	}
	return list
}

// pick renames keys of an object: "t_ns=time" is t_ns of a row.
func pick(o map[string]any, columns ...string) string {
	var out []string
	for _, c := range columns {
		name, key, renamed := strings.Cut(c, "=")
		if !renamed {
			key = name
		}
		v, ok := o[key]
		if !ok {
			continue
		}
		s := fmt.Sprint(v)
		if number, isHex := strings.CutPrefix(s, "0x"); isHex {
			n, _ := strconv.ParseUint(number, 16, 64)
			s = strconv.FormatInt(int64(n), 10)
		}
		out = append(out, name+"="+s)
	}
	return strings.Join(out, " ")
}

// only are some columns of rows, sorted by the first, a number.
func only(rows []row, columns ...string) (out []string) {
	rows = slices.Clone(rows)
	sort.SliceStable(rows, func(i, j int) bool {
		a, _ := strconv.ParseInt(rows[i][columns[0]], 10, 64)
		b, _ := strconv.ParseInt(rows[j][columns[0]], 10, 64)
		return a < b
	})
	for _, r := range rows {
		var s []string
		for _, c := range columns {
			if v, ok := r[c]; ok {
				s = append(s, c+"="+v)
			}
		}
		out = append(out, strings.Join(s, " "))
	}
	return out
}

// compare compares rows of all tables with what was told.
func (w *told) compare(t *testing.T, by string, got map[string][]row) {
	t.Helper()
	same := func(what string, want, got []string) {
		t.Helper()
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s, as %s reads it: %s (-replay +table):\n%s", w.name, by, what, d)
		}
	}
	w.compareEvents(t, same, got)
	w.compareStacks(t, same, got)
	w.compareMappings(t, same, got)
	w.compareSnapshots(t, same, got)
	var want []string
	for _, o := range w.refs {
		if o["ip"] == "0x0" {
			delete(o, "ip")
		}
		if fmt.Sprint(o["tid"]) == "0" {
			delete(o, "tid")
		}
		want = append(want, pick(o, "no", "step", "own_ns=time", "tid", "phase", "kind", "page", "ip"))
	}
	same("refs", want, only(got["refs"], "no", "step", "own_ns", "tid", "phase", "kind", "page", "ip"))
	h := w.tr.Header()
	argv := make([]string, len(h.Argv))
	for i, a := range h.Argv {
		argv[i] = string([]rune(a))
	}
	r := got["runs"][0]
	end := json.Number("0")
	if len(w.events) > 0 {
		end = w.events[len(w.events)-1]["time"].(json.Number)
	}
	if r["steps"] != strconv.Itoa(len(w.events)) || r["duration_ns"] != end.String() || len(h.Argv) > 0 && r["argv"] != said(argv) || r["host"] != h.Host {
		t.Errorf("%s, as %s reads it: run %v, header %+v, %d events until %s", w.name, by, r, h, len(w.events), end)
	}
	if by == "parquet-go" && RunOf(w.tr) != hex.EncodeToString(h.Salt[:]) {
		t.Errorf("%s is run %s", w.name, RunOf(w.tr))
	}
}

// compareEvents compares what has a row an event.
func (w *told) compareEvents(t *testing.T, same func(string, []string, []string), got map[string][]row) {
	t.Helper()
	var events, calls, ends, rss []string
	for _, o := range w.events {
		events = append(events, pick(o, "step", "t_ns=time", "pid", "tid", "type"))
		switch o["type"] {
		case "syscall":
			for i, a := range o["args"].([]any) {
				o[fmt.Sprintf("a%d", i)] = a
			}
			if o["ret"] != nil {
				begin, _ := o["start"].(json.Number).Int64()
				end, _ := o["time"].(json.Number).Int64()
				o["dur"] = max(end-begin, 0)
			}
			calls = append(calls, pick(o, "step", "t_ns=time", "dur_ns=dur", "tid", "arch", "name", "ret", "errno", "a0", "a1", "a2", "a3", "a4", "a5"))
		case "exit":
			if o["process"] == true {
				ends = append(ends, pick(o, "last_step=step", "pid", "exit_code=status", "exit_signal=signal"))
			}
		case "meminfo":
			for _, s := range o["samples"].([]any) {
				s := s.(map[string]any)
				if s["source"] != "status" {
					continue
				}
				for l := range strings.Lines(s["text"].(string)) {
					if kb, ok := strings.CutPrefix(l, "VmRSS:"); ok {
						n, _ := strconv.ParseFloat(strings.Fields(kb)[0], 64)
						rss = append(rss, "step="+fmt.Sprint(o["step"])+" value="+said(n*1024))
					}
				}
			}
		}
	}
	same("events", events, only(got["events"], "step", "t_ns", "pid", "tid", "type"))
	same("calls", calls, only(got["calls"], "step", "t_ns", "dur_ns", "tid", "arch", "name", "ret", "errno", "a0", "a1", "a2", "a3", "a4", "a5"))
	ended := slices.DeleteFunc(slices.Clone(got["processes"]), func(r row) bool { return r["exit_code"] == "" && r["exit_signal"] == "" })
	same("ends of processes", ends, only(ended, "last_step", "pid", "exit_code", "exit_signal"))
	sampled := slices.DeleteFunc(slices.Clone(got["samples"]), func(r row) bool { return r["name"] != "rss" })
	slices.Sort(rss)
	have := only(sampled, "step", "value")
	slices.Sort(have)
	same("samples of the RSS", rss, have)
}

// compareStacks compares the functions of the stack of each call.
func (w *told) compareStacks(t *testing.T, same func(string, []string, []string), got map[string][]row) {
	t.Helper()
	frames := map[string]row{}
	for _, r := range got["frames"] {
		frames[r["frame"]] = r
	}
	stacks := map[string][]row{}
	for _, r := range got["stacks"] {
		stacks[r["stack"]] = append(stacks[r["stack"]], r)
	}
	sites := map[string]int{}
	text := map[string]string{}
	for id, list := range stacks {
		sort.Slice(list, func(i, j int) bool {
			return len(list[i]["depth"]) < len(list[j]["depth"]) || len(list[i]["depth"]) == len(list[j]["depth"]) && list[i]["depth"] < list[j]["depth"]
		})
		for _, r := range list {
			f := frames[r["frame"]]
			text[id] += fmt.Sprintf("%s+%s %s:%s %s %s\n", f["module"], f["offset_bytes"], f["file"], f["line"], f["function"], r["how"])
			if r["site"] == "true" {
				sites[id]++
			}
		}
		text[id] += list[0]["ends"]
	}
	for id := range stacks {
		if sites[id] != 1 {
			t.Errorf("%s: stack %s has %d call sites", w.name, id, sites[id])
		}
	}
	var want, have []string
	of := map[string]string{}
	for _, r := range got["calls"] {
		of[r["step"]] = text[r["stack"]]
	}
	for _, o := range w.events {
		list, ok := o["stack"].([]any)
		if !ok || o["type"] != "syscall" {
			continue
		}
		s := ""
		for _, f := range list {
			f := f.(map[string]any)
			offset, _ := strconv.ParseUint(strings.TrimPrefix(fmt.Sprint(f["offset"]), "0x"), 16, 64)
			field := func(k string) string {
				if f[k] == nil {
					return ""
				}
				return fmt.Sprint(f[k])
			}
			s += fmt.Sprintf("%s+%d %s:%s %s %s\n", field("module"), int64(offset), field("file"), field("line"), field("function"), field("how"))
		}
		want = append(want, s+fmt.Sprint(o["stack_end"]))
		have = append(have, of[fmt.Sprint(o["step"])])
	}
	same("stacks", want, have)
}

// compareMappings compares what is mapped at some steps with the address spaces there.
func (w *told) compareMappings(t *testing.T, same func(string, []string, []string), got map[string][]row) {
	t.Helper()
	number := func(r row, column string) uint64 {
		n, _ := strconv.ParseInt(r[column], 10, 64)
		return uint64(n)
	}
	first, n := uint64(w.tr.First()), uint64(len(w.events))
	for _, i := range []uint64{0, n / 4, n / 2, n * 3 / 4, n - 1} {
		if i >= n {
			continue
		}
		step := first + i
		view, err := w.tr.At(format.Step(step))
		if err != nil {
			t.Fatal(err)
		}
		var mapped, rows addr.Set
		bytes := uint64(0)
		for _, mm := range view.State.MMs {
			for v := range mm.VMAs.All() {
				mapped.Add(v.Range)
				bytes += v.Len()
			}
		}
		want := []string{fmt.Sprint(bytes), ranges(&mapped)}
		bytes = 0
		for _, r := range got["mappings"] {
			ends := r["unmapped_step"] + r["left_step"] // at most one of them is there
			n, err := strconv.ParseUint(ends, 10, 64)
			if number(r, "mapped_step") > step || err == nil && n <= step {
				continue
			}
			at, _ := addr.Span(addr.Addr(number(r, "addr")), number(r, "bytes"))
			rows.Add(at)
			bytes += at.Len()
		}
		same(fmt.Sprintf("mappings at step %d", step), want, []string{fmt.Sprint(bytes), ranges(&rows)})
	}
}

func ranges(s *addr.Set) string {
	var b strings.Builder
	for r := range s.All() {
		fmt.Fprintf(&b, "%v ", r)
	}
	return b.String()
}

// compareSnapshots compares what snapshots say, and the memory that was in use at them.
func (w *told) compareSnapshots(t *testing.T, same func(string, []string, []string), got map[string][]row) {
	t.Helper()
	inUse := map[string]uint64{}
	for _, r := range got["snapshots"] {
		n, _ := strconv.ParseUint(r["in_use"], 10, 64)
		inUse[pickRow(r, "step", "t_ns", "reason", "pause_ns")] += n
	}
	want := map[string]uint64{}
	for _, o := range w.events {
		if o["type"] != "snapshot" {
			continue
		}
		step, _ := o["step"].(json.Number).Int64()
		mm, _ := o["space"].(json.Number).Int64()
		view, err := w.tr.At(format.Step(step))
		if err != nil {
			t.Fatal(err)
		}
		space := view.State.MMs[uint32(mm)]
		if space == nil {
			continue
		}
		n := uint64(0)
		for v := range space.VMAs.All() {
			for a := v.Start; a < v.End; a += addr.PageSize {
				if v.Len() > 1<<30 {
					break // a reservation: nothing is in use there
				}
				if info, ok := space.Page(a); ok && info.What == format.PageData {
					n += addr.PageSize
				}
			}
		}
		if space.VMAs.Len() > 0 {
			want[pick(o, "step", "t_ns=time", "reason", "pause_ns=pause")] = n
		}
	}
	if !maps.Equal(want, inUse) {
		t.Errorf("%s: in use at snapshots (-replay +table):\n%s", w.name, cmp.Diff(want, inUse))
	}
}

func pickRow(r row, columns ...string) string { return only([]row{r}, columns...)[0] }
