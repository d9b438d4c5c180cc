package redact

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/call"
	"memtrace/format/formattest"
	"memtrace/format/vma"
)

var testKey = bytes.Repeat([]byte{7}, KeySize)

// sample is a small log with stacks, texts, references and pages; secret is in all of them.
func sample(t testing.TB) []byte {
	t.Helper()
	const secret = "SECRET"
	var b bytes.Buffer
	w, err := format.NewWriter(&b, &format.Header{
		Arch: arch.X86_64, TimeShift: 9, Start: time.Unix(1e9, 0), Mono: 5, Version: "1.0", Kernel: "Linux " + secret, Host: secret, Dir: "/home/" + secret,
		Argv: []string{"/bin/" + secret, secret}, Options: []string{"trace=all"}, Stacks: true, Refs: true,
	}, &format.WriterOptions{FlushInterval: -1, GroupSteps: 4})
	if err != nil {
		t.Fatal(err)
	}
	page := bytes.Repeat([]byte(secret+" "), addr.PageSize/7+1)[:addr.PageSize]
	other := append(bytes.Clone(page[:4000]), page[:96]...)
	m := func(start addr.Addr, k vma.Kind, name string) format.Change {
		v := vma.VMA{Range: addr.Reach(start, 4*addr.PageSize), Prot: addr.Read | addr.Write, Kind: k, Name: name}
		if k == vma.FilePrivate {
			v.Inode = 7
		}
		return &format.VMASet{MM: 1, VMA: v}
	}
	ev := func(thread uint32, r format.Record, changes ...format.Change) {
		e := format.Event{Time: 1000, Thread: thread, Record: r, Changes: changes}
		if _, ok := r.(*format.Signal); ok {
			e.Regs = make([]uint64, 27)
			copy(e.Regs, []uint64{0x544552434553})
		}
		if _, ok := r.(*format.Clone); ok {
			no, err := w.Module(&format.Module{BuildID: secret, GoBuildID: secret, Path: "/opt/" + secret, Size: 1, Mtime: 2})
			if err != nil {
				t.Fatal(err)
			}
			if e.Stack, err = w.Stack([]format.RawFrame{{Module: no, Offset: 1}, {Module: no, Offset: 2}}, 0, format.StackComplete); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := w.Event(&e); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Text(&format.Text{Name: "perf.map", MM: 1, Data: []byte("1000 10 " + secret)}); err != nil {
		t.Fatal(err)
	}
	ev(1, &format.Exec{Path: "/home/" + secret + "/a.out", Argv: []string{secret}, Auxv: []byte(secret), FDs: []format.FD{{Num: 3, Name: "/tmp/" + secret + " (deleted)"}}, Called: secret},
		&format.MMNew{MM: 1}, &format.ThreadSet{Thread: format.Thread{No: 1, TID: 10, TGID: 10, NSTID: 10, Proc: 1, MM: 1, Arch: arch.X86_64}},
		m(0x400000, vma.FilePrivate, "/home/"+secret+"/a.out"), m(0x500000, vma.Heap, "[heap]"), m(0x600000, vma.AnonPrivate, "[anon:"+secret+"]"), m(0x700000, vma.MainStack, "[stack]"))
	ev(1, &format.Syscall{Arch: arch.X86_64, Nr: 257, Args: [6]uint64{0xffffff9c, 0x500010, 0, 0}, Ret: 4, Returned: true, Bufs: []format.Buf{
		{Arg: 1, Addr: 0x500010, Data: []byte(secret + "/x")}, {Arg: call.BufRetName, Addr: 4, Data: []byte("/home/" + secret + "/x")},
	}})
	ev(1, &format.Syscall{Arch: arch.X86_64, Nr: 0, Args: [6]uint64{4, 0x500100, 100}, Ret: 6, Returned: true, Bufs: []format.Buf{{Arg: 1, Out: true, Addr: 0x500100, Data: []byte(secret)}}})
	ev(0, &format.Snapshot{MM: 1, Reason: "interval", Pages: 4}, &format.Pages{MM: 1, Addr: 0x500000, N: 2, What: format.PageData, Data: append(bytes.Clone(page), other...)},
		&format.Pages{MM: 1, Addr: 0x700000, N: 1, What: format.PageData, Data: page}, &format.Pages{MM: 1, Addr: 0x502000, N: 1, What: format.PageZero},
		&format.RegsSet{Thread: 1, Regs: []uint64{0x544552434553}}, &format.XStateSet{Thread: 1, Data: []byte(secret)})
	page[3000] ^= 1
	ev(0, &format.Snapshot{MM: 1, Reason: "interval", Pages: 1}, &format.Pages{MM: 1, Addr: 0x500000, N: 1, What: format.PageData, Data: page})
	if err := w.Ref(&format.Ref{Thread: 1, MM: 1, Page: 0x500000, Kind: format.RefRead}); err != nil {
		t.Fatal(err)
	}
	ev(1, &format.Signal{Signo: 11, Info: []byte(secret)})
	ev(1, &format.Clone{Child: 2}, &format.ThreadSet{Thread: format.Thread{No: 2, TID: 11, TGID: 10, NSTID: 11, Proc: 1, MM: 1, Arch: arch.X86_64}})
	ev(0, &format.MemInfo{Samples: []format.Sample{{Source: "status", PID: 10, Data: []byte("Name:\t" + secret + "\nVmRSS:\t  12 kB\nState:\tS (sleeping)\n")}, {Source: secret, Data: []byte(secret)}}})
	ev(0, &format.Check{MM: 1, Diff: "-" + secret, Maps: []byte(secret)})
	ev(0, &format.Poke{MM: 1, Addr: 0x500000, Old: []byte(secret), New: []byte(secret)})
	ev(0, &format.Lost{What: secret})
	ev(0, &format.Unknown{Code: 999, Data: []byte(secret)})
	ev(1, &format.Detach{Reason: secret})
	if err := w.Close(secret); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func open(t testing.TB, log []byte) *format.Reader {
	t.Helper()
	r, err := format.NewReader(bytes.NewReader(log), int64(len(log)), nil)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func policy(t testing.TB, keep, rules string) *Policy {
	t.Helper()
	p, err := Keeping(keep)
	if err == nil {
		err = p.Rules(rules)
	}
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// redacted makes a log in a file.
func redacted(t testing.TB, log []byte, p *Policy) ([]byte, *Proof) {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	proof, err := Make(context.Background(), open(t, log), nil, p, testKey, f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	return b, proof
}

// TestNothingIsLeft keeps each class alone, and all of them, of a log that has one
// secret everywhere.
func TestNothingIsLeft(t *testing.T) {
	log := sample(t)
	secret := []byte("SECRET")
	for class := Structure; class < NumClasses; class++ {
		keep := class.String()
		if class == Structure {
			keep = ""
		}
		out, proof := redacted(t, log, policy(t, keep, ""))
		got := bytes.Contains(formattest.Decoded(t, out), secret)
		want := proof.Inventory[class].Bytes > 0 && class != Options && class != System
		if got != want {
			t.Errorf("%q is kept: the secret is there: %v, and %v of it in the inventory", keep, got, proof.Inventory[class])
		}
		for c := Structure + 1; c < NumClasses; c++ {
			if a := proof.Inventory[c]; c != class && (a.Plain > 0 || a.Bytes > 0) {
				t.Errorf("%q is kept, and of %v there is %v", keep, c, a)
			}
		}
		if again, err := Check(bytes.NewReader(out), int64(len(out)), nil, nil); err != nil || again.Inventory != proof.Inventory {
			t.Errorf("%q is kept: Check says %v, %v", keep, again, err)
		}
		if n := open(t, out).Steps(); n != open(t, log).Steps() {
			t.Errorf("%q is kept: %d steps", keep, n)
		}
	}
	// What is gone does not come back, and the header does not say so.
	once, _ := redacted(t, log, policy(t, "argv,host", "drop paths"))
	twice, _ := redacted(t, once, policy(t, "calls,argv", "keep paths"))
	if h := open(t, twice).Header().Redacted; h != "keep argv; pseudonym mappings-names" {
		t.Errorf("redacted twice: %q", h)
	}
	if _, err := Check(bytes.NewReader(twice), int64(len(twice)), nil, nil); err != nil {
		t.Error(err)
	}
	// With all of it the secret is written over, byte by byte.
	all := "calls,paths,argv,data,pages,stacks-mem,registers,siginfo,mappings-names,host,system,names,auxv,options,messages"
	out, proof := redacted(t, log, policy(t, all, "match SECRET"))
	if d := formattest.Decoded(t, out); bytes.Contains(d, []byte("SECRET ")) || bytes.Contains(d, []byte("/SECRET")) || !bytes.Contains(d, []byte("/home/xxxxxx/a.out")) {
		t.Error("match has left something")
	}
	if proof.Inventory[Pages].Plain != 3 || proof.Inventory[StacksMem].Plain != 1 || proof.Inventory[Paths].Pseudonyms != 0 {
		t.Errorf("%v", &proof.Inventory)
	}
}

// TestProofIsIndependent gives logs to Count that no filter has seen: it names the class
// of all that the policy does not allow.
func TestProofIsIndependent(t *testing.T) {
	log := sample(t)
	all := strings.Split("calls,paths,argv,data,pages,stacks-mem,registers,siginfo,mappings-names,host,system,names,auxv,options,messages", ",")
	for i := range all {
		rest := append(append([]string{}, all[:i]...), all[i+1:]...)
		proof, err := Count(bytes.NewReader(log), int64(len(log)), nil, policy(t, strings.Join(rest, ","), ""))
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, b := range proof.Broken {
			found = found || b.Class.String() == all[i]
		}
		if !found {
			t.Errorf("without %s nothing is wrong: %v", all[i], proof.Broken)
		}
	}
	if _, err := Check(bytes.NewReader(log), int64(len(log)), nil, nil); err == nil {
		t.Error("a log that was never redacted passes")
	}
}

// TestDataOfCalls: buffers of some calls are kept, and those of others are not; the proof tells them
// apart.
func TestDataOfCalls(t *testing.T) {
	log := sample(t)
	for _, c := range []struct {
		rules string
		bytes uint64 // 6 are those of a read, 12 of a write into memory by a debugger, which is no call
	}{
		{"keep data read", 6}, {"keep data write,network", 0}, {"keep data; drop data desc", 12}, {"keep data; drop data write", 18}, {"keep data desc; drop data read", 0},
		{"keep data fd:4", 6}, {"keep data fd:0,3", 0}, {"keep data; drop data fd:4,9", 12}, {"keep data; drop data fd:5", 18}, {"keep data fd:4; drop data write", 6},
		{"drop data read; keep data", 12}, // a rule for some calls is narrower, wherever it is
	} {
		pol := policy(t, "calls", c.rules)
		out, proof := redacted(t, log, pol)
		if n := proof.Inventory[Data].Bytes; n != c.bytes || bytes.Contains(formattest.Decoded(t, out), []byte("SECRET")) != (n > 0) {
			t.Errorf("%s: %v", c.rules, &proof.Inventory)
		}
		if got, err := Check(bytes.NewReader(out), int64(len(out)), nil, nil); err != nil || got.Inventory != proof.Inventory {
			t.Errorf("%s: %v", c.rules, err)
		}
		if h := open(t, out).Header(); h.Calls {
			t.Errorf("%s: what calls wrote counts as memory, and is not all there", c.rules)
		}
		if c.rules != "keep data read" {
			continue
		}
		if p, err := Count(bytes.NewReader(out), int64(len(out)), nil, policy(t, "calls", "keep data write")); err != nil || p.Total == 0 {
			t.Errorf("%s: data of read is there, and the proof does not see it: %v", c.rules, err)
		}
		// Once more: with the same rules, or without data.
		for _, again := range []struct {
			rules string
			ok    bool
		}{{c.rules, true}, {"", true}, {"keep data", false}, {"keep data write", false}} {
			_, err := policy(t, "calls", again.rules).Header(open(t, out).Header(), make([]byte, KeySize))
			if (err == nil) != again.ok {
				t.Errorf("%s, then %s: %v", c.rules, again.rules, err)
			}
		}
	}
}

// TestDescriptors: a rule that keeps is about calls on its descriptors and no others, one that drops
// about all that name one.
func TestDescriptors(t *testing.T) {
	const at = 0xffffff9c // AT_FDCWD
	for _, c := range []struct {
		nr         uint32
		args       [6]uint64
		keep, drop bool // by a rule for 3
	}{
		{0, [6]uint64{3}, true, true},             // read
		{0, [6]uint64{4, 3}, false, false},        // 3 is the buffer
		{40, [6]uint64{3, 3}, true, true},         // sendfile
		{40, [6]uint64{3, 4}, false, true},        // from another one
		{262, [6]uint64{3, 1, 2}, false, true},    // newfstatat: of a file below
		{262, [6]uint64{at, 1, 2}, false, false},  //
		{157, [6]uint64{3}, false, false},         // prctl
		{0xffffff, [6]uint64{3}, false, false},    // no call
		{0, [6]uint64{3 | 1<<32, 0}, true, true},  // the kernel reads 32 bits
		{0, [6]uint64{0xffffffff}, false, false},  // none
		{16, [6]uint64{3, 0x5401, 9}, true, true}, // ioctl
	} {
		for _, mode := range []Mode{Keep, Drop} {
			r, err := dataRuleOf(mode, "fd:3")
			if err != nil {
				t.Fatal(err)
			}
			want := c.drop
			if mode == Keep {
				want = c.keep
			}
			if got := r.about(&format.Syscall{Arch: arch.X86_64, Nr: c.nr, Args: c.args}); got != want {
				t.Errorf("%s data fd:3 of call %d %x: %v", modeWords[mode], c.nr, c.args, got)
			}
		}
	}
}

// TestNotCounted: a log whose recorder was killed has room for an inventory, and none.
func TestNotCounted(t *testing.T) {
	out, proof := redacted(t, sample(t), policy(t, DefaultClasses, ""))
	h := *open(t, out).Header()
	h.Inventory = Room()
	b, err := h.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	out = append(b, out[len(b):]...)
	got, err := Check(bytes.NewReader(out), int64(len(out)), nil, nil)
	if err != nil || got.Inventory != proof.Inventory {
		t.Errorf("%v %v, want %v", err, got, &proof.Inventory)
	}
}

// TestInventoryIsCompared changes what a log has behind its inventory.
func TestInventoryIsCompared(t *testing.T) {
	out, proof := redacted(t, sample(t), policy(t, DefaultClasses, ""))
	inv := proof.Inventory
	inv[Paths].Pseudonyms++
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.Write(out); err != nil {
		t.Fatal(err)
	}
	if err := PutInventory(f, open(t, out).Header(), &inv); err != nil {
		t.Fatal(err)
	}
	if _, err := Check(f, int64(len(out)), nil, nil); !errors.Is(err, format.ErrCorrupt) {
		t.Errorf("an inventory that is not true: %v", err)
	}
}

func TestPseudonyms(t *testing.T) {
	p, q := newPseudonyms(testKey), newPseudonyms(bytes.Repeat([]byte{8}, KeySize))
	for _, x := range []struct{ name, form string }{
		{"/home/anna/a.txt", "/%/%/%"},
		{"/usr/lib/x", "/usr/%/%"},
		{"/home/usr/x", "/%/%/%"},
		{"../a", "../%"},
		{"a", "%"},
		{"/tmp/x (deleted)", "/%/% (deleted)"},
		{"/memfd:secret (deleted)", "/memfd:% (deleted)"},
		{"[anon:glibc: malloc]", "[anon:%]"},
		{"[heap]", "[heap]"},
		{"[heap of secrets]", "%"},
		{"pipe:[123]", "pipe:[123]"},
		{"pipe:[secret]", "%"},
		{"anon_inode:[eventpoll]", "anon_inode:[eventpoll]"},
		{"anon_inode:[Secret word]", "%"},
		{"/dev/null", "/dev/null"},
		{"/dev/disk/by-id/serial", "/dev/%/%/%"},
		{"/proc/self/maps", "/proc/self/maps"},
		{"/proc/1/environ", "/proc/%/%"},
		{"/SYSV0000abcd (deleted)", "/SYSV0000abcd (deleted)"},
		{"socket:[1]\nsecret", "%"},
		{"a\x00b", "%"},
		{"/", "/"},
	} {
		got := p.name(x.name)
		if form := maskDigits(got); form != x.form {
			t.Errorf("%q is %q", x.name, got)
		}
		if got != p.name(x.name) || !isPseudonym(got) || strings.Contains(x.form, "%") && (got == q.name(x.name) || isPseudonym(x.name)) {
			t.Errorf("%q is %q: not equal, not a pseudonym, or the same with another key", x.name, got)
		}
	}
	seen := map[string]bool{}
	for i := range 3000 { // 6 digits are not enough for some of them
		seen[p.component(fmt.Sprint(i))] = true
	}
	if len(seen) != 3000 {
		t.Errorf("%d names for 3000", len(seen))
	}
}

func maskDigits(s string) string {
	parts := strings.FieldsFunc(s, func(r rune) bool { return strings.ContainsRune("/: ]", r) })
	for _, part := range parts {
		if pseudonymForm.MatchString(part) {
			s = strings.Replace(s, part, "%", 1)
		}
	}
	return s
}

func TestRules(t *testing.T) {
	for _, x := range []struct{ rules, want string }{
		{"keep argv # a remark; keep data", "keep argv; pseudonym paths; pseudonym mappings-names"},
		{"drop paths\ndrop mappings-names", "drop all"},
		{"keep paths /usr/**; match abc\nmatch d+", "pseudonym paths; pseudonym mappings-names; keep paths /usr/**; matched 2"},
		{"drop paths; drop mappings-names; keep data fd:0,17", "keep data fd:0,17"},
		{"drop paths; drop mappings-names; keep data; drop data network,read", "keep data; drop data network,read"},
		{"keep", "no class"}, {"keep structure", "no class"}, {"hide argv", "want keep"}, {"match (", "missing"}, {"match .*", "nothing at all"}, {"match .", "written over"},
		{"match [a-z]{3}", "written over"}, {"pseudonym argv", "can have pseudonyms"}, {"keep argv /x", "take a pattern"}, {"keep data nosuchcall", "want calls"}, {"keep data fd:", "want calls"}, {"keep data fd:1,-2", "want calls"}, {"keep data fd:x", "want calls"}, {"keep data read; write", "want keep"}, {"drop data a b", "want calls"}, {"keep paths x", "want a pattern"}, {"shift it", "want"},
	} {
		p, err := Keeping("")
		if err == nil {
			err = p.Rules(x.rules)
		}
		if err != nil {
			if !strings.Contains(err.Error(), x.want) {
				t.Errorf("%q: %v", x.rules, err)
			}
			continue
		}
		if p.String() != x.want {
			t.Errorf("%q is %q", x.rules, p)
		}
		if q, err := FromHeader(p.String()); err != nil || q.String() != p.String() {
			t.Errorf("%q comes back from a header as %v, %v", p, q, err)
		}
	}
	for _, x := range []struct {
		pattern, name string
		want          bool
	}{
		{"/usr/**", "/usr/lib/x", true}, {"/usr/**", "/usr/../home/x", false}, {"/usr/*", "/usr/lib/x", false}, {"/usr/*", "/usr/lib", true}, {"/**/x", "/a/b/x", true},
		{"/usr/**", "/home/usr/x", false}, {"/usr/**", "x", false}, {"/a/**/b/**/c", "/a/1/b/2/c", true}, {"/a[", "/a[", false},
	} {
		if got := fits(x.pattern, x.name); got != x.want {
			t.Errorf("%s fits %s: %v", x.name, x.pattern, got)
		}
	}
}

// FuzzRedact redacts logs whose bytes were changed: no panic, and what is made is proved.
func FuzzRedact(f *testing.F) {
	log := sample(f)
	f.Add(log, uint16(0), byte(0))
	f.Add(log, uint16(700), byte(0xff))
	f.Fuzz(func(t *testing.T, log []byte, at uint16, with byte) {
		if len(log) > 0 {
			log = bytes.Clone(log)
			log[int(at)%len(log)] ^= with
		}
		o := &format.ReaderOptions{Cache: 4 << 20, MaxState: 32 << 20}
		r, err := format.NewReader(bytes.NewReader(log), int64(len(log)), o)
		if err != nil {
			return
		}
		for _, rules := range []string{"", "match SE\nkeep paths /home/**"} {
			var out bytes.Buffer
			p := policy(t, DefaultClasses+",pages", rules)
			if err := Copy(context.Background(), r, p, testKey, &out); err != nil {
				continue
			}
			proof, err := Count(bytes.NewReader(out.Bytes()), int64(out.Len()), o, p)
			if err == nil && proof.Total > 0 {
				t.Errorf("%v", proof.Broken)
			}
		}
	})
}
