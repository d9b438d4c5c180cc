package symbol

import (
	"strings"

	"github.com/ianlancetaylor/demangle"
)

// maxMangled is the longest name that is demangled, and maxDemangled (a power of two) the
// longest that comes of one: names can be made that grow without end.
const (
	maxMangled   = 16 << 10
	maxDemangled = 14
)

// Demangle is a name of C++ or Rust as the source has it, with its parameters: "work(int)".
// A name that is not mangled stays as it is.
func Demangle(name string) string { return demangled(name) }

// Short is a name as the source has it without parameters: "work".
func Short(name string) string { return demangled(name, demangle.NoParams, demangle.NoEnclosingParams) }

func demangled(name string, o ...demangle.Option) (s string) {
	if len(name) > maxMangled || !strings.HasPrefix(name, "_") && !strings.Contains(name, "_GLOBAL__") {
		return name
	}
	defer func() {
		if recover() != nil {
			s = name
		}
	}()
	return demangle.Filter(name, append(o, demangle.MaxLength(maxDemangled))...)
}
