package format

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"time"

	"memtrace/format/addr"
	"memtrace/format/arch"
)

// The version of the format that this package writes.
const (
	Major = 1
	Minor = 2
)

// Feature bits of the file header: a reader refuses unknown incompatible ones
// and ignores unknown compatible ones.
const (
	incompatRedacted uint64 = 4 // pages whose contents were taken out
	incompatBegin    uint64 = 1 // the log begins in the middle of a run
	knownIncompat           = incompatRedacted | incompatBegin

	compatCalls  uint64 = 1 // the state has what system calls wrote
	compatStacks uint64 = 2 // the log has call stacks
	compatRefs   uint64 = 4 // references to pages were recorded
)

// Sizes of the fixed parts of a log.
const (
	headerFixed = 64
	tailSize    = 32
)

var magic = [8]byte{0x8a, 'M', 'T', 'L', '\r', '\n', 0x1a, '\n'}

// Header is what is known when a recording begins.
type Header struct {
	Arch      arch.ID // of the recording machine
	TimeShift uint8   // times are kept in units of 1<<TimeShift ns
	Salt      [16]byte
	Start     time.Time // Event.Time 0, by the wall clock
	Mono      uint64    // and by CLOCK_MONOTONIC, ns

	Version string // of memtrace
	Kernel  string // uname: release and version
	Host    string
	Dir     string   // working directory
	Argv    []string // of the traced program
	Options []string // of the recorder, as "key=value"
	XSave   uint32   // size of an extended state area, 0 if none is kept
	Minor   uint16   // version that wrote the log; set by readers
	// Calls says that what system calls wrote counts as memory; set by readers.
	Calls bool
	// Stacks says that the recorder took call stacks: an event without one has none for
	// a reason. Without it no event has.
	Stacks bool
	// Begin says where the log begins, if not with its run; Segment is its number, from 1,
	// among those that a recording into a ring was divided into, 0 if it is none.
	Begin   Begin
	Segment uint64
	// Refs says that references to pages are recorded: where there are none, none
	// were seen.
	Refs bool
	// Redacted says what was taken out of the log, "" for nothing: classes of texts and
	// bytes with what became of each, as package redact writes them.
	Redacted string
	// Inventory is what is left of each class, as counted in the log itself. It has
	// spaces at its end; "" where nobody has counted.
	Inventory string
	// NoPages says that pages may be in the log without their contents, NoCalls that what
	// calls wrote was taken out and memory does not have it.
	NoPages, NoCalls bool
}

// DefaultTimeShift gives units of 512 ns: a ptrace stop takes microseconds, and
// finer clocks fill the log with noise.
const DefaultTimeShift = 9

// Tags of the header's extension.
const (
	tagStart = iota + 1
	tagMono
	tagVersion
	tagKernel
	tagHost
	tagDir
	tagArg
	tagOption
	tagBegin
	tagSegment
	tagRedacted
	tagInventory
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func appendTLV(b []byte, tag uint64, v []byte) []byte {
	return appendStr(appendU(b, tag), v)
}

// Append encodes the header of a log that is there: its Salt is in it. The rest of the
// log fits if what is written is as long as it was.
func (h *Header) Append(b []byte) ([]byte, error) { return h.append(b) }

// append encodes h; a zero Salt is chosen at random and kept in h.
func (h *Header) append(b []byte) ([]byte, error) {
	if h.Salt == ([16]byte{}) {
		if _, err := io.ReadFull(rand.Reader, h.Salt[:]); err != nil {
			return nil, fmt.Errorf("choose a salt: %w", err)
		}
	}
	if h.TimeShift > 30 {
		return nil, overLimit("the clock's shift", uint64(h.TimeShift), 30)
	}
	var ext []byte
	if !h.Start.IsZero() {
		ext = appendTLV(ext, tagStart, appendZZ(nil, h.Start.UnixNano()))
	}
	ext = appendTLV(ext, tagMono, appendU(nil, h.Mono))
	for i, s := range []string{h.Version, h.Kernel, h.Host, h.Dir} {
		if s != "" {
			ext = appendTLV(ext, uint64(tagVersion+i), []byte(s))
		}
	}
	for i, s := range []string{h.Redacted, h.Inventory} {
		if s != "" {
			ext = appendTLV(ext, uint64(tagRedacted+i), []byte(s))
		}
	}
	var incompat uint64
	if h.NoPages {
		incompat |= incompatRedacted
	}
	if h.Begin != (Begin{}) {
		if h.Begin.Step > MaxBegin || h.Begin.Events > uint64(MaxThreads) {
			return nil, overLimit("the first step", uint64(h.Begin.Step), MaxBegin)
		}
		incompat |= incompatBegin
		ext = appendTLV(ext, tagBegin, appendU(appendU(nil, uint64(h.Begin.Step)), h.Begin.Events))
	}
	if h.Segment > 0 {
		ext = appendTLV(ext, tagSegment, appendU(nil, h.Segment))
	}
	for _, s := range h.Options {
		ext = appendTLV(ext, tagOption, []byte(s))
	}
	for _, s := range h.Argv {
		// A command line may be megabytes long: the log keeps its beginning.
		if len(ext)+len(s)+16 > MaxHeader-headerFixed {
			break
		}
		ext = appendTLV(ext, tagArg, []byte(s))
	}
	if headerFixed+len(ext) > MaxHeader {
		return nil, overLimit("the file header", uint64(headerFixed+len(ext)), MaxHeader)
	}
	le := binary.LittleEndian
	start := len(b)
	b = append(b, magic[:]...)
	b = le.AppendUint16(b, Major)
	b = le.AppendUint16(b, Minor)
	b = le.AppendUint32(b, uint32(headerFixed+len(ext)))
	b = le.AppendUint64(b, incompat)
	compat := uint64(0)
	if !h.NoCalls {
		compat |= compatCalls
	}
	if h.Stacks {
		compat |= compatStacks
	}
	if h.Refs {
		compat |= compatRefs
	}
	b = le.AppendUint64(b, compat)
	b = append(b, h.Salt[:]...)
	b = append(b, byte(h.Arch), addr.PageShift, h.TimeShift, 0)
	b = le.AppendUint32(b, h.XSave)
	b = le.AppendUint32(b, 0)
	crc := crc32.Update(crc32.Checksum(b[start:], castagnoli), castagnoli, ext)
	b = le.AppendUint32(b, crc)
	return append(b, ext...), nil
}

// headerLen checks the fixed part of a file header and says how long it all is.
func headerLen(b []byte) (int, error) {
	if len(b) < len(magic) || !bytes.Equal(b[:len(magic)], magic[:]) {
		return 0, ErrFormat
	}
	if len(b) < headerFixed {
		return 0, fmt.Errorf("%w: in its header", ErrTruncated)
	}
	le := binary.LittleEndian
	if v := le.Uint16(b[8:]); v != Major {
		return 0, fmt.Errorf("%w: version %d.%d, this memtrace reads %d", ErrVersion, v, le.Uint16(b[10:]), Major)
	}
	if bits := le.Uint64(b[16:]) &^ knownIncompat; bits != 0 {
		return 0, fmt.Errorf("%w: it needs features %#x", ErrVersion, bits)
	}
	n := le.Uint32(b[12:])
	if n < headerFixed || n > MaxHeader {
		return 0, at(0, corrupt("header length %d", n))
	}
	return int(n), nil
}

// parseHeader decodes a whole file header.
func parseHeader(b []byte) (*Header, error) {
	le := binary.LittleEndian
	crc := crc32.Update(crc32.Checksum(b[:60], castagnoli), castagnoli, b[headerFixed:])
	if crc != le.Uint32(b[60:]) {
		return nil, at(0, corrupt("checksum of the file header"))
	}
	h := &Header{
		Arch: arch.ID(b[48]), TimeShift: b[50], XSave: le.Uint32(b[52:]), Minor: le.Uint16(b[10:]),
	}
	h.Calls = le.Uint64(b[24:])&compatCalls != 0
	h.NoPages = le.Uint64(b[16:])&incompatRedacted != 0
	h.Stacks = le.Uint64(b[24:])&compatStacks != 0
	h.Refs = le.Uint64(b[24:])&compatRefs != 0
	copy(h.Salt[:], b[32:])
	if b[49] != addr.PageShift {
		return nil, fmt.Errorf("%w: pages of 1<<%d bytes", ErrVersion, b[49])
	}
	if h.TimeShift > 30 {
		return nil, at(0, overLimit("the clock's shift", uint64(h.TimeShift), 30))
	}
	c := cursor{b: b[headerFixed:]}
	for len(c.b) > 0 {
		tag, v := c.u(), cursor{b: c.blob()}
		switch tag {
		case tagStart:
			h.Start = time.Unix(0, v.zz())
		case tagMono:
			h.Mono = v.u()
		case tagVersion:
			h.Version = string(v.b)
		case tagKernel:
			h.Kernel = string(v.b)
		case tagHost:
			h.Host = string(v.b)
		case tagDir:
			h.Dir = string(v.b)
		case tagArg:
			h.Argv = append(h.Argv, string(v.b))
		case tagOption:
			h.Options = append(h.Options, string(v.b))
		case tagRedacted:
			h.Redacted = string(v.b)
		case tagInventory:
			h.Inventory = string(v.b)
		case tagBegin:
			h.Begin = Begin{Step(v.u()), v.u()}
			c.bad = c.bad || v.bad
		case tagSegment:
			h.Segment = v.u()
		}
	}
	if h.Begin.Step > MaxBegin || h.Begin.Events > MaxThreads {
		return nil, at(0, overLimit("the first step", uint64(h.Begin.Step), MaxBegin))
	}
	if has := le.Uint64(b[16:])&incompatBegin != 0; has != (h.Begin != (Begin{})) {
		return nil, at(0, corrupt("the file header does not say where the log begins"))
	}
	if c.bad {
		return nil, at(0, corrupt("extension of the file header"))
	}
	h.NoCalls = h.Redacted != "" && !h.Calls
	return h, nil
}
