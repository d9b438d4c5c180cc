package call

import (
	"bufio"
	"encoding/json"
	"os"
	"strconv"
	"strings"
	"testing"

	"memtrace/format/addr"
	"memtrace/format/arch"
)

// savedCall is a line of testdata/calls.jsonl: a call as it was recorded, with
// the text that strace 6.1 shows for it (but for the comments with dates).
type savedCall struct {
	Arch string
	Nr   uint32
	Args []uint64
	Ret  int64
	Bufs []struct {
		Arg       uint8
		Out, More bool
		Addr      uint64
		Data      []byte
	}
	Text string
}

func (s *savedCall) call() *Call {
	c := &Call{Nr: s.Nr, Ret: s.Ret, Returned: true}
	c.Arch = archOf(s.Arch)
	copy(c.Args[:], s.Args)
	for _, b := range s.Bufs {
		c.Bufs = append(c.Bufs, Buf{b.Arg, b.Out, b.More, addr.Addr(b.Addr), b.Data})
	}
	return c
}

func savedCalls(t testing.TB) (calls []savedCall) {
	f, err := os.Open("testdata/calls.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for d := json.NewDecoder(f); d.More(); {
		var s savedCall
		if err := d.Decode(&s); err != nil {
			t.Fatal(err)
		}
		calls = append(calls, s)
	}
	return calls
}

func TestSavedCalls(t *testing.T) {
	calls := savedCalls(t)
	if len(calls) < 400 {
		t.Fatalf("only %d calls", len(calls))
	}
	for _, s := range calls {
		if got := string(s.call().Append(nil)); got != s.Text {
			t.Errorf("got  %s\nwant %s", got, s.Text)
		}
	}
}

// A line is "ARCH NR ARG... : NAME(ARGS)".
func TestArgs(t *testing.T) {
	f, err := os.Open("testdata/args.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	n := 0
	for sc := bufio.NewScanner(f); sc.Scan(); {
		line, want, ok := strings.Cut(sc.Text(), " : ")
		if !ok {
			continue
		}
		n++
		w := strings.Fields(line)
		id := archOf(w[0])
		nr, err := strconv.ParseUint(w[1], 0, 32)
		if err != nil {
			t.Fatal(err)
		}
		c := Call{Arch: id, Nr: uint32(nr), Returned: true, Ret: -1}
		for i, a := range w[2:] {
			v, err := strconv.ParseUint(strings.TrimPrefix(a, "-"), 0, 64)
			if err != nil {
				t.Fatal(err)
			}
			if a[0] == '-' {
				v = -v
			}
			c.Args[i] = v
		}
		c.Args[5] = 0x66666000
		if got, want := string(c.Append(nil)), want+" = -1 EPERM (Operation not permitted)"; got != want {
			t.Errorf("%s\ngot  %s\nwant %s", line, got, want)
		}
	}
	if n < 400 {
		t.Errorf("only %d lines", n)
	}
}

// archOf is the architecture with a name.
func archOf(name string) arch.ID {
	for id := arch.X86_64; id <= arch.AArch64; id++ {
		if id.String() == name {
			return id
		}
	}
	return arch.Unknown
}
