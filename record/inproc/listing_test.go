package inproc

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/arch/x86/x86asm"

	"memtrace/record/tracee/siginfo"
)

var update = flag.Bool("update", false, "write the listing of docs/inprocess.md")

// Parts of a line of blob.gas.
var (
	labelled = regexp.MustCompile(`^([A-Za-z0-9]+):\s*(.*)$`)
	rest     = regexp.MustCompile(`^([^#]*?)\s*(?:#\s*(.*))?$`)
)

var (
	setting = regexp.MustCompile(`^\.set ([A-Z0-9]+), +(0x[0-9a-f]+)`)
	inSlot  = regexp.MustCompile(`%gs:(0x[0-9a-f]+)?`)
	behind  = regexp.MustCompile(`(0x[0-9a-f]+)\(%rip\)`)
)

// slotNames are the names of the fields of a slot, by offset.
func slotNames(source []byte) map[string]string {
	names := map[string]string{}
	for line := range strings.Lines(string(source)) {
		if strings.HasPrefix(line, "# Sizes.") {
			break
		}
		if m := setting.FindStringSubmatch(line); m != nil && names[m[2]] == "" {
			names[strings.Replace(m[2], "0x0", "0x", 1)] = m[1]
		}
	}
	for i := range uint64(5) { // the registers behind the first
		names[fmt.Sprintf("%#x", 0x80+8*i)] = fmt.Sprintf("ARGS+%d", 8*(i+1))
	}
	names[""], names["0x0"] = "SELF", "SELF"
	return names
}

// spelled is an instruction with the names of what it is about.
func spelled(in x86asm.Inst, at int, names map[string]string, targets map[uint64]string) string {
	text := x86asm.GNUSyntax(in, uint64(at), func(a uint64) (string, uint64) { return targets[a], a })
	text = inSlot.ReplaceAllStringFunc(text, func(s string) string {
		return "%gs:" + names[strings.TrimPrefix(s, "%gs:")]
	})
	return behind.ReplaceAllStringFunc(text, func(s string) string {
		var off int
		_, _ = fmt.Sscanf(s, "0x%x", &off)
		switch a := at + in.Len + off; {
		case targets[uint64(a)] != "":
			return targets[uint64(a)]
		case a >= CodeLen:
			return fmt.Sprintf("slot+%#x", a-CodeLen)
		case a >= codeSize:
			return fmt.Sprintf("table+%#x", a-codeSize)
		}
		return fmt.Sprintf("%#x", at+in.Len+off)
	})
}

// listing is what the bytes of the code are as instructions, each beside the label and the
// comment that its line in the source has. The instructions are those of a disassembler that
// knows nothing of the source.
func listing(source []byte) (string, error) {
	var b strings.Builder
	names, targets := slotNames(source), map[uint64]string{}
	for range 2 { // the first one finds where labels are
		b.Reset()
		at, begun := 0, false
		for line := range strings.Lines(string(source)) {
			line = strings.TrimRight(line, "\n")
			if begun = begun || line == "blob:"; !begun || strings.HasPrefix(strings.TrimSpace(line), ".") || line == "blob:" {
				continue
			}
			if comment, ok := strings.CutPrefix(line, "#"); ok {
				fmt.Fprintf(&b, ";%s\n", comment)
				continue
			}
			label := ""
			if m := labelled.FindStringSubmatch(line); m != nil {
				label, line = m[1]+":", m[2]
				if m[1][0] > '9' {
					targets[uint64(at)] = m[1]
				}
			}
			m := rest.FindStringSubmatch(strings.TrimSpace(line))
			if m[1] == "" {
				if label != "" {
					fmt.Fprintf(&b, "%s\n", label)
				} else if m[2] == "" && !strings.HasSuffix(b.String(), "\n\n") {
					b.WriteString("\n")
				}
				continue
			}
			in, err := x86asm.Decode(blob[at:], 64)
			if err != nil {
				return "", fmt.Errorf("at %#x, %q: %w", at, line, err)
			}
			row := fmt.Sprintf("%-9s %03x  %-33s %s", label, at, fmt.Sprintf("% x", blob[at:at+in.Len]), spelled(in, at, names, targets))
			if m[2] != "" {
				row = fmt.Sprintf("%-82s ; %s", row, m[2])
			}
			b.WriteString(row + "\n")
			at += in.Len
		}
		if list := codeSize - 64; len(bytes.TrimRight(blob[at:list], "\x00")) > 0 {
			return "", fmt.Errorf("behind %#x are bytes that no line of the source has", at)
		}
	}
	return strings.Trim(b.String(), "\n") + "\n", nil
}

// TestMark: the code knows what record/tracee writes into signals.
func TestMark(t *testing.T) {
	source, err := os.ReadFile("blob.gas")
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf(".set MARK,    %#x\n", siginfo.Stands)
	if !bytes.Contains(source, []byte(want)) {
		t.Errorf("blob.gas has no line %q", want)
	}
}

// TestListing compares the code of docs/inprocess.md with the bytes that are put into
// programs.
func TestListing(t *testing.T) {
	const page, from, to = "../../docs/inprocess.md", "<!-- listing -->\n```\n", "```\n<!-- end -->\n"
	source, err := os.ReadFile("blob.gas")
	if err != nil {
		t.Fatal(err)
	}
	want, err := listing(source)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, after, ok := strings.Cut(string(doc), from)
	got, after, ok2 := strings.Cut(after, to)
	if !ok || !ok2 {
		t.Fatalf("%s has no listing", page)
	}
	if got == want {
		return
	}
	if !*update {
		t.Fatalf("the listing of %s is not what the code is (go test ./record/inproc -run Listing -update)", page)
	}
	if err := os.WriteFile(page, []byte(before+from+want+to+after), 0o644); err != nil {
		t.Fatal(err)
	}
}
