package redact

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"memtrace/format"
	"memtrace/format/addr"
	"memtrace/format/vma"
)

// Inventory is what a log has of each class.
type Inventory [NumClasses]Amount

// Amount is how much there is of a class.
type Amount struct {
	Plain      uint64 // texts, or pieces of bytes, as they were recorded
	Bytes      uint64 // of those
	Pseudonyms uint64
	Gone       uint64 // texts of which only the word "redacted" is left
}

func (a Amount) String() string {
	parts := []string{fmt.Sprintf("%d plain", a.Plain)}
	if a.Bytes > 0 {
		parts[0] += fmt.Sprintf(" (%d B)", a.Bytes)
	}
	if a.Pseudonyms > 0 {
		parts = append(parts, fmt.Sprintf("%d pseudonyms", a.Pseudonyms))
	}
	if a.Gone > 0 {
		parts = append(parts, fmt.Sprintf("%d redacted", a.Gone))
	}
	return strings.Join(parts, ", ")
}

// String is the inventory on one line, as the header of a log has it.
func (v *Inventory) String() string {
	var parts []string
	for c := Structure + 1; c < NumClasses; c++ {
		parts = append(parts, c.String()+": "+v[c].String())
	}
	return strings.Join(parts, "; ")
}

// inventorySize is the room for an inventory in the header of a log: it is counted when
// the rest of the log is there.
const inventorySize = 2048

var blank = strings.Repeat(" ", inventorySize)

// Room is the Inventory of a header that is to be written once more, when all was counted.
func Room() string { return blank }

// PutInventory writes an inventory into the header of a log that Copy made. h is that
// header as a reader has it.
func PutInventory(w io.WriterAt, h *format.Header, v *Inventory) error {
	text := v.String()
	if len(text) > inventorySize || len(h.Inventory) != inventorySize {
		return fmt.Errorf("the header has no room for an inventory of %d bytes", len(text))
	}
	c := *h
	c.Inventory = text + blank[len(text):]
	b, err := c.Append(nil)
	if err != nil {
		return err
	}
	_, err = w.WriteAt(b, 0)
	return err
}

// Proof is what Count has found.
type Proof struct {
	Inventory Inventory
	Other     uint64   // bytes of what no class knows: packed files, what later versions have
	Broken    []Broken // what should not be there, the first few
	Total     int      // how many there are
}

// Broken is a place where there is what should not be.
type Broken struct {
	Place string
	Class Class
	Why   string
}

func (b Broken) String() string { return fmt.Sprintf("%s (%v): %s", b.Place, b.Class, b.Why) }

const maxBroken = 20

// Count reads a log and counts what it has of each class, and compares that with a
// policy. It uses nothing that a Filter knows. o are the choices of a reader.
func Count(r io.ReaderAt, size int64, o *format.ReaderOptions, p *Policy) (*Proof, error) {
	c := counter{p: p}
	if err := format.Walk(r, size, o, c.piece); err != nil {
		return nil, err
	}
	rd, err := format.NewReader(r, size, o)
	if err != nil {
		return nil, err
	}
	if err := c.memory(rd); err != nil {
		return nil, err
	}
	return &c.Proof, nil
}

type counter struct {
	Proof
	p     *Policy
	place string
}

func (c *counter) broken(class Class, why string) {
	if c.Total++; len(c.Broken) < maxBroken {
		c.Broken = append(c.Broken, Broken{c.place, class, why})
	}
}

// piece books one text, or some bytes.
func (c *counter) piece(x *format.Piece) error {
	c.place = x.Place
	if never[x.Place] {
		c.Other += uint64(len(x.Data))
		c.broken(Structure, fmt.Sprintf("%d bytes that memtrace does not know", len(x.Data)))
		return nil
	}
	class, ok := Placed(x.Place)
	if !ok {
		c.broken(Structure, "memtrace has no class for it")
		return nil
	}
	if c.p.matched(x.Data) && class != Structure {
		c.broken(class, "something there matches the rules")
	}
	a := &c.Inventory[class]
	switch {
	case class == Structure:
	case x.Place == format.PlacePages || x.Place == format.PlacePatches:
		c.raw(x)
	case x.Place == format.PlaceNumbers:
		a.Plain++
		c.allowed(class, c.p.mode[class] == Keep)
	case x.Place == format.PlaceBuffer:
		class = bufferClass(x.Call, x.Buf)
		c.bookAs(class, c.p.ofBuffer(class, x.Call), x.Data)
	case x.Place == "module.build id" || x.Place == "module.Go build id":
		if len(x.Data) > 0 { // of a file whose name is told
			c.plain(class, x.Data)
			c.allowed(class, c.p.mode[class] == Keep || len(c.p.names) > 0)
		}
	case x.Place == "meminfo.source" || x.Place == "text.name":
		c.allowed(class, words[string(x.Data)])
	default:
		c.book(class, x.Data)
	}
	return nil
}

func (c *counter) plain(class Class, b []byte) {
	c.Inventory[class].Plain++
	c.Inventory[class].Bytes += uint64(len(b))
}

func (c *counter) allowed(class Class, ok bool) {
	if !ok {
		c.broken(class, "it should not be there")
	}
}

// book counts a text or bytes of a class.
func (c *counter) book(class Class, b []byte) { c.bookAs(class, c.p.mode[class], b) }

// bookAs is book where a class has several modes.
func (c *counter) bookAs(class Class, mode Mode, b []byte) {
	s := string(b)
	if named(class) {
		mode = c.p.ofName(class, s)
	}
	switch {
	case s == "":
	case mode != Keep && s == Word:
		c.Inventory[class].Gone++
	case named(class) && mode != Keep && isPseudonym(s):
		c.Inventory[class].Pseudonyms++
		c.allowed(class, mode == Pseudonym)
	case mode != Keep && class == Messages && words[s]:
		// A word of memtrace's own.
	default:
		c.plain(class, b)
		c.allowed(class, mode == Keep)
		if class == System && len(numberLines(b)) != len(b) {
			c.broken(class, "a line that is not a key and numbers")
		}
	}
}

// raw counts the contents of pages as the chunks have them.
func (c *counter) raw(x *format.Piece) {
	if c.p.mode[Pages] != Keep && c.p.mode[StacksMem] != Keep {
		c.Inventory[Pages].Plain++
		c.Inventory[Pages].Bytes += uint64(len(x.Data))
		c.broken(Pages, fmt.Sprintf("%d bytes of memory", len(x.Data)))
	}
	if x.Place == format.PlacePages && len(c.p.matches) > 0 {
		for b := x.Data; len(b) >= addr.PageSize; b = b[addr.PageSize:] {
			if c.p.matched(b[:addr.PageSize]) {
				c.broken(Pages, "something in a page matches the rules")
			}
		}
	}
}

// memory goes over the state of the log and looks of which mappings there are contents.
func (c *counter) memory(r *format.Reader) error {
	s := r.Initial()
	var page [addr.PageSize]byte
	seen := format.PageRef(0) // references below are checked
	for e, err := range r.Events(0) {
		if err != nil {
			return err
		}
		s.Step = e.Step - 1
		for _, ch := range e.Changes {
			p, ok := ch.(*format.Pages)
			if !ok || p.What != format.PageData {
				if err := s.Apply(ch); err != nil {
					return err
				}
				continue
			}
			m := s.MMs[p.MM]
			for i, ref := range p.Refs {
				if ref.Redacted() || m == nil {
					continue
				}
				c.place = "pages"
				class := Pages
				if v, ok := m.VMAs.Find(p.Addr + addr.Addr(i<<addr.PageShift)); ok && (v.Kind == vma.MainStack || v.Kind == vma.ThreadStack) {
					class = StacksMem
				} else if !ok && c.p.mode[StacksMem] != Keep {
					class = StacksMem
				}
				c.Inventory[class].Plain++
				c.Inventory[class].Bytes += addr.PageSize
				c.allowed(class, c.p.mode[class] == Keep)
				if ref&1 != 0 && ref > seen && len(c.p.matches) > 0 { // a page that the chunks do not have whole
					if err := r.Page(ref, &page); err != nil {
						return err
					}
					seen = ref
					if c.p.matched(page[:]) {
						c.broken(class, "something in a page matches the rules")
					}
				}
			}
			if err := s.Apply(ch); err != nil {
				return err
			}
		}
		s.Step = e.Step
	}
	return nil
}

// MarshalJSON is an object with a member for each class.
func (v Inventory) MarshalJSON() ([]byte, error) {
	out := map[string]Amount{}
	for c := Structure + 1; c < NumClasses; c++ {
		out[c.String()] = v[c]
	}
	return json.Marshal(out)
}
