//go:build linux

package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/record/procfs"
	"memtrace/replay"
)

// sleepers change their memory in all the ways that their runtimes know for a second,
// say so, and sleep.
var sleepers = []struct {
	name, needs string
	argv        []string
}{
	{"python", "python3", []string{"python3", "-c", `
import mmap, os, random, threading, time
end = time.time() + 1
def work():
    d, l = {}, []
    while time.time() < end:
        d[random.randrange(2000)] = os.urandom(random.randrange(30000))
        if random.random() < .01:
            l.append(mmap.mmap(-1, random.randrange(1, 200) * 4096))
            l[-1][:9] = b"a" * 9
            if len(l) > 20: l.pop(0).close()
            l[-1].resize(random.randrange(1, 300) * 4096)
        if random.random() < .003:
            pid = os.fork()
            if pid == 0: os._exit(0)
            os.waitpid(pid, 0)
    time.sleep(1000)
for _ in range(4): threading.Thread(target=work, daemon=True).start()
time.sleep(1.2)
open("pid", "w").write(f"{os.getpid()}\n")
time.sleep(1000)`}},
	{"node", "node", []string{"node", "-e", `
let m = new Map(), end = Date.now() + 1000
while (Date.now() < end) {
	m.set(Math.random() * 3000 | 0, "x".repeat(Math.random() * 20000 | 0) + end)
	if (m.size > 2000) m.delete(m.keys().next().value)
}
globalThis.m = m
require("fs").writeFileSync("pid", process.pid + "\n")
setTimeout(() => {}, 1000000)`}},
	{"go", "", nil},
}

const churnGo = `package main

import (
	"fmt"
	"math/rand"
	"os"
	"runtime/debug"
	"time"
)

var keep = map[int][]byte{}

func main() {
	debug.SetMemoryLimit(60 << 20)
	for i, end := 0, time.Now().Add(time.Second); time.Now().Before(end); i++ {
		b := make([]byte, rand.Intn(40000))
		for j := range b {
			b[j] = byte(i * j)
		}
		keep[rand.Intn(2000)] = b
		if i%5000 == 4999 {
			debug.FreeOSMemory()
		}
		if rand.Intn(3) == 0 {
			delete(keep, rand.Intn(2000))
		}
	}
	os.WriteFile("pid", fmt.Appendln(nil, os.Getpid()), 0o600)
	time.Sleep(1000 * time.Second)
}
`

// TestSleepers: a log that is still being written has the memory of a program that
// has come to rest byte for byte as /proc/PID/mem does.
func TestSleepers(t *testing.T) {
	require(t, "ptrace", tracing())
	churn := buildGo(t, "churn", churnGo)
	for _, s := range sleepers {
		for _, policy := range []string{"default", "interval=20ms"} {
			t.Run(s.name+"-"+policy, func(t *testing.T) {
				t.Parallel()
				if s.name == "node" || policy != "default" {
					long(t)
				}
				if s.needs != "" {
					tool(t, s.needs)
				}
				argv := s.argv
				if s.name == "go" {
					argv = []string{churn}
				}
				p := newPlace(t)
				p.start(t, append([]string{binary(), "record", "-q", "--snapshot", policy, "-o", p.log(), "--"}, argv...)...)
				// What it has done is in the log after a snapshot and a flush.
				begun := time.Now()
				eventually(t, func() error {
					time.Sleep(time.Second)
					b, err := os.ReadFile(filepath.Join(p.run(), "pid"))
					if err != nil {
						return err
					}
					pid, err := strconv.Atoi(strings.TrimSuffix(string(b), "\n"))
					if err != nil || !bytes.HasSuffix(b, []byte("\n")) {
						return fmt.Errorf("%q is no pid yet", b)
					}
					known, wrong := compareMemory(t, p, pid)
					if wrong == nil {
						t.Logf("%d pages after %v", known, time.Since(begun).Round(time.Second))
					}
					return wrong
				})
			})
		}
	}
}

// soFar reads a log that is still being written.
func soFar(p *place) (*format.Reader, error) {
	b, err := os.ReadFile(p.log())
	if err != nil {
		return nil, err
	}
	return format.NewReader(bytes.NewReader(b), int64(len(b)), nil)
}

// compareMemory compares the private memory of a process that sleeps with the last
// step of its log.
func compareMemory(t *testing.T, p *place, pid int) (known int, wrong error) {
	t.Helper()
	r, err := soFar(p)
	if err != nil {
		return 0, err
	}
	tr := replay.New(r)
	last, _ := tr.Last()
	space := spaceAt(t, tr, last, uint32(pid))
	fs, err := procfs.Open(pid)
	if err != nil {
		t.Fatal(err)
	}
	defer fs.Close()
	text, err := fs.MapsText()
	if err != nil {
		t.Fatal(err)
	}
	if got := space.AppendMaps(nil); !bytes.Equal(got, text) {
		return 0, fmt.Errorf("step %d: -kernel +log\n%s", last, lineDiff(text, got))
	}
	var got, want [addr.PageSize]byte
	for v := range space.Mappings() {
		if v.Prot&addr.Write == 0 || v.Prot&addr.Shared != 0 {
			continue
		}
		for next := v.Start; next < v.End && wrong == nil; {
			const present = procfs.PagePresent | procfs.PageSwapped
			next, err = fs.Scan(addr.Range{Start: next, End: v.End}, present, present|procfs.PageIsFile, false, 0, func(g procfs.Region) {
				for a := g.Start; a < g.End && wrong == nil && g.Categories&procfs.PageIsFile == 0; a += addr.PageSize {
					if _, err := fs.ReadMem(want[:], a); err != nil {
						t.Fatal(err)
					}
					if asOf, err := space.Page(a, &got); err != nil {
						wrong = fmt.Errorf("step %d, %v of %s: %w", last, a, v.Name, err)
					} else if got != want {
						wrong = fmt.Errorf("step %d, %v of %s: not what it was at step %d", last, a, v.Name, asOf)
					}
					known++
				}
			})
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	return known, wrong
}
