package gdbstub

import (
	"context"
	"encoding/hex"
	"fmt"
	"strconv"

	"memtrace/format/addr"
	"memtrace/format/arch"
	"memtrace/format/vma"
)

// machine says of what kind a program is, as lldb asks for it.
func machine(id arch.ID) string {
	name, size := "x86_64", 8
	if id == arch.I386 {
		name, size = "i386", 4
	}
	return fmt.Sprintf("triple:%x;endian:little;ptrsize:%d;", name+"-unknown-linux-gnu", size)
}

// host is qHostInfo, which lldb alone asks.
func (s *Session) host(context.Context, string) (string, error) {
	s.lldb = true
	return machine(s.arch) + "vm-page-size:4096;", nil
}

// processInfo is qProcessInfo.
func (s *Session) processInfo(context.Context, string) (string, error) {
	return fmt.Sprintf("pid:%x;%sostype:linux;", s.pid, machine(s.arch)), nil
}

// region is qMemoryRegionInfo:ADDR: the mapping that an address is in, or the gap between two.
func (s *Session) region(_ context.Context, p string) (string, error) {
	n, err := strconv.ParseUint(p, 16, 64)
	if err != nil {
		return "E16", nil
	}
	at, gap := addr.Addr(n), addr.Range{End: ^addr.Addr(0)}
	for v := range s.now.space.Mappings() {
		switch {
		case v.Contains(at):
			return regionOf(&v), nil
		case v.End <= at:
			gap.Start = max(gap.Start, v.End)
		default:
			gap.End = min(gap.End, v.Start)
		}
	}
	return fmt.Sprintf("start:%x;size:%x;", uint64(gap.Start), gap.Len()), nil
}

// regionOf is a mapping as lldb is told of it.
func regionOf(v *vma.VMA) string {
	access := ""
	for _, x := range []struct {
		prot addr.Prot
		sign string
	}{{addr.Read, "r"}, {addr.Write, "w"}, {addr.Exec, "x"}} {
		if v.Prot&x.prot != 0 {
			access += x.sign
		}
	}
	text := fmt.Sprintf("start:%x;size:%x;permissions:%s;", uint64(v.Start), v.Len(), access)
	if v.Name != "" {
		text += "name:" + hex.EncodeToString([]byte(v.Name)) + ";"
	}
	return text
}
