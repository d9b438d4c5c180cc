package analyze

import "testing"

func TestPointerThatIsText(t *testing.T) {
	for value, want := range map[uint64]string{
		0x4e4d4c4b4a49: "IJKLMN", 0x6e65737561686e69: "inhausen", 0x44434241: "ABCD", 0x434241: "", 0x7fff22c00328: "", 0: "", 0x41004141414141: "",
	} {
		if got := textOf(value); got != want {
			t.Errorf("%#x: %q, want %q", value, got, want)
		}
	}
}

// TestCrashSkips: what C++ and Rust do at the end of a program is no place of a crash.
func TestCrashSkips(t *testing.T) {
	k := newSkipper(crashSkips)
	for _, name := range []string{"std::terminate()", "__cxa_throw", "__cxa_rethrow", "_Unwind_RaiseException", "rust_panic", "core::panicking::panic_fmt"} {
		if !k.function(name) {
			t.Errorf("%s is a place", name)
		}
	}
	if k.function("parse(std::string const&)") {
		t.Error("parse is none")
	}
}

// TestCallerOf: what called a function is told of, up to main.
func TestCallerOf(t *testing.T) {
	stack := []step{{function: "get_block", file: "leak.cpp", line: 8}, {function: "take", file: "leak.cpp", line: 9}, {function: "main", file: "leak.cpp", line: 12}, {function: "__libc_start_call_main", file: "libc_start_call_main.h", line: 58}}
	for at, want := range []string{"take (leak.cpp:9)", "main (leak.cpp:12)", "", ""} {
		if got := callerOf(stack, at); got != want {
			t.Errorf("%d: %q, want %q", at, got, want)
		}
	}
}
