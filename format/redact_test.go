package format_test

import (
	"bytes"
	"reflect"
	"slices"
	"testing"
	"time"

	"memtrace/format"
	"memtrace/format/redact"
)

// TestEveryFieldHasAClass fails where a field was added to the format and package redact
// does not say of which class it is.
func TestEveryFieldHasAClass(t *testing.T) {
	all := format.Places()
	if len(all) < 100 {
		t.Errorf("only %d fields", len(all))
	}
	for _, place := range all {
		if _, ok := redact.Placed(place); !ok && place != "unknown.body" {
			t.Errorf("%q has no class: say in format/redact/class.go what redact does with it, and do that in filter.go", place)
		}
	}
}

// TestEveryTypeIsWalked fails where a type of chunk was added that Walk does not read.
func TestEveryTypeIsWalked(t *testing.T) {
	want := []string{
		"RAW", "PATCH", "STATE", "EVENT", "LEAF", "KEY", "INDEX", "ROOT", "BLOB", "META", "GAP", "KEYMM", "WRITTEN", "MODULE", "STACK", "TEXTS", "REFS", "FILE", "FDATA",
	}
	if got := format.Chunks(); !slices.Equal(got, want) {
		t.Errorf("the types of chunk are %v: have walker.chunk read those that are new, and redact say what becomes of them", got)
	}
}

// TestHeaderIsRedacted fails where a field was added to the header that redact does not
// know of.
func TestHeaderIsRedacted(t *testing.T) {
	known := []string{
		"Arch", "TimeShift", "Salt", "Start", "Mono", "Version", "Kernel", "Host", "Dir", "Argv", "Options", "XSave", "Minor", "Calls", "Stacks", "Refs",
		"Redacted", "Inventory", "NoPages", "NoCalls", "Begin", "Segment",
	}
	for f := range reflect.TypeFor[format.Header]().Fields() {
		if !slices.Contains(known, f.Name) {
			t.Errorf("Header.%s: have redact.Policy.Header do what it has to, and name it here", f.Name)
		}
	}
	h := &format.Header{Start: time.Unix(1, 0), Kernel: "canary", Host: "canary", Dir: "canary", Argv: []string{"canary"}, Options: []string{"canary"}, Version: "1"}
	p, err := redact.Keeping("")
	if err != nil {
		t.Fatal(err)
	}
	h, err = p.Header(h, make([]byte, redact.KeySize))
	if err != nil {
		t.Fatal(err)
	}
	b, err := h.Append(nil)
	if err != nil || bytes.Contains(b, []byte("canary")) {
		t.Errorf("%q, %v", b, err)
	}
}
