package parquet

import (
	"bytes"
	"strconv"
	"strings"

	"memtrace/format"
	"memtrace/format/proctext"
	"memtrace/replay"
)

// statusNames are the lines of /proc/PID/status that have names of their own.
var statusNames = map[string]string{"VmRSS": "rss", "RssAnon": "anonymous", "RssFile": "file", "RssShmem": "shared", "VmSwap": "swapped", "Threads": "threads"}

// sample takes in what was sampled of the system and of processes.
func (x *exporter) sample(m *replay.Moment, info *format.MemInfo) {
	for i := range info.Samples {
		s := &info.Samples[i]
		if s.Source == "status" || s.Source == "smaps_rollup" {
			for _, key := range []string{"VmHWM", "VmRSS", "Rss"} {
				if n, ok := proctext.Field(s.Data, key).Size(); ok {
					x.peak = max(x.peak, n)
				}
			}
		}
		if x.samples == nil {
			continue
		}
		proc := int64(0)
		if s.PID != 0 {
			var known bool
			if proc, known = x.procs[s.PID]; !known {
				continue
			}
		}
		add := func(name string, value float64) {
			*x.samples.row() = sampleRow{Run: x.o.Run, TNS: int64(m.Event.Time), Step: int64(m.Event.Step), Proc: proc, Name: text(name), Value: value}
		}
		switch s.Source {
		case "statm", "smaps", "cleared", "referenced": // pages that are in status as bytes, and single mappings
		case "pressure":
			pressure(s.Data, add)
		case "status":
			keyed(s.Data, func(key string, value float64) {
				if name, ok := statusNames[key]; ok {
					add(name, value)
				}
			})
		default:
			keyed(s.Data, func(key string, value float64) { add(strings.TrimSuffix(s.Source+"."+key, "."), value) })
		}
	}
}

// keyed calls add for each number of a text of /proc: "Key: 12 kB", in bytes, "key 12", or
// a number alone.
func keyed(data []byte, add func(key string, value float64)) {
	for line := range bytes.Lines(data) {
		if key, v, ok := proctext.Line(line); ok {
			if n, ok := v.Size(); ok {
				add(string(key), float64(n))
			}
			continue
		}
		words := strings.Fields(string(line))
		if len(words) == 0 || len(words) > 2 {
			continue
		}
		if n, err := strconv.ParseUint(words[len(words)-1], 10, 64); err == nil {
			add(strings.Join(words[:len(words)-1], ""), float64(n))
		}
	}
}

// pressure calls add for each number of /proc/pressure/memory: "some avg10=0.00 total=0".
// Averages are in percent, totals in microseconds.
func pressure(data []byte, add func(name string, value float64)) {
	for line := range bytes.Lines(data) {
		words := strings.Fields(string(line))
		for i := 1; i < len(words); i++ {
			key, value, _ := strings.Cut(words[i], "=")
			if n, err := strconv.ParseFloat(value, 64); err == nil {
				add("psi_"+words[0]+"_"+key, n)
			}
		}
	}
}
