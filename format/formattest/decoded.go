// Package formattest takes logs apart for tests, with nothing of package format.
package formattest

import (
	"encoding/binary"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// Decoded are all bytes of a log that is whole: its header and the headers and payloads
// of its chunks, decompressed, one behind the other.
func Decoded(t testing.TB, log []byte) []byte {
	t.Helper()
	le := binary.LittleEndian
	dec, err := zstd.NewReader(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer dec.Close()
	at := int(le.Uint32(log[12:]))
	out := append([]byte(nil), log[:at]...)
	for chunks := 0; ; chunks++ {
		c := log[at:]
		if len(c) == 32 && string(c[16:24]) == "MTLOGEND" && chunks > 0 {
			return append(out, c...)
		}
		if len(c) < 48 || le.Uint32(c) != 0x8a43544d {
			t.Fatalf("no chunk at %d of %d", at, len(log))
		}
		head := 48 + int(le.Uint16(c[6:]))
		stored := c[head:][:le.Uint32(c[8:])]
		out = append(out, c[:head]...)
		if c[5]&7 == 0 {
			out = append(out, stored...)
		} else if out, err = dec.DecodeAll(stored, out); err != nil {
			t.Fatal(err)
		}
		at += head + len(stored)
	}
}
