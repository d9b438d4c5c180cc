package format

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/vma"
)

// TestDocExample writes a small log and compares docs/format.md with its bytes,
// told by the tables of docs/format.md themselves. With -update it writes them there.
func TestDocExample(t *testing.T) {
	d := &dumper{t: t, log: exampleLog(t), tables: docTables(t)}
	d.file()
	want := "<!-- example -->\n```\n" + d.out.String() + "```\n"
	doc := readDoc(t)
	at := regexp.MustCompile("(?s)<!-- example -->\n```\n.*?```\n").FindStringIndex(doc)
	if at == nil {
		t.Fatal("docs/format.md has no example")
	}
	if *update {
		if err := os.WriteFile(formatDoc, []byte(doc[:at[0]]+want+doc[at[1]:]), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(want, doc[at[0]:at[1]]); diff != "" {
		t.Errorf("the example of docs/format.md (go test ./format -run DocExample -update): %s", diff)
	}
}

// exampleLog is a program that writes a line and ends.
func exampleLog(t *testing.T) []byte {
	heap := vma.VMA{Range: addr.Range{Start: 0x600000, End: 0x602000}, Prot: addr.Read | addr.Write, Kind: vma.Heap, Name: "[heap]"}
	evs := []Event{
		{Time: 1 << 9, Thread: 1, Record: &Exec{Path: "/bin/hi", Argv: []string{"hi"}, OldTID: 77, Called: "./hi"}, Changes: []Change{
			&MMNew{MM: 1}, &ThreadSet{Thread{No: 1, TID: 77, TGID: 77, NSTID: 77, Proc: 1, MM: 1, Arch: arch.X86_64}},
			&VMASet{1, heap}, &Pages{MM: 1, Addr: heap.Start, N: 2, What: PageZero},
		}},
		{Time: 40 << 9, Thread: 1, Record: &Syscall{
			Arch: arch.X86_64, Nr: 1, Args: [6]uint64{1, 0x600010, 3}, Ret: 3, Returned: true, Enter: 30 << 9,
			Bufs: []Buf{{Arg: 1, Addr: 0x600010, Data: []byte("hi\n")}},
		}},
		{Time: 50 << 9, Thread: 1, Record: &Exit{Process: true}, Changes: []Change{&ThreadEnd{1}, &MMDrop{1}}},
	}
	var out strings.Builder
	h := &Header{
		Arch: arch.X86_64, TimeShift: DefaultTimeShift, Salt: [16]byte([]byte("0123456789abcdef")), Start: time.Unix(1700000000, 0),
		Version: "1.0", Argv: []string{"hi"}, Options: []string{"trace=all"},
	}
	w, err := NewWriter(&out, h, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := range evs {
		if _, err := w.Event(&evs[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close("exit"); err != nil {
		t.Fatal(err)
	}
	b := []byte(out.String())
	mustVerify(t, b)
	return b
}

// dumper goes over a log as docs/format.md tells and writes its bytes, each with
// what it is.
type dumper struct {
	t      *testing.T
	log    []byte
	at     int
	tables map[string][][]string
	out    strings.Builder
	parts  []string // texts of what line takes, nil outside
}

// line puts what f takes on one line.
func (d *dumper) line(text string, f func()) {
	d.t.Helper()
	at := d.at
	d.parts = []string{}
	f()
	text += strings.Join(d.parts, ", ")
	n := d.at - at
	d.at, d.parts = at, nil
	d.bytes(n, "%s", text)
}

// bytes takes n bytes.
func (d *dumper) bytes(n int, text string, args ...any) []byte {
	d.t.Helper()
	if n > len(d.log)-d.at {
		d.t.Fatalf("%s goes beyond the end of the log", text)
	}
	b := d.log[d.at : d.at+n]
	text = fmt.Sprintf(text, args...)
	if d.parts != nil {
		d.at += n
		d.parts = append(d.parts, text)
		return b
	}
	for i := 0; i < n; i += 8 {
		line := fmt.Sprintf("%4d  %-23s  %s", d.at+i, fmt.Sprintf("% x", b[i:min(n, i+8)]), text)
		d.out.WriteString(strings.TrimRight(line, " ") + "\n")
		text = ""
	}
	d.at += n
	return b
}

func (d *dumper) title(text string, args ...any) {
	fmt.Fprintf(&d.out, "\n      -- "+text+"\n", args...)
}

// number takes what a cursor's method reads.
func number[T any](d *dumper, name string, read func(*cursor) T) T {
	d.t.Helper()
	c := cursor{b: d.log[d.at:]}
	v := read(&c)
	if c.bad {
		d.t.Fatalf("%s at %d", name, d.at)
	}
	d.bytes(len(d.log)-d.at-len(c.b), "%s = %v", name, v)
	return v
}

func (d *dumper) u(name string) uint64 { return number(d, name, (*cursor).u) }
func (d *dumper) zz(name string) int64 { return number(d, name, (*cursor).zz) }
func (d *dumper) u8(name string) uint8 { return number(d, name, (*cursor).u8) }

func (d *dumper) str(name string) string {
	c := cursor{b: d.log[d.at:]}
	s := c.str()
	d.bytes(len(d.log)-d.at-len(c.b), "%s = %q", name, s)
	return s
}

// fixed takes the fields of a table and returns their values.
func (d *dumper) fixed(mark string) map[string]any {
	vs := map[string]any{}
	for _, row := range d.tables[mark] {
		if row[2] == "" {
			break
		}
		v, n := fixedValue(d.t, d.log[d.at:], row[2])
		text := fmt.Sprintf("%s = %d", row[1], v)
		if b, ok := v.([]byte); ok || row[1] == "magic" || strings.HasSuffix(row[1], "crc") {
			text = row[1]
			if ok {
				v = string(b)
			}
		}
		d.bytes(n, "%s", text)
		vs[row[1]] = v
	}
	return vs
}

// name is the second column of the row of a table that begins so.
func (d *dumper) name(mark string, number any) string {
	for _, row := range d.tables[mark] {
		if row[0] == fmt.Sprint(number) {
			return row[1]
		}
	}
	d.t.Fatalf("docs/format.md has no %v among the %s", number, mark)
	return ""
}

func (d *dumper) file() {
	d.out.WriteString("      -- file header\n")
	h := d.fixed("header")
	for d.at < int(h["header_len"].(uint32)) {
		c := cursor{b: d.log[d.at:]}
		name := d.name("tags", c.u())
		n := c.u()
		text := name
		switch v := (cursor{b: c.b[:n]}); name {
		case "start":
			text = fmt.Sprintf("tag %s: %d", name, v.zz())
		case "mono":
			text = fmt.Sprintf("tag %s: %d", name, v.u())
		default:
			text = fmt.Sprintf("tag %s: %q", name, c.b[:n])
		}
		d.bytes(len(d.log)-d.at-len(c.b)+int(n), "%s", text)
	}
	for d.chunk() != "ROOT" {
	}
	d.title("tail")
	d.fixed("tail")
	if d.at != len(d.log) {
		d.t.Errorf("%d bytes behind the end", len(d.log)-d.at)
	}
}

func (d *dumper) chunk() (name string) {
	name = d.name("types", d.log[d.at+4])
	d.title("chunk: %s", name)
	c := d.fixed("chunk")
	if ext := d.at + int(c["ext_len"].(uint16)); d.at < ext {
		d.line("extension: ", func() {
			d.u("tag")
			d.u("length")
			d.u("time of the first event")
		})
		if d.at != ext {
			d.t.Errorf("extension of %s", name)
		}
	}
	if c["flags"].(uint8)&7 != 0 {
		d.t.Fatalf("the %s chunk of the example is compressed", name)
	}
	end := d.at + int(c["clen"].(uint32))
	d.title("payload of %s", name)
	switch name {
	case "STATE":
		d.state(end)
	case "BLOB":
		d.blob()
	case "EVENT":
		d.event()
	case "INDEX":
		d.index()
	case "ROOT":
		for d.at < end {
			var section string
			var n uint64
			d.line("section: ", func() {
				section = d.name("root", d.u("tag"))
				n = d.u(section + ", length")
			})
			d.root(section, d.at+int(n))
		}
	default:
		d.t.Fatalf("the example has a chunk of type %s", name)
	}
	if d.at != end {
		d.t.Fatalf("the payload of %s ends at %d, not at %d", name, end, d.at)
	}
	return name
}

func (d *dumper) state(end int) {
	d.u("next page id")
	d.u("next patch id")
	for d.at < end {
		typ := d.log[d.at]
		name := d.name("changes", typ)
		var body string
		for _, row := range d.tables["changes"] {
			if row[1] == name {
				body = docBody(row[2])
			}
		}
		to := 0
		d.line("record: ", func() {
			d.bytes(1, "%s", name)
			to = int(d.u("length"))
			to += d.at
			d.u("steps since the record before")
		})
		d.body(body)
		if d.at != to {
			d.t.Errorf("the record %q is not as docs/format.md has it", name)
		}
	}
}

var docItem = regexp.MustCompile("^`(u|zz|u8|str)` (.*)$")

// body takes the fields that a Body cell has, without its remarks.
func (d *dumper) body(text string) {
	for text != "" {
		one, rest, _ := strings.Cut(text, ", ")
		if list, ok := strings.CutPrefix(text, "`u` n, n x "); ok {
			one, rest, _ = strings.Cut(list, ", ")
			if inside, ok := strings.CutPrefix(list, "{"); ok {
				one, rest, _ = strings.Cut(inside, "}")
				rest = strings.TrimPrefix(rest, ", ")
			}
			for range d.u("how many") {
				d.body(one)
			}
			text = rest
			continue
		}
		text = rest
		m := docItem.FindStringSubmatch(one)
		switch {
		case one == "mapping":
			d.mapping()
		case one == "`u` n" && rest == "n runs":
			for range d.u("runs") {
				d.zz("run: pages since the run before")
				run := number(d, "count<<3 | kind", (*cursor).u)
				if kind := d.name("runs", run&7); kind != "zero" {
					d.t.Fatalf("the example has a run of kind %s", kind)
				}
			}
			return
		case one == "descriptors":
			d.body("`u` n, n x {`zz` number, `u8` closed by exec, `str` name}")
		case m == nil:
			d.t.Fatalf("docs/format.md has a field %q", one)
		case m[1] == "u":
			d.u(m[2])
		case m[1] == "zz":
			d.zz(m[2])
		case m[1] == "u8":
			d.u8(m[2])
		case m[1] == "str":
			d.str(m[2])
		}
	}
}

func (d *dumper) mapping() {
	flags := d.u8("mapping: flags")
	d.u8("protection")
	d.u8("kind")
	if flags != 0 {
		d.t.Fatalf("the example has a mapping with flags %d", flags)
	}
	d.zz("pages after the mapping before")
	d.u("its pages")
	if d.u("name: 1 is a new string") == 1 {
		d.str("name")
	}
}

// blob takes what the example's events have: two bodies, and a buffer between.
func (d *dumper) blob() {
	bodyOf := func(name string) {
		for _, row := range d.tables["classes"] {
			if row[1] == name {
				d.body(docBody(row[3]))
			}
		}
	}
	bodyOf("exec")
	d.bytes(3, "buffer of the call")
	bodyOf("exit")
}

func (d *dumper) event() {
	for range d.u("threads") {
		d.u("thread number")
	}
	for range d.u("kinds") {
		d.line("kind: ", func() {
			d.name("classes", d.u("class"))
			d.u("arch")
			d.u("nr")
			d.u("argc")
		})
	}
	for range d.u("shapes") {
		for range d.u("shape: buffers") {
			d.line("buffer: ", func() {
				d.u8("arg")
				d.u8("flags")
			})
		}
	}
	for range d.u("slots") {
		d.line("slot: ", func() {
			d.u("kind")
			d.u("thread")
			d.u8("flags")
			d.u("shape")
			d.u("regs")
		})
	}
	type column struct{ id, n uint64 }
	dir := make([]column, d.u("columns"))
	for i := range dir {
		d.line("", func() {
			dir[i].id = d.u("column")
			d.u8("encoding")
			dir[i].n = d.u("bytes")
		})
	}
	for _, c := range dir {
		rows := d.tables["columns"]
		name, typ := "", "zz"
		if c.id < kindCol0 {
			name = d.name("columns", c.id)
			typ = rows[c.id][2]
		} else if i := (c.id - kindCol0) % kindCols; i == kindRet {
			name = fmt.Sprintf("kind %d: result", (c.id-kindCol0)/kindCols)
		} else {
			name = fmt.Sprintf("kind %d: argument %d", (c.id-kindCol0)/kindCols, i)
		}
		for to := d.at + int(c.n); d.at < to; {
			if typ == "zz" {
				d.zz(name)
			} else {
				d.u(name)
			}
		}
	}
}

func (d *dumper) index() {
	n := d.u("entries")
	d.u("offset of the INDEX chunk before")
	d.u("seq of the first chunk")
	d.u("offset of the first chunk")
	for range n {
		typ := d.log[d.at]
		name := d.name("types", typ&^0x80)
		text := name
		if typ&0x80 != 0 {
			text += ", committed"
		}
		d.line("", func() {
			d.bytes(1, "%s", text)
			d.u("size")
			d.zz("base less the expected")
			d.u("count")
			if name == "EVENT" {
				d.zz("time less that before")
			}
		})
	}
}

func (d *dumper) root(section string, to int) {
	switch section {
	case "blocks":
		for range d.u("INDEX chunks") {
			d.u("offset")
			d.zz("end of the last chunk listed")
			d.u("seq of the first chunk")
			d.u("entries")
			for range d.u("types") {
				d.line("", func() {
					d.name("types", d.u("type"))
					d.u("base of the first such chunk")
				})
			}
			d.u("1 + time of the first EVENT chunk")
		}
	case "types":
		for d.at < to {
			d.line("", func() {
				d.name("types", d.u("type"))
				d.u("chunks")
				d.u("stored bytes")
				d.u("decoded bytes")
			})
		}
	case "totals":
		_, list, _ := strings.Cut(d.tables["root"][2][2], ": ")
		for _, name := range strings.Split(list, ", ") {
			d.u(name)
		}
	case "reason":
		d.bytes(to-d.at, "%q", d.log[d.at:to])
	}
	if d.at != to {
		d.t.Fatalf("section %s of ROOT is not as docs/format.md has it", section)
	}
}
