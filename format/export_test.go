package format

import "slices"

// Places are all fields of the format, as Walk names those with texts and bytes.
func Places() (out []string) {
	add := func(name string, v interface{ fields(*fields) }) {
		x := fields{mode: describing, see: func(field string, _ []byte) { out = append(out, name+"."+field) }}
		v.fields(&x)
	}
	for _, s := range recordSpecs {
		add(s.name, s.make())
	}
	for _, s := range changeSpecs {
		if s.make != nil {
			add(s.name, s.make())
		}
	}
	add("module", new(Module))
	add("text", new(textPart))
	for _, tag := range headerPlaces {
		out = append(out, placeHeader+tag)
	}
	out = append(out, PlaceRegisters, PlacePages, PlacePatches, PlaceKeyName, PlaceKeyRegs, PlaceKeyXState, PlaceReason)
	slices.Sort(out)
	return slices.Compact(out)
}

// Chunks are the types of chunk that Walk has no way of its own for.
func Chunks() (names []string) {
	for t := range numTypes {
		if chunkNames[t] != "" {
			names = append(names, chunkNames[t])
		}
	}
	return names
}
