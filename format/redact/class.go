// Package redact takes out of a log what its owner does not want to show, and proves that
// it is gone.
//
// Every place of the format that holds text or bytes has a Class, and a Policy lists the
// classes that stay: what is not listed is taken out. A Filter stands in front of a
// format.Writer and lets through what its policy allows, so that a log can be redacted
// when it is copied (Copy) and while it is recorded. Count reads the result chunk after
// chunk, without the Filter's help, and says what is left of each class.
package redact

import (
	"fmt"
	"strings"

	"memtrace/format"
)

// Class is a kind of text or bytes in a log.
type Class uint8

// The classes. Structure is always kept: numbers of steps, threads, processes, address
// spaces, times, addresses, protections, and words of memtrace's own.
const (
	Structure Class = iota
	Calls
	Paths
	Argv
	Data
	Pages
	StacksMem
	Registers
	Siginfo
	MappingsNames
	Host
	System
	Names
	Auxv
	Options
	Messages
	NumClasses
)

var classes = [NumClasses]struct{ name, what string }{
	Structure:     {"structure", "numbers of steps, threads and address spaces, times, addresses; always kept"},
	Calls:         {"calls", "names, arguments and results of system calls, as numbers"},
	Paths:         {"paths", "names of files: of calls, programs and descriptors"},
	Argv:          {"argv", "argument vectors of programs"},
	Data:          {"data", "other buffers of calls: what was read, written, sent; structures"},
	Pages:         {"pages", "contents of memory, but for stacks"},
	StacksMem:     {"stacks-mem", "contents of the memory of stacks; the main one has arguments and environment"},
	Registers:     {"registers", "registers of threads, vector registers too"},
	Siginfo:       {"siginfo", "what came with signals"},
	MappingsNames: {"mappings-names", "names of mappings, and of modules of call stacks with their build ids"},
	Host:          {"host", "name and kernel of the machine, working directory"},
	System:        {"system", "what the kernel said about memory; only lines of numbers"},
	Names:         {"names", "symbols of code made at run time (perf maps), code of the vdso"},
	Auxv:          {"auxv", "auxiliary vectors"},
	Options:       {"options", "options of the recorder"},
	Messages:      {"messages", "messages of the recorder: what was lost, why it ended"},
}

func (c Class) String() string {
	if c < NumClasses {
		return classes[c].name
	}
	return "unknown"
}

// What says what the class is about.
func (c Class) What() string {
	if c < NumClasses {
		return classes[c].what
	}
	return ""
}

// Parse is the class of a name.
func Parse(name string) (Class, error) {
	for c := Structure + 1; c < NumClasses; c++ {
		if classes[c].name == name {
			return c, nil
		}
	}
	var all []string
	for c := Structure + 1; c < NumClasses; c++ {
		all = append(all, classes[c].name)
	}
	return 0, fmt.Errorf("no class %q: want some of %s", name, strings.Join(all, ", "))
}

// places says of which class each field of the format is. A test in package format
// fails if there is a field that is not listed.
var places = map[string]Class{
	"header.version":   Structure,
	"header.redacted":  Structure,
	"header.inventory": Structure,
	"header.start":     Structure,
	"header.mono":      Structure,
	"header.kernel":    Host,
	"header.host":      Host,
	"header.dir":       Host,
	"header.arg":       Argv,
	"header.option":    Options,

	format.PlaceNumbers:   Calls,
	format.PlaceBuffer:    Data, // and others, as the call says
	format.PlaceRegisters: Registers,

	"signal.number":  Structure,
	"signal.fatal":   Structure,
	"signal.siginfo": Siginfo,

	"exec.path":                             Paths,
	"exec.former thread id":                 Structure,
	"exec.argument":                         Argv,
	"exec.auxiliary vector":                 Auxv,
	"exec.number":                           Structure,
	"exec.closed by exec":                   Structure,
	"exec.name":                             Paths,
	"exec.path that execve was called with": Paths,

	"clone.thread number of the child": Structure,
	"clone.flags":                      Structure,
	"clone.stack":                      Structure,

	"exit.wait status": Structure,
	"exit.process":     Structure,

	"stop.what":   Structure,
	"stop.signal": Structure,

	"snapshot.address space":   Structure,
	"snapshot.reason":          Messages,
	"snapshot.mechanism":       Structure,
	"snapshot.full":            Structure,
	"snapshot.pages looked at": Structure,
	"snapshot.ns of pause":     Structure,

	"meminfo.source":     System,
	"meminfo.process id": Structure,
	"meminfo.text":       System,

	"attach.process id":       Structure,
	"attach.auxiliary vector": Auxv,
	"attach.path":             Paths,
	"attach.argument":         Argv,
	"attach.number":           Structure,
	"attach.closed by exec":   Structure,
	"attach.name":             Paths,

	"attach.the recording goes on": Structure,

	"detach.reason": Messages,
	"lost.what":     Messages,

	"outside.for how long": Structure,
	"outside.reason":       Messages,

	"check.address space": Structure,
	"check.ok":            Structure,
	"check.difference":    MappingsNames,
	"check.maps":          MappingsNames,
	"check.CRC-32C of /proc/PID/maps as it was": Structure, // taken out where names are not kept

	"write.address space": Structure,
	"write.address":       Structure,
	"write.old":           Data,
	"write.new":           Data,

	"redacted.class of the event": Structure,

	"pages.address space": Structure,
	"pages.runs":          Structure,
	format.PlacePages:     Pages, // or StacksMem
	format.PlacePatches:   Pages,

	"set a mapping.address space":                              Structure,
	"set a mapping.numbers":                                    Structure,
	"set a mapping.name":                                       MappingsNames,
	"delete a range.address space":                             Structure,
	"delete a range.start":                                     Structure,
	"delete a range.length":                                    Structure,
	"new address space.number":                                 Structure,
	"new address space.number of the one that it is a copy of": Structure,
	"drop an address space.number":                             Structure,

	"set a thread.number":                Structure,
	"set a thread.tid":                   Structure,
	"set a thread.tgid":                  Structure,
	"set a thread.tid in its namespace":  Structure,
	"set a thread.number of its process": Structure,
	"set a thread.address space":         Structure,
	"set a thread.parent process":        Structure,
	"set a thread.arch":                  Structure,
	"end a thread.number":                Structure,

	"extended state of a thread.thread number":  Structure,
	"extended state of a thread.extended state": Registers,
	"registers of a thread.thread number":       Structure,
	"registers of a thread.registers":           Registers,

	"move pages.address space": Structure,
	"move pages.from":          Structure,
	"move pages.to":            Structure,
	"move pages.length":        Structure,
	"confirm.address space":    Structure,
	"written.address space":    Structure,
	"written.list":             Structure,

	"written before.address space":                                Structure,
	"written before.list":                                         Structure,
	"age of pages.steps since they were captured":                 Structure,
	"age of pages.steps before that in which they did not change": Structure,

	format.PlaceKeyName:   MappingsNames,
	format.PlaceKeyRegs:   Registers,
	format.PlaceKeyXState: Registers,

	"module.class":                 Structure,
	"module.build id":              MappingsNames,
	"module.Go build id":           MappingsNames,
	"module.path":                  MappingsNames,
	"module.major":                 Structure,
	"module.minor":                 Structure,
	"module.inode":                 Structure,
	"module.size":                  Structure,
	"module.ns of its last change": Structure, // taken out where names are not kept
	"module.address of the code":   Structure,
	"module.its file offset":       Structure,
	"module.address space":         Structure,

	"text.name":              Names,
	"text.address space":     Structure,
	"text.step":              Structure,
	"text.offset":            Structure,
	"text.size of the whole": Structure,
	"text.bytes":             Names,

	format.PlaceReason: Messages,
}

// never are places of what this version of memtrace does not know: nothing may be there.
var never = map[string]bool{format.PlaceOther: true, "unknown.body": true}

// Placed is the class of a place of the format. ok is false where it has none.
func Placed(place string) (c Class, ok bool) {
	c, ok = places[place]
	return c, ok
}
