package format

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"

	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/call"
)

// walkEvents is what a file tree walk does: open, stat, list, close, with the
// paths as buffers.
func walkEvents(n int) []Event {
	rng := rand.New(rand.NewPCG(1, 1))
	evs := make([]Event, 0, n)
	now := uint64(0)
	emit := func(nr uint32, ret int64, bufs []Buf, args ...uint64) {
		now += 2000 + rng.Uint64N(1500)
		s := &Syscall{Arch: arch.X86_64, Nr: nr, Ret: ret, Returned: true, Enter: now, Bufs: bufs}
		copy(s.Args[:], args)
		now += 3000 + rng.Uint64N(2500)
		s.IP, s.SP = 0x7f3412345678+uint64(nr)*64, 0x7ffc12340000+uint64(nr)*16
		evs = append(evs, Event{Time: now, Thread: 1, Record: s})
	}
	for i := 0; len(evs) < n; i++ {
		name := fmt.Sprintf("%s%d", []string{"include", "linux", "asm-generic", "bits", "x86_64-linux-gnu", "sys"}[rng.IntN(6)], rng.IntN(400))
		at := 0x55d0c0de0000 + rng.Uint64N(64)*0x30
		path := []Buf{{Arg: 1, Addr: addr.Addr(at), Data: []byte(name)}}
		emit(257, 4, append(path[:1:1], Buf{Arg: call.BufRetName, Out: true, Addr: 4, Data: []byte("/usr/include/" + name)}), 4, at, 0xb0900)
		emit(262, 0, []Buf{{Arg: 1, Addr: 0x7f3400000000, Data: []byte{}}}, 4, 0x7f3400000000, 0x7ffc12345000, 0x1000)
		emit(72, 0x18800, nil, 4, 3)
		emit(72, 0, nil, 4, 2, 1)
		emit(217, int64(200+24*rng.IntN(200)), nil, 4, 0x55d0c0de8000, 0x8000)
		emit(262, 0, path, 4, at, 0x7ffc12345000, 0x100)
		emit(217, 0, nil, 4, 0x55d0c0de8000, 0x8000)
		emit(3, 0, nil, 4)
	}
	return evs[:n]
}

func BenchmarkEventEncode(b *testing.B) {
	evs := walkEvents(8192)
	w, err := NewWriter(io.Discard, testHeader(), nil)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, err := w.Event(&evs[i%len(evs)]); err != nil {
			b.Fatal(err)
		}
	}
	if err := w.Close(""); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(w.Bytes())/float64(b.N), "B/event")
}

func BenchmarkEventDecode(b *testing.B) {
	log := writeLog(b, walkEvents(64<<10), nil, 0)
	r := openLog(b, log)
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		for _, err := range r.Events(0) {
			if err != nil {
				b.Fatal(err)
			}
			n++
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(n), "ns/event")
}

func BenchmarkPages(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 1))
	const n = 1024
	for _, bench := range []struct {
		name   string
		change int // bytes changed in each page, each round
	}{{"same", 0}, {"patch", 12}, {"raw", addr.PageSize}} {
		b.Run(bench.name, func(b *testing.B) {
			var out bytes.Buffer
			w, err := NewWriter(&out, testHeader(), nil)
			if err != nil {
				b.Fatal(err)
			}
			data := make([]byte, n*addr.PageSize)
			for i := range data {
				data[i] = byte(rng.Uint32N(5)) * byte(i>>4)
			}
			if err := w.Change(&MMNew{MM: 1}); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				b.StopTimer()
				for p := range n {
					for range bench.change {
						data[p*addr.PageSize+rng.IntN(addr.PageSize)] = byte(rng.Uint32())
					}
				}
				b.StartTimer()
				if err := w.Change(&Pages{MM: 1, Addr: 0x10000, N: n, What: PageData, Data: data}); err != nil {
					b.Fatal(err)
				}
				if _, err := w.Event(&Event{Record: &Snapshot{MM: 1}}); err != nil {
					b.Fatal(err)
				}
			}
			if err := w.Close(""); err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(out.Len())/float64(w.info.Pages), "B/page")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(w.info.Pages), "ns/page")
		})
	}
}
