package symbol

import (
	"math/rand/v2"
	"os"
	"runtime"
	"testing"
)

// BenchmarkNode names 10,000 different addresses of node, with their lines.
func BenchmarkNode(b *testing.B) {
	const node = "/usr/bin/node"
	if _, err := os.Stat(node); err != nil {
		b.Skip(err)
	}
	for b.Loop() {
		m := image(b, node)
		r := rand.New(rand.NewPCG(1, 2))
		var text codeSection
		for _, c := range m.main.code {
			if c.hi-c.lo > text.hi-text.lo {
				text = c
			}
		}
		named := 0
		for range 10000 {
			a := text.lo + r.Uint64N(text.hi-text.lo)
			f, ok := m.Func(a)
			m.Places(a)
			if ok {
				named++
				Demangle(f.Name)
			}
		}
		if named < 8000 {
			b.Fatalf("%d of 10000 have names", named)
		}
		var ms runtime.MemStats
		runtime.ReadMemStats(&ms)
		b.ReportMetric(float64(ms.HeapSys+ms.StackSys)/1e6, "MB")
	}
}
