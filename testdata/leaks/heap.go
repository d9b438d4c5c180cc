// Programs whose verdict is known, in Go: heap MODE SECONDS [A [B]].
//
//	slice       leak: A KiB a second in a slice of slices
//	goroutines  leak: A goroutines a second that wait for ever
//	maps        leak: A entries a second in a map
//	garbage     no leak: A MiB a second that nothing refers to, beside B MiB
//	pool        no leak: buffers from a sync.Pool
//	lru         no leak: a map of at most A MiB, full after B percent of the time
//	burst       no leak: takes A MiB at once, drops it, and works on
package main

import (
	"fmt"
	"os"
	"strconv"
	"sync"
	"time"
)

var (
	begun  = time.Now()
	length float64
	a, b   = 1.0, 1.0
	kept   [][]byte
	sink   []byte
)

func fill(n int) []byte {
	p := make([]byte, n)
	for i := 0; i < n; i += 512 {
		p[i] = 1
	}
	return p
}

func ticks(do func(t float64)) {
	for {
		t := time.Since(begun).Seconds()
		if t >= length {
			return
		}
		do(t)
		time.Sleep(20 * time.Millisecond)
	}
}

func main() {
	length, _ = strconv.ParseFloat(os.Args[2], 64)
	if len(os.Args) > 3 {
		a, _ = strconv.ParseFloat(os.Args[3], 64)
	}
	if len(os.Args) > 4 {
		b, _ = strconv.ParseFloat(os.Args[4], 64)
	}
	done := 0.0
	switch os.Args[1] {
	case "slice":
		ticks(func(t float64) {
			for ; done < t*a; done++ {
				kept = append(kept, fill(1024))
			}
		})
	case "goroutines":
		wait := make(chan int)
		ticks(func(t float64) {
			for ; done < t*a; done++ {
				go func() { <-wait }()
			}
		})
	case "maps":
		m := map[string]int{}
		ticks(func(t float64) {
			for ; done < t*a; done++ {
				m[fmt.Sprint("key ", done)] = int(done)
			}
		})
	case "garbage":
		kept = append(kept, fill(int(b*(1<<20))))
		ticks(func(t float64) {
			for ; done < t*a*64; done++ {
				sink = fill(16 << 10)
			}
		})
	case "pool":
		p := sync.Pool{New: func() any { return fill(64 << 10) }}
		ticks(func(t float64) {
			for range int(a) {
				x := p.Get().([]byte)
				x[0]++
				p.Put(x)
			}
			sink = fill(1000)
		})
	case "lru":
		m, most := map[int][]byte{}, int(a*1024)
		ticks(func(t float64) {
			for ; done < t*float64(most)/(length*b/100); done++ {
				m[int(done)] = fill(1024)
				delete(m, int(done)-most)
			}
		})
	case "burst":
		for range int(a) {
			kept = append(kept, fill(1<<20))
		}
		kept = nil
		ticks(func(t float64) { sink = fill(4096) })
	default:
		os.Exit(2)
	}
}
