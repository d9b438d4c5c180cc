package format

import (
	"encoding/binary"
	"errors"
	"fmt"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"hash/crc32"
	"math"
	"math/bits"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"unicode"

	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/call"
)

const formatDoc = "../docs/format.md"

func readDoc(t testing.TB) string {
	t.Helper()
	b, err := os.ReadFile(formatDoc)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// docTables is the rows of all tables of docs/format.md by the mark before each.
func docTables(t testing.TB) map[string][][]string {
	t.Helper()
	tables := map[string][][]string{}
	mark, inside := "", false
	for line := range strings.Lines(readDoc(t)) {
		line = strings.TrimSuffix(line, "\n")
		if m, ok := strings.CutPrefix(line, "<!-- table: "); ok {
			mark = strings.TrimSuffix(m, " -->")
			continue
		}
		if !strings.HasPrefix(line, "|") {
			if inside {
				mark, inside = "", false
			}
			continue
		}
		if !inside && tables[mark] != nil {
			t.Fatalf("a table of docs/format.md has no mark of its own, but %q: %s", mark, line)
		}
		inside = true
		var row []string
		for _, c := range strings.Split(strings.Trim(line, "|"), "|") {
			row = append(row, strings.TrimSpace(c))
		}
		tables[mark] = append(tables[mark], row)
	}
	for mark, rows := range tables {
		tables[mark] = rows[2:]
	}
	return tables
}

// TestDocTables compares every table of docs/format.md with the code.
func TestDocTables(t *testing.T) {
	tables := docTables(t)
	consts := constants(t)
	checks := map[string]func(*testing.T, [][]string){
		"header":   docHeader,
		"tags":     docTags,
		"chunk":    docChunk,
		"types":    docTypes,
		"slots":    func(t *testing.T, rows [][]string) { docConstants(t, rows, consts, "slot", "slotReturned") },
		"bufs":     func(t *testing.T, rows [][]string) { docConstants(t, rows, consts, "buf", "bufOut") },
		"args":     docArgs,
		"columns":  docColumns,
		"classes":  docClasses,
		"changes":  docChanges,
		"runs":     func(t *testing.T, rows [][]string) { docConstants(t, rows, consts, "run", "runRaw") },
		"mappings": func(t *testing.T, rows [][]string) { docConstants(t, rows, consts, "vma", "vmaOffset") },
		"root":     func(t *testing.T, rows [][]string) { docConstants(t, rows, consts, "root", "rootBlocks") },
		"tail":     docTail,
		"limits":   docLimits,
		"ends":     docEnds,
		"frames":   func(t *testing.T, rows [][]string) { docConstants(t, rows, consts, "mark", "markSignal") },
		"files":    func(t *testing.T, rows [][]string) { docConstants(t, rows, consts, "Packed", "PackedNamed") },
		"refs":     docRefColumns,
		"phases":   func(t *testing.T, rows [][]string) { docConstants(t, rows, consts, "phase", "phaseExact") },
	}
	for mark, rows := range tables {
		check := checks[mark]
		if check == nil {
			t.Errorf("no test compares the table %q of docs/format.md with the code", mark)
			continue
		}
		t.Run(mark, func(t *testing.T) { check(t, rows) })
		delete(checks, mark)
	}
	for mark := range checks {
		t.Errorf("docs/format.md has no table %q", mark)
	}
}

// constants is the package's constants of small numbers, by name. What other
// packages define is not known to it.
func constants(t *testing.T) map[string]string {
	t.Helper()
	names, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	fset := token.NewFileSet()
	var files []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, f)
	}
	conf := types.Config{Importer: nothing{}, Error: func(error) {}}
	pkg, _ := conf.Check("format", fset, files, nil)
	out := map[string]string{}
	for _, name := range pkg.Scope().Names() {
		c, ok := pkg.Scope().Lookup(name).(*types.Const)
		if ok && c.Val().Kind() == constant.Int {
			out[name] = c.Val().ExactString()
		}
	}
	return out
}

// nothing imports nothing.
type nothing struct{}

func (nothing) Import(string) (*types.Package, error) { return nil, errors.New("not imported") }

// docConstants compares the numbers and names of a table with the constants that
// have a prefix. One of them is named, so that a prefix that is wrong fails.
func docConstants(t *testing.T, rows [][]string, consts map[string]string, prefix, one string) {
	t.Helper()
	code := map[string]string{}
	for name, v := range consts {
		suffix, ok := strings.CutPrefix(name, prefix)
		if !ok || suffix == "" || !unicode.IsUpper(rune(suffix[0])) {
			continue
		}
		if len(suffix) < 2 || !unicode.IsUpper(rune(suffix[1])) {
			suffix = strings.ToLower(suffix[:1]) + suffix[1:]
		}
		if code[v] != "" {
			t.Errorf("%s%s and %s are both %s", prefix, suffix, code[v], v)
		}
		code[v] = suffix
	}
	if code[consts[one]] == "" {
		t.Fatalf("the code has no constant %s", one)
	}
	for _, row := range rows {
		if row[1] == "reserved" {
			if code[row[0]] != "" {
				t.Errorf("%s is reserved in docs/format.md and %s in the code", row[0], code[row[0]])
			}
			continue
		}
		if code[row[0]] != row[1] {
			t.Errorf("%s is %q in docs/format.md and %q in the code", row[0], row[1], code[row[0]])
		}
		delete(code, row[0])
	}
	for v, name := range code {
		t.Errorf("docs/format.md lacks %s, which is %s", v, name)
	}
}

// docFixed reads b as a table of fixed fields says and compares what is there.
func docFixed(t *testing.T, rows [][]string, b []byte, want map[string]any) {
	t.Helper()
	at := 0
	for _, row := range rows {
		name, typ := row[1], row[2]
		if row[0] != strconv.Itoa(at) {
			t.Fatalf("%s is at %s in docs/format.md, and the field before ends at %d", name, row[0], at)
		}
		if typ == "" { // to the end
			break
		}
		v, n := fixedValue(t, b[at:], typ)
		at += n
		if w, ok := want[name]; !ok || fmt.Sprint(v) != fmt.Sprint(w) {
			t.Errorf("%s as docs/format.md has it is %v, not %v", name, v, w)
		}
		delete(want, name)
	}
	for name := range want {
		t.Errorf("docs/format.md has no field %s", name)
	}
	if at != len(b) {
		t.Errorf("the fields of docs/format.md are %d bytes of %d", at, len(b))
	}
}

// fixedValue is a field of a fixed size.
func fixedValue(t testing.TB, b []byte, typ string) (v any, n int) {
	t.Helper()
	le := binary.LittleEndian
	switch typ {
	case "u8":
		return b[0], 1
	case "u16":
		return le.Uint16(b), 2
	case "u32":
		return le.Uint32(b), 4
	case "u64":
		return le.Uint64(b), 8
	case "u8[8]":
		return b[:8], 8
	case "u8[16]":
		return b[:16], 16
	}
	t.Fatalf("docs/format.md has a type %q", typ)
	return nil, 0
}

func docHeader(t *testing.T, rows [][]string) {
	h := Header{Arch: arch.AArch64, TimeShift: 17, Salt: [16]byte{1, 2, 3}, XSave: 0x12345678, Dir: "/d"}
	b, err := h.append(nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(b) <= headerFixed {
		t.Fatal("no extension")
	}
	fixed, ext := b[:headerFixed], b[headerFixed:]
	docFixed(t, rows, fixed, map[string]any{
		"magic": magic[:], "major": Major, "minor": Minor, "header_len": len(b), "incompat": 0, "compat": 1, "salt": h.Salt[:],
		"arch": 3, "page_shift": addr.PageShift, "time_shift": 17, "flags": 0, "xsave_size": h.XSave, "reserved": 0,
		"crc": crc32.Checksum(append(append([]byte{}, fixed[:60]...), ext...), castagnoli),
	})
	says := map[string]string{
		"magic": fmt.Sprintf("`% X`", magic[:]), "major": fmt.Sprintf("%d;", Major), "minor": fmt.Sprintf("%d;", Minor),
		"page_shift": fmt.Sprint(addr.PageShift), "time_shift": fmt.Sprintf("%d: units of %d ns", DefaultTimeShift, 1<<DefaultTimeShift),
		"arch": fmt.Sprintf("%d %v, %d %v, %d %v", arch.X86_64, arch.X86_64, arch.I386, arch.I386, arch.AArch64, arch.AArch64),
	}
	for _, row := range rows {
		if !strings.Contains(row[3], says[row[1]]) {
			t.Errorf("docs/format.md does not say of %s: %s", row[1], says[row[1]])
		}
	}
}

func docArgs(t *testing.T, rows [][]string) {
	consts := map[string]string{
		"0-5": "", fmt.Sprint(call.BufRetName): "retName", fmt.Sprint(call.BufArgs): "args", fmt.Sprint(call.BufFDName): "FDName", fmt.Sprint(call.BufArgv): "argv",
	}
	for _, row := range rows {
		if name, ok := consts[row[0]]; !ok || name != row[1] {
			t.Errorf("%s is %q in docs/format.md and %q in the code", row[0], row[1], name)
		}
		delete(consts, row[0])
	}
	if len(consts) > 0 {
		t.Errorf("docs/format.md lacks %v", consts)
	}
}

func docTags(t *testing.T, rows [][]string) {
	docConstants(t, rows, constants(t), "tag", "tagStart")
	h := testHeader()
	h.Argv, h.Options, h.Begin, h.Segment = []string{"prog"}, []string{"key=value"}, Begin{300, 2}, 5
	b, err := h.append(nil)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"start": fmt.Sprint(h.Start.UnixNano()), "mono": fmt.Sprint(h.Mono), "version": h.Version, "kernel": h.Kernel, "host": h.Host,
		"dir": h.Dir, "arg": "prog", "option": "key=value", "begin": "300 2", "segment": "5",
	}
	values := map[string][]byte{}
	for c := (cursor{b: b[headerFixed:]}); c.more(); {
		values[fmt.Sprint(c.u())] = c.blob()
	}
	for _, row := range rows {
		c := cursor{b: values[row[0]]}
		got := ""
		switch row[2] {
		case "zz":
			got = fmt.Sprint(c.zz())
		case "u":
			got = fmt.Sprint(c.u())
		case "u, u":
			got = fmt.Sprint(c.u(), c.u())
		case "":
			got = string(c.take(uint64(len(c.b))))
		}
		if got != want[row[1]] || c.bad || c.more() {
			t.Errorf("%s as docs/format.md has it is %q, not %q", row[1], got, want[row[1]])
		}
	}
}

func docChunk(t *testing.T, rows [][]string) {
	salt := [16]byte{7}
	c := chunk{
		off: 1000, typ: TypeBlob, flags: codecZstd | flagCritical | flagCommit, ext: []byte{9, 1, 8}, clen: 11, ulen: 12, base: 13, count: 14, pcrc: 15,
		lastIndex: 16, seq: 17,
	}
	b := c.append(nil, &salt)
	crc := crc32.Checksum(binary.LittleEndian.AppendUint64(salt[:], 1000), castagnoli)
	crc = crc32.Update(crc32.Update(crc, castagnoli, b[:44]), castagnoli, c.ext)
	docFixed(t, rows, b[:chunkHeader], map[string]any{
		"magic": uint32(chunkMagic), "type": 9, "flags": 1 | 1<<3 | 1<<4, "ext_len": 3, "clen": 11, "ulen": 12, "base": 13, "count": 14, "pcrc": 15,
		"last_index": 16, "seq": 17, "hcrc": crc,
	})
	for _, row := range rows {
		if want := fmt.Sprintf("`%X`", uint32(chunkMagic)); row[1] == "magic" && row[3] != want {
			t.Errorf("the magic of a chunk is %s, not %s", want, row[3])
		}
	}
}

func docTail(t *testing.T, rows [][]string) {
	salt := [16]byte{1, 2, 3, 4, 5, 6, 7, 8, 9}
	b := appendTail(nil, &salt, 0x1122334455, 0x66)
	docFixed(t, rows, b, map[string]any{
		"root": uint64(0x1122334455), "salt": salt[:8], "magic": []byte("MTLOGEND"), "root_size": 0x66, "crc": crc32.Checksum(b[:28], castagnoli),
	})
}

func docTypes(t *testing.T, rows [][]string) {
	seen := 0
	for _, row := range rows {
		n, err := strconv.Atoi(row[0])
		if err != nil || Type(n) >= numTypes || chunkNames[n] != row[1] {
			t.Errorf("chunk type %s is not %s in the code", row[0], row[1])
		}
		seen++
	}
	if seen != int(numTypes)-1 {
		t.Errorf("docs/format.md has %d types, the code %d", seen, numTypes-1)
	}
}

var (
	docLink   = regexp.MustCompile(`\[([^]]*)\]\([^)]*\)`)
	docRemark = regexp.MustCompile(` \([^)]*\)`)
)

// docBody is a list of fields without links and remarks.
func docBody(s string) string {
	return docRemark.ReplaceAllString(docLink.ReplaceAllString(s, "$1"), "")
}

// described is what a body holds, as its fields tell.
func described(v interface{ fields(*fields) }) string {
	x := fields{mode: describing}
	v.fields(&x)
	return strings.Join(x.text, ", ")
}

func docClasses(t *testing.T, rows [][]string) {
	if len(rows) != int(NumKinds)-1 {
		t.Errorf("docs/format.md has %d classes, the code %d", len(rows), NumKinds-1)
	}
	for i, row := range rows {
		if row[0] != strconv.Itoa(i+1) || i+1 >= len(recordSpecs) {
			t.Fatalf("class %s is in row %d", row[0], i+1)
		}
		s := recordSpecs[i+1]
		if row[1] != s.name {
			t.Errorf("class %d is %s in docs/format.md and %s in the code", i+1, row[1], s.name)
		}
		if got, want := docBody(row[3]), described(s.make()); got != want {
			t.Errorf("the body of %s is\n%s in docs/format.md and\n%s in the code", s.name, got, want)
		}
	}
	fds := fields{mode: describing}
	listOf(&fds, new([]FD), 0, (*FD).fields)
	if want := "Descriptors are " + fds.text[0]; !strings.Contains(docBody(readDoc(t)), want) {
		t.Errorf("docs/format.md does not say: %s", want)
	}
}

func docChanges(t *testing.T, rows [][]string) {
	seen := 0
	for _, row := range rows {
		from, to, isRange := strings.Cut(row[0], "-")
		if row[1] == "reserved" {
			a, _ := strconv.Atoi(from)
			b, _ := strconv.Atoi(to)
			for n := a; n <= b; n++ {
				if changeSpecs[n].make != nil || changeSpecs[recAncillary|n].make != nil {
					t.Errorf("record %d is reserved in docs/format.md, and %q in the code", n, changeSpecs[n].name)
				}
			}
			if !isRange || a == 0 || b < a {
				t.Errorf("reserved: %q", row[0])
			}
			continue
		}
		n, ancillary := strings.CutPrefix(row[0], "128+")
		typ, err := strconv.Atoi(n)
		if ancillary {
			typ += recAncillary
		}
		if err != nil || typ > math.MaxUint8 || changeSpecs[typ].make == nil {
			t.Errorf("the code has no record %s", row[0])
			continue
		}
		s := changeSpecs[typ]
		seen++
		if row[1] != s.name {
			t.Errorf("record %s is %q in docs/format.md and %q in the code", row[0], row[1], s.name)
		}
		if got, want := docBody(row[2]), described(s.make()); got != want {
			t.Errorf("the body of %q is\n%s in docs/format.md and\n%s in the code", s.name, got, want)
		}
	}
	for typ, s := range changeSpecs {
		if s.make != nil {
			if seen--; seen < 0 {
				t.Errorf("docs/format.md lacks a record, perhaps %d, %q", typ, s.name)
			}
		}
	}
}

// docColumns encodes two calls and reads the columns as the table says.
func docColumns(t *testing.T, rows [][]string) {
	docConstants(t, rows[:len(rows)-2], constants(t), "col", "colSlot")
	enc := newEventEnc(0)
	for i, ev := range []Event{
		{Time: 100, Regs: []uint64{1, 2}, Record: &Syscall{
			Arch: arch.I386, Nr: 3, Args: [6]uint64{5, 0x1000}, Ret: 7, Enter: 90, IP: 0x400000, SP: 0x7000, Bufs: []Buf{{Arg: 1, Addr: 0x1010, Data: []byte("abc")}},
		}},
		{Time: 130, Stack: 12, Regs: []uint64{1, 3}, Record: &Syscall{
			Arch: arch.I386, Nr: 3, Args: [6]uint64{6, 0x2000}, Ret: -9, Enter: 128, IP: 0x400010, SP: 0x6ff0, Bufs: []Buf{{Arg: 1, Addr: 0x2000, Data: []byte("abc")}},
		}},
	} {
		if err := enc.add(&ev, Step(i)); err != nil {
			t.Fatal(err)
		}
	}
	cols := payloadColumns(t, enc.payload())
	numbers := []string{fmt.Sprintf("%d + %dk + i", kindCol0, kindCols), fmt.Sprintf("%d + %dk + %d", kindCol0, kindCols, kindRet)}
	for i, row := range rows[len(rows)-2:] {
		if row[0] != numbers[i] {
			t.Errorf("docs/format.md has columns %q, the code %q", row[0], numbers[i])
		}
	}
	typeOf := map[string]string{"16": rows[len(rows)-2][2], "17": rows[len(rows)-2][2], "22": rows[len(rows)-1][2]}
	names := map[string]string{"16": "first argument", "17": "second argument", "22": "result"}
	for _, row := range rows[:len(rows)-2] {
		typeOf[row[0]], names[row[0]] = row[2], row[1]
	}
	want := map[string]string{
		"stack": "[0 25]", "slot": "[0 0]", "time": "[0 30]", "dur": "[10 2]", "IP": "[4194304 16]", "SP": "[28672 -16]", "regs": "[3 1 2 2 3]",
		"blobRef": "[0 1]", "blobLen": "[3]", "blobAddr": "[16 0]",
		"first argument": "[5 1]", "second argument": "[4096 4096]", "result": "[7 -16]",
	}
	for id, b := range cols {
		var vs []int64
		c := cursor{b: b}
		for c.more() {
			switch typeOf[id] {
			case "zz":
				vs = append(vs, c.zz())
			case "u":
				vs = append(vs, int64(c.u()))
			case "u, u64[]":
				mask := c.u()
				vs = append(vs, int64(mask))
				for range bits.OnesCount64(mask) {
					vs = append(vs, int64(c.fixed64()))
				}
			default:
				t.Fatalf("column %s has type %q in docs/format.md", id, typeOf[id])
			}
		}
		if got := fmt.Sprint(vs); c.bad || got != want[names[id]] {
			t.Errorf("column %s (%s) as docs/format.md has it is %s, not %s", id, names[id], got, want[names[id]])
		}
	}
	if len(cols) != len(want) {
		t.Errorf("%d columns were written, not %d", len(cols), len(want))
	}
}

// payloadColumns is the columns of an EVENT chunk by their number.
func payloadColumns(t *testing.T, payload []byte) map[string][]byte {
	c := cursor{b: payload}
	for range c.u() { // threads
		c.u()
	}
	for range c.u() * 4 { // kinds
		c.u()
	}
	for range c.u() { // shapes
		c.take(2 * c.u())
	}
	for range c.u() { // slots
		c.u()
		c.u()
		c.u8()
		c.u()
		c.u()
	}
	type col struct{ id, n uint64 }
	dir := make([]col, c.u())
	for i := range dir {
		dir[i].id = c.u()
		if c.u8() != 0 {
			t.Error("an encoding that docs/format.md does not have")
		}
		dir[i].n = c.u()
	}
	cols := map[string][]byte{}
	for _, d := range dir {
		cols[fmt.Sprint(d.id)] = c.take(d.n)
	}
	if c.bad || c.more() {
		t.Error("the payload is not as docs/format.md has it")
	}
	return cols
}

func docEnds(t *testing.T, rows [][]string) {
	if len(rows) != int(numStackEnds)-1 {
		t.Errorf("docs/format.md has %d ends of stacks, the code %d", len(rows), numStackEnds-1)
	}
	for i, row := range rows {
		if row[0] != strconv.Itoa(i+1) || row[1] != StackEnd(i+1).String() {
			t.Errorf("the end of a stack %s is %q in docs/format.md and %d, %q in the code", row[0], row[1], i+1, StackEnd(i+1))
		}
	}
}

// TestDocStacks compares the bodies of modules, texts and packed files with docs/format.md.
func TestDocStacks(t *testing.T) {
	doc := readDoc(t)
	for mark, v := range map[string]interface{ fields(*fields) }{"module": new(Module), "text": new(textPart), "file": new(File)} {
		if want := "<!-- " + mark + " -->" + described(v) + "<!-- end -->"; !strings.Contains(doc, want) {
			t.Errorf("docs/format.md does not say: %s", want)
		}
	}
}

func docLimits(t *testing.T, rows [][]string) {
	code := map[string]string{}
	for name, v := range constants(t) {
		if ast.IsExported(name) && strings.HasPrefix(name, "Max") {
			code[name] = v
		}
	}
	for _, row := range rows {
		if code[row[0]] != row[1] {
			t.Errorf("%s is %s in docs/format.md and %q in the code", row[0], row[1], code[row[0]])
		}
		delete(code, row[0])
	}
	for name, v := range code {
		t.Errorf("docs/format.md lacks the limit %s, %s", name, v)
	}
}
