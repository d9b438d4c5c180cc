package format

import (
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// TestSpecs checks that each row of the tables is in the place of its number.
func TestSpecs(t *testing.T) {
	names := map[string]bool{}
	for k, s := range recordSpecs {
		if s.make == nil || s.name == "" || names[s.name] {
			t.Errorf("record %d (%q) has no row, no name or that of another", k, s.name)
			continue
		}
		names[s.name] = true
		if r := s.make(); r.Kind() != Kind(k) {
			t.Errorf("the row of kind %d makes a %T", k, r)
		}
	}
	for typ, s := range changeSpecs {
		if s.make == nil {
			continue
		}
		if c := s.make(); int(c.code()) != typ || s.name == "" {
			t.Errorf("the row %d (%q) makes a %T", typ, s.name, c)
		}
	}
	if NumKinds.String() != "unknown" {
		t.Errorf("a kind that is not known is %q", NumKinds)
	}
}

// TestClone writes over all that a reader could take back of an event: its clone
// stays as it is.
func TestClone(t *testing.T) {
	evs, want := everything(), everything()
	clones := make([]*Event, len(evs))
	for i := range evs {
		clones[i] = evs[i].Clone()
	}
	written := 0
	for i := range evs {
		written += scribble(reflect.ValueOf(&evs[i]))
	}
	for i, c := range clones {
		if diff := cmp.Diff(&want[i], c, cmpopts.IgnoreFields(Pages{}, "Data")); diff != "" {
			t.Errorf("%T: %s", c.Record, diff)
		}
	}
	if written < 200 {
		t.Errorf("only %d values were written over", written)
	}
}

// scribble changes every number that v leads to, but for the data of pages,
// which readers do not hand out.
func scribble(v reflect.Value) (n int) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			n = scribble(v.Elem())
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type() != reflect.TypeFor[Pages]() || v.Type().Field(i).Name != "Data" {
				n += scribble(v.Field(i))
			}
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			n += scribble(v.Index(i))
		}
	case reflect.Uint8, reflect.Uint32, reflect.Uint64:
		v.SetUint(v.Uint() + 1)
		n = 1
	case reflect.Int32, reflect.Int64:
		v.SetInt(v.Int() + 1)
		n = 1
	case reflect.String:
		v.SetString("scribbled")
		n = 1
	}
	return n
}
