//go:build linux

package record

import (
	"bytes"
	"strings"

	"memtrace/format"
)

// touched are the address spaces whose mappings the collected changes change, by
// anything but a call: after a call that may change them leaveCall checks,
// whether it did or not.
func (r *Recorder) touched(rec format.Record) []*space {
	if _, call := rec.(*format.Syscall); call || !r.opts.Check {
		return nil
	}
	var found []*space
	for mm := range r.mms {
		for _, c := range r.changes {
			if mappingsOf(c) == mm.no {
				found = append(found, mm)
				break
			}
		}
	}
	return found
}

// mappingsOf is the address space whose mappings a change changes, 0 for none.
func mappingsOf(c format.Change) uint32 {
	switch c := c.(type) {
	case *format.VMASet:
		return c.MM
	case *format.VMADel:
		return c.MM
	}
	return 0
}

// check compares the table of an address space with what the kernel prints, with
// its threads held, and writes down what it found.
func (r *Recorder) check(mm *space, thread uint32) {
	if mm.fs == nil || mm.busy != nil && mm.busy.no != thread || mm.loose > 0 || mm.strangers {
		return
	}
	r.hold(mm)
	for t := range mm.users {
		if t.unseen {
			return // what it is doing is not known yet
		}
	}
	text, err := mm.fs.MapsText()
	if err != nil || len(text) == 0 {
		return // it has ended
	}
	r.result.Checks++
	rec := &format.Check{MM: mm.no, OK: true}
	r.mapsText = mm.vmas.AppendMaps(r.mapsText[:0])
	if !bytes.Equal(r.mapsText, text) {
		// The main stack may have grown since the event.
		text = append([]byte(nil), text...)
		r.refreshGrowth(mm)
		r.mapsText = mm.vmas.AppendMaps(r.mapsText[:0])
		if !bytes.Equal(r.mapsText, text) {
			rec.OK, rec.Diff, rec.Maps = false, lineDiff(string(r.mapsText), string(text)), text
			r.result.Differed++
		}
	}
	rec.Sum = format.MapsSum(text)
	r.emitAs(thread, rec)
}

// lineDiff lists the lines that only one of two texts has.
func lineDiff(log, kernel string) string {
	count := map[string]int{}
	for _, l := range strings.SplitAfter(log, "\n") {
		count[l]++
	}
	var b strings.Builder
	for _, l := range strings.SplitAfter(kernel, "\n") {
		if count[l]--; count[l] < 0 {
			b.WriteString("+" + l)
		}
	}
	for _, l := range strings.SplitAfter(log, "\n") {
		if count[l] > 0 {
			count[l]--
			b.WriteString("-" + l)
		}
	}
	return b.String()
}
