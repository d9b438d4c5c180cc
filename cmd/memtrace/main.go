package main

import (
	"fmt"
	"memtrace/format"
	"memtrace/record"
	"os"
)

type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string {
	if e.err == nil {
		return ""
	}
	return e.err.Error()
}

type usageError struct{ error }

func size(n int64) string { return fmt.Sprint(n) }
func version() string     { return "dev" }
func main() {
	record.Launch()
	if os.Args[1] == "dump" {
		f, _ := os.Open(os.Args[2])
		st, _ := f.Stat()
		r, err := format.NewReader(f, st.Size(), nil)
		if err != nil {
			fmt.Println(err)
			return
		}
		for e, err := range r.Events(0) {
			if err != nil {
				fmt.Println(err)
				return
			}
			fmt.Printf("%d %d t%d %T %+v ch=%d\n", e.Step, e.Time, e.Thread, e.Record, e.Record, len(e.Changes))
		}
		return
	}
	c := newRecordCmd()
	c.SetArgs(os.Args[2:])
	c.SilenceUsage = true
	c.SilenceErrors = true
	err := c.Execute()
	if e, ok := err.(*exitError); ok {
		if e.err != nil {
			fmt.Fprintln(os.Stderr, "memtrace:", e)
		}
		os.Exit(e.code)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "memtrace:", err)
		os.Exit(2)
	}
}
