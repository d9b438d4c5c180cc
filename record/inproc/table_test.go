package inproc

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"testing"

	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/call"
)

// programMemory is memory whose bytes follow from their addresses. Every 50th is a NUL.
func programMemory(b []byte, a addr.Addr) int {
	for i := range b {
		b[i] = byte((a + addr.Addr(i)) % 50)
	}
	return len(b)
}

// written is the record of a call as the code writes it: what its row says is kept.
func written(t *Table, c *call.Call) *Record {
	row := t.row(c.Nr)
	if le.Uint16(row[rowFlags:])&flagFutex != 0 && c.Args[1]&3 != 0 && c.Args[1]&0x7f != 9 {
		row = t.row(wakesRow)
	}
	r := &Record{}
	for i := range maxPieces {
		p := row[rowPieces+8*i:]
		kind, most := call.PieceKind(p[0]), uint64(le.Uint32(p[4:]))
		at := c.Args[p[1]%6]
		if kind == 0 {
			break
		}
		if at == 0 || kind >= call.PieceOutFixed && c.Failed() != 0 {
			continue
		}
		n := most
		switch kind {
		case call.PieceString:
			for n = 0; n < most; n++ {
				var one [1]byte
				programMemory(one[:], addr.Addr(at+n))
				if one[0] == 0 {
					n++
					break
				}
			}
		case call.PieceInLen, call.PieceOutLen:
			n = min(c.Args[p[2]], most) * uint64(p[3])
		case call.PieceOutRet:
			n = uint64(c.Ret)
			if p[2] != 0 {
				n = min(n, c.Args[p[2]])
			}
			n = min(n, most) * uint64(p[3])
		case call.PieceOutPtr:
			var b [4]byte
			if n = 0; c.Args[p[2]] != 0 {
				programMemory(b[:], addr.Addr(c.Args[p[2]]))
				n = uint64(le.Uint32(b[:]))
			}
		}
		data := make([]byte, min(n, most))
		programMemory(data, addr.Addr(at))
		r.chunks = le.AppendUint64(r.chunks, at)
		r.chunks = le.AppendUint32(r.chunks, uint32(len(data)))
		r.chunks = le.AppendUint32(r.chunks, uint32(kind))
		r.chunks = append(append(r.chunks, data...), make([]byte, -len(data)&15)...)
	}
	return r
}

// TestRowsKeepWhatIsRead compares, for each call that is recorded inside, what a collector
// reads of a program at a stop with what it finds in a record.
func TestRowsKeepWhatIsRead(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	seen := 0
	for _, limits := range [][2]int{{4096, 32}, {-1, -1}, {100, 5}, {1, 4096}} {
		k := call.Collector{Level: call.LevelData, MaxData: limits[0], MaxString: limits[1]}
		table := NewTable(&k, records)
		for nr := range uint32(rowCount) {
			for range 40 {
				c := call.Call{Arch: arch.X86_64, Nr: nr, Returned: true, SP: 0x7ffffff00000}
				for i := range c.Args {
					c.Args[i] = random.Uint64N(1 << (random.Uint64N(20) + 1))
					if random.IntN(2) == 0 {
						c.Args[i] += 0x7f0000000000
					}
				}
				if random.IntN(2) == 0 {
					c.Args[1] = []uint64{0, 1, 2, 3, 4, 9, 0x81, 0x189, 0x5401}[random.IntN(9)]
				}
				if c.Ret = int64(random.Uint64N(5000)); random.IntN(4) == 0 {
					c.Ret = -int64(random.Uint64N(40) + 1)
				}
				if le.Uint16(table.row(nr)[rowFlags:])&flagSigset != 0 {
					c.Args[3] = 8
				}
				if c.Ret == -4 || !table.Records(uint64(nr), c.Args[0], c.Args[1]) {
					continue
				}
				seen++
				read := c
				live := k
				live.Read = programMemory
				live.Enter(&read)
				live.Exit(&read)
				rec, found := written(table, &c), c
				fromRecord := k
				fromRecord.Read = func(b []byte, a addr.Addr) int { return rec.Read(b, a, false) }
				fromRecord.Enter(&found)
				fromRecord.Read = func(b []byte, a addr.Addr) int { return rec.Read(b, a, true) }
				fromRecord.Exit(&found)
				if !reflect.DeepEqual(found.Bufs, read.Bufs) {
					t.Fatalf("%s %#x = %d, limits %v: a record has %.300s, a stop %.300s", c.Name(), c.Args, c.Ret, limits, fmt.Sprint(found.Bufs), fmt.Sprint(read.Bufs))
				}
				if n := recHead + uint32(len(rec.chunks)); n > le.Uint32(table.row(nr)[rowRoom:]) {
					t.Fatalf("%s %#x: its record has %d bytes, more than its row says", c.Name(), c.Args, n)
				}
			}
		}
	}
	if seen < 2000 {
		t.Errorf("only %d calls looked at", seen)
	}
}

// TestTableHasThem looks whether the calls are recorded that programs make most.
func TestTableHasThem(t *testing.T) {
	table := NewTable(&call.Collector{Level: call.LevelData, MaxData: 4096, MaxString: 32}, records)
	for _, name := range []string{"read", "write", "pread64", "openat", "close", "newfstatat", "fstat", "lseek", "getdents64", "getppid", "poll", "access", "readlink", "dup2", "futex", "epoll_pwait", "recvfrom", "accept4", "getpeername", "rt_sigprocmask"} {
		nr, _ := arch.X86_64.Number(name)
		if !table.Records(uint64(nr), 0, 0) {
			t.Errorf("%s is not recorded inside", name)
		}
	}
	futex, _ := arch.X86_64.Number("futex")
	for op, inside := range map[uint64]bool{0: true, 1: true, 2: false, 4: false, 6: false, 9: true, 10: true, 11: false, 128: true, 129: true, 0x189: true, 0x202: false} {
		if table.Records(uint64(futex), 0, op) != inside {
			t.Errorf("futex %d: recorded inside is not %v", op, inside)
		}
	}
	if table.Records(wakesRow, 0, 0) {
		t.Error("a number that no call has is recorded inside")
	}
	fcntl, _ := arch.X86_64.Number("fcntl")
	for command, inside := range map[uint64]bool{0: true, 3: true, 1030: true, 5: false, 36: false, 38: false, 1034: false, 1<<32 | 3: true, 992 + 31: false} {
		if table.Records(uint64(fcntl), 0, command) != inside {
			t.Errorf("fcntl %d: recorded inside is not %v", command, inside)
		}
	}
	for _, name := range []string{"mmap", "munmap", "brk", "clone", "execve", "exit_group", "rt_sigreturn", "wait4", "prctl", "restart_syscall", "sched_getaffinity", "ptrace", "recvmsg"} {
		nr, _ := arch.X86_64.Number(name)
		if table.Records(uint64(nr), 0, 0) {
			t.Errorf("%s is recorded inside", name)
		}
	}
}

// records has all calls recorded inside.
func records(uint32) Choice { return Records }

// TestTableChooses looks whether calls that are not to be recorded inside, or not at all, are
// left to stops or pass.
func TestTableChooses(t *testing.T) {
	nr := func(name string) uint32 { nr, _ := arch.X86_64.Number(name); return nr }
	table := NewTable(&call.Collector{Level: call.LevelData, MaxData: 4096, MaxString: 32}, func(n uint32) Choice {
		switch n {
		case nr("read"):
			return Records
		case nr("write"), nr("futex"), nr("eventfd2"):
			return Passes
		}
		return Stops
	})
	for name, want := range map[string]Choice{"read": Records, "write": Passes, "futex": Passes, "eventfd2": Passes, "lseek": Stops} {
		row := table.row(nr(name))
		got := Stops
		if table.Records(uint64(nr(name)), 0, 0) {
			got = Records
			if row[rowQuiet] != 0 {
				got = Passes
			}
		}
		if got != want || got == Passes && (row[rowPieces] != 0 || le.Uint16(row[rowFlags:])&flagNames != 0) {
			t.Errorf("%s: %d, not %d; its row is %v", name, got, want, row)
		}
	}
	if row := table.row(wakesRow); row[rowClass] != 0 || row[rowQuiet] != 1 {
		t.Errorf("futex(2) that wakes: %v", row)
	}
}
