package analyze

import (
	"fmt"
	"strconv"
	"strings"

	"memtrace/format"
)

// group is a part of /proc/meminfo that belongs together.
type group struct {
	name, explain string
	keys          []string
}

// groups put /proc/meminfo in the order in which a person asks
// (proc_meminfo(5)).
var groups = []group{
	{"free", "MemFree is unused; MemAvailable is what could be had without swapping", []string{"MemTotal", "MemFree", "MemAvailable"}},
	{"page cache", "file contents kept in memory: given back when memory is short", []string{
		"Buffers", "Cached", "SwapCached", "Active(file)", "Inactive(file)", "Dirty", "Writeback", "Shmem",
	}},
	{"programs", "memory of programs that no file backs, and files they have mapped", []string{
		"AnonPages", "Active(anon)", "Inactive(anon)", "Mapped", "AnonHugePages", "Unevictable", "Mlocked",
	}},
	{"kernel", "the kernel's own: SUnreclaim that grows for ever is a kernel leak", []string{
		"Slab", "SReclaimable", "SUnreclaim", "PageTables", "KernelStack", "VmallocUsed", "Percpu",
	}},
	{"commitment", "what programs were promised, against what may be promised at all", []string{"Committed_AS", "CommitLimit"}},
	{"swap", "SwapFree that falls means that memory was not enough", []string{"SwapTotal", "SwapFree", "Zswap", "Zswapped"}},
}

// System shows a text of /proc/meminfo in groups, as read at step at.
func System(text []byte, at format.Step) *Result { return systemTable(parseMeminfo(text), at) }

// systemTable puts values of /proc/meminfo into groups.
func systemTable(m map[string]uint64, at format.Step) *Result {
	r := &Result{Report: "system", Title: fmt.Sprintf("Memory of the system, sampled at step %d", at), Columns: []Column{
		{Key: "group", Title: "", Unit: Text}, {Key: "key", Title: "", Unit: Text}, {Key: "bytes", Title: "SIZE", Unit: Bytes}, {Key: "share", Title: "SHARE", Unit: Percent},
	}}
	for _, g := range groups {
		name := g.name
		for _, k := range g.keys {
			n, ok := m[k]
			if !ok {
				continue
			}
			r.Rows = append(r.Rows, []any{name, k, n, percent(n, m["MemTotal"])})
			name = ""
		}
	}
	return r
}

// SystemHelp explains the groups.
func SystemHelp() string {
	var b strings.Builder
	for _, g := range groups {
		fmt.Fprintf(&b, "  %-11s %s\n              (%s)\n", g.name, g.explain, strings.Join(g.keys, ", "))
	}
	return strings.TrimRight(b.String(), "\n")
}

// parseMeminfo reads "Key:   123 kB" lines into bytes; lines of another form are
// left out.
func parseMeminfo(text []byte) map[string]uint64 {
	m := map[string]uint64{}
	for line := range strings.Lines(string(text)) {
		k, v, ok := strings.Cut(line, ":")
		f := strings.Fields(v)
		if !ok || len(f) == 0 {
			continue
		}
		n, err := strconv.ParseUint(f[0], 10, 64)
		if err != nil {
			continue
		}
		if len(f) > 1 && f[1] == "kB" {
			n <<= 10
		}
		m[k] = n
	}
	return m
}

// Sampled shows what smaps_rollup or status say of a process: the keys that
// only a live process can tell.
func Sampled(text []byte, at format.Step) *Result {
	m := parseMeminfo(text)
	from := "status"
	if _, ok := m["Pss"]; ok {
		from = "smaps_rollup"
	}
	r := &Result{Report: "sampled", Title: fmt.Sprintf("Resident memory (%s), sampled at step %d", from, at), Columns: []Column{
		{Key: "key", Title: "", Unit: Text}, {Key: "bytes", Title: "SIZE", Unit: Bytes},
	}}
	for _, k := range []string{
		"VmRSS", "Rss", "Pss", "RssAnon", "RssFile", "RssShmem", "Anonymous", "Private_Dirty", "Shared_Dirty", "VmSwap", "Swap", "VmLck", "Locked",
	} {
		if n, ok := m[k]; ok {
			r.Rows = append(r.Rows, []any{k, n})
		}
	}
	return r
}
