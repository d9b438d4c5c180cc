package gdbstub

import (
	"bufio"
	"errors"
	"fmt"
	"io"
)

// maxPacket is the longest packet in either direction, in bytes.
const maxPacket = 20000

// errTooLong is the error of a packet longer than maxPacket.
var errTooLong = errors.New("gdb sends a packet that is too long")

// conn reads and writes packets: $data#checksum, each acknowledged with + until both sides
// agree to do without.
type conn struct {
	r     *bufio.Reader
	w     *bufio.Writer
	noAck bool
	last  []byte // sent, in case gdb wants it again
}

func newConn(rw io.ReadWriter) *conn {
	return &conn{r: bufio.NewReaderSize(rw, 2*maxPacket), w: bufio.NewWriterSize(rw, 2*maxPacket)}
}

// kind says what has come from gdb.
type kind uint8

const (
	aPacket   kind = iota
	damaged        // a packet whose checksum is wrong
	again          // gdb wants the last answer once more
	interrupt      // Ctrl-C
)

// inbound is what has come from gdb. Text is a packet without its frame, its escapes undone.
type inbound struct {
	kind
	text string
}

// read waits for what comes next. It may be called while another goroutine writes.
func (c *conn) read() (inbound, error) {
	for {
		b, err := c.r.ReadByte()
		if err != nil {
			return inbound{}, err
		}
		switch b {
		case '$':
			text, ok, err := c.body()
			if err == nil && !ok {
				return inbound{kind: damaged}, nil
			}
			return inbound{text: text}, err
		case '-':
			return inbound{kind: again}, nil
		case 3:
			return inbound{kind: interrupt}, nil
		}
	}
}

// acknowledge answers what has come, and reports whether it is a packet to be carried out.
func (c *conn) acknowledge(in inbound) (carryOut bool, err error) {
	switch {
	case in.kind == again:
		_, err = c.w.Write(c.last)
	case c.noAck:
		return in.kind == aPacket, nil
	case in.kind == damaged:
		err = c.w.WriteByte('-')
	default:
		err = c.w.WriteByte('+')
	}
	if err == nil {
		err = c.w.Flush()
	}
	return in.kind == aPacket, err
}

// body reads up to the checksum and reports whether that is right.
func (c *conn) body() (data string, ok bool, err error) {
	var out []byte
	sum, escaped := byte(0), false
	for {
		b, err := c.r.ReadByte()
		if err != nil {
			return "", false, err
		}
		if b == '#' {
			break
		}
		sum += b
		switch {
		case escaped:
			out, escaped = append(out, b^0x20), false
		case b == '}':
			escaped = true
		default:
			out = append(out, b)
		}
		if len(out) > maxPacket {
			return "", false, errTooLong
		}
	}
	var given [2]byte
	if _, err := io.ReadFull(c.r, given[:]); err != nil {
		return "", false, err
	}
	want := fmt.Sprintf("%02x", sum)
	return string(out), string(given[:]) == want, nil
}

// write sends a packet. Bytes that mean something to the protocol are escaped.
func (c *conn) write(data string) error {
	c.last = append(c.last[:0], '$')
	for i := range len(data) {
		switch b := data[i]; b {
		case '$', '#', '}', '*':
			c.last = append(c.last, '}', b^0x20)
		default:
			c.last = append(c.last, b)
		}
	}
	sum := byte(0)
	for _, b := range c.last[1:] {
		sum += b
	}
	c.last = fmt.Appendf(c.last, "#%02x", sum)
	if _, err := c.w.Write(c.last); err != nil {
		return err
	}
	return c.w.Flush()
}
