package export

import "google.golang.org/protobuf/encoding/protowire"

// message is a protobuf message as it is built, field by field.
type message []byte

func (m *message) varint(field protowire.Number, v uint64) {
	*m = protowire.AppendVarint(protowire.AppendTag(*m, field, protowire.VarintType), v)
}

// number leaves out a zero, which is what a field has that is not there.
func (m *message) number(field protowire.Number, v uint64) {
	if v != 0 {
		m.varint(field, v)
	}
}

func (m *message) bytes(field protowire.Number, b []byte) {
	*m = protowire.AppendBytes(protowire.AppendTag(*m, field, protowire.BytesType), b)
}

func (m *message) text(field protowire.Number, s string) {
	*m = protowire.AppendString(protowire.AppendTag(*m, field, protowire.BytesType), s)
}

// packed appends numbers as one field.
func (m *message) packed(field protowire.Number, vs []uint64) {
	var b []byte
	for _, v := range vs {
		b = protowire.AppendVarint(b, v)
	}
	m.bytes(field, b)
}
