package parquet

import (
	"testing"

	"github.com/parquet-go/parquet-go"
)

// TestColumns compares the numbers of columns with the order in which rows say them.
func TestColumns(t *testing.T) {
	for _, c := range []struct {
		schema *parquet.Schema
		at     map[string]int
	}{
		{parquet.SchemaOf(new(eventRow)), map[string]int{"step": eventStep, "t_ns": eventTNS, "proc": eventProc, "pid": eventPID, "tid": eventTID, "type": eventType, "text": eventText}},
		{parquet.SchemaOf(new(callRow)), map[string]int{
			"step": callStep, "t_ns": callTNS, "dur_ns": callDurNS, "proc": callProc, "tid": callTID, "arch": callArch, "name": callName, "class": callClass, "ret": callRet, "errno": callErrno,
			"fd_path": callFDPath, "path": callPath, "bytes": callBytes, "a0": callA0, "a1": callA1, "a2": callA2, "a3": callA3, "a4": callA4, "a5": callA5, "stack": callStack,
		}},
	} {
		for i, f := range c.schema.Fields() {
			if f.Name() != "run" && c.at[f.Name()] != i {
				t.Errorf("%s is column %d, not %d", f.Name(), i, c.at[f.Name()])
			}
		}
	}
}

// TestRowGroups writes more rows than a block and a group have, and reads them.
func TestRowGroups(t *testing.T) {
	const rows = groupRows + 3*batchRows/2
	for _, flat := range []bool{false, true} {
		dir := t.TempDir()
		c, err := newColumns[eventRow](dir, "events", &Options{Run: "r", Flat: flat})
		if err != nil {
			t.Fatal(err)
		}
		kind := c.fixed(eventType, "syscall")
		for i := range rows {
			c.row()
			c.int(eventStep, int64(i))
			c.int(eventTNS, int64(i)*3)
			if i%3 != 0 {
				c.int(eventProc, int64(i))
			}
			c.number(eventTID, uint64(i%2))
			c.add(eventType, kind)
			c.text(eventText, []byte("text\xff")[:i%6])
		}
		c.finish()
		if err := c.done(); err != nil {
			t.Fatal(err)
		}
		got, err := parquet.ReadFile[eventRow](dir + "/events")
		if err != nil || len(got) != rows {
			t.Fatalf("%d rows, %v", len(got), err)
		}
		for i := range got {
			r := &got[i]
			texts := []string{"", "t", "te", "tex", "text", "text\ufffd"}
			text := ""
			if r.Text != nil {
				text = *r.Text
			}
			ok := r.Step == int64(i) && r.TNS == int64(i)*3 && (r.Proc == nil) == (i%3 == 0) && (r.Proc == nil || *r.Proc == int64(i)) && r.PID == nil &&
				(r.TID == nil) == (i%2 == 0) && r.Type == "syscall" && text == texts[i%6] && (r.Text == nil) == (text == "") && (r.Run == "r") == flat
			if !ok {
				t.Fatalf("flat %v: row %d is %+v", flat, i, *r)
			}
		}
	}
}
