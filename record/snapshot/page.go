//go:build linux

// This file says what a page of a mapping is: the one place that knows it.

package snapshot

import (
	"strings"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/vma"
	"memtrace/record/dirty"
	"memtrace/record/procfs"
)

// Unread says whether the log has no use for a mapping's bytes: they are the kernel's
// own, or a device's.
func Unread(v vma.VMA) bool {
	return v.Kind == vma.VVAR || v.Name == "[vsyscall]" ||
		strings.HasPrefix(v.Name, "/dev/") && !strings.HasPrefix(v.Name, "/dev/zero") && !strings.HasPrefix(v.Name, "/dev/shm/")
}

// Always says whether all pages of a mapping are to be read, also those that are not
// there: it is the kernel's own, and what is not there yet is not zero.
func Always(v vma.VMA) bool { return v.Kind == vma.VDSO }

// Untouched is what a page holds that was mapped and never written to; 0 is not known.
func Untouched(v vma.VMA) format.PageKind {
	switch {
	case v.Kind == vma.FilePrivate && v.Name == "/dev/zero":
		return format.PageZero
	case v.Kind == vma.FilePrivate, v.Kind == vma.FileShared && v.Prot&addr.Write == 0:
		return format.PageFile
	case v.Kind == vma.AnonPrivate || v.Kind == vma.Heap || v.Kind == vma.ThreadStack:
		return format.PageZero
	}
	return 0
}

// Missing is what a page holds that is not there when the mapping is read; 0 is not
// known. It is Untouched but for the main stack, which grows without a call.
func Missing(v vma.VMA) format.PageKind {
	if v.Kind == vma.MainStack {
		return format.PageZero
	}
	return Untouched(v)
}

// Class is what a page is that the kernel told of.
type Class uint8

// The classes of pages.
const (
	Gone Class = iota // given back
	Zero              // the zero page
	File              // the file's, which nobody can have written to here
	Own               // contents of its own
)

// Classify says what a page of a mapping is, by the categories that the kernel told
// (dirty.Reported).
func Classify(v vma.VMA, categories uint64) Class {
	switch {
	case categories&dirty.Present == 0:
		return Gone
	case categories&procfs.PageIsZero != 0:
		return Zero
	case v.Kind == vma.FileShared && v.Prot&addr.Write == 0,
		v.Kind == vma.FilePrivate && categories&procfs.PageIsFile != 0:
		return File
	}
	return Own
}
