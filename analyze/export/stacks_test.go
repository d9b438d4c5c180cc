package export

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/pprof/profile"
	"google.golang.org/protobuf/encoding/protowire"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/record/recordtest"
	"memtrace/replay"
	rt "memtrace/replay/replaytest"
)

// stackLog is a log of calls with stacks, whose functions are named by a perf map.
func stackLog(t *testing.T) *replay.Trace {
	b := rt.NewStacks(t)
	code := b.Module(format.Module{Class: format.ModuleAnon, MM: 1})
	lib := b.Module(format.Module{Class: format.ModuleELF, Path: "/nowhere/lib.so", BuildID: "\x12\x34\xab", TextAddr: 0x2000, TextOff: 0x1000})
	at := map[string]uint64{}
	var text strings.Builder
	through := func(end format.StackEnd, names ...string) {
		var frames []format.RawFrame
		for _, n := range names {
			if n == "lib" {
				frames = append(frames, format.RawFrame{Module: lib, Offset: 0x1234, How: format.FrameFP})
				continue
			}
			if at[n] == 0 {
				at[n] = 0x7f0000000000 + uint64(len(at))<<8
				fmt.Fprintf(&text, "%x 100 %s\n", at[n], n)
			}
			frames = append(frames, format.RawFrame{Module: code, Offset: at[n] + 0x10})
		}
		b.Through(end, frames...)
	}
	const page, rw = addr.PageSize, addr.Read | addr.Write
	b.Event(1, &format.Exec{Path: "/bin/prog", Argv: []string{"prog", "\xff"}}, &format.MMNew{MM: 1}, rt.Thread(1, 100, 100, 1, 1, 0), rt.Map(1, rt.Stack, 4, rw, "[stack]"))
	through(format.StackComplete, "mmap", "malloc", "parse;row", "main")
	b.Call(1, "mmap", int64(rt.Anon), []uint64{0, 16 * page, 3, 0x22, ^uint64(0), 0}, rt.Map(1, rt.Anon, 16, rw, ""))
	b.Call(1, "mmap", int64(rt.Moved), []uint64{0, 4 * page, 3, 0x22, ^uint64(0), 0}, rt.Map(1, rt.Moved, 4, rw, ""))
	through(format.StackComplete, "munmap", "main")
	b.Call(1, "munmap", 0, []uint64{uint64(rt.Moved), 4 * page}, rt.Unmap(1, rt.Moved, 4))
	through(format.StackNoRule, "read", "lib")
	b.Call(1, "read", 3, []uint64{0, uint64(rt.Anon), 10})
	b.Stack = 0
	b.Event(0, &format.MemInfo{Samples: []format.Sample{
		{Source: "meminfo", Data: []byte("MemAvailable: 4000 kB\nCommitted_AS: 100 kB\n")}, {Source: "status", PID: 100, Data: []byte("VmRSS:\t 40 kB\n")},
	}})
	b.Event(1, &format.Clone{Child: 2, Flags: 17}, &format.MMNew{MM: 2, From: 1}, rt.Thread(2, 101, 101, 2, 2, 1))
	b.Event(2, &format.Exit{Process: true}, &format.ThreadEnd{No: 2}, &format.MMDrop{MM: 2})
	b.Event(1, &format.Exit{Process: true}, &format.ThreadEnd{No: 1}, &format.MMDrop{MM: 1})
	if err := b.W.Text(&format.Text{Name: "perf.map", MM: 1, Data: []byte(text.String())}); err != nil {
		t.Fatal(err)
	}
	tr := replay.New(rt.Open(t, b.Bytes()))
	t.Cleanup(func() { _ = tr.Close() })
	return tr
}

func stackExport(t *testing.T, tr *replay.Trace, to string, o Options) []byte {
	t.Helper()
	f, err := Find(to)
	if err != nil {
		t.Fatal(err)
	}
	o.To, _ = tr.Last()
	o.AllCalls, o.Set = true, arch.AllCalls()
	var b bytes.Buffer
	if _, err := f.Write(context.Background(), tr, &b, o); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestFolded(t *testing.T) {
	tr := stackLog(t)
	for value, want := range map[string]string{
		"":          "(exec) 16384\nmain;parse:row;malloc;mmap 65536\n",
		"committed": "(exec) 16384\nmain;parse:row;malloc;mmap 81920\n",
		"calls":     "[cut: nothing says where the caller is];?/nowhere/lib.so+0x1234;read 1\nmain;munmap 1\nmain;parse:row;malloc;mmap 2\n",
	} {
		if got := string(stackExport(t, tr, "folded", Options{Value: value})); got != want {
			t.Errorf("%s:\n%s\nwant\n%s", value, got, want)
		}
	}
	if _, err := folded(context.Background(), tr, new(bytes.Buffer), Options{Value: "colour"}); err == nil {
		t.Error("weighed by colour")
	}
}

// TestPprof reads a profile with the format's own library, and with its tool.
func TestPprof(t *testing.T) {
	tr := stackLog(t)
	b := stackExport(t, tr, "pprof", Options{})
	p, err := profile.ParseData(b)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.CheckValid(); err != nil {
		t.Error(err)
	}
	var types []string
	for _, s := range p.SampleType {
		types = append(types, s.Type+"/"+s.Unit)
	}
	if got := strings.Join(types, " "); got != "calls/count mapped/bytes committed/bytes live/bytes" || p.DefaultSampleType != "live" {
		t.Errorf("%s, default %s", got, p.DefaultSampleType)
	}
	var got []string
	for _, s := range p.Sample {
		var names []string
		for _, l := range s.Location {
			for _, x := range l.Line {
				names = append(names, x.Function.Name)
			}
		}
		got = append(got, fmt.Sprint(strings.Join(names, " < "), " ", s.Value, s.Label["call"], s.NumLabel["pid"]))
	}
	want := []string{
		"(exec) [0 16384 16384 16384] [] [100]",
		"mmap < malloc < parse;row < main [2 81920 81920 65536] [mmap] [100]",
		"munmap < main [1 0 0 0] [munmap] [100]",
		"read < ?/nowhere/lib.so+0x1234 < [cut: nothing says where the caller is] [1 0 0 0] [read] [100]",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	found := false
	for _, m := range p.Mapping {
		found = found || m.File == "/nowhere/lib.so" && m.BuildID == "1234ab" && m.Offset == 0x1000 && m.Limit > m.Start
	}
	if !found {
		t.Errorf("mappings: %v", p.Mapping)
	}
	goTool, err := exec.LookPath("go")
	recordtest.Require(t, "go", err)
	name := filepath.Join(t.TempDir(), "mem.pb.gz")
	if err := os.WriteFile(name, b, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(goTool, "tool", "pprof", "-top", "-cum", "-unit=B", name).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if s := string(out); !strings.Contains(s, "65536B") || !strings.Contains(s, "parse;row") {
		t.Errorf("pprof -top says\n%s", s)
	}
	pages := pprofPages(t, goTool, name, "flamegraph", "top", "peek")
	for page, text := range pages {
		if !strings.Contains(text, "parse;row") || !strings.Contains(text, "munmap") && page != "top" {
			t.Errorf("the page /ui/%s of pprof -http does not have the functions:\n%s", page, text)
		}
	}
}

// pprofPages are pages that pprof -http serves of a profile, by calls.
func pprofPages(t *testing.T, goTool, name string, paths ...string) map[string]string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().String()
	_ = l.Close()
	ctx, stop := context.WithTimeout(t.Context(), time.Minute)
	defer stop()
	tool, err := exec.Command(goTool, "tool", "-n", "pprof").Output() // where it is
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(ctx, strings.TrimSpace(string(tool)), "-http="+at, "-no_browser", "-sample_index=calls", name)
	var said bytes.Buffer
	c.Stdout, c.Stderr = &said, &said
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		stop() // it serves for ever
		_ = c.Wait()
	}()
	pages := map[string]string{}
	for _, path := range paths {
		for pages[path] == "" {
			resp, err := http.Get("http://" + at + "/ui/" + path)
			if err != nil {
				if ctx.Err() != nil {
					t.Fatalf("pprof -http: %v\n%s", err, said.String())
				}
				time.Sleep(50 * time.Millisecond) // until it listens
				continue
			}
			b, err := io.ReadAll(resp.Body)
			_ = resp.Body.Close()
			if err != nil || resp.StatusCode != http.StatusOK {
				t.Fatalf("/ui/%s: %v, %v", path, resp.Status, err)
			}
			pages[path] = string(b)
		}
	}
	return pages
}

var (
	tableRow = regexp.MustCompile(`<tr.*?</tr>`)
	markup   = regexp.MustCompile(`<[^>]*>`)
)

// TestSpeedscope opens exports in speedscope, in a browser, and reads its table of functions.
func TestSpeedscope(t *testing.T) {
	page := filepath.Join(os.Getenv("MEMTRACE_SPEEDSCOPE"), "speedscope/dist/release/index.html")
	_, err := os.Stat(page)
	if os.Getenv("MEMTRACE_SPEEDSCOPE") == "" || err != nil {
		recordtest.Require(t, "speedscope", errors.New("$MEMTRACE_SPEEDSCOPE is no folder of node's modules with speedscope"))
	}
	browser, err := exec.LookPath("chromium")
	recordtest.Require(t, "chromium", err)
	tr := stackLog(t)
	for to, want := range map[string]map[string]string{ // total and self
		"folded": {"malloc": "2 50% 0 <0.01%", "mmap": "2 50% 2 50%", "parse:row": "2 50% 0 <0.01%", "munmap": "1 25% 1 25%", "main": "3 75% 0 <0.01%", "read": "1 25% 1 25%"},
		"pprof":  {"malloc": "64.00 KB 80% 0 B <0.01%", "mmap": "64.00 KB 80% 64.00 KB 80%", "parse;row": "64.00 KB 80% 0 B <0.01%", "(exec)": "16.00 KB 20% 16.00 KB 20%"},
	} {
		dir := t.TempDir()
		js := filepath.Join(dir, "profile.js") // as speedscope's own command hands over a file
		text := fmt.Sprintf("speedscope.loadFileFromBase64(%q, %q)", "mem."+to, base64.StdEncoding.EncodeToString(stackExport(t, tr, to, Options{Value: map[string]string{"folded": "calls"}[to]})))
		if err := os.WriteFile(js, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithTimeout(t.Context(), 2*time.Minute)
		out, err := exec.CommandContext(ctx, browser, "--headless", "--no-sandbox", "--disable-gpu", "--enable-unsafe-swiftshader", "--allow-file-access-from-files",
			"--user-data-dir="+dir, "--virtual-time-budget=20000", "--dump-dom", "file://"+page+"#view=sandwich&localProfilePath="+js).Output()
		stop()
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for _, row := range tableRow.FindAllString(string(out), -1) {
			cells := strings.Fields(html.UnescapeString(strings.NewReplacer("(", "", ")", "").Replace(markup.ReplaceAllString(row, " "))))
			if n := len(cells); n > 1 {
				got[cells[n-1]] = strings.Join(cells[:n-1], " ")
			}
		}
		for name, values := range want {
			name := strings.NewReplacer("(", "", ")", "").Replace(name)
			if got[name] != values {
				t.Errorf("%s: speedscope has %q of %s, want %q; all: %q", to, got[name], name, values, got)
			}
		}
	}
}

// proto is a decoded message: the values of each field.
type proto map[protowire.Number][]any

func decode(t *testing.T, b []byte) proto {
	t.Helper()
	m := proto{}
	for len(b) > 0 {
		no, typ, n := protowire.ConsumeTag(b)
		if n < 0 {
			t.Fatal(protowire.ParseError(n))
		}
		b = b[n:]
		switch typ {
		case protowire.VarintType:
			v, n := protowire.ConsumeVarint(b)
			if n < 0 {
				t.Fatal(protowire.ParseError(n))
			}
			m[no], b = append(m[no], v), b[n:]
		case protowire.BytesType:
			v, n := protowire.ConsumeBytes(b)
			if n < 0 {
				t.Fatal(protowire.ParseError(n))
			}
			m[no], b = append(m[no], v), b[n:]
		default:
			t.Fatalf("field %d of type %d", no, typ)
		}
	}
	return m
}

func (m proto) num(no protowire.Number) uint64 {
	if len(m[no]) == 0 {
		return 0
	}
	return m[no][0].(uint64)
}

func (m proto) text(no protowire.Number) string {
	if len(m[no]) == 0 {
		return ""
	}
	return string(m[no][0].([]byte))
}

func (m proto) each(t *testing.T, no protowire.Number) []proto {
	var list []proto
	for _, v := range m[no] {
		list = append(list, decode(t, v.([]byte)))
	}
	return list
}

// TestPerfetto decodes a trace by the numbers of Perfetto's published .proto files.
func TestPerfetto(t *testing.T) {
	tr := stackLog(t)
	packets := decode(t, stackExport(t, tr, "perfetto", Options{})).each(t, 1)
	functions, frames, stacks := map[uint64]string{}, map[uint64]uint64{}, map[uint64][]string{}
	tracks := map[uint64]string{}
	var got []string
	open := map[uint64]string{}
	for i, p := range packets {
		if flags := p.num(13); p.num(10) != 1 || i == 0 && flags != 1 || i > 0 && flags != 2 {
			t.Errorf("packet %d: sequence %d, flags %d", i, p.num(10), flags)
		}
		for _, in := range p.each(t, 12) {
			for _, s := range in.each(t, 5) {
				functions[s.num(1)] = s.text(2)
			}
			for _, f := range in.each(t, 6) {
				frames[f.num(1)] = f.num(2)
			}
			for _, s := range in.each(t, 7) {
				var names []string
				for _, f := range s[2] {
					name := functions[frames[f.(uint64)]]
					if name == "" {
						t.Errorf("frame %d was not interned before its use", f)
					}
					names = append(names, name)
				}
				stacks[s.num(1)] = names
			}
		}
		for _, d := range p.each(t, 60) {
			uuid := d.num(1)
			if parent := d.num(5); parent != 0 && tracks[parent] == "" {
				t.Errorf("track %x has an unknown parent", uuid)
			}
			switch {
			case len(d[3]) > 0:
				tracks[uuid] = fmt.Sprintf("process %d", d.each(t, 3)[0].num(1))
			case len(d[4]) > 0:
				th := d.each(t, 4)[0]
				tracks[uuid] = fmt.Sprintf("thread %d/%d", th.num(1), th.num(2))
			case len(d[8]) > 0:
				tracks[uuid] = "counter " + d.text(2)
			}
		}
		for _, e := range p.each(t, 11) {
			track, at := tracks[e.num(11)], p.num(8)
			if track == "" {
				t.Errorf("an event of an unknown track %x", e.num(11))
			}
			switch e.num(9) {
			case 1:
				s := fmt.Sprintf("%s: %s at %d", track, e.text(23), at)
				if id := e.num(56); id != 0 {
					s += " in " + strings.Join(stacks[id], ";")
				}
				for _, n := range e.each(t, 4) {
					if n.text(10) == "ret" {
						s += fmt.Sprintf(" = %d", int64(n.num(4)))
					}
				}
				open[e.num(11)] = s
			case 2:
				got = append(got, fmt.Sprintf("%s until %d", open[e.num(11)], at))
				delete(open, e.num(11))
			case 3:
				got = append(got, fmt.Sprintf("%s: %s at %d", track, e.text(23), at))
			case 4:
				got = append(got, fmt.Sprintf("%s at %d: %d", track, at, e.num(30)))
			}
		}
	}
	want := []string{
		"thread 100/100: exec at 10240",
		"counter committed memory at 10240: 16384",
		"thread 100/100: mmap at 17920 in main;parse;row;malloc;mmap = 140737349943296 until 20480",
		"counter committed memory at 20480: 81920",
		"thread 100/100: mmap at 28160 in main;parse;row;malloc;mmap = 140737347846144 until 30720",
		"counter committed memory at 30720: 98304",
		"thread 100/100: munmap at 38400 in main;munmap = 0 until 40960",
		"counter committed memory at 40960: 81920",
		"thread 100/100: read at 48640 in [cut: nothing says where the caller is];?/nowhere/lib.so+0x1234;read = 3 until 51200",
		"counter available memory of the system at 61440: 4096000",
		"counter committed memory of the system at 61440: 102400",
		"counter resident memory at 61440: 40960",
		"thread 100/100: clone at 71680",
		"thread 101/101: exit at 81920",
		"counter committed memory at 81920: 0",
		"thread 100/100: exit at 92160",
		"counter committed memory at 92160: 0",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if len(open) > 0 {
		t.Errorf("slices without an end: %v", open)
	}
}

// TestStackExportsWithoutStacks: such a log has nothing to be weighed.
func TestStackExportsWithoutStacks(t *testing.T) {
	tr := replay.New(rt.Open(t, rt.Log(t)))
	for _, f := range []func(context.Context, *replay.Trace, *bytes.Buffer) error{
		func(ctx context.Context, t *replay.Trace, b *bytes.Buffer) error {
			_, err := pprof(ctx, t, b, Options{To: 18})
			return err
		},
		func(ctx context.Context, t *replay.Trace, b *bytes.Buffer) error {
			_, err := folded(ctx, t, b, Options{To: 18})
			return err
		},
	} {
		if err := f(context.Background(), tr, new(bytes.Buffer)); err == nil || !strings.Contains(err.Error(), "record with -k") {
			t.Errorf("%v", err)
		}
	}
}
