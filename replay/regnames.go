package replay

import (
	"fmt"
	"strings"

	"memtrace/format"
	"memtrace/format/arch"
)

// registerNames is what names of registers mean in addresses.
type registerNames struct {
	arch   arch.ID
	values map[string]uint64
	why    string // of those that are not in values
}

// NameRegisters has addresses in s take the names of a thread's registers, as rsp+16. r is
// what is known of them. Only those of step n count: of a system call at that step, ev,
// the instruction and the stack pointer are known even where the others are not.
func (s *AddressSpace) NameRegisters(r *Registers, n format.Step, ev *format.Event) {
	id := r.Thread.Arch
	x := &registerNames{arch: id, values: map[string]uint64{}}
	regs := id.Registers()
	switch {
	case r.Values == nil:
		x.why = "they are not in the log"
	case r.AsOf != n:
		x.why = fmt.Sprintf("they were last read at step %d", r.AsOf)
	default:
		for i := range min(len(regs), len(r.Values)) {
			x.values[regs[i].Name] = r.Values[i]
		}
	}
	if ev != nil && ev.Step == n && ev.Thread == r.Thread.No {
		if c, ok := ev.Record.(*format.Syscall); ok && len(x.values) == 0 {
			if c.IP != 0 {
				x.values[regs[id.PC()].Name] = c.IP
			}
			if c.SP != 0 {
				x.values[regs[id.SP()].Name] = c.SP
			}
		}
	}
	s.registers = x
}

// register is what a name means if it is a register's; "$rsp" can be nothing else.
func (s *AddressSpace) register(name string) (v uint64, is bool, err error) {
	if s == nil || s.registers == nil {
		return 0, false, nil
	}
	name = strings.TrimPrefix(name, "$")
	if v, ok := s.registers.values[name]; ok {
		return v, true, nil
	}
	for _, r := range s.registers.arch.Registers() {
		if r.Name == name {
			return 0, true, fmt.Errorf("%s is not known at this step: of the thread's registers %s: %w", name, s.registers.why, ErrUnknown)
		}
	}
	return 0, false, nil
}

// NameRegistersOf has addresses in s take the names of a process's registers at step n:
// those of the thread whose event that is, else of its first.
func (t *Trace) NameRegistersOf(s *AddressSpace, p *Process, n format.Step) error {
	var ev *format.Event
	for e, err := range t.r.Events(n) {
		if err != nil {
			return err
		}
		if e.Step == n {
			ev = e.Clone()
		}
		break
	}
	th := p.Thread(ev)
	r, err := t.Registers(n, []format.Thread{th})
	if err != nil {
		return err
	}
	s.NameRegisters(&r[0], n, ev)
	return nil
}

// Thread is the thread of a process that an event, which may be nil, is of; else its
// first.
func (p *Process) Thread(ev *format.Event) format.Thread {
	for _, th := range p.Threads {
		if ev != nil && th.No == ev.Thread {
			return th
		}
	}
	return p.Threads[0]
}
