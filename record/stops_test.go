//go:build linux

package record

import (
	"slices"
	"testing"

	"memtrace/format/arch"
	"memtrace/record/space"
)

// A filter stops the calls that are recorded. Every call that changes what the
// recorder knows must be one of them, whatever was asked for. ioctl is not: what it
// does to mappings is seen otherwise. The filter adds the calls about affinities.
func TestRecordedHasEffects(t *testing.T) {
	set := (&Options{Follow: true}).recorded()
	for _, id := range []arch.ID{arch.X86_64, arch.I386} {
		for nr, c := range id.Syscalls() {
			if space.EffectOf(id, nr) != space.EffNone && !slices.Contains([]string{"ioctl", "sched_getaffinity", "sched_setaffinity"}, c.Name) && !set.Has(id, nr) {
				t.Errorf("%v %s has effect %d and is not seen with a filter", id, c.Name, space.EffectOf(id, nr))
			}
		}
	}
}
